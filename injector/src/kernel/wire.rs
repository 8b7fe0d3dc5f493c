//! From the model to what lies in the maps.

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use injector_common::{
    RuleEntry,
    faults::{Params, net_corrupt, net_delay, net_loss, sys_errno},
    filter::{self, PacketFilter as WireFilter},
    packet::{PROTO_ICMP, PROTO_TCP, PROTO_UDP},
    random::rule_seed,
};

use crate::model::{
    Checksum, Cidr, Direction, Experiment, Fault, PacketFault, PacketFilter, Protocol, Rule,
};

/// The entry of the rule at `index`, for an experiment that starts at boot
/// time `start_ns`.
pub(super) fn entry(experiment: &Experiment, index: u32, rule: &Rule, start_ns: u64) -> RuleEntry {
    let start_ns = start_ns.saturating_add(nanos(rule.start));
    RuleEntry {
        start_ns,
        deadline_ns: start_ns.saturating_add(nanos(rule.duration)),
        seed: rule_seed(experiment.seed, index),
        trigger: rule.trigger,
        params: match &rule.fault {
            Fault::Packet(_, fault) => packet_params(fault),
            Fault::SysErrno { errno, .. } => sys_errno::params(errno.value),
        },
        filter: rule.fault.filter().map_or(WireFilter::ANY, packet_filter),
        kind: rule.fault.kind() as u32,
        enabled: 0,
    }
}

fn packet_params(fault: &PacketFault) -> Params {
    match fault {
        PacketFault::Loss => net_loss::params(),
        PacketFault::Delay { delay, jitter } => net_delay::params(nanos(*delay), nanos(*jitter)),
        PacketFault::Corrupt { checksum } => net_corrupt::params(match checksum {
            Checksum::Valid => net_corrupt::CHECKSUM_VALID,
            Checksum::Broken => net_corrupt::CHECKSUM_BROKEN,
        }),
    }
}

/// Nanoseconds of a duration; 584 years at most.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn packet_filter(filter: &PacketFilter) -> WireFilter {
    let families = filter
        .peer
        .map_or(filter::FAMILY_V4 | filter::FAMILY_V6, |peer| {
            match peer.address {
                IpAddr::V4(_) => filter::FAMILY_V4,
                IpAddr::V6(_) => filter::FAMILY_V6,
            }
        });
    let (peer_addr, peer_mask) = filter.peer.map_or(([0; 4], [0; 4]), network);
    let (peer_port_first, peer_port_last) = ports(filter.peer_ports.as_ref());
    let (local_port_first, local_port_last) = ports(filter.local_ports.as_ref());
    WireFilter {
        peer_addr,
        peer_mask,
        peer_port_first,
        peer_port_last,
        local_port_first,
        local_port_last,
        directions: filter::directions(match filter.direction {
            Direction::Egress => filter::EGRESS,
            Direction::Ingress => filter::INGRESS,
            Direction::Both => filter::EGRESS | filter::INGRESS,
        }),
        families,
        proto: match filter.protocol {
            Protocol::Any => 0,
            Protocol::Tcp => PROTO_TCP,
            Protocol::Udp => PROTO_UDP,
            Protocol::Icmp => PROTO_ICMP,
        },
    }
}

fn ports(range: Option<&RangeInclusive<u16>>) -> (u16, u16) {
    range.map_or((0, u16::MAX), |range| (*range.start(), *range.end()))
}

/// Address and mask of a network, IPv4 as its mapped IPv6 form.
fn network(cidr: Cidr) -> ([u32; 4], [u32; 4]) {
    let (address, prefix) = match cidr.address {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 96 + u32::from(cidr.prefix)),
        IpAddr::V6(v6) => (v6, u32::from(cidr.prefix)),
    };
    let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
    (words(address.to_bits() & mask), words(mask))
}

/// The words of an address as a program reads them from the wire.
fn words(bits: u128) -> [u32; 4] {
    let bytes = bits.to_be_bytes();
    let word =
        |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [word(0), word(4), word(8), word(12)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_narrows_the_family() {
        let families = |peer: Option<&str>| {
            let filter = PacketFilter {
                direction: Direction::Both,
                protocol: Protocol::Any,
                peer: peer.map(|text| text.parse().unwrap()),
                peer_ports: None,
                local_ports: None,
                interface: None,
            };
            packet_filter(&filter).families
        };
        assert_eq!(families(None), filter::FAMILY_V4 | filter::FAMILY_V6);
        assert_eq!(families(Some("0.0.0.0/0")), filter::FAMILY_V4);
        assert_eq!(families(Some("::/0")), filter::FAMILY_V6);
        assert_eq!(families(Some("::ffff:10.0.0.0/104")), filter::FAMILY_V4);
    }

    #[test]
    fn networks_become_masks() {
        let v4 = network(Cidr {
            address: "10.1.0.0".parse().unwrap(),
            prefix: 16,
        });
        assert_eq!(v4.1[2], u32::MAX, "only mapped addresses match");
        assert_eq!(v4.1[3], u32::from_ne_bytes([255, 255, 0, 0]));
        assert_eq!(v4.0[3], u32::from_ne_bytes([10, 1, 0, 0]));
        let any = network(Cidr {
            address: "::".parse().unwrap(),
            prefix: 0,
        });
        assert_eq!(any.1, [0; 4], "::/0 takes in every address");
        let one = network(Cidr {
            address: "::1".parse().unwrap(),
            prefix: 128,
        });
        assert_eq!(one.1, [u32::MAX; 4]);
    }
}
