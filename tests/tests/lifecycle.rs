//! How an injection ends: always, on time, and without a trace.

use injector_common::FaultKind;
use injector_tests::{
    agent,
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
/// what was there before, foreign queueing disciplines included: in each of these
/// ways, one after the other.
#[track_caller]
fn check(kind: Kind, ends: &[End]) {
    require_for!(kind.feature());
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    for &end in ends {
        // What a failing test was at.
        println!("{kind:?}, {end:?}");
        assert_eq!(scene.harm(kind), Harm::Nothing, "before the fault");
        run(&scene, &snapshot, kind, end);
        snapshot.assert_clean();
    }
    assert_eq!(scene.harm(kind), Harm::Nothing, "after the end");
    snapshot.assert_clean();
}

#[track_caller]
fn run(scene: &Scene, snapshot: &Snapshot<'_>, kind: Kind, end: End) {
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
}

/// Those that the agent sees coming.
const ORDERLY: &[End] = &[
    End::Deadline,
    End::Signal(Signal::SIGINT),
    End::Signal(Signal::SIGTERM),
];

/// Those that it does not.
const ABRUPT: &[End] = &[
    End::Kill { command: false },
    End::PanicInForce { command: false },
];

/// The same with a command; a panicking agent's is waited for.
const OF_COMMANDS: &[End] = &[End::CommandExit, End::Kill { command: true }];
const PANIC_WITH_COMMAND: &[End] = &[End::PanicInForce { command: true }];

macro_rules! crash_matrix {
    ($($module:ident: $kind:ident;)+) => {
        $(
            mod $module {
                use super::*;

                #[test]
                fn ends_orderly() {
                    check(Kind::$kind, ORDERLY);
                }

                #[test]
                fn ends_abruptly() {
                    check(Kind::$kind, ABRUPT);
                }
            }
        )+

        /// All of them. A kind of victim that is not among them does not compile.
        const MATRIX: &[Kind] = &[$(Kind::$kind),+];
        const _: fn(Kind) = |kind| match kind { $(Kind::$kind => {})+ };
    };
}

crash_matrix! {
    loss: Loss;
    denial: Denial;
    reception: Reception;
    delay: Delay;
    corruption: Corruption;
    duplication: Duplication;
    reordering: Reordering;
    rate: Rate;
    partition: Partition;
    refusal: Refusal;
    rejection: Rejection;
    reset: Reset;
    names: Names;
    delayed_names: LateNames;
    errno: Errno;
    disk_full: DiskFull;
    delayed_link: Link;
}

/// Recipes for rules of `sys-errno`, as `disk-full` is.
const OF_ERRNO: &[&str] = &["io-errno", "read-only", "fd-exhaustion", "oom", "fork-fail"];
/// Kinds that a guardian serves: what becomes of it in all these ways `cgroup_freeze` tells, of
/// its workers `cpu_stress`, and of a command with other clocks, in the ways that differ, `clock_offset`.
const OF_GUARDIANS: &[&str] = &[
    "cgroup-freeze",
    "cpu-quota",
    "memory-limit",
    "pids-limit",
    "io-limit",
    "proc-signal",
    "proc-kill",
    "cpu-stress",
    "memory-pressure",
    "clock-offset",
];
/// The harm of a signal is no failure of the scene's victims: `sys_signal` ends it.
const OF_SIGNALS: &[&str] = &["sys-signal"];
/// Nor is a wait; who is in the middle of one when it ends `sys_delay` tells, in all these ways.
const OF_DELAYS: &[&str] = &["sys-delay", "io-delay"];
/// The programs are those of `sys-errno`, at the entry of calls.
const OF_RETURNS: &[&str] = &["sys-return"];
/// The scene's victims call no function that they could go on without: `user_return` ends it in all
/// these ways, and half-way.
const OF_FUNCTIONS: &[&str] = &["user-return"];

/// The registry has nothing that does not end in all these ways.
#[test]
fn every_kind_and_every_recipe_is_in_the_matrix() {
    let kinds = FaultKind::ALL.iter().map(|kind| kind.name().to_owned());
    let list = agent::run(&["faults"]).stdout;
    // Recipes stand behind the kinds; a line that goes on begins with blanks.
    let names = list
        .lines()
        .skip(1)
        .map_while(|line| line.split(' ').next());
    let listed = names.take_while(|name| !name.starts_with('`'));
    let mut missing: Vec<String> = kinds.chain(listed.map(str::to_owned)).collect();
    assert!(missing.iter().any(|name| name == "net-link"), "{list}");
    let elsewhere = [
        OF_ERRNO,
        OF_GUARDIANS,
        OF_SIGNALS,
        OF_DELAYS,
        OF_RETURNS,
        OF_FUNCTIONS,
    ]
    .concat();
    missing.retain(|name| {
        let here = MATRIX.iter().any(|kind| kind.fault()[0] == name);
        !name.is_empty() && !here && !elsewhere.contains(&name.as_str())
    });
    assert!(missing.is_empty(), "{missing:?}");
}

macro_rules! with_a_command {
    ($($name:ident: $kind:ident, $ends:expr;)+) => {
        $(
            #[test]
            fn $name() {
                check(Kind::$kind, $ends);
            }
        )+
    };
}

with_a_command! {
    loss_with_a_command: Loss, OF_COMMANDS;
    loss_panics_with_a_command: Loss, PANIC_WITH_COMMAND;
    corruption_with_a_command: Corruption, OF_COMMANDS;
    delay_with_a_command: Delay, OF_COMMANDS;
    errno_with_a_command: Errno, OF_COMMANDS;
    errno_panics_with_a_command: Errno, PANIC_WITH_COMMAND;
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
