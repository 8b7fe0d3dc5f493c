//! `sys-signal`: system calls bring a signal to the thread that makes them.

use injector_common::FaultKind;
use nix::sys::signal::Signal;

use super::{FaultKindDef, calls, proc_signal::going_on};
use crate::{
    error::SpecError,
    model::{CallFault, Calls, Fault},
    spec::{resource::SignalName, text::Text},
};

/// The kind.
#[derive(Debug)]
pub struct SysSignal;

calls::call_kind! {
    /// Its options, as written.
    pub struct Raw (calls) {
        /// The signal, by name as in signal(7) or by number, 1 to 31, such as SIGTERM or 15; none that stops
        #[arg(long, value_name = "SIGNAL", allow_hyphen_values = true)]
        pub signal: Text<SignalName>,
    }
}

impl FaultKindDef for SysSignal {
    const KIND: FaultKind = FaultKind::SysSignal;
    const SUMMARY: &'static str = "System calls bring a signal to the thread that makes them";
    const MANUAL: &'static str = "\
The thread gets the signal as it enters the call, and the call goes on: one that waits may return
EINTR, as with any signal, and one that does not has its effect before a handler runs. With SIGKILL
and --when the process dies at a chosen call; what looks for a fatal signal before it begins, as
writing to a file does, has no effect then. What a signal did is not undone.

Every call of 64-bit programs can be named on any kernel with kprobes; a condition on the file that a
call is about (--path, --file-name, --file-type, --access) is met at the security hooks of `sys-errno`.
A signal comes to a call whatever other rules do with it. One that stops (SIGSTOP, SIGTSTP, SIGTTIN,
SIGTTOU) is refused, since nothing would let go on what it stopped. Words of --call are those of
`sys-errno`.";
    const EXAMPLES: &'static str = "\
Examples:
  A server is killed in its hundredth write to its log:
    injector inject sys-signal --target cgroup:/db --call write,pwrite64 --file-name '*.wal' \\
      --signal SIGKILL --when 100 --for 1m

  A twentieth of all waits is interrupted:
    injector inject sys-signal --target pid:4242 --call epoll_wait,poll --signal SIGWINCH --percent 5 --for 1m

  A command crashes when it first syncs a file:
    injector inject sys-signal --call fsync --signal SIGSEGV --when 1 --for 1m -- ./app";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let calls = raw.calls()?;
        Ok(Fault::Call(calls, CallFault::Signal(going_on(raw.signal)?)))
    }
}

pub(super) fn explain(calls: &Calls, signal: Signal) -> String {
    format!("sends {signal} to threads that call {}", calls::describe(calls))
}
