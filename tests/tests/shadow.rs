//! `--shadow`: what would be hit is counted, and nothing is done to it.

use std::fs;

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    netns::Ip,
    require,
    scene::{Harm, Kind, Scene},
    traffic::{Bed, Case, Direction, Form, Load},
    victim::{CallVictim, Callers, failures},
};

/// Nothing is harmed, and everything that the kind would harm is counted.
#[track_caller]
fn check(kind: Kind) {
    let scene = Scene::new();
    let injection = scene.inject(kind, &["--shadow", "--for", "60s"], &[]);
    assert_eq!(scene.harm(kind), Harm::Nothing);
    let report = injection.stop().report();
    let shadowed = report.rules.iter().filter_map(|rule| rule.shadowed);
    assert!(shadowed.sum::<u64>() > 0, "{report:?}");
    for rule in &report.rules {
        let counted = rule.shadowed.map(|shadowed| shadowed + rule.passed);
        assert_eq!(
            (counted, rule.injected),
            (Some(rule.matched), 0),
            "{rule:?}"
        );
    }
}

macro_rules! kinds {
    ($($name:ident: $kind:ident $(needs $feature:ident)?;)+) => {
        $(
            #[test]
            fn $name() {
                $(require!($feature);)?
                check(Kind::$kind);
            }
        )+
    };
}

// Where packets would wait or be summed up anew, they do not, and so need not be able to.
kinds! {
    loss: Loss;
    denial: Denial;
    reception: Reception;
    delay: Delay;
    corruption: Corruption;
    duplication: Duplication;
    partition: Partition;
    rejection: Rejection;
    reset: Reset;
    names: Names;
    late_names: LateNames;
    refusal: Refusal;
    errno: Errno needs SysErrno;
    disk_full: DiskFull needs Lsm;
}

/// What is counted is what the same rule with the same seed hits.
#[test]
fn it_is_what_would_be_hit() {
    require!(NetLoss);
    const LOAD: Load = Load::of(2000);
    let mut bed = Bed::new(Case {
        form: Form::Cgroup,
        ip: Ip::V4,
        direction: Direction::Egress,
    });
    let fault = ["net-loss", "--percent", "30", "--seed", "7"];
    let injection = bed.inject(&[&fault[..], &["--shadow"]].concat());
    let arrived = bed.round(LOAD, LOAD);
    let shadow = bed.stop(injection).rule();
    assert_eq!((arrived.sent, arrived.missing()), (LOAD.count, 0));
    assert_eq!((shadow.matched, shadow.injected), (LOAD.count, 0));
    let injection = bed.inject(&fault);
    let arrived = bed.round(LOAD, LOAD);
    let real = bed.stop(injection).rule();
    assert_eq!(real.injected, arrived.missing());
    assert_eq!(
        (Some(real.injected), None),
        (shadow.shadowed, real.shadowed)
    );
}

/// A rule in shadow is no end for those behind it, and its budget is spent as a real one's.
#[test]
fn rules_behind_it_are_asked() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let victim = CallVictim::start(Place::cgroup(&cgroup), "mkdir", Callers::One);
    let target = cgroup.target();
    let rule = |name: &str, more: &str| {
        format!("- {{name: {name}, kind: sys-errno, target: '{target}', call: mkdir, {more}}}\n")
    };
    let rules = [
        rule("shadow", "errno: EIO, when: 2+2, times: 3, shadow: true"),
        rule("real", "errno: EROFS, when: 4+4"),
    ];
    let spec = format!("version: 1\nfor: 60s\nrules:\n{}", rules.concat());
    let injection = Injection::of_spec(&spec);
    let seen = victim.round(16);
    assert_eq!(failures(&seen), 4, "{seen:?}");
    let report = injection.stop().report();
    let [shadow, real] = &report.rules[..] else {
        panic!("{report:?}");
    };
    assert_eq!((shadow.matched, shadow.injected), (16, 0), "{shadow:?}");
    assert_eq!((shadow.shadowed, shadow.exhausted), (Some(3), 5));
    assert_eq!((real.matched, real.injected), (16, 4), "{real:?}");
}

/// Neither waits the call, nor is its thread told anything, nor is it left undone.
#[test]
fn calls_go_on() {
    require!(SysSignal);
    let cgroup = Cgroup::new("victim");
    let victim = CallVictim::start(Place::cgroup(&cgroup), "mkdir", Callers::One);
    let target = cgroup.target();
    let rules = [
        "kind: sys-delay, delay: 1ms, wait: busy",
        "kind: sys-signal, signal: KILL",
    ];
    let rules =
        rules.map(|more| format!("- {{{more}, target: '{target}', call: mkdir, shadow: true}}\n"));
    let spec = format!("version: 1\nfor: 60s\nrules:\n{}", rules.concat());
    let injection = Injection::of_spec(&spec);
    let seen = victim.round(16);
    assert_eq!(failures(&seen), 0, "{seen:?}");
    let report = injection.stop().report();
    for rule in &report.rules {
        assert_eq!(
            (rule.matched, rule.injected, rule.shadowed),
            (16, 0, Some(16)),
            "{rule:?}"
        );
    }
}

#[test]
fn what_acts_on_others_too_is_refused() {
    for (options, says) in [
        (
            &["net-rate", "--rate", "1mbit"][..],
            "every packet waits, also those that it does not hit",
        ),
        (
            &["net-reorder", "--delay", "10ms", "--gap", "5"],
            "every packet waits",
        ),
        (&["net-link", "--profile", "3g"], "every packet waits"),
        (
            &["cpu-quota", "--cpus", "0.5"],
            "it decides on no operation",
        ),
    ] {
        let tail = ["--shadow", "--for", "1s", "--", "true"];
        let refused = agent::run(&[&["inject"], options, &tail].concat());
        assert_eq!(refused.code(), 2, "{refused:?}");
        assert!(refused.stderr.contains("shadow"), "{refused:?}");
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    let rule = "kind: net-loss, target: command, shadow: maybe";
    let text = format!("version: 1\nfor: 1s\nrules:\n- {{{rule}}}\n");
    fs::write(file.path(), text).expect("write a file");
    let path = file.path().to_str().expect("a path in UTF-8");
    let refused = agent::run(&["run", path, "--", "true"]);
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert!(refused.stderr.contains("shadow"), "{refused:?}");
}
