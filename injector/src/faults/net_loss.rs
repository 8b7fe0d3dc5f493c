//! `net-loss`: packets vanish.

use injector_common::FaultKind;

use super::{FaultKindDef, packet};
use crate::{
    error::SpecError,
    model::{Fault, PacketFault, PacketFilter},
};

/// The kind.
#[derive(Debug)]
pub struct NetLoss;

packet::packet_kind! {
    /// Its options, as written: the packet filter alone.
    pub struct Raw {}
}

impl FaultKindDef for NetLoss {
    const KIND: FaultKind = FaultKind::NetLoss;
    const SUMMARY: &'static str = "Packets vanish, as on a lossy wire: neither end is told";
    const MANUAL: &'static str = "\
A lost packet was sent, as far as its sender knows: `sendto` succeeds, TCP learns of the loss
by duplicate acknowledgements and time-outs and retransmits. Neighbour discovery and DHCP are
never lost, so that the host keeps its address.";
    const EXAMPLES: &'static str = "\
Examples:
  Lose 5 % of what a cgroup sends, for a minute:
    injector inject net-loss --target cgroup:/web --percent 5 --for 1m

  Cut a process off from a database:
    injector inject net-loss --target pid:4242 --direction both --peer 10.1.2.3 \\
      --peer-port 5432 --for 30s

  Run a command whose every third DNS query is lost:
    injector inject net-loss --proto udp --peer-port 53 --when 3+3 --for 1m -- ./app";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        Ok(Fault::Packet(raw.filter()?, PacketFault::Loss))
    }
}

pub(super) fn explain(filter: &PacketFilter) -> String {
    format!("loses {}", packet::describe(filter))
}
