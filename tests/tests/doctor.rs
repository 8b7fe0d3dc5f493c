//! `injector doctor`: what it says agrees with what the tests know of each kernel.

use injector_common::FaultKind;
use injector_tests::{
    agent,
    kernel::{Feature, Where, doctor},
};

#[test]
fn it_agrees_with_what_is_expected() {
    for feature in Feature::ALL {
        // Fails when expectation and machine disagree.
        let _ = feature.available();
    }
}

/// On a machine that no table knows, evidence stands in for it. It is worth as
/// much as the table where there is one.
#[test]
fn evidence_agrees_with_the_table() {
    for feature in Feature::ALL {
        let (table, evidence) = (feature.expected(Where::current()), feature.by_evidence());
        assert_eq!(
            evidence.is_ok(),
            table.is_ok(),
            "{feature} on {:?}: table {table:?}, evidence {evidence:?}",
            Where::current()
        );
    }
}

#[test]
fn every_kind_has_a_verdict_and_every_refusal_a_reason() {
    let kinds = doctor()["kinds"].as_array().expect("a list of kinds");
    let names: Vec<_> = kinds
        .iter()
        .filter_map(|kind| kind["kind"].as_str())
        .collect();
    let known: Vec<_> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names, known);
    for kind in kinds {
        let rungs = kind["rungs"].as_array().expect("a list of rungs");
        assert!(!rungs.is_empty(), "{kind}");
        for rung in rungs {
            let state = rung["state"].as_str().expect("a state");
            assert!(matches!(state, "supported" | "unsupported"), "{rung}");
            let reason = rung["reason"].as_str().unwrap_or_default();
            assert_eq!(reason.is_empty(), state == "supported", "{rung}");
            assert!(reason.len() < 300, "a reason for people: {rung}");
        }
    }
}

/// Every kind on packets that can judge segments says whether it can here.
#[test]
fn it_tells_whether_packets_can_be_split() {
    let expected = if Feature::Segments.available().is_ok() {
        "supported"
    } else {
        "unsupported"
    };
    for kind in doctor()["kinds"].as_array().expect("a list of kinds") {
        let name = kind["kind"].as_str().expect("a name");
        let rungs = kind["rungs"].as_array().expect("a list of rungs");
        let rung = rungs.iter().find(|rung| rung["rung"] == "segment");
        let takes_unit = agent::run(&["faults", name]);
        let takes_unit = takes_unit.stdout.contains("--unit");
        assert_eq!(rung.is_some(), takes_unit, "{kind}");
        let waits = ["net-delay", "net-reorder", "net-rate"].contains(&name);
        let waits_here = !waits || Feature::NetDelay.available().is_ok();
        if let Some(rung) = rung {
            let expected = if waits_here { expected } else { "unsupported" };
            assert_eq!(rung["state"], expected, "{kind}");
        }
    }
}

/// Which of these calls can be failed, and how; a call that is none is refused.
#[test]
fn it_tells_how_single_calls_can_be_failed() {
    let asked = [
        "doctor",
        "--output",
        "json",
        "--call",
        "chmod,fsync,ftruncate,%ipc,!semget",
    ];
    let finished = agent::run(&asked);
    assert_eq!(finished.code(), 0, "{finished:?}");
    let said: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let rungs = [
        ("kprobe", Feature::Override, false),
        ("fmod_ret", Feature::FmodRet, false),
        ("lsm", Feature::Lsm, true),
        ("fmod_ret-security", Feature::FmodRetSecurity, true),
    ];
    for (call, has_hook) in [("chmod", true), ("fsync", false), ("ftruncate", true)] {
        let calls = said["calls"].as_array().expect("a list of calls");
        let found = calls.iter().find(|found| found["call"] == call);
        let found = found.expect("each call");
        let mut supported = false;
        for (rung, needs, needs_hook) in rungs {
            let expected = needs.available().is_ok() && (has_hook || !needs_hook);
            supported |= expected;
            let rungs = found["rungs"].as_array().expect("a list of rungs");
            let said = rungs.iter().find(|said| said["rung"] == rung);
            let said = said.expect("each rung");
            assert_eq!(said["state"] == "supported", expected, "{found}");
            assert_eq!(said["reason"].is_null(), expected, "{found}");
        }
        assert_eq!(found["supported"], supported, "{found}");
    }
    let calls = said["calls"].as_array().expect("a list of calls");
    let is_there = |name: &str| calls.iter().any(|call| call["call"] == name);
    assert!(is_there("shmdt") && !is_there("semget"), "{said}");
    // Not what is told when nothing is asked about.
    let finished = agent::run(&["doctor", "--call", "read,!read"]);
    assert_eq!(finished.code(), 2, "{finished:?}");
    let finished = agent::run(&["doctor", "--call", "fsyncc"]);
    assert_eq!(finished.code(), 2, "{finished:?}");
    assert!(
        finished.stderr.contains("did you mean fsync?"),
        "{finished:?}"
    );
}

#[test]
fn it_names_the_kernel_and_no_missing_capability() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("read the release");
    assert_eq!(doctor()["kernel"], release.trim());
    assert_eq!(doctor()["capabilities_missing"], serde_json::json!([]));
}

#[test]
fn it_names_missing_capabilities() {
    let script = "exec setpriv --bounding-set -bpf,-sys_admin --inh-caps -all \"$INJECTOR\" \
                  doctor --output json";
    let mut command = injector_tests::command::Place::HERE.command("sh");
    command
        .args(["-c", script])
        .env("INJECTOR", agent::binary());
    let finished = agent::Agent::from_command(command).wait();
    assert!(finished.stdout.contains("CAP_BPF"), "{finished:?}");
}
