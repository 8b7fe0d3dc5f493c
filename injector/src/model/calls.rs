//! Calls, and what happens to them.

use std::time::Duration;

use injector_common::{
    FaultKind,
    faults::{sys_delay, sys_return::MAX_VALUE},
    requests::Request,
};
use nix::sys::signal::Signal;

use super::{CallFilter, ErrorChoice, Rung, errors};

/// Which system calls.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calls {
    /// The calls, without repeats.
    pub wanted: Vec<Syscall>,
    /// Others that are hit too where the kernel lets them be, without repeats and at least one
    /// if there are none `wanted`.
    pub optional: Vec<Syscall>,
    /// Which of these calls.
    pub filter: CallFilter,
    /// The way to meet them; if none, the best that works for each call.
    pub rung: Option<Rung>,
}

impl Calls {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = Syscall> {
        self.wanted.iter().chain(&self.optional).copied()
    }
}

/// How calls have to be met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Way {
    /// By which rung; if none, by the best that works.
    pub rung: Option<Rung>,
    /// Whether it has to be known there which file a call is about.
    pub by_file: bool,
    /// Whether it has to be known there which socket a call is on.
    pub by_socket: bool,
    /// Whether its peer has to be looked up in a table there.
    pub by_table: bool,
    /// Whether it has to be known there which functions a call came through.
    pub by_chain: bool,
    /// Whether the file has to be open there.
    pub open: bool,
    /// Whether the file has to exist there already.
    pub made: bool,
    /// Whether it is enough that they are seen, since they go on.
    pub seen: bool,
    /// How they wait there, if they do.
    pub waits: Option<Waits>,
    /// What they have to be able to return there without an error, if anything.
    pub returns: Option<u32>,
}

/// How calls have to be able to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waits {
    /// In which manner; if none, in the best that works.
    pub manner: Option<Manner>,
    /// Whether it is never longer than a call may wait busy.
    pub briefly: bool,
    /// When in the course of the call.
    pub at: Moment,
}

/// When a call waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// Before it does anything.
    #[default]
    Enter,
    /// Once it has done its work, before its caller gets the result.
    Exit,
}

/// In which manner a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manner {
    /// The thread sleeps.
    Asleep,
    /// It keeps its processor.
    Busy,
}

/// Longest time that a call waits asleep.
pub const MAX_SLEEP: Duration = Duration::from_micros(sys_delay::MAX_SLEEP_US as u64);

/// Longest time that a call waits busy.
pub const MAX_SPIN: Duration = Duration::from_micros(sys_delay::MAX_SPIN_US as u64);

/// What happens to system calls.
#[derive(Clone, Debug, PartialEq)]
pub enum CallFault {
    /// They fail with one of these errors, of which there are no repeats: at least one and at
    /// most [`MAX_ERRORS`](injector_common::faults::sys_errno::MAX_ERRORS).
    Errno(Vec<ErrorChoice>),
    /// They fail with one of the errors that their manual pages list. All calls that have to be
    /// hit have such a list.
    Plausible,
    /// They bring a signal to the thread that makes them; none that stops a process.
    Signal(Signal),
    /// They wait, before they begin or before they return.
    Delay(CallDelay),
    /// They do nothing and return this value, or as much as they were asked for if that is less: at
    /// most [`MAX_VALUE`].
    Return(u32),
}

/// How long calls wait: evenly spread over `delay - jitter ..= delay + jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallDelay {
    /// The middle, at least 1 µs.
    pub delay: Duration,
    /// No more than the delay.
    pub jitter: Duration,
    /// In which manner; if none, in the best that works for each call.
    pub manner: Option<Manner>,
    /// When in their course.
    pub at: Moment,
}

impl CallDelay {
    /// The longest that a call waits.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.delay.saturating_add(self.jitter)
    }
}

impl CallFault {
    /// The parameterless name of the fault.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Errno(_) | Self::Plausible => FaultKind::SysErrno,
            Self::Signal(_) => FaultKind::SysSignal,
            Self::Delay(_) => FaultKind::SysDelay,
            Self::Return(_) => FaultKind::SysReturn,
        }
    }

    /// What calls come back with that are not made, if they are not.
    #[must_use]
    pub(crate) fn result_in_words(&self) -> Option<String> {
        match self {
            Self::Errno(errors) => Some(errors::in_words(errors)),
            Self::Plausible => Some("an error that its manual page lists".to_owned()),
            Self::Return(value) => Some(value_in_words(*value)),
            Self::Signal(_) | Self::Delay(_) => None,
        }
    }

    /// How these calls have to be met.
    #[must_use]
    pub(super) fn way(&self, calls: &Calls) -> Way {
        Way {
            rung: calls.rung,
            by_file: calls.filter.asks_for_file(),
            by_socket: calls.filter.asks_for_socket(),
            by_chain: calls.filter.asks_for_chain(),
            by_table: calls.filter.asks_table_of_peers(),
            open: calls.filter.access.is_some(),
            made: !calls.filter.file_types.is_any(),
            seen: matches!(self, Self::Signal(_)),
            waits: match self {
                Self::Delay(delay) => Some(Waits {
                    manner: delay.manner,
                    briefly: delay.longest() <= MAX_SPIN,
                    at: delay.at,
                }),
                Self::Errno(_) | Self::Plausible | Self::Signal(_) | Self::Return(_) => None,
            },
            returns: match self {
                Self::Return(value) => Some(*value),
                Self::Errno(_) | Self::Plausible | Self::Signal(_) | Self::Delay(_) => None,
            },
        }
    }
}

/// What a call returns that is not made.
#[must_use]
pub(crate) fn value_in_words(value: u32) -> String {
    if value == MAX_VALUE {
        "the length that it was asked for".to_owned()
    } else {
        value.to_string()
    }
}

/// A system call of this architecture, or a request of io_uring, which is met at security hooks as
/// calls are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Syscall {
    /// Its name as in `syscalls(2)` and strace; of a request, [`Self::OF_IO_URING`] and that of its
    /// operation.
    pub name: &'static str,
    /// Its number; of a request, one that no call has.
    pub number: u32,
}

impl Syscall {
    /// What the names of requests begin with.
    pub const OF_IO_URING: &'static str = "io_uring:";

    /// Every request of io_uring that a security hook sees.
    pub fn requests() -> impl Iterator<Item = Self> {
        Request::ALL.iter().map(|request| Self {
            name: request.name(),
            number: request.known_as(),
        })
    }

    /// The request that it is, if it is one.
    #[must_use]
    pub fn as_request(self) -> Option<Request> {
        let mut all = Request::ALL.iter().copied();
        all.find(|request| request.known_as() == self.number)
    }
}
