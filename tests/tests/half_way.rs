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

macro_rules! half_way {
    ($($module:ident: $kind:ident, fail every $fail:literal, kill every $kill:literal;)+) => {
        $(
            mod $module {
                use super::*;

                #[test]
                fn fails() {
                    check(Kind::$kind, End::Fail, $fail);
                }

                #[test]
                fn is_killed() {
                    check(Kind::$kind, End::Kill, $kill);
                }

                #[test]
                fn panics() {
                    check_panic(Kind::$kind);
                }
            }
        )+

        // A kind of victim that is not among them does not compile.
        const _: fn(Kind) = |kind| match kind { $(Kind::$kind => {})+ };
    };
}

// Kinds with many parts share most of them with others.
half_way! {
    loss: Loss, fail every 1, kill every 3;
    denial: Denial, fail every 2, kill every 4;
    reception: Reception, fail every 4, kill every 7;
    delay: Delay, fail every 3, kill every 5;
    corruption: Corruption, fail every 5, kill every 11;
    duplication: Duplication, fail every 7, kill every 8;
    reordering: Reordering, fail every 23, kill every 29;
    rate: Rate, fail every 23, kill every 29;
    partition: Partition, fail every 7, kill every 8;
    refusal: Refusal, fail every 2, kill every 4;
    rejection: Rejection, fail every 7, kill every 8;
    reset: Reset, fail every 7, kill every 8;
    names: Names, fail every 7, kill every 8;
    delayed_names: LateNames, fail every 23, kill every 29;
    errno: Errno, fail every 2, kill every 4;
    disk_full: DiskFull, fail every 7, kill every 11;
    delayed_link: Link, fail every 23, kill every 29;
}
