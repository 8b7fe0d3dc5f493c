//! `net-delay`: packets arrive later.

use std::time::Duration;

use injector_common::{FaultKind, faults::net_delay::MAX_DELAY_NS};

use super::{FaultKindDef, packet};
use crate::{
    error::SpecError,
    model::{Fault, PacketFault, PacketFilter},
    spec::{
        duration::{self, Span},
        text::Text,
    },
};

/// The kind.
#[derive(Debug)]
pub struct NetDelay;

packet::packet_kind! {
    /// Its options, as written.
    pub struct Raw {
        /// How much later packets arrive, such as 100ms; at most 60s
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        pub delay: Text<Span>,

        /// Even spread around the delay, at most the delay [default: none]
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        #[serde(default)]
        pub jitter: Option<Text<Span>>,
    }
}

impl FaultKindDef for NetDelay {
    const KIND: FaultKind = FaultKind::NetDelay;
    const SUMMARY: &'static str = "Packets arrive later, in their order";
    const MANUAL: &'static str = "\
A delayed packet is held for DELAY, or for a time evenly drawn from DELAY-JITTER to
DELAY+JITTER. Packets of one flow stay in order. The sender is not slowed down: as on a long
wire, it may send on while packets are held.";
    const EXAMPLES: &'static str = "\
Examples:
  Half a second more to everything that a cgroup sends:
    injector inject net-delay --target cgroup:/web --delay 0.5s --for 5m

  80 to 120 ms more on answers from a database:
    injector inject net-delay --target pid:4242 --direction ingress --peer-port 5432 \\
      --delay 100ms --jitter 20ms --for 30s";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let filter = raw.filter()?;
        let delay = raw.delay.0.0;
        let jitter = raw.jitter.map_or(Duration::ZERO, |text| text.0.0);
        let longest = Duration::from_nanos(MAX_DELAY_NS);
        if delay.is_zero() || delay > longest {
            let problem = format!("{} is out of range", duration::format(delay));
            let allowed = format!("above 0 and at most {}", duration::format(longest));
            return Err(SpecError::new("delay", problem, allowed));
        }
        if jitter > delay {
            let problem = format!(
                "{} is more than the delay of {}",
                duration::format(jitter),
                duration::format(delay)
            );
            return Err(SpecError::new("jitter", problem, "at most the delay"));
        }
        Ok(Fault::Packet(filter, PacketFault::Delay { delay, jitter }))
    }
}

pub(super) fn explain(filter: &PacketFilter, delay: Duration, jitter: Duration) -> String {
    let packets = packet::describe(filter);
    let delay = duration::format(delay);
    if jitter.is_zero() {
        format!("delays {packets} by {delay}")
    } else {
        format!("delays {packets} by {delay} ± {}", duration::format(jitter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(delay: &str, jitter: Option<&str>) -> Raw {
        Raw {
            delay: delay.parse().expect("a duration"),
            jitter: jitter.map(|text| text.parse().expect("a duration")),
            direction: None,
            proto: None,
            peer: None,
            peer_port: None,
            local_port: None,
            interface: None,
        }
    }

    #[test]
    fn the_delay_is_bounded_and_bounds_the_jitter() {
        assert!(NetDelay::validate(raw("60s", None)).is_ok());
        assert!(NetDelay::validate(raw("1ns", Some("1ns"))).is_ok());
        for (delay, jitter, field) in [
            ("0s", None, "delay"),
            ("60.000000001s", None, "delay"),
            ("10ms", Some("11ms"), "jitter"),
        ] {
            let error = NetDelay::validate(raw(delay, jitter)).expect_err(delay);
            assert_eq!(error.field, field);
        }
    }
}
