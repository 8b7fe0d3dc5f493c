//! `cpu-stress`: busy processes beside those of the target.

use std::{fs, time::Duration};

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    residue::Snapshot,
    resources::guardian_of,
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[track_caller]
fn stress(cgroup: &Cgroup, more: &[&str]) -> Injection {
    let target = cgroup.target();
    let line = [
        "cpu-stress",
        "--target",
        &target,
        "--workers",
        "2",
        "--for",
        "60s",
    ];
    Injection::start(&[&line, more].concat())
}

/// Waits until nobody is left in the group.
#[track_caller]
fn await_empty(cgroup: &Cgroup) {
    wait::until("the workers' end", || {
        cgroup.processes().is_empty().then_some(())
    });
}

/// Microseconds of processor time that the group has had.
fn used(cgroup: &Cgroup) -> u64 {
    let stat = fs::read_to_string(cgroup.path().join("cpu.stat")).expect("read what was used");
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    line.expect("a sum").parse().expect("a number")
}

#[test]
fn workers_use_the_targets_time() {
    let (cgroup, other) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let snapshot = Snapshot::take(&[]);
    let injection = stress(&cgroup, &[]);
    assert_eq!(cgroup.processes().len(), 2);
    assert!(other.processes().is_empty());
    wait::until("half a second of work", || {
        (used(&cgroup) > 500_000).then_some(())
    });
    let finished = injection.stop();
    await_empty(&cgroup);
    let rule = finished.rule();
    assert_eq!(
        (rule.matched, rule.injected, rule.errors),
        (2, 2, 0),
        "{rule:?}"
    );
    assert!(rule.kernel["worker_usec"] > 300_000, "{rule:?}");
    snapshot.assert_clean();
}

/// A worker with a load of a fifth takes no more than that.
#[test]
fn a_load_is_a_share_of_the_time() {
    let cgroup = Cgroup::new("victim");
    let injection = stress(&cgroup, &["--load", "20"]);
    let (before, time) = (used(&cgroup), Duration::from_secs(1));
    std::thread::sleep(time);
    let took = used(&cgroup) - before;
    assert_eq!(injection.stop().code(), 0);
    // Two of them; half a share more for what starting them took.
    assert!(
        (20_000..600_000).contains(&took),
        "they took {took} µs of a second"
    );
}

#[test]
fn workers_go_with_a_killed_agent() {
    let cgroup = Cgroup::new("victim");
    let snapshot = Snapshot::take(&[]);
    let abandoned = stress(&cgroup, &[]).abandon();
    await_empty(&cgroup);
    abandoned.clean_up();
    snapshot.assert_clean();
}

#[test]
fn workers_go_with_a_killed_guardian() {
    let cgroup = Cgroup::new("victim");
    let injection = stress(&cgroup, &[]);
    let guardian = guardian_of(injection.agent().pid());
    kill(Pid::from_raw(guardian.cast_signed()), Signal::SIGKILL).expect("kill the guardian");
    await_empty(&cgroup);
    assert_eq!(injection.stop().code(), 0);
}

#[test]
fn workers_go_when_the_agent_is_stopped() {
    let cgroup = Cgroup::new("victim");
    let injection = stress(&cgroup, &[]);
    injection.agent().signal(Signal::SIGSTOP);
    await_empty(&cgroup);
    injection.agent().signal(Signal::SIGCONT);
    wait::until("new workers", || {
        (cgroup.processes().len() == 2).then_some(())
    });
    assert_eq!(injection.stop().rule().injected, 4);
}

/// A worker that was ended, by whatever signal, is told, and not started anew.
#[test]
fn a_lost_worker_is_told() {
    let cgroup = Cgroup::new("victim");
    let injection = stress(&cgroup, &[]);
    let worker = *cgroup.processes().first().expect("a worker");
    kill(Pid::from_raw(worker.cast_signed()), Signal::SIGTERM).expect("end a worker");
    wait::until("its end", || (cgroup.processes().len() == 1).then_some(()));
    let rule = injection.stop().rule().clone();
    assert!(rule.problems[0].contains("signal 15"), "{rule:?}");
}

#[test]
fn a_process_has_no_cgroup() {
    let pid = format!("pid:{}", std::process::id());
    let line = [
        "inject",
        "cpu-stress",
        "--target",
        &pid,
        "--workers",
        "1",
        "--for",
        "1s",
    ];
    let refused = agent::run(&line);
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert!(
        refused.stderr.contains("no cgroup to itself"),
        "{refused:?}"
    );
}
