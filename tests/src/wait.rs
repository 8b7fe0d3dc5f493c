//! Waiting: always for a condition, always with a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Longest that anything in a test may take on the machine that runs it.
///
/// A VM without hardware support executes some ten times slower than its host,
/// and the host may be busy. A deadline only ends a test that hangs, so there
/// is no reason to keep it tight.
pub const DEADLINE: Duration = Duration::from_secs(90);

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(5);

/// Polls until the condition yields a value, or returns `None` at the deadline.
pub fn poll<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(INTERVAL);
    }
}

/// Polls until the condition yields a value.
///
/// # Panics
///
/// When [`DEADLINE`] passes first; the message names what was waited for.
#[track_caller]
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    match poll(DEADLINE, condition) {
        Some(value) => value,
        None => panic!("waited {DEADLINE:?} in vain for {what}"),
    }
}

/// Polls until a quantity has kept its value for `quiet`, and returns it.
///
/// # Panics
///
/// When it still changes after [`DEADLINE`].
#[track_caller]
pub fn settled<T: PartialEq>(what: &str, quiet: Duration, mut read: impl FnMut() -> T) -> T {
    let mut last = read();
    let mut since = Instant::now();
    until(what, || {
        let now = read();
        if now != last {
            last = now;
            since = Instant::now();
        }
        (since.elapsed() >= quiet).then_some(())
    });
    last
}
