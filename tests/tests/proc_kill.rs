//! `proc-kill`: the target's processes are killed.

use std::os::unix::process::ExitStatusExt as _;

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::{Place, Process},
    residue::Snapshot,
    wait,
};
use nix::sys::signal::Signal;

/// A process that waits, in this group.
fn sleeper(cgroup: &Cgroup) -> Process {
    Place::cgroup(cgroup).spawn("sleep", &["1000"])
}

#[track_caller]
fn assert_killed(process: &mut Process) {
    assert_eq!(process.wait().signal(), Some(Signal::SIGKILL as i32));
}

#[test]
fn a_whole_cgroup_is_killed() {
    let (cgroup, other) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let below = cgroup.child("below");
    let mut victims = [sleeper(&cgroup), sleeper(&cgroup), sleeper(&below)];
    let mut bystander = sleeper(&other);
    let snapshot = Snapshot::take(&[]);
    let target = cgroup.target();
    let injection = Injection::start(&["proc-kill", "--target", &target, "--for", "60s"]);
    victims.iter_mut().for_each(assert_killed);
    // Once is once.
    let mut late = sleeper(&cgroup);
    let finished = injection.stop();
    assert!(late.ended().is_none() && bystander.ended().is_none());
    let rule = finished.rule();
    assert_eq!(
        (rule.matched, rule.injected, rule.errors),
        (3, 3, 0),
        "{rule:?}"
    );
    snapshot.assert_clean();
}

/// A process with a child, of which another one does not know.
#[test]
fn a_process_is_killed_with_its_children() {
    let cgroup = Cgroup::new("victim");
    let mut family = Place::cgroup(&cgroup).spawn("sh", &["-c", "sleep 1000 & wait"]);
    let mut bystander = sleeper(&cgroup);
    wait::until("a child", || (cgroup.processes().len() == 3).then_some(()));
    let target = format!("pid:{}", family.pid());
    let injection = Injection::start(&["proc-kill", "--target", &target, "--for", "60s"]);
    assert_killed(&mut family);
    wait::until("the child's end", || {
        (cgroup.processes().len() == 1).then_some(())
    });
    assert!(bystander.ended().is_none());
    assert_eq!(injection.stop().rule().injected, 2);
}

#[test]
fn what_is_started_anew_is_killed_again() {
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let line = [
        "proc-kill",
        "--target",
        &target,
        "--every",
        "50ms",
        "--times",
        "3",
    ];
    let injection = Injection::start(&[&line[..], &["--for", "60s"]].concat());
    for _ in 0..3 {
        assert_killed(&mut sleeper(&cgroup));
    }
    // The budget is spent, and the run ends by that.
    let finished = injection.wait();
    assert_eq!(finished.report().stopped_by, "budget");
    assert_eq!(finished.rule().injected, 3);
    assert!(sleeper(&cgroup).ended().is_none());
}

/// The decisions are those of the seed.
#[test]
fn a_share_is_killed() {
    let cgroup = Cgroup::new("victim");
    let mut victims: Vec<Process> = (0..20).map(|_| sleeper(&cgroup)).collect();
    let target = cgroup.target();
    let line = [
        "proc-kill",
        "--target",
        &target,
        "--percent",
        "50",
        "--seed",
        "7",
    ];
    let injection = Injection::start(&[&line[..], &["--for", "60s"]].concat());
    let rule = injection.stop().rule().clone();
    let killed = rule.injected;
    assert_eq!((rule.matched, rule.passed), (20, 20 - killed));
    assert!((3..=17).contains(&killed), "{rule:?}");
    wait::until("the ends of some", || {
        let ended = victims.iter_mut().filter_map(Process::ended).count();
        (ended as u64 == killed).then_some(())
    });
}

#[test]
fn a_command_is_killed_later() {
    let line = [
        "proc-kill",
        "--every",
        "200ms",
        "--for",
        "60s",
        "--",
        "sleep",
        "1000",
    ];
    let finished = Injection::start(&line).wait();
    assert_eq!(finished.status.code(), Some(128 + 9), "{finished:?}");
    let refused = agent::run(&["inject", "proc-kill", "--for", "1s", "--", "true"]);
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert!(refused.stderr.contains("--every"), "{refused:?}");
}
