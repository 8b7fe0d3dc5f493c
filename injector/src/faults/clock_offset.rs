//! `clock-offset`: clocks of the command are ahead or behind.

use injector_common::FaultKind;
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{ClockShift, Clocks, Fault, ResourceFault},
    spec::{
        clock::{self, Shift},
        text::Text,
    },
};

/// The kind.
#[derive(Debug)]
pub struct ClockOffset;

/// Its options, as written.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// So far ahead, such as 2h, or behind, such as -90m; a clock cannot be less than 0
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub by: Text<Shift>,

    /// Which: both, monotonic or boottime [default: both]
    #[arg(long, value_name = "CLOCK")]
    #[serde(default)]
    pub clock: Option<Text<Clocks>>,
}

impl FaultKindDef for ClockOffset {
    const KIND: FaultKind = FaultKind::ClockOffset;
    const SUMMARY: &'static str = "Clocks that the command reads are ahead or behind";
    const MANUAL: &'static str = "\
The command is started in a time namespace (time_namespaces(7)) where CLOCK_MONOTONIC, CLOCK_BOOTTIME
or both are ahead by --by, or behind: as on a host that has been up for longer or shorter, or, with
--clock boottime, that was suspended for so long. It and all that it starts read such clocks, also by
the vDSO and in /proc/uptime; timers are right, and a sleep takes as long as it should. Nobody
else's clocks change. The time of day, CLOCK_REALTIME, is the same for all processes: the kernel has
no namespace for it.

Only for a command that the injector starts: a process that runs keeps its clocks for its life.
So the fault can only end with the processes. At the end of --for, or when the agent is killed, what
still runs in the command's cgroup gets SIGTERM, and 2 s later SIGKILL. In a file the rule has no
start and no for of its own. Needs CAP_SYS_TIME.";
    const EXAMPLES: &'static str = "\
Examples:
  A program finds itself on a host that has been up for 49 days and 17 hours, as 32 bits of
  milliseconds run over:
    injector inject clock-offset --by 1193h --for 10m -- ./app

  It was suspended for 8 hours, as far as it can tell:
    injector inject clock-offset --by 8h --clock boottime --for 10m -- ./app";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        Ok(Fault::Resource(ResourceFault::Clock(ClockShift {
            clocks: raw.clock.map_or(Clocks::Both, |clock| clock.0),
            by_ns: raw.by.0.0,
        })))
    }
}

pub(super) fn explain(shift: ClockShift) -> String {
    format!(
        "starts the command with {} shifted by {}, and ends what still runs of it at the end",
        shift.clocks.names(),
        clock::format(shift.by_ns)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::raw;

    #[test]
    fn both_clocks_unless_one_is_named() {
        let told = |line: &str| {
            let fault = ClockOffset::validate(raw(line)).expect(line);
            crate::faults::explain(&fault)
        };
        let ends = "and ends what still runs of it at the end";
        assert_eq!(
            told("--by 2h"),
            format!("starts the command with CLOCK_MONOTONIC and CLOCK_BOOTTIME shifted by +2h, {ends}")
        );
        assert_eq!(
            told("--by -90m --clock boottime"),
            format!("starts the command with CLOCK_BOOTTIME shifted by -90m, {ends}")
        );
    }
}
