//! `memory-limit`: the target gets so much memory and no more.

use std::process::ExitStatus;

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    require,
    residue::Snapshot,
    resources::{await_value, enable, read},
};

/// Needs so much memory: `tail` keeps a line that has no end.
fn take(place: Place<'_>, bytes: u32) -> ExitStatus {
    let script = format!("head -c {bytes} /dev/zero | tail >/dev/null");
    place.output("sh", &["-c", &script]).status
}

#[track_caller]
fn limit(cgroup: &Cgroup, more: &[&str]) -> Injection {
    let target = cgroup.target();
    let line = [
        "memory-limit",
        "--target",
        &target,
        "--bytes",
        "8mib",
        "--for",
        "60s",
    ];
    Injection::start(&[&line, more].concat())
}

#[test]
fn more_memory_ends_a_process() {
    require!(Controllers);
    enable("memory");
    let (cgroup, other) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let snapshot = Snapshot::take(&[]);
    let injection = limit(&cgroup, &[]);
    assert_eq!(read(&cgroup, "memory.max"), (8 << 20).to_string());
    let more = 40_000_000;
    let ended = take(Place::cgroup(&cgroup), more);
    assert!(!ended.success(), "{ended:?}");
    assert!(take(Place::cgroup(&other), more).success(), "the bystander");
    let finished = injection.stop();
    assert_eq!(read(&cgroup, "memory.max"), "max");
    let rule = finished.rule();
    assert!(rule.injected > 0 && rule.kernel["oom_kill"] > 0, "{rule:?}");
    assert_eq!(rule.injected, rule.kernel["max"]);
    assert_eq!(rule.values[0].outcome, "restored");
    assert!(
        take(Place::cgroup(&cgroup), more).success(),
        "after the stop"
    );
    snapshot.assert_clean();
}

#[test]
fn a_soft_limit_ends_nothing() {
    require!(Controllers);
    enable("memory");
    let cgroup = Cgroup::new("victim");
    let injection = limit(&cgroup, &["--soft"]);
    assert_eq!(read(&cgroup, "memory.high"), (8 << 20).to_string());
    assert_eq!(read(&cgroup, "memory.max"), "max");
    // A little more, since the kernel slows it down the more it has.
    assert!(take(Place::cgroup(&cgroup), 8_500_000).success());
    assert!(
        read(&cgroup, "memory.events")
            .lines()
            .any(|line| { line.strip_prefix("high ").is_some_and(|count| count != "0") })
    );
    let abandoned = injection.abandon();
    await_value(&cgroup, "memory.high", "max");
    abandoned.clean_up();
}
