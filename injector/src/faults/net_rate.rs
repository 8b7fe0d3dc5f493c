//! `net-rate`: packets share a link of a given bandwidth.

use std::time::Duration;

use injector_common::FaultKind;

use super::{
    FaultKindDef,
    net_delay::{holding, in_range},
    packet,
};
use crate::{
    error::SpecError,
    model::{Fault, Link, PacketFault, PacketFilter, Per, QueueMemory},
    spec::{
        duration::{self, Span},
        rate::{self, Overhead, Rate, Size},
        text::Text,
    },
};

/// The kind.
#[derive(Debug)]
pub struct NetRate;

packet::packet_kind! {
    /// Its options, as written.
    pub struct Raw {
        /// The bandwidth, in the units of tc(8), such as 10mbit
        #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
        pub rate: Text<Rate>,

        /// Bytes that pass at once after the link was idle, such as 32kb [default: 0]
        #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
        #[serde(default)]
        pub burst: Option<Text<Size>>,

        /// Bytes added to each packet's size, as tc-stab(8) has it; may be negative [default: 0]
        #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
        #[serde(default)]
        pub overhead: Option<Text<Overhead>>,

        /// How long a packet may wait for the link; it is dropped where it would wait longer [default: 200ms]
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        #[serde(default)]
        pub queue: Option<Text<Span>>,

        /// How much memory may be taken by packets that wait, such as 64mb; others are dropped [default: 256mb]
        #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
        #[serde(default)]
        pub queue_memory: Option<Text<QueueMemory>>,
    }
}

/// How long packets may wait for a link by default: a queue that TCP fills and
/// that loses few packets, as those of home routers are.
const QUEUE: Duration = Duration::from_millis(200);

impl FaultKindDef for NetRate {
    const KIND: FaultKind = FaultKind::NetRate;
    const SUMMARY: &'static str = "Packets share a link of a given bandwidth";
    const MANUAL: &'static str = "\
A packet leaves when a link of this bandwidth has sent it and all those before it. Each direction is
a link of its own. A packet's size is that from the link-layer header on, plus --overhead; a
super-packet of segmentation offload counts as the packets that it becomes. Where a packet would have
to wait longer than --queue, or those that wait take all of --queue-memory already, it is dropped, and
the report counts it as `dropped`. Packets of one flow stay in order. With --per flow each flow has a
link of its own.";
    const EXAMPLES: &'static str = "\
Examples:
  A cgroup sends over a line of 10 Mbit/s:
    injector inject net-rate --target cgroup:/web --rate 10mbit --for 1m

  Each download is slowed to 256 kbit/s:
    injector inject net-rate --target pid:4242 --direction ingress --rate 256kbit --per flow \\
      --queue 1s --for 5m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let filter = raw.filter()?;
        let queue = raw.queue.map_or(QUEUE, |text| text.0.0);
        let link = Link {
            rate: raw.rate.0.0,
            burst: raw.burst.map_or(0, |text| text.0.0),
            overhead: raw.overhead.map_or(0, |text| text.0.0),
            queue: in_range("queue", queue)?,
            memory: raw.queue_memory.map(|text| text.0).unwrap_or(QueueMemory::DEFAULT),
            // The rule says.
            per: Per::Rule,
        };
        Ok(Fault::Packet(filter, PacketFault::Rate(link)))
    }
}

pub(super) fn explain(filter: &PacketFilter, link: &Link) -> String {
    let packets = packet::describe(filter);
    let each = match link.per {
        Per::Flow => " for each flow",
        Per::Rule | Per::Process | Per::Thread | Per::Program => "",
    };
    let burst = match link.burst {
        0 => String::new(),
        bytes => format!(", {bytes} bytes at once after a pause"),
    };
    let overhead = match link.overhead {
        0 => String::new(),
        bytes if bytes < 0 => format!(", each {} bytes shorter than it is", bytes.unsigned_abs()),
        bytes => format!(", each {bytes} bytes longer than it is"),
    };
    format!(
        "sends {packets} over a link of {}{each}{burst}{overhead}, with a queue of {}{}",
        rate::format(link.rate),
        duration::format(link.queue),
        holding(link.memory)
    )
}
