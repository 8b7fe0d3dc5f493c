//! `net-reorder`: packets overtake those before them.

use std::time::Duration;

use injector_common::FaultKind;

use super::{
    FaultKindDef,
    net_delay::{holding, in_range},
    packet,
};
use crate::{
    error::SpecError,
    model::{Fault, PacketFault, PacketFilter, QueueMemory},
    spec::{
        duration::{self, Span},
        loss::Share,
        number::Count,
        text::Text,
    },
};

/// The kind.
#[derive(Debug)]
pub struct NetReorder;

packet::packet_kind! {
    /// Its options, as written.
    pub struct Raw {
        /// How long packets wait that do not go ahead; at most 60s
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        pub delay: Text<Span>,

        /// Let only every N-th packet go ahead, and of these the share of --percent [default: 1, any]
        #[arg(long, value_name = "N", allow_hyphen_values = true)]
        #[serde(default)]
        pub gap: Option<Text<Count>>,

        /// Correlation of neighbouring packets' turns to go ahead in percent, with --percent; the rate stays what was asked
        #[arg(long, value_name = "P", allow_hyphen_values = true)]
        #[serde(default)]
        pub correlation: Option<Text<Share>>,

        /// How much memory may be taken by packets that wait, such as 64mb; others are dropped [default: 256mb]
        #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
        #[serde(default)]
        pub queue_memory: Option<Text<QueueMemory>>,
    }
}

impl FaultKindDef for NetReorder {
    const KIND: FaultKind = FaultKind::NetReorder;
    const SUMMARY: &'static str = "Packets overtake those before them";
    const MANUAL: &'static str = "\
Selected packets go ahead at once, while all others that match wait for DELAY, as with tc-netem(8)'s
`delay DELAY reorder PERCENT`. Who goes ahead must be said, by --percent, --gap or --when. With
--gap, only every N-th packet is drawn for (netem draws for each packet after the gap until one goes
ahead). How far a packet gets ahead depends on how many packets are under way in DELAY. `injected`
counts those that went ahead, `passed` those that waited; once --times is spent, the `exhausted` ones
wait as well. One that would have to wait is lost where those that wait take all of --queue-memory
already: it is counted as `dropped` too, not as `injected`. With --correlation beside --percent, a
packet goes ahead more likely after one that did; with --gap, after the last one that was drawn for.
To hold single packets back instead, use net-delay with --percent, or with --jitter and --reorder.";
    const EXAMPLES: &'static str = "\
Examples:
  A quarter of what a cgroup sends overtakes what was sent in the last 10 ms:
    injector inject net-reorder --target cgroup:/web --delay 10ms --percent 25 --for 1m

  Every fifth packet goes ahead:
    injector inject net-reorder --target cgroup:/web --delay 10ms --gap 5 --for 1m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let filter = raw.filter()?;
        let delay = in_range("delay", raw.delay.0.0)?;
        let gap = raw.gap.map_or(1, |text| text.0.0);
        if gap == 0 {
            return Err(SpecError::new("gap", "is 0", "a whole number, at least 1"));
        }
        let memory = raw.queue_memory.map(|text| text.0).unwrap_or(QueueMemory::DEFAULT);
        Ok(Fault::Packet(filter, PacketFault::Reorder { delay, gap, memory }))
    }
}

pub(super) fn explain(filter: &PacketFilter, delay: Duration, gap: u64, memory: QueueMemory) -> String {
    let packets = packet::describe(filter);
    let delay = duration::format(delay);
    let every = if gap == 1 {
        String::new()
    } else {
        format!(", one in {gap} at most")
    };
    let holding = holding(memory);
    format!("lets {packets} overtake what was sent in the last {delay}{every}{holding}")
}
