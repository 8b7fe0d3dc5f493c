//! Conditions on the functions that a call came through.

use std::{fs, path::PathBuf};

use injector_tests::{
    actor::chain::{DESCRIPTOR, Outcomes},
    agent::{self, Agent, Injection, Report},
    cgroup::Cgroup,
    command::Place,
    kernel::Feature,
    require, require_for,
    victim::{BoardFile, program},
};
use tempfile::TempDir;

const EIO: i32 = 5;
const EROFS: i32 = 30;

/// So many ways the victim goes, each in two threads.
const WAYS: u64 = 11;
const THREADS: u64 = 2;

/// What came of the writes of a victim in this place.
fn outcomes_in(place: Place<'_>) -> Outcomes {
    let folder = TempDir::new().expect("a folder");
    let written = folder.path().join("outcomes");
    let path = |path: &std::path::Path| path.to_str().expect("a path in UTF-8").to_owned();
    let (folder, outcomes) = (path(folder.path()), path(&written));
    let work = ["chain", "--folder", &folder, "--outcomes", &outcomes];
    let board = BoardFile::new();
    let status = board.spawn(place, &work).wait();
    assert!(status.success(), "{status}");
    serde_json::from_slice(&fs::read(&written).expect("the outcomes")).expect("JSON")
}

/// The ways that ended with this error, in both threads alike.
#[track_caller]
fn ended_with(outcomes: &Outcomes, errno: i32) -> Vec<&str> {
    let of = |thread: bool| -> Vec<&str> {
        let found = outcomes.iter().filter(|(_, found)| **found == errno);
        let split = found.map(|(way, _)| match way.strip_prefix("thread: ") {
            Some(way) => (true, way),
            None => (false, way.as_str()),
        });
        let mine = split.filter(|(other, _)| *other == thread);
        mine.map(|(_, way)| way).collect()
    };
    assert_eq!(of(false), of(true), "{outcomes:?}");
    of(false)
}

/// The victim's own functions.
fn victim(function: &str) -> String {
    format!("{function}@{}", program().display())
}

/// The C library of this process, which is the victim's too.
fn libc() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").expect("own mappings");
    let found = maps.lines().find_map(|line| {
        let path = line.split_whitespace().nth(5)?;
        path.contains("/libc.so").then(|| PathBuf::from(path))
    });
    found.expect("a C library")
}

/// Rules with these conditions that match and never hit, and then others.
fn spec(target: &str, conditions: &[String], others: &str) -> String {
    let rule = |condition: &String| {
        format!(
            "- {{kind: sys-errno, call: write, fd: {DESCRIPTOR}, errno: EIO, when: '100000', \
             target: '{target}', {condition}}}\n"
        )
    };
    let rules: String = conditions.iter().map(rule).collect();
    format!("version: 1\nfor: 60s\nrules:\n{rules}{others}")
}

#[test]
fn calls_by_the_functions_that_they_came_through() {
    require!(SysErrno);
    let [a, b, c, raw, plain, deep] = [
        "chain_a",
        "chain_b",
        "chain_c",
        "chain_raw",
        "chain_plain",
        "chain_deep",
    ]
    .map(victim);
    let write = format!("write@{}", libc().display());
    // How many ways match for certain, and of how many that cannot be told: of those through too
    // many functions, and of 32-bit calls where these are met.
    let conditions: &[(String, u64, u64)] = &[
        (format!("called-by: '{a}'"), 3, 2),
        (format!("called-by: '{b}'"), 2, 2),
        (format!("called-by: '{c}'"), 3, 2),
        (format!("called-by: '{raw}'"), 2, 2),
        // It keeps no frame, and calls what makes the call.
        (format!("called-by: '{plain}'"), 1, 2),
        (format!("called-by: '{deep}'"), 2, 1),
        (format!("called-by: '{write}'"), WAYS - 3, 1),
        (format!("called-by: ['{a}', '{b}']"), 5, 2),
        (format!("called-by: '!{a}'"), WAYS - 5, 2),
        (format!("called-by: ['!{a}', '!{b}']"), WAYS - 7, 2),
        (format!("called-by: ['{c}', '!{a}']"), 2, 2),
        (format!("called-by: '{a}', arg: '2>1'"), 0, 0),
    ];
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let errno = |by: &str, errno: &str| {
        format!(
            "- {{kind: sys-errno, call: write, errno: {errno}, target: '{target}', called-by: '{by}'}}\n"
        )
    };
    let texts: Vec<String> = conditions.iter().map(|(text, ..)| text.clone()).collect();
    let hits = errno(&b, "EROFS") + &errno(&c, "EIO");
    let injection = Injection::of_spec(&spec(&target, &texts, &hits));
    let bystander = outcomes_in(Place::HERE);
    let outcomes = outcomes_in(Place::cgroup(&cgroup));
    let report = injection.stop().report();
    assert!(bystander.values().all(|errno| *errno == 0), "{bystander:?}");
    assert_eq!(outcomes.len() as u64, WAYS * THREADS, "{outcomes:?}");
    for ((condition, certain, untold), rule) in conditions.iter().zip(&report.rules) {
        let found = (rule.matched - rule.errors, rule.errors, rule.injected);
        // In whose place no program can go on the kernel that has no other rung at the entry.
        let old = u64::from(rule.backend == "fmod_ret" && *untold > 0);
        let expected = (certain * THREADS, (untold - old) * THREADS, 0);
        assert_eq!(found, expected, "{condition}: {outcomes:?}");
    }
    assert_eq!(ended_with(&outcomes, EROFS), ["b", "b through c"]);
    assert_eq!(ended_with(&outcomes, EIO), ["a through c", "c"]);
    let injected: Vec<u64> = report.rules[conditions.len()..]
        .iter()
        .map(|rule| rule.injected)
        .collect();
    assert_eq!(injected, [2 * THREADS, 2 * THREADS]);
}

/// On each rung that the kernel has.
fn by_rung(feature: Feature, rung: &str) {
    require_for!(feature);
    let cgroup = Cgroup::new("victim");
    let (target, b) = (cgroup.target(), victim("chain_b"));
    let injection = Injection::start(&[
        "sys-errno",
        "--call",
        "write",
        "--errno",
        "EROFS",
        "--rung",
        rung,
        "--called-by",
        &b,
        "--target",
        &target,
        "--for",
        "60s",
    ]);
    let outcomes = outcomes_in(Place::cgroup(&cgroup));
    let report = injection.stop().report();
    assert_eq!(ended_with(&outcomes, EROFS), ["b", "b through c"]);
    let rule = report.only();
    assert_eq!((rule.injected, rule.backend.as_str()), (4, rung));
}

#[test]
fn at_entries() {
    by_rung(Feature::Override, "kprobe");
}

#[test]
fn in_the_place_of_calls() {
    by_rung(Feature::FmodRet, "fmod_ret");
}

#[test]
fn at_security_hooks() {
    by_rung(Feature::Lsm, "lsm");
}

#[test]
fn in_the_place_of_security_functions() {
    by_rung(Feature::FmodRetSecurity, "fmod_ret-security");
}

/// Faults that let the call go on.
#[test]
fn calls_that_wait_or_bring_a_signal() {
    require!(SysSignal);
    let cgroup = Cgroup::new("victim");
    let (target, b) = (cgroup.target(), victim("chain_b"));
    let mut rules = vec!["kind: sys-signal, signal: URG"];
    if Feature::FmodRet.available().is_ok() {
        rules.push("kind: sys-delay, delay: 20ms");
    } else {
        rules.push("kind: sys-delay, delay: 200us");
    }
    let late = "kind: sys-delay, delay: 200us, at: exit";
    for fault in rules.into_iter().chain([late]) {
        let spec = format!(
            "version: 1\nfor: 60s\nrules:\n- {{{fault}, call: write, target: '{target}', \
             called-by: '{b}'}}\n"
        );
        let injection = Injection::of_spec(&spec);
        let outcomes = outcomes_in(Place::cgroup(&cgroup));
        let report: Report = injection.stop().report();
        assert!(outcomes.values().all(|errno| *errno == 0), "{outcomes:?}");
        assert_eq!(report.only().injected, 2 * THREADS, "{fault}: {report:?}");
    }
}

/// What is wrong is said before anything is done.
#[test]
fn functions_that_are_not_there_are_refused() {
    require!(SysErrno);
    let folder = TempDir::new().expect("a folder");
    let script = folder.path().join("script");
    fs::write(&script, "#!/bin/sh\n").expect("a script");
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let libc = libc();
    let (libc, script) = (libc.display(), script.display());
    let tmp = folder.path().display();
    for (function, says) in [
        ("chain_a".to_owned(), "names no file"),
        ("chain_a@victim".to_owned(), "no absolute path"),
        (
            format!("chain_a@{tmp}/none"),
            "cannot be found by the target",
        ),
        (format!("chain_a@{script}"), "no program or library"),
        (format!("chain_a@{tmp}"), "no regular file"),
        (victim("chain_z"), "has no function of this name"),
        (victim("chain"), "but chain_a, chain_b, chain_c"),
        (victim("malloc"), "in another file"),
        (format!("stdout@{libc}"), "data of this name"),
    ] {
        let finished = agent::run(&[
            "plan",
            "sys-errno",
            "--call",
            "write",
            "--errno",
            "EIO",
            "--called-by",
            &function,
            "--target",
            &target,
            "--for",
            "5s",
        ]);
        assert_eq!(finished.code(), 2, "{function}: {finished:?}");
        assert!(finished.stderr.contains(says), "{function}: {finished:?}");
        assert!(
            finished.stderr.contains("called-by"),
            "{function}: {finished:?}"
        );
    }
    let by = victim("chain_a");
    let requests = agent::run(&[
        "plan",
        "sys-errno",
        "--call",
        "io_uring:read",
        "--errno",
        "EIO",
        "--called-by",
        &by,
        "--target",
        &target,
        "--for",
        "5s",
    ]);
    assert!(
        requests.stderr.contains("request of io_uring"),
        "{requests:?}"
    );
    let args = [
        "plan",
        "sys-errno",
        "--call",
        "write",
        "--errno",
        "EIO",
        "--called-by",
        &by,
        "--target",
        &target,
        "--for",
        "5s",
    ];
    let lacking = Agent::start(Place::HERE, &args, &[("INJECTOR_TEST_NO_FIND_VMA", "1")]).wait();
    assert_eq!(lacking.code(), 3, "{lacking:?}");
    assert!(lacking.stderr.contains("bpf_find_vma"), "{lacking:?}");
}
