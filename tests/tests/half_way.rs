//! What ends half-way through applying: undone, or written down and removable.

use std::os::unix::process::ExitStatusExt as _;

use injector_tests::{
    agent, require_for,
    scene::{Harm, Kind, Scene},
};
use nix::sys::signal::Signal;

/// How a run ends in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A part of an effect fails after it was done.
    Fail,
    /// The agent is killed after a part of an effect.
    Kill,
}

impl End {
    const fn variable(self) -> &'static str {
        match self {
            Self::Fail => "INJECTOR_TEST_FAIL_PART",
            Self::Kill => "INJECTOR_TEST_KILL_PART",
        }
    }
}

/// Lets a run end after the first part of an effect, and another one after each
/// `stride` parts more, until one has fewer than that and succeeds. None may
/// leave anything; one that was killed may need one `injector stop --all`.
///
/// A part is a device, a queueing discipline, a filter, a line in the journal.
#[track_caller]
fn check(kind: Kind, end: End, stride: usize) {
    require_for!(kind.feature());
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    for part in (1..200).step_by(stride) {
        let number = part.to_string();
        let variables = [(end.variable(), number.as_str())];
        let finished = scene.run(kind, &["--for", "60s", "--", "true"], &variables);
        if finished.status.code() == Some(0) {
            snapshot.assert_clean();
            assert!(part > 5, "there were only {} parts", part - 1);
            assert_eq!(scene.harm(kind), Harm::Nothing);
            return;
        }
        match end {
            End::Fail => {
                let message = format!("{}={part}", end.variable());
                assert_eq!(finished.code(), 3, "{finished:?}");
                assert!(
                    finished.stderr.contains(&message),
                    "failed otherwise: {finished:?}"
                );
            }
            End::Kill => {
                let signal = finished.status.signal();
                assert_eq!(signal, Some(Signal::SIGKILL as i32), "{finished:?}");
                snapshot.assert_bpf_gone(kind.uses_filters());
                let stopped = agent::run(&["stop", "--all"]);
                assert_eq!(stopped.code(), 0, "after part {part}: {stopped:?}");
            }
        }
        if let Err(difference) = snapshot.clean() {
            panic!("after part {part}: {difference}");
        }
    }
    panic!("two hundred parts");
}

macro_rules! half_way {
    ($($name:ident: $kind:ident, $end:ident, $stride:literal;)+) => {
        $(
            #[test]
            fn $name() {
                check(Kind::$kind, End::$end, $stride);
            }
        )+
    };
}

// Kinds with many parts share most of them with others.
half_way! {
    loss_fails_half_way: Loss, Fail, 1;
    reception_fails_half_way: Reception, Fail, 4;
    corruption_fails_half_way: Corruption, Fail, 5;
    delay_fails_half_way: Delay, Fail, 3;
    errno_fails_half_way: Errno, Fail, 2;
    refusal_fails_half_way: Refusal, Fail, 2;
    loss_is_killed_half_way: Loss, Kill, 3;
    reception_is_killed_half_way: Reception, Kill, 7;
    corruption_is_killed_half_way: Corruption, Kill, 11;
    delay_is_killed_half_way: Delay, Kill, 5;
    errno_is_killed_half_way: Errno, Kill, 4;
    refusal_is_killed_half_way: Refusal, Kill, 4;
}

#[track_caller]
fn check_panic(kind: Kind) {
    require_for!(kind.feature());
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let variables = [("INJECTOR_TEST_PANIC", "apply")];
    let finished = scene.run(kind, &["--for", "60s", "--", "true"], &variables);
    assert!(
        finished.stderr.contains("INJECTOR_TEST_PANIC=apply"),
        "{finished:?}"
    );
    assert_ne!(finished.status.code(), Some(0), "{finished:?}");
    snapshot.assert_clean();
    assert_eq!(scene.harm(kind), Harm::Nothing);
}

macro_rules! panics {
    ($($name:ident: $kind:ident;)+) => {
        $(
            #[test]
            fn $name() {
                check_panic(Kind::$kind);
            }
        )+
    };
}

panics! {
    loss_panics_half_way: Loss;
    reception_panics_half_way: Reception;
    corruption_panics_half_way: Corruption;
    delay_panics_half_way: Delay;
    errno_panics_half_way: Errno;
    refusal_panics_half_way: Refusal;
}
