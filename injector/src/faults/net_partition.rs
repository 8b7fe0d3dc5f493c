//! `net-partition`: the target and its peers are out of each other's reach.

use injector_common::FaultKind;

use super::{FaultKindDef, packet};
use crate::{
    error::SpecError,
    model::{Fault, PacketFault, PacketFilter},
};

/// The kind.
#[derive(Debug)]
pub struct NetPartition;

packet::packet_kind! {
    /// Its options, as written.
    pub struct Raw (Both, "both") {}
}

impl FaultKindDef for NetPartition {
    const KIND: FaultKind = FaultKind::NetPartition;
    const SUMMARY: &'static str = "The target and its peers are out of each other's reach";
    const MANUAL: &'static str = "\
Every packet between the target and the peers vanishes, both ways unless --direction says which, and
nobody is told, as when a link far away is cut: connections hang and time out, open ones go on when
the partition ends in time. --peer takes names too, and --peer-target another target: their
addresses are looked up again every 5 s. All of these and the ports may repeat, and a leading !
leaves out; without any of them the target is cut off from everyone. All packets are hit: a share
of them is net-loss, an answer that tells at once is net-reject. Neighbour discovery and DHCP go on,
so that the host keeps its address.";
    const EXAMPLES: &'static str = "\
Examples:
  A node of a cluster loses sight of the others, but not of the name server among them:
    injector inject net-partition --target cgroup:/db --peer 10.1.0.0/16,!10.1.0.10 --for 1m

  One container no longer reaches another, whatever its address is now:
    injector inject net-partition --target cgroup:/web --peer-target cgroup:/db --for 1m

  It hears the others, and they do not hear it:
    injector inject net-partition --target cgroup:/db --peer 10.1.0.0/16 --direction egress --for 1m

  A process is cut off from everyone but for ssh:
    injector inject net-partition --target pid:4242 --local-port !22 --for 30s";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        Ok(Fault::Packet(raw.filter()?, PacketFault::Partition))
    }
}

pub(super) fn explain(filter: &PacketFilter) -> String {
    format!("loses all {}", packet::describe(filter))
}
