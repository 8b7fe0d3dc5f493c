//! `cpu-stress`: something beside the target's processes keeps processors busy.

use injector_common::{FaultKind, trigger::THRESHOLD_ALWAYS};
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{Fault, ResourceFault},
    spec::{number::Times, percent::Percent, text::Text},
};

/// The kind.
#[derive(Debug)]
pub struct CpuStress;

/// Its options, as written.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// So many processes that are busy, 1 to 1024
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub workers: Text<Times>,

    /// Each of them for this share of the time, as far as it gets a processor [default: 100]
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    #[serde(default)]
    pub load: Option<Text<Percent>>,
}

/// More would be a fault of the host's.
const MAX_WORKERS: u64 = 1024;

impl FaultKindDef for CpuStress {
    const KIND: FaultKind = FaultKind::CpuStress;
    const SUMMARY: &'static str = "Busy processes beside those of the target take its processor time";
    const MANUAL: &'static str = "\
The injector starts processes in the target's cgroup that do nothing but keep a processor busy, for
--load of the time, in turns of 10 ms. They share with the target's processes whatever the cgroup
has: its weight and quota. Where nothing limits the cgroup, they take from its neighbours too, as a
target that is busy would; with idle processors the target may not notice at all.

They end at the end of the time, when the agent is killed, and within 2 s when it is stopped, and
the kernel ends them if the guardian is killed. The report has how long they ran (worker_usec).";
    const EXAMPLES: &'static str = "\
Examples:
  Four busy neighbours within the same limits:
    injector inject cpu-stress --target cgroup:/web --workers 4 --for 1m

  A processor that is half taken:
    injector inject cpu-stress --target cgroup:/web --workers 1 --load 50 --for 1m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let workers = raw.workers.0.0.get();
        if workers > MAX_WORKERS {
            let allowed = format!("1 to {MAX_WORKERS}");
            return Err(SpecError::new("workers", format!("are {workers}"), allowed));
        }
        let threshold = raw.load.map_or(THRESHOLD_ALWAYS, |load| load.0.threshold);
        // At least one, since a load of nothing was refused.
        let load_ppm = (threshold.saturating_mul(1_000_000) / THRESHOLD_ALWAYS).max(1);
        Ok(Fault::Resource(ResourceFault::CpuStress {
            workers,
            load_ppm,
        }))
    }
}

pub(super) fn explain(workers: u64, load_ppm: u64) -> String {
    let processes = if workers == 1 { "process" } else { "processes" };
    let whole = load_ppm / 10_000;
    format!("starts {workers} {processes} beside the target's, each busy for {whole} % of the time")
}
