//! `pids-limit`: the target has so many processes and threads and no more.

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    require,
    residue::Snapshot,
    resources::{await_value, enable, read},
};

/// Whether a shell can start another process.
fn forks(place: Place<'_>) -> bool {
    place
        .output("sh", &["-c", "/bin/true && :"])
        .status
        .success()
}

#[test]
fn no_process_is_added() {
    require!(Controllers);
    enable("pids");
    let (cgroup, other) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let snapshot = Snapshot::take(&[]);
    let target = cgroup.target();
    let injection = Injection::start(&[
        "pids-limit",
        "--target",
        &target,
        "--max",
        "1",
        "--for",
        "60s",
    ]);
    assert_eq!(read(&cgroup, "pids.max"), "1");
    assert!(!forks(Place::cgroup(&cgroup)), "the victim forks");
    assert!(forks(Place::cgroup(&other)), "the bystander does not");
    let finished = injection.stop();
    assert_eq!(read(&cgroup, "pids.max"), "max");
    assert!(forks(Place::cgroup(&cgroup)), "after the stop");
    let rule = finished.rule();
    assert!(
        rule.injected > 0 && rule.injected == rule.matched,
        "{rule:?}"
    );
    assert_eq!(rule.values[0].outcome, "restored");
    snapshot.assert_clean();
}

/// The command's own group has the controllers that are enabled where the agent lives.
#[test]
fn a_command_is_limited() {
    require!(Controllers);
    enable("pids");
    let line = [
        "pids-limit",
        "--max",
        "2",
        "--for",
        "60s",
        "--",
        "sh",
        "-c",
        // The second one cannot have a third.
        "sh -c '/bin/true && :' || :",
    ];
    let finished = Injection::start(&line).wait();
    assert!(finished.rule().injected > 0, "{finished:?}");
}

#[test]
fn a_killed_agent_leaves_no_limit() {
    require!(Controllers);
    enable("pids");
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let injection = Injection::start(&[
        "pids-limit",
        "--target",
        &target,
        "--max",
        "1",
        "--for",
        "60s",
    ]);
    let abandoned = injection.abandon();
    await_value(&cgroup, "pids.max", "max");
    abandoned.clean_up();
}
