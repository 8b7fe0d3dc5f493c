//! `net-corrupt`: a byte of the packet arrives changed.

use injector_common::FaultKind;

use super::{FaultKindDef, packet};
use crate::{
    error::SpecError,
    model::{Checksum, Fault, PacketFault, PacketFilter},
    spec::text::Text,
};

/// The kind.
#[derive(Debug)]
pub struct NetCorrupt;

packet::packet_kind! {
    /// Its options, as written.
    pub struct Raw {
        /// Who notices: with `valid` the application reads damaged bytes, with `broken` the receiver's stack drops the packet and counts it [default: valid]
        #[arg(long, value_name = "CHECKSUM")]
        #[serde(default)]
        pub checksum: Option<Text<Checksum>>,
    }
}

impl FaultKindDef for NetCorrupt {
    const KIND: FaultKind = FaultKind::NetCorrupt;
    const SUMMARY: &'static str = "A byte of the packet's payload arrives changed";
    const MANUAL: &'static str = "\
One byte of the payload is changed. With a valid checksum, as after damage in a router's
memory, nothing below the application notices. With a broken one, as after damage on the wire,
the receiver's stack drops the packet and counts a checksum error. A packet without a payload,
a later fragment and a packet of a protocol other than TCP, UDP and ICMP do not match: they pass
unharmed, and the rule does not count them.";
    const EXAMPLES: &'static str = "\
Examples:
  Damage one packet in a hundred of what a cgroup sends:
    injector inject net-corrupt --target cgroup:/web --percent 1 --for 1m

  Have the receiver's stack find the damage:
    injector inject net-corrupt --target pid:4242 --checksum broken --proto tcp \\
      --percent 0.5 --for 30s";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let filter = raw.filter()?;
        let checksum = raw.checksum.map_or(Checksum::Valid, |text| text.0);
        Ok(Fault::Packet(filter, PacketFault::Corrupt { checksum }))
    }
}

pub(super) fn explain(filter: &PacketFilter, checksum: Checksum) -> String {
    let packets = packet::describe(filter);
    let notice = match checksum {
        Checksum::Valid => "with a valid checksum, so that the application reads the damage",
        Checksum::Broken => "with a broken checksum, so that the receiver's stack drops them",
    };
    format!("changes a byte in {packets}, {notice}")
}
