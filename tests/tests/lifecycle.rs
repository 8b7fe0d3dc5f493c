//! How an injection ends: always, on time, and without a trace.

use injector_tests::{
    cgroup::Cgroup,
    require, require_for,
    residue::Snapshot,
    scene::{Harm, Kind, Scene},
    wait,
};
use nix::sys::signal::Signal;

/// Ways in which an injection can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Deadline,
    CommandExit,
    Signal(Signal),
    Kill { command: bool },
    PanicInForce { command: bool },
}

/// A command that outlives an agent that does not end well, and is left alone
/// then. It ends by itself, long after any test here.
const COMMAND: [&str; 3] = ["--", "sleep", "100"];

/// Brings a fault in force on a victim, ends it, and compares everything with
/// what was there before, foreign queueing disciplines included.
#[track_caller]
fn check(kind: Kind, end: End) {
    require_for!(kind.feature());
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    assert_eq!(scene.harm(kind), Harm::Nothing, "before the fault");
    match end {
        End::Deadline => {
            let injection = scene.inject(kind, &["--for", "3s"], &[]);
            assert_eq!(scene.harm(kind), Harm::Everything);
            let finished = injection.wait();
            assert_eq!(
                (finished.code(), finished.report().stopped_by.as_str()),
                (0, "deadline")
            );
        }
        End::CommandExit => {
            let command = ["--for", "60s", "--", "sh", "-c", "sleep 3; exit 7"];
            let injection = scene.inject(kind, &command, &[]);
            assert_eq!(scene.harm(kind), Harm::Everything);
            let finished = injection.wait();
            assert_eq!(
                (finished.code(), finished.report().stopped_by.as_str()),
                (7, "command_exit")
            );
        }
        End::Signal(signal) => {
            let injection = scene.inject(kind, &["--for", "60s"], &[]);
            assert_eq!(scene.harm(kind), Harm::Everything);
            injection.agent().signal(signal);
            let finished = injection.wait();
            assert_eq!(
                (finished.code(), finished.report().stopped_by.as_str()),
                (0, "signal")
            );
        }
        End::Kill { command } => {
            let mut options = vec!["--for", "60s"];
            if command {
                options.extend(COMMAND);
            }
            let injection = scene.inject(kind, &options, &[]);
            assert_eq!(scene.harm(kind), Harm::Everything);
            let abandoned = injection.abandon();
            snapshot.assert_bpf_gone(kind.uses_filters());
            wait::until("the lease's end", || {
                (scene.harm(kind) == Harm::Nothing).then_some(())
            });
            abandoned.clean_up();
        }
        End::PanicInForce { command } => {
            let panic = [("INJECTOR_TEST_PANIC", "run")];
            let mut options = vec!["--for", "60s"];
            if command {
                options.extend(COMMAND);
            }
            let finished = scene.run(kind, &options, &panic);
            assert!(
                finished.stderr.contains("INJECTOR_TEST_PANIC=run"),
                "{finished:?}"
            );
            assert_ne!(finished.status.code(), Some(0), "{finished:?}");
        }
    }
    snapshot.assert_clean();
    assert_eq!(scene.harm(kind), Harm::Nothing, "after the end");
    snapshot.assert_clean();
}

macro_rules! crash_matrix {
    ($($name:ident: $kind:ident, $end:expr;)+) => {
        $(
            #[test]
            fn $name() {
                check(Kind::$kind, $end);
            }
        )+
    };
}

crash_matrix! {
    loss_until_deadline: Loss, End::Deadline;
    loss_until_command_exit: Loss, End::CommandExit;
    loss_until_interrupt: Loss, End::Signal(Signal::SIGINT);
    loss_until_terminate: Loss, End::Signal(Signal::SIGTERM);
    loss_until_kill: Loss, End::Kill { command: false };
    loss_until_kill_with_command: Loss, End::Kill { command: true };
    loss_until_panic: Loss, End::PanicInForce { command: false };
    loss_until_panic_with_command: Loss, End::PanicInForce { command: true };
    denial_until_kill: Denial, End::Kill { command: false };
    reception_until_deadline: Reception, End::Deadline;
    reception_until_kill: Reception, End::Kill { command: false };
    corruption_until_deadline: Corruption, End::Deadline;
    corruption_until_command_exit: Corruption, End::CommandExit;
    corruption_until_interrupt: Corruption, End::Signal(Signal::SIGINT);
    corruption_until_terminate: Corruption, End::Signal(Signal::SIGTERM);
    corruption_until_kill: Corruption, End::Kill { command: false };
    corruption_until_kill_with_command: Corruption, End::Kill { command: true };
    corruption_until_panic: Corruption, End::PanicInForce { command: false };
    delay_until_deadline: Delay, End::Deadline;
    delay_until_command_exit: Delay, End::CommandExit;
    delay_until_interrupt: Delay, End::Signal(Signal::SIGINT);
    delay_until_terminate: Delay, End::Signal(Signal::SIGTERM);
    delay_until_kill: Delay, End::Kill { command: false };
    delay_until_kill_with_command: Delay, End::Kill { command: true };
    delay_until_panic: Delay, End::PanicInForce { command: false };
    errno_until_deadline: Errno, End::Deadline;
    errno_until_command_exit: Errno, End::CommandExit;
    errno_until_interrupt: Errno, End::Signal(Signal::SIGINT);
    errno_until_terminate: Errno, End::Signal(Signal::SIGTERM);
    errno_until_kill: Errno, End::Kill { command: false };
    errno_until_kill_with_command: Errno, End::Kill { command: true };
    errno_until_panic: Errno, End::PanicInForce { command: false };
    errno_until_panic_with_command: Errno, End::PanicInForce { command: true };
    duplication_until_kill: Duplication, End::Kill { command: false };
    partition_until_kill: Partition, End::Kill { command: false };
    rate_until_kill: Rate, End::Kill { command: false };
    reordering_until_kill: Reordering, End::Kill { command: false };
    rejection_until_deadline: Rejection, End::Deadline;
    rejection_until_kill: Rejection, End::Kill { command: false };
    reset_until_deadline: Reset, End::Deadline;
    reset_until_kill: Reset, End::Kill { command: false };
    names_until_deadline: Names, End::Deadline;
    names_until_kill: Names, End::Kill { command: false };
    refusal_until_deadline: Refusal, End::Deadline;
    refusal_until_kill: Refusal, End::Kill { command: false };
    refusal_until_panic: Refusal, End::PanicInForce { command: false };
}

#[test]
fn a_signal_reaches_the_command() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let injection = scene.inject(Kind::Loss, &["--for", "60s", "--", "sleep", "1000"], &[]);
    let finished = injection.stop();
    assert_eq!(finished.code(), 128 + Signal::SIGINT as i32);
    assert_eq!(finished.report().stopped_by, "signal");
    snapshot.assert_clean();
}

#[test]
fn the_end_of_a_killed_command_is_told() {
    require!(NetLoss);
    let scene = Scene::new();
    let options = ["--for", "60s", "--", "sh", "-c", "kill -KILL $$"];
    let finished = scene.run(Kind::Loss, &options, &[]);
    assert_eq!(
        finished.code(),
        128 + Signal::SIGKILL as i32,
        "{finished:?}"
    );
}

#[test]
fn a_command_that_outlives_the_fault_is_left_alone() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let options = ["--for", "1s", "--", "sh", "-c", "sleep 3; exit 9"];
    let finished = scene.run(Kind::Loss, &options, &[]);
    assert_eq!(finished.code(), 9, "{finished:?}");
    assert_eq!(finished.report().stopped_by, "deadline");
    snapshot.assert_clean();
}

/// Its cgroup is where the agent was when it made it.
#[test]
fn an_agent_that_was_moved_finds_its_cgroup() {
    require!(NetLoss);
    let scene = Scene::new();
    let elsewhere = Cgroup::new("elsewhere");
    let snapshot = scene.snapshot();
    let options = ["--for", "60s", "--", "sleep", "100"];
    let injection = scene.inject(Kind::Loss, &options, &[]);
    elsewhere.adopt(injection.agent().pid());
    drop(injection.stop());
    snapshot.assert_clean();
}

#[test]
fn many_short_runs_leave_nothing() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    for _ in 0..10 {
        let finished = scene.run(Kind::Loss, &["--for", "50ms"], &[]);
        assert_eq!(finished.code(), 0, "{finished:?}");
    }
    snapshot.assert_clean();
}

/// The namespace may vanish while packets in it are being lost.
#[test]
fn a_vanished_target_is_no_error() {
    require!(NetLoss);
    let snapshot = Snapshot::take(&[]);
    let scene = Scene::new();
    let injection = scene.inject(Kind::Loss, &["--for", "60s"], &[]);
    assert_eq!(scene.harm(Kind::Loss), Harm::Everything);
    drop(scene);
    let finished = injection.stop();
    assert_eq!(finished.code(), 0, "{}", finished.stderr);
    snapshot.assert_clean();
}
