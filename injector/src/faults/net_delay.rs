//! `net-delay`: packets arrive later.

use std::time::Duration;

use injector_common::{FaultKind, faults::net_delay::MAX_DELAY_NS};

use super::{FaultKindDef, packet};
use crate::{
    error::SpecError,
    model::{Delay, Distribution, Fault, PacketFault, PacketFilter, QueueMemory},
    spec::{
        distribution::Written,
        duration::{self, Span},
        loss::Share,
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

        /// Spread around the delay, at most the delay [default: none]
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        #[serde(default)]
        pub jitter: Option<Text<Span>>,

        /// How the jitter is spread: uniform, normal, pareto, paretonormal, or file:PATH with a table of iproute2 [default: uniform]
        #[arg(long, value_name = "DISTRIBUTION")]
        #[serde(default)]
        pub distribution: Option<Text<Written>>,

        /// In what share of packets, in percent, the jitter of the packet before is taken again [default: 0]
        #[arg(long, value_name = "P", allow_hyphen_values = true)]
        #[serde(default)]
        pub correlation: Option<Text<Share>>,

        /// Let packets overtake each other where the jitter has it so
        #[arg(long)]
        #[serde(default)]
        pub reorder: bool,

        /// How much memory may be taken by packets that wait, such as 64mb; others are dropped [default: 256mb]
        #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
        #[serde(default)]
        pub queue_memory: Option<Text<QueueMemory>>,
    }
}

impl FaultKindDef for NetDelay {
    const KIND: FaultKind = FaultKind::NetDelay;
    const SUMMARY: &'static str = "Packets arrive later, in their order";
    const MANUAL: &'static str = "\
A delayed packet is held for DELAY, or for a time drawn around it: evenly from DELAY-JITTER to
DELAY+JITTER, or by the tables of netem, of which the jitter is the scale (the standard deviation
of normal). Packets of one flow stay in order, unless --reorder lets them overtake. The sender is
not slowed down: as on a long wire, it may send on while packets are held. A packet is dropped, and
the report counts it as `dropped`, where those that wait take all of --queue-memory already.";
    const EXAMPLES: &'static str = "\
Examples:
  Half a second more to everything that a cgroup sends:
    injector inject net-delay --target cgroup:/web --delay 0.5s --for 5m

  80 to 120 ms more on answers from a database:
    injector inject net-delay --target pid:4242 --direction ingress --peer-port 5432 \\
      --delay 100ms --jitter 20ms --for 30s

  A minute later, with a gigabyte for what is on its way:
    injector inject net-delay --target cgroup:/web --delay 60s --queue-memory 1gb --for 5m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let filter = raw.filter()?;
        let delay = in_range("delay", raw.delay.0.0)?;
        let jitter = jitter(raw.jitter.as_ref(), delay)?;
        let distribution = raw.distribution.map_or(Written::Uniform, |text| text.0);
        let correlation = raw.correlation.map_or(0, |text| text.0.0);
        if jitter.is_zero() {
            let spread = [
                ("distribution", distribution != Written::Uniform),
                ("correlation", correlation != 0),
                ("reorder", raw.reorder),
            ];
            if let Some((field, _)) = spread.iter().find(|(_, given)| *given) {
                let problem = "there is no jitter, and all packets wait alike";
                return Err(SpecError::new(*field, problem, "a jitter beside it"));
            }
        }
        let delay = Delay {
            delay,
            jitter,
            distribution: distribution.load()?,
            correlation,
            reorder: raw.reorder,
            memory: raw.queue_memory.map(|text| text.0).unwrap_or(QueueMemory::DEFAULT),
        };
        Ok(Fault::Packet(filter, PacketFault::Delay(delay)))
    }
}

/// The spread around a delay, which is none if it is not given.
pub(super) fn jitter(given: Option<&Text<Span>>, delay: Duration) -> Result<Duration, SpecError> {
    let jitter = given.map_or(Duration::ZERO, |text| text.0.0);
    if jitter > delay {
        let problem = format!(
            "{} is more than the delay of {}",
            duration::format(jitter),
            duration::format(delay)
        );
        return Err(SpecError::new("jitter", problem, "at most the delay"));
    }
    Ok(jitter)
}

/// A time that a packet may be held.
pub(super) fn in_range(field: &'static str, delay: Duration) -> Result<Duration, SpecError> {
    let longest = Duration::from_nanos(MAX_DELAY_NS);
    if delay.is_zero() || delay > longest {
        let problem = format!("{} is out of range", duration::format(delay));
        let allowed = format!("above 0 and at most {}", duration::format(longest));
        return Err(SpecError::new(field, problem, allowed));
    }
    Ok(delay)
}

/// How many packets may wait, to be added to what a rule does.
pub(super) fn holding(memory: QueueMemory) -> String {
    format!(", holding up to {memory}")
}

pub(super) fn explain(filter: &PacketFilter, delay: &Delay) -> String {
    let packets = packet::describe(filter);
    let mut text = format!("delays {packets} by {}", duration::format(delay.delay));
    if !delay.jitter.is_zero() {
        text += &format!(" ± {}", duration::format(delay.jitter));
    }
    if let Distribution::Table(table) = &delay.distribution {
        text += &format!(" ({})", table.name.escape_debug());
    }
    if delay.correlation != 0 {
        let share = Share(delay.correlation);
        text += &format!(", {share} as the packet before");
    }
    if delay.reorder {
        text += ", which may overtake each other";
    }
    text + &holding(delay.memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(delay: &str, jitter: Option<&str>) -> Raw {
        let options = serde_json::json!({ "delay": delay, "jitter": jitter });
        serde_json::from_value(options).expect("durations")
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
