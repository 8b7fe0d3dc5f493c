//! `memory-limit`: the target gets so much memory and no more.

use injector_common::FaultKind;
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{Fault, MemoryLimit as Limit, QueueMemory, ResourceFault},
    spec::{resource::Amount, text::Text},
};

/// The kind.
#[derive(Debug)]
pub struct MemoryLimit;

/// Its options, as written.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// So much memory for the whole target, with what the kernel holds for it, such as 64mib; in whole pages of 4096 bytes
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub bytes: Text<Amount>,

    /// Slow the target down beyond that (memory.high) instead of ending processes (memory.max)
    #[arg(long)]
    #[serde(default)]
    pub soft: bool,
}

/// Of x86-64. The kernel rounds down to it.
const PAGE: u64 = 4096;

impl FaultKindDef for MemoryLimit {
    const KIND: FaultKind = FaultKind::MemoryLimit;
    const SUMMARY: &'static str = "The target gets so much memory and no more";
    const MANUAL: &'static str = "\
All processes of the cgroup together have so much memory, page cache included (memory.max). What
would be more has to be got back from them first: clean pages of files, what can be swapped. Where
that is not enough, the kernel ends one of them (the OOM killer, within the cgroup). The limit also
holds for what the target has already, so it may end a process at once, which is not undone. With
--soft (memory.high) no process is ended, and all of them are slowed down while they have more.

The report has what the kernel counted: how often the limit was hit (injected), and how many
processes were ended for it (oom_kill).

Needs the memory controller for the target's cgroup. A limit of somebody else's that is as tight or
tighter is refused. The value from before comes back at the end of the time, when the agent is
killed, and within 2 s when it is stopped, unless somebody else has changed it meanwhile.";
    const EXAMPLES: &'static str = "\
Examples:
  A service out of memory:
    injector inject memory-limit --target cgroup:/web --bytes 64mib --for 1m

  A service that is short of memory and slow:
    injector inject memory-limit --target cgroup:/web --bytes 64mib --soft --for 1m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let Text(Amount(bytes)) = raw.bytes;
        let bytes = bytes / PAGE * PAGE;
        if bytes == 0 {
            let problem = "is less than a page";
            return Err(SpecError::new("bytes", problem, "at least 4096 bytes"));
        }
        Ok(Fault::Resource(ResourceFault::MemoryLimit(Limit {
            bytes,
            soft: raw.soft,
        })))
    }
}

pub(super) fn explain(limit: Limit) -> String {
    let bytes = QueueMemory { bytes: limit.bytes };
    if limit.soft {
        format!("slows the target down while it has more than {bytes} of memory")
    } else {
        format!("lets the target have {bytes} of memory, and the kernel end processes for it")
    }
}
