//! `memory-pressure`: a process beside those of the target holds memory.

use std::fs;

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    require,
    residue::Snapshot,
    resources::{enable, read, write},
    wait,
};

/// What the tests ask for, in bytes.
const BYTES: u64 = 24 << 20;

#[track_caller]
fn press(cgroup: &Cgroup) -> Injection {
    let target = cgroup.target();
    let line = [
        "memory-pressure",
        "--target",
        &target,
        "--bytes",
        "24mib",
        "--for",
        "60s",
    ];
    Injection::start(&line)
}

/// Memory of the only process in the group that no file stands for, in bytes.
fn held(cgroup: &Cgroup) -> Option<u64> {
    let pid = *cgroup.processes().first()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[test]
fn memory_is_held_until_the_end() {
    let cgroup = Cgroup::new("victim");
    let snapshot = Snapshot::take(&[]);
    let injection = press(&cgroup);
    wait::until("all of it", || {
        held(&cgroup).filter(|&bytes| bytes >= BYTES)
    });
    let rule = injection.stop().rule().clone();
    wait::until("its end", || cgroup.processes().is_empty().then_some(()));
    assert!(
        (BYTES..BYTES + (8 << 20)).contains(&rule.kernel["held_bytes"]),
        "{rule:?}"
    );
    assert_eq!((rule.matched, rule.injected), (1, 1));
    snapshot.assert_clean();
}

#[test]
fn memory_goes_with_a_killed_agent() {
    let cgroup = Cgroup::new("victim");
    let abandoned = press(&cgroup).abandon();
    wait::until("its end", || cgroup.processes().is_empty().then_some(()));
    abandoned.clean_up();
}

/// It counts for the limit of the group, and its end is told.
#[test]
fn a_limit_holds_for_it_too() {
    require!(Controllers);
    enable("memory");
    let cgroup = Cgroup::new("victim");
    write(&cgroup, "memory.max", &(BYTES / 2).to_string());
    let injection = press(&cgroup);
    wait::until("its end", || cgroup.processes().is_empty().then_some(()));
    assert!(read(&cgroup, "memory.events").contains("oom_kill 1"));
    let rule = injection.stop().rule().clone();
    assert!(rule.problems[0].contains("signal 9"), "{rule:?}");
}
