//! `cpu-quota`: the target gets so much processor time and no more.

use std::time::Duration;

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::{self, Feature},
    require,
    residue::Snapshot,
    resources::{Busy, await_value, enable, read, write},
};
use nix::sys::signal::Signal;

/// The file.
const FILE: &str = "cpu.max";

/// What it says where nobody limits anything.
const UNLIMITED: &str = "max 100000";

#[track_caller]
fn limit(cgroup: &Cgroup, cpus: &str) -> Injection {
    let target = cgroup.target();
    Injection::start(&[
        "cpu-quota",
        "--target",
        &target,
        "--cpus",
        cpus,
        "--for",
        "60s",
    ])
}

#[test]
fn a_busy_process_gets_its_share() {
    require!(Controllers);
    enable("cpu");
    let (cgroup, other) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let victim = Busy::start(Place::cgroup(&cgroup));
    let bystander = Busy::start(Place::cgroup(&other));
    let snapshot = Snapshot::take(&[]);
    let injection = limit(&cgroup, "0.1");
    assert_eq!(read(&cgroup, FILE), "10000 100000");
    let share = victim.share(Duration::from_secs(2));
    // Two busy processes on two emulated processors, of which one may be taken.
    let beside = bystander.share(Duration::from_millis(500));
    let finished = injection.stop();
    assert!(
        (0.03..0.18).contains(&share),
        "it had {share} of a processor"
    );
    assert!(beside > 0.3, "the bystander had {beside} of a processor");
    assert_eq!(read(&cgroup, FILE), UNLIMITED);
    let rule = finished.rule();
    assert!(rule.injected >= 10, "{rule:?}");
    assert_eq!(rule.matched, rule.injected + rule.passed, "{rule:?}");
    assert_eq!(rule.kernel["nr_throttled"], rule.injected);
    assert!(rule.kernel["throttled_usec"] > 500_000, "{rule:?}");
    assert_eq!(rule.values[0].before.as_deref(), Some(UNLIMITED));
    assert_eq!(rule.values[0].outcome, "restored");
    snapshot.assert_clean();
}

#[test]
fn a_quota_of_somebody_elses_comes_back() {
    require!(Controllers);
    enable("cpu");
    let cgroup = Cgroup::new("victim");
    write(&cgroup, FILE, "150000 200000");
    let abandoned = limit(&cgroup, "0.5").abandon();
    await_value(&cgroup, FILE, "150000 200000");
    abandoned.clean_up();
    // One that is changed meanwhile is kept.
    let injection = limit(&cgroup, "0.5");
    assert_eq!(read(&cgroup, FILE), "50000 100000");
    write(&cgroup, FILE, "70000 100000");
    let rule = injection.stop().rule().clone();
    assert_eq!(read(&cgroup, FILE), "70000 100000");
    assert_eq!(
        rule.values[0].outcome["changed"], "70000 100000",
        "{rule:?}"
    );
    // One that is tighter would only be loosened.
    let target = cgroup.target();
    let line = [
        "inject",
        "cpu-quota",
        "--target",
        &target,
        "--cpus",
        "0.8",
        "--for",
        "1s",
    ];
    let refused = agent::run(&line);
    assert_eq!(refused.code(), 3, "{refused:?}");
    assert!(refused.stderr.contains("would not tighten"), "{refused:?}");
    assert_eq!(read(&cgroup, FILE), "70000 100000");
}

#[test]
fn a_stopped_agent_loses_its_hold() {
    require!(Controllers);
    enable("cpu");
    let cgroup = Cgroup::new("victim");
    let injection = limit(&cgroup, "0.5");
    injection.agent().signal(Signal::SIGSTOP);
    await_value(&cgroup, FILE, UNLIMITED);
    injection.agent().signal(Signal::SIGCONT);
    await_value(&cgroup, FILE, "50000 100000");
    assert_eq!(injection.stop().code(), 0);
    assert_eq!(read(&cgroup, FILE), UNLIMITED);
}

/// On a host whose controllers cgroup v1 has, or that are not enabled.
#[test]
fn a_missing_controller_is_named() {
    let parent = Cgroup::new("parent");
    let cgroup = parent.child("below");
    let target = cgroup.target();
    let line = [
        "inject",
        "cpu-quota",
        "--target",
        &target,
        "--cpus",
        "0.5",
        "--for",
        "1s",
    ];
    let refused = agent::run(&line);
    assert_eq!(refused.code(), 3, "{refused:?}");
    let advice = if Feature::Controllers
        .expected(kernel::Where::current())
        .is_ok()
    {
        "echo +cpu >"
    } else {
        "cgroup_no_v1=cpu"
    };
    assert!(refused.stderr.contains("the cpu controller"), "{refused:?}");
    assert!(
        refused.stderr.contains(advice) || refused.stderr.contains("none that"),
        "{refused:?}"
    );
}
