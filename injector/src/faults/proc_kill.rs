//! `proc-kill`: the target's processes are killed.

use injector_common::FaultKind;
use nix::sys::signal::Signal;
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{Fault, ResourceFault, Signals},
    spec::{duration::Span, resource::every, text::Text},
};

/// The kind.
#[derive(Debug)]
pub struct ProcKill;

/// Its options, as written.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// Again and again, at least 10ms apart; otherwise once, at the rule's start
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    #[serde(default)]
    pub every: Option<Text<Span>>,
}

impl FaultKindDef for ProcKill {
    const KIND: FaultKind = FaultKind::ProcKill;
    const SUMMARY: &'static str = "The target's processes are killed";
    const MANUAL: &'static str = "\
Every process of the target is killed (SIGKILL) at the rule's start, as by a crash: none can do
anything about it, or clean up. What they fork meanwhile is killed too, until none is left. With
--every, what somebody starts anew is killed again as long as the rule is in force. Each process
counts as one operation, so that --percent, --when and --times choose among them; with a choice,
what is forked meanwhile has its own. They are found and killed by pidfd: none is mistaken for
another that got its number.

PID 1, the injector and its guardian are spared. Nothing is undone: whoever watches over the
target has to start it anew. A command to start is not there yet at the start: give --every, or a
start in a file.";
    const EXAMPLES: &'static str = "\
Examples:
  A service crashes:
    injector inject proc-kill --target cgroup:/web --for 1s

  A process of a pool, one every ten seconds or so:
    injector inject proc-kill --target cgroup:/pool --every 10s --percent 10 --for 5m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        Ok(Fault::Resource(ResourceFault::Signal(Signals {
            signal: Signal::SIGKILL,
            every: every(raw.every)?,
        })))
    }
}
