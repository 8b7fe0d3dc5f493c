//! `proc-signal`: the target's processes get a signal.

use injector_common::FaultKind;
use nix::sys::signal::Signal as Number;
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{Fault, ResourceFault, Signals},
    spec::{
        duration::{self, Span},
        resource::{SignalName, every},
        text::Text,
    },
};

/// The kind.
#[derive(Debug)]
pub struct ProcSignal;

/// Its options, as written.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// The signal, by name as in signal(7) or by number, 1 to 31, such as SIGHUP or 1; none that stops
    #[arg(long, value_name = "SIGNAL", allow_hyphen_values = true)]
    pub signal: Text<SignalName>,

    /// Again and again, at least 10ms apart; otherwise once, at the rule's start
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    #[serde(default)]
    pub every: Option<Text<Span>>,
}

impl FaultKindDef for ProcSignal {
    const KIND: FaultKind = FaultKind::ProcSignal;
    const SUMMARY: &'static str = "The target's processes get a signal";
    const MANUAL: &'static str = "\
Every process of the target gets the signal at the rule's start, or with --every again and again as
long as the rule is in force. What that does is up to the process: SIGTERM asks it to end, SIGHUP
many to read their files anew, and what has no handler has the default of signal(7), which most
often ends it. Each process counts as one operation, so that --percent, --when and --times choose
among them. They are found and signalled by pidfd: none is mistaken for another that got its
number.

PID 1, the injector and its guardian are spared. What a signal did is not undone. One that stops
(SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU) is refused, since nothing would let go on what it stopped:
that is cgroup-freeze. A command to start is not there yet at the start: give --every, or a start
in a file.";
    const EXAMPLES: &'static str = "\
Examples:
  A service is told to end:
    injector inject proc-signal --target cgroup:/web --signal SIGTERM --for 1s

  A tenth of its processes every second:
    injector inject proc-signal --target cgroup:/web --signal SIGTERM --every 1s --percent 10 --for 1m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let signal = going_on(raw.signal)?;
        Ok(Fault::Resource(ResourceFault::Signal(Signals {
            signal,
            every: every(raw.every)?,
        })))
    }
}

/// A signal that stops nobody for ever.
pub(super) fn going_on(signal: Text<SignalName>) -> Result<Number, SpecError> {
    let Text(SignalName(signal)) = signal;
    let stops = [
        Number::SIGSTOP,
        Number::SIGTSTP,
        Number::SIGTTIN,
        Number::SIGTTOU,
    ];
    if stops.contains(&signal) {
        let problem = format!("{signal} stops processes, and nothing would let them go on");
        let allowed = "another signal, or the kind cgroup-freeze, which thaws by itself";
        return Err(SpecError::new("signal", problem, allowed));
    }
    Ok(signal)
}

pub(super) fn explain(signals: &Signals) -> String {
    let what = if signals.signal == Number::SIGKILL {
        "kills the target's processes".to_owned()
    } else {
        format!("sends {} to the target's processes", signals.signal)
    };
    match signals.every {
        None => format!("{what}, once"),
        Some(every) => format!("{what}, every {}", duration::format(every)),
    }
}
