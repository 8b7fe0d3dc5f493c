//! `pids-limit`: the target has so many processes and threads and no more.

use injector_common::FaultKind;
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{Fault, ResourceFault},
    spec::{number::Count, text::Text},
};

/// The kind.
#[derive(Debug)]
pub struct PidsLimit;

/// Its options, as written.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// So many processes and threads, counted together, in the whole target; 0 and what is less than there are let none be added
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub max: Text<Count>,
}

impl FaultKindDef for PidsLimit {
    const KIND: FaultKind = FaultKind::PidsLimit;
    const SUMMARY: &'static str = "The target has so many processes and threads and no more";
    const MANUAL: &'static str = "\
fork, vfork, clone and pthread_create fail with EAGAIN while the cgroup has so many processes and
threads (pids.max), as on a host whose table of processes is full. Those that are there go on, also
when they are more. Starting a program in the place of another (execve) needs no new process. The
report has how often the kernel refused one (injected).

Needs the pids controller for the target's cgroup. A limit of somebody else's that is as tight or
tighter is refused. The value from before comes back at the end of the time, when the agent is
killed, and within 2 s when it is stopped, unless somebody else has changed it meanwhile.";
    const EXAMPLES: &'static str = "\
Examples:
  A service cannot start any more threads:
    injector inject pids-limit --target cgroup:/web --max 0 --for 1m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        Ok(Fault::Resource(ResourceFault::PidsLimit(raw.max.0.0)))
    }
}

pub(super) fn explain(max: u64) -> String {
    format!("lets the target have {max} processes and threads, and refuses it more with EAGAIN")
}
