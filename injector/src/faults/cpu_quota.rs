//! `cpu-quota`: the target gets so much processor time and no more.

use std::time::Duration;

use injector_common::FaultKind;
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{CpuQuota as Quota, Fault, ResourceFault},
    spec::{
        duration::{self, Span},
        resource::Cpus,
        text::Text,
    },
};

/// The kind.
#[derive(Debug)]
pub struct CpuQuota;

/// Its options, as written.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// So much processor time for the whole target, in processors, such as 0.5 or 2
    #[arg(long, value_name = "CPUS", allow_hyphen_values = true)]
    pub cpus: Text<Cpus>,

    /// Handed out anew this often, 1ms to 1s: a target that has used it up waits for the next time [default: 100ms]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    #[serde(default)]
    pub period: Option<Text<Span>>,
}

/// The kernel's own default.
const PERIOD: Duration = Duration::from_millis(100);

impl FaultKindDef for CpuQuota {
    const KIND: FaultKind = FaultKind::CpuQuota;
    const SUMMARY: &'static str = "The target gets so much processor time and no more";
    const MANUAL: &'static str = "\
All threads of the cgroup together run for so long in each period (cpu.max); then all of them wait
for the next one. With 0.5 a single busy thread runs for 50 ms and waits for 50 ms. The report has
what the kernel counted: of the periods in which the target ran (matched), those in which it had to
wait (injected), and for how long.

Needs the cpu controller for the target's cgroup. A quota of somebody else's that is as tight or
tighter is refused. The value from before comes back at the end of the time, when the agent is
killed, and within 2 s when it is stopped, unless somebody else has changed it meanwhile.";
    const EXAMPLES: &'static str = "\
Examples:
  Half a processor for a whole service:
    injector inject cpu-quota --target cgroup:/web --cpus 0.5 --for 1m

  In small portions:
    injector inject cpu-quota --target cgroup:/web --cpus 0.2 --period 10ms --for 1m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let period = raw.period.map_or(PERIOD, |Text(Span(period))| period);
        let allowed = Duration::from_millis(1)..=Duration::from_secs(1);
        let whole = period.subsec_nanos().is_multiple_of(1_000);
        if !allowed.contains(&period) || !whole {
            let problem = format!("is {}", duration::format(period));
            return Err(SpecError::new("period", problem, "1ms to 1s, in whole µs"));
        }
        let period_us = u64::try_from(period.as_micros()).unwrap_or(u64::MAX);
        let Text(Cpus(millionths)) = raw.cpus;
        let quota_us = millionths.saturating_mul(period_us) / 1_000_000;
        if quota_us < 1_000 {
            let problem = format!("is {quota_us} µs in each {}", duration::format(period));
            let allowed = "at least 1 ms in each period, which is the kernel's least";
            return Err(SpecError::new("cpus", problem, allowed));
        }
        Ok(Fault::Resource(ResourceFault::CpuQuota(Quota {
            quota_us,
            period_us,
        })))
    }
}

pub(super) fn explain(quota: Quota) -> String {
    let span = |us| duration::format(Duration::from_micros(us));
    format!(
        "gives all threads of the target together {} of processor time in each {}",
        span(quota.quota_us),
        span(quota.period_us)
    )
}
