//! `cgroup-freeze`: nothing in the target runs; and what holds for all values that rules set.

use std::{
    fs,
    time::{Duration, Instant},
};

use injector_tests::{
    agent::{self, Injection},
    cgroup::{self, Cgroup},
    command::Place,
    residue::Snapshot,
    resources::{Busy, await_value, guardian_of, read, write},
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The file.
const FILE: &str = "cgroup.freeze";

/// How long an agent's last word holds, and somewhat more.
const LEASE: Duration = Duration::from_millis(3500);

/// Long enough for a busy process to be seen to run.
const MOMENT: Duration = Duration::from_millis(150);

/// A victim in a group of its own, and a bystander in another.
struct Bed {
    cgroup: Cgroup,
    victim: Busy,
    _other: Cgroup,
    bystander: Busy,
}

impl Bed {
    fn new() -> Self {
        let (cgroup, other) = (Cgroup::new("victim"), Cgroup::new("bystander"));
        Self {
            victim: Busy::start(Place::cgroup(&cgroup)),
            bystander: Busy::start(Place::cgroup(&other)),
            cgroup,
            _other: other,
        }
    }

    #[track_caller]
    fn freeze(&self, options: &[&str]) -> Injection {
        let target = self.cgroup.target();
        Injection::start(&[&["cgroup-freeze", "--target", &target], options].concat())
    }

    /// The victim stands still, beside a bystander that does not.
    #[track_caller]
    fn assert_frozen(&self) {
        let before = self.victim.ticks();
        assert!(
            self.bystander.share(MOMENT) > 0.0,
            "the bystander stands still"
        );
        assert_eq!(self.victim.ticks(), before, "the victim runs");
        assert_eq!(read(&self.cgroup, FILE), "1");
    }

    #[track_caller]
    fn assert_thawed(&self) {
        await_value(&self.cgroup, FILE, "0");
        self.victim.assert_runs();
    }
}

#[track_caller]
fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.cast_signed()), signal).expect("signal a process");
}

#[test]
fn nothing_runs_until_the_end() {
    let bed = Bed::new();
    let snapshot = Snapshot::take(&[]);
    let injection = bed.freeze(&["--for", "60s"]);
    bed.assert_frozen();
    let finished = injection.stop();
    bed.assert_thawed();
    let rule = finished.rule();
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert_eq!((rule.matched, rule.injected, rule.errors), (1, 1, 0));
    let value = &rule.values[0];
    assert_eq!(value.path, bed.cgroup.path().join(FILE));
    assert_eq!(
        (value.before.as_deref(), value.set.as_str()),
        (Some("0"), "1")
    );
    assert_eq!(value.outcome, "restored");
    snapshot.assert_clean();
}

#[test]
fn the_deadline_is_kept() {
    let bed = Bed::new();
    let injection = bed.freeze(&["--for", "500ms"]);
    let finished = injection.wait();
    assert_eq!(finished.report().stopped_by, "deadline");
    assert_eq!(finished.rule().values[0].outcome, "restored");
    bed.assert_thawed();
}

/// From 300 ms to 600 ms, of two seconds.
#[test]
fn a_window_is_kept() {
    let bed = Bed::new();
    let spec = format!(
        "version: 1\nfor: 60s\nrules:\n  - {{kind: cgroup-freeze, target: '{}', start: 300ms, for: 300ms}}\n",
        bed.cgroup.target()
    );
    let injection = Injection::of_spec(&spec);
    await_value(&bed.cgroup, FILE, "1");
    bed.assert_thawed();
    let rule = injection.stop().rule().clone();
    assert_eq!((rule.matched, rule.injected), (1, 1));
    assert_eq!(rule.values[0].outcome, "restored");
}

#[test]
fn a_killed_agent_leaves_nothing_frozen() {
    let bed = Bed::new();
    let snapshot = Snapshot::take(&[]);
    let abandoned = bed.freeze(&["--for", "60s"]).abandon();
    bed.assert_thawed();
    // What is left is the journal of the agent itself.
    abandoned.clean_up();
    snapshot.assert_clean();
}

#[test]
fn a_stopped_agent_thaws_within_the_lease() {
    let bed = Bed::new();
    let injection = bed.freeze(&["--for", "60s"]);
    injection.agent().signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    bed.assert_frozen();
    bed.assert_thawed();
    assert!(stopped.elapsed() < LEASE, "{:?}", stopped.elapsed());
    // It vouches for its rules again.
    injection.agent().signal(Signal::SIGCONT);
    await_value(&bed.cgroup, FILE, "1");
    assert_eq!(injection.stop().rule().injected, 2);
    bed.assert_thawed();
}

/// The guardian keeps the deadline by itself.
#[test]
fn the_deadline_holds_without_an_agent() {
    let bed = Bed::new();
    let injection = bed.freeze(&["--for", "700ms"]);
    injection.agent().signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    bed.assert_thawed();
    assert!(
        stopped.elapsed() < Duration::from_millis(1700),
        "{:?}",
        stopped.elapsed()
    );
    injection.agent().signal(Signal::SIGCONT);
    assert_eq!(injection.wait().code(), 0);
}

/// Nobody is left who could thaw it.
#[test]
fn stopping_everything_thaws_what_two_killed_left() {
    let bed = Bed::new();
    let snapshot = Snapshot::take(&[]);
    let injection = bed.freeze(&["--for", "60s"]);
    let guardian = guardian_of(injection.agent().pid());
    // Stopped first, so that it cannot act when its agent dies.
    signal(guardian, Signal::SIGSTOP);
    let abandoned = injection.abandon();
    signal(guardian, Signal::SIGKILL);
    wait::until("the guardian's end", || {
        (!fs::exists(format!("/proc/{guardian}/stat")).unwrap_or(true)).then_some(())
    });
    bed.assert_frozen();
    let target = bed.cgroup.target();
    let refused = agent::run(&[
        "inject",
        "cgroup-freeze",
        "--target",
        &target,
        "--for",
        "1s",
    ]);
    assert!(
        refused.stderr.contains("did not put it back"),
        "{refused:?}"
    );
    let stopped = agent::run(&["stop", "--all"]);
    assert!(
        stopped.stdout.contains("cgroup.freeze to `0`"),
        "{stopped:?}"
    );
    bed.assert_thawed();
    drop(abandoned);
    snapshot.assert_clean();
}

/// The agent does the guardian's work when that is killed.
#[test]
fn a_killed_guardian_leaves_nothing_frozen() {
    let bed = Bed::new();
    let snapshot = Snapshot::take(&[]);
    let injection = bed.freeze(&["--for", "60s"]);
    signal(guardian_of(injection.agent().pid()), Signal::SIGKILL);
    bed.assert_thawed();
    let finished = injection.stop();
    assert!(
        finished.rule().problems[0].contains("guardian was killed"),
        "{finished:?}"
    );
    let value = &finished.rule().values[0];
    assert_eq!(value.before.as_deref(), Some("0"));
    assert_eq!(value.outcome, "restored", "{finished:?}");
    snapshot.assert_clean();
}

/// One that does not answer is ended, and the agent does its work.
#[test]
fn a_stopped_guardian_leaves_nothing_frozen() {
    let bed = Bed::new();
    let snapshot = Snapshot::take(&[]);
    let injection = bed.freeze(&["--for", "60s"]);
    signal(guardian_of(injection.agent().pid()), Signal::SIGSTOP);
    let stopped = Instant::now();
    bed.assert_frozen();
    bed.assert_thawed();
    assert!(stopped.elapsed() < LEASE, "{:?}", stopped.elapsed());
    let finished = injection.stop();
    assert!(
        finished.rule().problems[0].contains("guardian did not answer"),
        "{finished:?}"
    );
    assert_eq!(finished.rule().values[0].outcome, "restored");
    snapshot.assert_clean();
}

/// Nor is the end waited for much longer.
#[test]
fn a_stopped_guardian_does_not_hold_up_the_end() {
    let bed = Bed::new();
    let snapshot = Snapshot::take(&[]);
    let injection = bed.freeze(&["--for", "60s"]);
    signal(guardian_of(injection.agent().pid()), Signal::SIGSTOP);
    let begun = Instant::now();
    let finished = injection.stop();
    assert!(begun.elapsed() < LEASE, "{:?}", begun.elapsed());
    assert_eq!(finished.rule().values[0].outcome, "restored");
    bed.assert_thawed();
    snapshot.assert_clean();
}

#[test]
fn what_was_thawed_by_hand_stays_so() {
    let bed = Bed::new();
    let injection = bed.freeze(&["--for", "60s"]);
    // Thawed by hand: the value from before is the one that is there.
    write(&bed.cgroup, FILE, "0");
    assert_eq!(injection.stop().rule().values[0].outcome, "restored");
    bed.assert_thawed();
}

#[test]
fn two_agents_do_not_set_one_file() {
    let bed = Bed::new();
    let injection = bed.freeze(&["--for", "60s"]);
    let target = bed.cgroup.target();
    let second = agent::run(&[
        "inject",
        "cgroup-freeze",
        "--target",
        &target,
        "--for",
        "1s",
    ]);
    assert_eq!(second.code(), 3, "{second:?}");
    assert!(second.stderr.contains("another injector"), "{second:?}");
    bed.assert_frozen();
    assert_eq!(injection.stop().code(), 0);
    bed.assert_thawed();
}

#[test]
fn what_is_frozen_already_is_refused() {
    let bed = Bed::new();
    write(&bed.cgroup, FILE, "1");
    let target = bed.cgroup.target();
    let refused = agent::run(&[
        "inject",
        "cgroup-freeze",
        "--target",
        &target,
        "--for",
        "1s",
    ]);
    assert_eq!(refused.code(), 3, "{refused:?}");
    assert!(refused.stderr.contains("it is `1` already"), "{refused:?}");
    assert_eq!(read(&bed.cgroup, FILE), "1", "still somebody else's");
    write(&bed.cgroup, FILE, "0");
}

#[test]
fn a_command_freezes_later() {
    let snapshot = Snapshot::take(&[]);
    let spec = "version: 1\nfor: 60s\nrules:\n  \
                - {kind: cgroup-freeze, target: command, start: 200ms, for: 600ms}\n\
                command: [sh, -c, 'for i in 1 2 3 4 5 6; do sleep 0.1; done']\n";
    let begun = Instant::now();
    let finished = Injection::of_spec(spec).wait();
    assert_eq!(
        finished.rule().values[0].outcome,
        "restored",
        "{finished:?}"
    );
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(800),
        "it was not frozen: {took:?}"
    );
    snapshot.assert_clean();
}

#[track_caller]
fn refused(target: &str, code: i32, words: &[&str]) {
    let finished = agent::run(&["inject", "cgroup-freeze", "--target", target, "--for", "1s"]);
    assert_eq!(finished.code(), code, "{target}: {finished:?}");
    for word in words {
        assert!(
            finished.stderr.contains(word),
            "{target}: no {word:?} in {finished:?}"
        );
    }
}

#[test]
fn what_must_go_on_is_refused() {
    let root = format!("cgroup:{}", cgroup::mount_point().display());
    refused(&root, 2, &["root cgroup"]);
    let pid = std::process::id().to_string();
    refused(&format!("pid:{pid}"), 2, &["no cgroup to itself", "/proc/"]);
    // The agent is started in the group that it is to freeze.
    let cgroup = Cgroup::new("agent");
    let target = cgroup.target();
    let line = [
        "inject",
        "cgroup-freeze",
        "--target",
        &target,
        "--for",
        "1s",
    ];
    let inside = agent::Agent::start(Place::cgroup(&cgroup), &line, &[]).wait();
    assert_eq!(inside.code(), 2, "{inside:?}");
    assert!(
        inside.stderr.contains("holds the injector itself"),
        "{inside:?}"
    );
    let now = ["inject", "cgroup-freeze", "--for", "1s", "--", "true"];
    let command = agent::run(&now);
    assert_eq!(command.code(), 2, "{command:?}");
    assert!(
        command.stderr.contains("could not even begin"),
        "{command:?}"
    );
}

#[test]
fn a_plan_tells_and_changes_nothing() {
    let bed = Bed::new();
    let target = bed.cgroup.target();
    let plan = agent::run(&["plan", "cgroup-freeze", "--target", &target, "--for", "1s"]);
    for words in [
        "start the guardian",
        "set cgroup.freeze of",
        "back to what it was",
    ] {
        assert!(plan.stdout.contains(words), "{plan:?}");
    }
    assert_eq!(read(&bed.cgroup, FILE), "0");
}
