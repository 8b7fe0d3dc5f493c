//! `proc-signal`: the target's processes get a signal.

use std::{os::unix::process::ExitStatusExt as _, time::Duration};

use injector_tests::{
    agent::{self, Injection},
    cgroup::{self, Cgroup},
    command::Place,
    residue::Snapshot,
    wait,
};
use nix::sys::signal::Signal;

/// Writes a letter for each SIGUSR1.
const COUNTING: &str = "trap 'echo x >>\"$0\"' USR1; : >\"$0\"; while :; do sleep 0.02; done";

#[test]
fn a_signal_comes_again_and_again() {
    let cgroup = Cgroup::new("victim");
    let file = tempfile::NamedTempFile::new().expect("make a file");
    let path = file.path().to_str().expect("a path in UTF-8").to_owned();
    std::fs::write(file.path(), "not yet").expect("write a file");
    let victim = Place::cgroup(&cgroup).spawn("sh", &["-c", COUNTING, &path]);
    let count = || {
        std::fs::read_to_string(file.path())
            .expect("read a file")
            .lines()
            .count()
    };
    wait::until("a trap", || (count() == 0).then_some(()));
    let snapshot = Snapshot::take(&[]);
    // The process alone: a sleep would die of it.
    let target = format!("pid:{}", victim.pid());
    let line = [
        "proc-signal",
        "--target",
        &target,
        "--signal",
        "USR1",
        "--every",
        "300ms",
    ];
    let injection = Injection::start(&[&line[..], &["--when", "1+", "--for", "60s"]].concat());
    wait::until("three signals", || (count() >= 3).then_some(()));
    let rule = injection.stop().rule().clone();
    assert!(
        rule.injected >= 3 && rule.matched == rule.injected,
        "{rule:?}"
    );
    // None comes after the stop.
    let after = wait::settled("the last signal", Duration::from_millis(600), count);
    assert!(after as u64 <= rule.injected);
    snapshot.assert_clean();
}

#[test]
fn a_signal_ends_a_cgroup_and_nothing_else() {
    let (cgroup, other) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let mut victim = Place::cgroup(&cgroup).spawn("sleep", &["1000"]);
    let mut bystander = Place::cgroup(&other).spawn("sleep", &["1000"]);
    let target = cgroup.target();
    let line = [
        "proc-signal",
        "--target",
        &target,
        "--signal",
        "15",
        "--for",
        "60s",
    ];
    let injection = Injection::start(&line);
    assert_eq!(victim.wait().signal(), Some(Signal::SIGTERM as i32));
    assert!(bystander.ended().is_none());
    assert_eq!(injection.stop().rule().injected, 1);
}

/// The agent is a descendant of its own target here, and goes on.
#[test]
fn the_injector_is_spared() {
    let binary = agent::binary();
    let binary = binary.to_str().expect("a path in UTF-8");
    let script = "trap 'got=yes' TERM; \"$0\" inject proc-signal --target pid:$$ --signal TERM \
                  --for 300ms --output json; echo $got";
    let told = Place::HERE.output("sh", &["-c", script, binary]);
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(text.contains("\"stopped_by\":\"deadline\""), "{told:?}");
    assert!(
        text.contains("\"injected\":1") && text.ends_with("yes\n"),
        "{told:?}"
    );
}

#[track_caller]
fn refused(target: &str, signal: &str, words: &str) {
    let line = [
        "inject",
        "proc-signal",
        "--target",
        target,
        "--signal",
        signal,
        "--for",
        "1s",
    ];
    let finished = agent::run(&line);
    assert_eq!(finished.code(), 2, "{target}: {finished:?}");
    assert!(
        finished.stderr.contains(words),
        "{target}: no {words:?} in {finished:?}"
    );
}

#[test]
fn what_must_go_on_is_refused() {
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    refused(&target, "SIGSTOP", "cgroup-freeze");
    refused(&target, "SIGNOTHING", "signal(7)");
    let root = format!("cgroup:{}", cgroup::mount_point().display());
    refused(&root, "TERM", "root cgroup");
    refused("pid:1", "TERM", "pid:1");
}
