//! From the model to what lies in the maps.

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use injector_common::{
    RuleEntry,
    faults::{
        Params, net_corrupt, net_delay, net_duplicate, net_loss, net_rate, net_reorder, sys_errno,
    },
    filter::{self, PacketFilter as WireFilter},
    packet::{PROTO_ICMP, PROTO_TCP, PROTO_UDP},
    random::rule_seed,
};

use crate::model::{
    Checksum, Cidr, Delay, Direction, Experiment, Fault, LossModel, PacketFault, PacketFilter,
    Protocol, Rule, Sharing, Visibility,
};

/// The entry of the rule at `index`, for an experiment that starts at boot
/// time `start_ns`. A delay is drawn from the table at `table`, if it needs one.
pub(super) fn entry(
    experiment: &Experiment,
    index: u32,
    rule: &Rule,
    start_ns: u64,
    table: Option<u32>,
) -> RuleEntry {
    let start_ns = start_ns.saturating_add(nanos(rule.start));
    RuleEntry {
        start_ns,
        deadline_ns: start_ns.saturating_add(nanos(rule.duration)),
        seed: rule_seed(experiment.seed, index),
        trigger: rule.trigger,
        params: match &rule.fault {
            Fault::Packet(_, fault) => packet_params(fault, table),
            Fault::SysErrno { errno, .. } => sys_errno::params(errno.value),
        },
        filter: rule.fault.filter().map_or(WireFilter::ANY, packet_filter),
        kind: rule.fault.kind() as u32,
        enabled: 0,
    }
}

fn packet_params(fault: &PacketFault, table: Option<u32>) -> Params {
    match fault {
        PacketFault::Loss { model, visibility } => {
            let params = match *model {
                LossModel::Trigger | LossModel::Correlated { .. } => net_loss::independent(),
                LossModel::Gilbert(model) => net_loss::gilbert(model),
                LossModel::Markov(model) => net_loss::markov(model),
            };
            match visibility {
                Visibility::Silent => params,
                Visibility::Local => net_loss::told(params),
            }
        }
        PacketFault::Delay(delay) => delay_params(delay, table),
        PacketFault::Duplicate { copies } => net_duplicate::params(*copies),
        PacketFault::Reorder { delay, .. } => net_reorder::params(nanos(*delay)),
        PacketFault::Rate(link) => net_rate::params(net_rate::Link {
            rate: link.rate,
            burst: link.burst,
            overhead: link.overhead,
            queue_ns: nanos(link.queue),
            per_flow: link.sharing == Sharing::Flow,
        }),
        PacketFault::Corrupt { checksum } => net_corrupt::params(match checksum {
            Checksum::Valid => net_corrupt::CHECKSUM_VALID,
            Checksum::Broken => net_corrupt::CHECKSUM_BROKEN,
        }),
    }
}

fn delay_params(delay: &Delay, table: Option<u32>) -> Params {
    let mut params = net_delay::params(nanos(delay.delay), nanos(delay.jitter));
    params = net_delay::correlated(params, delay.correlation);
    if let Some(index) = table {
        params = net_delay::from_table(params, index);
    }
    if delay.reorder {
        params = net_delay::overtaking(params);
    }
    params
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
