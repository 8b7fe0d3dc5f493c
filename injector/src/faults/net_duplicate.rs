//! `net-duplicate`: packets arrive more than once.

use injector_common::{FaultKind, faults::net_duplicate::MAX_COPIES};

use super::{FaultKindDef, packet};
use crate::{
    error::SpecError,
    model::{Fault, PacketFault, PacketFilter},
    spec::{loss::Share, number::Count, text::Text},
};

/// The kind.
#[derive(Debug)]
pub struct NetDuplicate;

packet::packet_kind! {
    /// Its options, as written.
    pub struct Raw {
        /// How many copies arrive beside the packet, 1 to 4 [default: 1]
        #[arg(long, value_name = "N", allow_hyphen_values = true)]
        #[serde(default)]
        pub copies: Option<Text<Count>>,

        /// Correlation of neighbouring packets' copies in percent, with --percent; the rate stays what was asked
        #[arg(long, value_name = "P", allow_hyphen_values = true)]
        #[serde(default)]
        pub correlation: Option<Text<Share>>,
    }
}

impl FaultKindDef for NetDuplicate {
    const KIND: FaultKind = FaultKind::NetDuplicate;
    const SUMMARY: &'static str = "Packets arrive more than once";
    const MANUAL: &'static str = "\
A copy of the packet goes the same way, just ahead of it. Where the packet is delayed or damaged by
other rules of the run, so is the copy; a copy is not judged again, and not counted. The receiver's
TCP drops what it has already; the application of a UDP receiver reads it twice. With --correlation
beside --percent, a packet is doubled more likely after one that was: they come in runs.";
    const EXAMPLES: &'static str = "\
Examples:
  One packet in a hundred of what a cgroup sends arrives twice:
    injector inject net-duplicate --target cgroup:/web --percent 1 --for 1m

  Every answer of a name server arrives three times:
    injector inject net-duplicate --target pid:4242 --direction ingress --proto udp \\
      --peer-port 53 --copies 2 --for 30s";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let filter = raw.filter()?;
        let copies = raw.copies.map_or(1, |text| text.0.0);
        let copies = u32::try_from(copies)
            .ok()
            .filter(|copies| (1..=MAX_COPIES).contains(copies))
            .ok_or_else(|| {
                let allowed = format!("1 to {MAX_COPIES}");
                SpecError::new("copies", format!("{copies} is out of range"), allowed)
            })?;
        Ok(Fault::Packet(filter, PacketFault::Duplicate { copies }))
    }
}

pub(super) fn explain(filter: &PacketFilter, copies: u32) -> String {
    let packets = packet::describe(filter);
    match copies {
        1 => format!("doubles {packets}"),
        _ => format!("adds {copies} copies to {packets}"),
    }
}
