//! `memory-pressure`: something beside the target's processes holds memory.

use injector_common::FaultKind;
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{Fault, QueueMemory, ResourceFault},
    spec::{resource::Amount, text::Text},
};

/// The kind.
#[derive(Debug)]
pub struct MemoryPressure;

/// Its options, as written.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// So much memory, such as 256mib, in whole mebibytes
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub bytes: Text<Amount>,
}

/// The steps that memory is taken in.
const STEP: u64 = 1 << 20;

impl FaultKindDef for MemoryPressure {
    const KIND: FaultKind = FaultKind::MemoryPressure;
    const SUMMARY: &'static str = "A process beside those of the target holds memory of its cgroup";
    const MANUAL: &'static str = "\
The injector starts a process in the target's cgroup that takes so much memory, a mebibyte after
the other, and keeps it. It counts for the limits of the cgroup: where these are tight, the target
loses page cache, is slowed down, or loses a process to the OOM killer, which may also choose the
injector's; the report says so. Without a limit the host itself may get short of memory.

The memory is given back at the end of the time, when the agent is killed, and within 2 s when it
is stopped, and the kernel ends the process if the guardian is killed. The report has how much it
held at last (held_bytes).";
    const EXAMPLES: &'static str = "\
Examples:
  A quarter of a gigabyte less for a service:
    injector inject memory-pressure --target cgroup:/web --bytes 256mib --for 1m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let bytes = raw.bytes.0.0 / STEP * STEP;
        if bytes == 0 {
            return Err(SpecError::new("bytes", "is less than a mebibyte", "at least 1mib"));
        }
        Ok(Fault::Resource(ResourceFault::MemoryPressure { bytes }))
    }
}

pub(super) fn explain(bytes: u64) -> String {
    let bytes = QueueMemory { bytes };
    format!("holds {bytes} of memory beside the target's processes")
}
