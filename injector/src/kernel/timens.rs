//! Time namespaces: clocks that are ahead or behind for the processes that are started there
//! (`time_namespaces(7)`, Linux 5.6).

use std::{fs, io, thread};

use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, unshare},
    unistd::gettid,
};

/// By how much clocks are ahead of what they are here, in ns; behind, if negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `CLOCK_MONOTONIC`.
    pub monotonic_ns: i64,
    /// `CLOCK_BOOTTIME`.
    pub boottime_ns: i64,
}

/// Why there are no such clocks.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// There is no namespace.
    #[error("unshare(CLONE_NEWTIME): {}{}", .0.desc(), hint(*.0))]
    Namespace(Errno),
    /// A clock would be less than 0, or more than the kernel lets it show.
    #[error("a clock would be less than 0, or more than 146 years")]
    Range,
    /// The kernel does not take them.
    #[error("/proc/self/timens_offsets: {}{}", .0, missing(.0))]
    Offsets(io::Error),
    /// Whatever was to be started there was not.
    #[error("{0}")]
    Start(io::Error),
}

fn hint(errno: Errno) -> &'static str {
    if errno == Errno::EINVAL {
        ", so the kernel was built without time namespaces (CONFIG_TIME_NS)"
    } else if errno == Errno::EPERM {
        ", which needs CAP_SYS_ADMIN"
    } else {
        ""
    }
}

fn missing(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        ", which needs CAP_SYS_TIME"
    } else {
        ""
    }
}

/// Whether a namespace of these clocks can be had. None stays.
///
/// # Errors
///
/// Why not.
pub fn try_out(offsets: Offsets) -> Result<(), ClockError> {
    with(offsets, || Ok(()))
}

/// Starts a process that has these clocks: whatever `start` forks, by `fork` and not by `vfork`.
/// It must start no thread.
///
/// # Errors
///
/// Why there are no such clocks, or what `start` says.
pub fn with<T: Send>(
    offsets: Offsets,
    start: impl FnOnce() -> io::Result<T> + Send,
) -> Result<T, ClockError> {
    // On a thread of its own, since there is no way back for who has made such a namespace:
    // `setns` wants a process of one thread. Who made it stays outside, its children are inside.
    thread::scope(|scope| {
        let starter = scope.spawn(|| {
            unshare(CloneFlags::from_bits_retain(libc::CLONE_NEWTIME))
                .map_err(ClockError::Namespace)?;
            set(offsets)?;
            start().map_err(ClockError::Start)
        });
        let panicked = |_| Err(ClockError::Start(io::Error::other("its thread panicked")));
        starter.join().unwrap_or_else(panicked)
    })
}

/// Sets the clocks of the namespace that the children of this thread will be in.
fn set(offsets: Offsets) -> Result<(), ClockError> {
    // Not /proc/self, which is the first thread's.
    let path = format!("/proc/{}/timens_offsets", gettid());
    let here = fs::read_to_string(&path).map_err(ClockError::Offsets)?;
    let text = lines(&here, offsets).ok_or(ClockError::Range)?;
    fs::write(&path, text).map_err(|error| {
        if error.raw_os_error() == Some(Errno::ERANGE as i32) {
            ClockError::Range
        } else {
            ClockError::Offsets(error)
        }
    })
}

/// What is written to have the clocks that much ahead of what they are here: the kernel takes
/// them for offsets from the host's.
fn lines(here: &str, offsets: Offsets) -> Option<String> {
    let more = [
        ("monotonic", offsets.monotonic_ns),
        ("boottime", offsets.boottime_ns),
    ];
    let mut text = String::new();
    for (clock, by_ns) in more {
        let total_ns = offset_ns(here, clock).checked_add(i128::from(by_ns))?;
        let seconds = total_ns.div_euclid(1_000_000_000);
        let nanos = total_ns.rem_euclid(1_000_000_000);
        text += &format!("{clock} {seconds} {nanos}\n");
    }
    Some(text)
}

/// The offset of a clock in the kernel's list, in ns: lines of name, seconds and nanoseconds.
fn offset_ns(list: &str, clock: &str) -> i128 {
    let of = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|&name| name == clock)?;
        let seconds: i128 = words.next()?.parse().ok()?;
        let nanos: i128 = words.next()?.parse().ok()?;
        Some(seconds * 1_000_000_000 + nanos)
    };
    list.lines().find_map(of).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_add_to_those_that_are_there() {
        let here = "monotonic           0         0\nboottime          -11 250000000\n";
        let offsets = |monotonic_ns, boottime_ns| Offsets {
            monotonic_ns,
            boottime_ns,
        };
        let text = lines(here, offsets(7_200_000_000_000, 1_000_000_000));
        assert_eq!(
            text.as_deref(),
            Some("monotonic 7200 0\nboottime -10 250000000\n")
        );
        // Nanoseconds are never negative.
        let text = lines(here, offsets(-500_000_000, 0));
        assert_eq!(
            text.as_deref(),
            Some("monotonic -1 500000000\nboottime -11 250000000\n")
        );
    }
}
