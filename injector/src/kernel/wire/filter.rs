//! Packet filters as they lie in the maps.

use std::{net::IpAddr, ops::RangeInclusive};

use aya::maps::lpm_trie::Key;
use injector_common::{
    conversation::{STATE_ESTABLISHED, STATE_NEW},
    filter::{self, PEER_IN, PEER_OUT, PacketFilter as WireFilter, PeerName, PortSet},
    packet::TCP_FLAGS_KNOWN,
};

use crate::model::{Choice, Cidr, Direction, PacketFilter, Sizes, State};

pub(super) fn entry(filter: &PacketFilter) -> WireFilter {
    let peers = &filter.peers;
    let single = filter.single_peer();
    let (peer_addr, peer_mask) = single.map_or(([0; 4], [0; 4]), network);
    let (size_first, size_span) = filter.size.as_ref().map_or((0, u32::MAX), sizes);
    let flags = filter.tcp_flags.map_or((0, 0), |flags| {
        // Where the header was not read, nothing is known to be clear.
        let all = u16::from(flags.set | flags.clear) | TCP_FLAGS_KNOWN;
        (u16::from(flags.set) | TCP_FLAGS_KNOWN, all)
    });
    WireFilter {
        protocols: filter.protocol_numbers().0,
        dscps: filter.dscps.bits(),
        peer_addr,
        peer_mask,
        peer_ports: ports(&filter.peer_ports),
        local_ports: ports(&filter.local_ports),
        peers: match (peers.is_any() || single.is_some(), peers.these.is_empty()) {
            (true, _) => filter::PEERS_BY_MASK,
            (false, false) => filter::PEERS_LISTED,
            (false, true) => filter::PEERS_EXCEPTED,
        },
        mark: filter.mark.map_or(0, |mark| mark.value),
        mark_mask: filter.mark.map_or(0, |mark| mark.mask),
        mark_differs: filter.mark.map_or(0, |mark| mark.negated.into()),
        size_first,
        size_span,
        tcp_flags: flags.0,
        tcp_flags_mask: flags.1,
        directions: filter::directions(match filter.direction {
            Direction::Egress => filter::EGRESS,
            Direction::Ingress => filter::INGRESS,
            Direction::Both => filter::EGRESS | filter::INGRESS,
        }),
        families: single.map_or(filter::FAMILY_V4 | filter::FAMILY_V6, |peer| {
            match peer.address {
                IpAddr::V4(_) => filter::FAMILY_V4,
                IpAddr::V6(_) => filter::FAMILY_V6,
            }
        }),
        states: filter.state.map_or(u16::MAX, |state| match state {
            State::New => 1 << STATE_NEW,
            State::Established => 1 << STATE_ESTABLISHED,
        }),
        _pad: [0; 3],
    }
}

/// What the peer table has to say for the rule with this key: nothing where the
/// filter itself says all.
pub(in crate::kernel) fn peers(
    rule: u32,
    filter: &PacketFilter,
) -> impl Iterator<Item = (Key<PeerName>, u32)> {
    let listed = filter.single_peer().is_none();
    let networks = filter.peers.each().filter(move |_| listed);
    networks.map(move |(cidr, left_out)| (peer_key(rule, cidr), peer_value(left_out)))
}

/// Where the table has a network, for the rule with this key.
pub(in crate::kernel) fn peer_key(rule: u32, cidr: &Cidr) -> Key<PeerName> {
    let family = if cidr.address.is_ipv4() { 4 } else { 6 };
    let name = PeerName::new(rule, family, network(cidr).0);
    Key::new(PeerName::prefix(family, cidr.prefix), name)
}

/// What the table says of a peer that a rule names, or leaves out.
pub(in crate::kernel) const fn peer_value(left_out: bool) -> u32 {
    if left_out { PEER_OUT } else { PEER_IN }
}

fn ports(choice: &Choice<RangeInclusive<u16>>) -> PortSet {
    if choice.is_any() {
        return PortSet::ANY;
    }
    let mut set = PortSet::NONE;
    let port = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
    // As many ranges as were named leave at most one more.
    for (slot, &(first, last)) in set.ranges.iter_mut().zip(choice.ports().ends()) {
        *slot = [port(first), port(last)];
    }
    set
}

/// The first size and how many more there are, counted around the end of the
/// numbers for all but a range.
fn sizes(sizes: &Sizes) -> (u32, u32) {
    let (first, last) = (*sizes.range.start(), *sizes.range.end());
    let (first, last) = if sizes.negated {
        (last.wrapping_add(1), first.wrapping_sub(1))
    } else {
        (first, last)
    };
    (first, last.wrapping_sub(first))
}

/// Address and mask of a network, IPv4 as its mapped IPv6 form.
fn network(cidr: &Cidr) -> ([u32; 4], [u32; 4]) {
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
    use std::net::Ipv6Addr;

    use injector_common::packet::Facts;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn of_peers(these: &[&str], not: &[&str]) -> PacketFilter {
        let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        PacketFilter {
            peers: Choice {
                these: parse(these),
                not: parse(not),
            },
            ..PacketFilter::new(Direction::Both)
        }
    }

    #[test]
    fn a_single_peer_narrows_the_family() {
        let families = |peers: &[&str]| entry(&of_peers(peers, &[])).families;
        assert_eq!(families(&[]), filter::FAMILY_V4 | filter::FAMILY_V6);
        assert_eq!(families(&["0.0.0.0/0"]), filter::FAMILY_V4);
        assert_eq!(families(&["::/0"]), filter::FAMILY_V6);
        assert_eq!(families(&["::ffff:10.0.0.0/104"]), filter::FAMILY_V4);
    }

    #[test]
    fn the_table_is_asked_only_where_it_must_be() {
        for (these, not, how, networks) in [
            (&[][..], &[][..], filter::PEERS_BY_MASK, 0),
            (&["10.0.0.0/8"], &[], filter::PEERS_BY_MASK, 0),
            (&["10.0.0.0/8", "::1"], &[], filter::PEERS_LISTED, 2),
            (&["10.0.0.0/8"], &["10.0.0.0/9"], filter::PEERS_LISTED, 2),
            (&[], &["10.0.0.0/8"], filter::PEERS_EXCEPTED, 1),
        ] {
            let filter = of_peers(these, not);
            assert_eq!(entry(&filter).peers, how);
            assert_eq!(peers(3, &filter).count(), networks);
            if networks > 0 {
                assert_eq!(entry(&filter).peer_mask, [0; 4]);
            }
        }
    }

    #[test]
    fn networks_become_masks_and_prefixes() {
        let v4 = network(&"10.1.0.0/16".parse().unwrap());
        assert_eq!(v4.1[2], u32::MAX, "only mapped addresses match");
        assert_eq!(v4.1[3], u32::from_ne_bytes([255, 255, 0, 0]));
        assert_eq!(v4.0[3], u32::from_ne_bytes([10, 1, 0, 0]));
        let any = network(&"::/0".parse().unwrap());
        assert_eq!(any.1, [0; 4], "::/0 takes in every address");
        let one = network(&"::1".parse().unwrap());
        assert_eq!(one.1, [u32::MAX; 4]);
        let filter = of_peers(&["10.1.0.0/16", "fd00::/8"], &["::/0"]);
        let keys: Vec<(u32, PeerName, u32)> = peers(3, &filter)
            .map(|(key, value)| (key.prefix_len(), key.data(), value))
            .collect();
        let fd00 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0);
        assert_eq!(
            keys,
            [
                (32 + 96 + 16, PeerName::new(3, 4, v4.0), PEER_IN),
                (32 + 8, PeerName::new(3, 6, words(fd00.to_bits())), PEER_IN),
                (32, PeerName::new(3, 6, [0; 4]), PEER_OUT),
            ]
        );
    }

    /// A packet of TCP that matches what says nothing of it.
    fn packet() -> Facts {
        Facts {
            proto: 6,
            number: 6,
            family: 4,
            src_port: 1,
            dst_port: 1,
            size: 100,
            tcp_flags: TCP_FLAGS_KNOWN,
            state: STATE_ESTABLISHED,
            ..Facts::NONE
        }
    }

    proptest! {
        #[test]
        fn ports_are_those_of_the_choice(
            these in vec((1..100u16, 0..20u16), 0..5),
            not in vec((1..100u16, 0..20u16), 0..4),
            port in 1..130u16,
        ) {
            let ranges = |list: Vec<(u16, u16)>| -> Vec<RangeInclusive<u16>> {
                list.into_iter().map(|(first, more)| first..=first + more).collect()
            };
            let choice = Choice { these: ranges(these), not: ranges(not) };
            let inside = |list: &[RangeInclusive<u16>]| list.iter().any(|range| range.contains(&port));
            let expected = (choice.these.is_empty() || inside(&choice.these)) && !inside(&choice.not);
            prop_assert_eq!(ports(&choice).holds(port), expected);
            prop_assert_eq!(ports(&choice).holds(0), choice.is_any());
        }

        #[test]
        fn sizes_flags_and_states_are_those_of_the_model(
            first in 20..200u32, more in 0..100u32, negated in any::<bool>(), size in 20..320u32,
            set in any::<u8>(), clear in any::<u8>(), flags in any::<u8>(), known in any::<bool>(),
            state in prop_oneof![Just(State::New), Just(State::Established)],
        ) {
            use injector_common::conversation::tcp_state;
            let any = || PacketFilter::new(Direction::Egress);
            let sized = Sizes { range: first..=first + more, negated };
            let filter = PacketFilter { size: Some(sized.clone()), ..any() };
            let facts = Facts { size, ..packet() };
            prop_assert_eq!(
                entry(&filter).matches(&facts, filter::EGRESS),
                sized.range.contains(&size) != negated
            );
            let wanted = crate::model::TcpFlags { set: set & !clear, clear };
            let filter = PacketFilter { tcp_flags: Some(wanted), ..any() };
            let tcp_flags = if known { u16::from(flags) | TCP_FLAGS_KNOWN } else { 0 };
            let facts = Facts { tcp_flags, ..packet() };
            prop_assert_eq!(
                entry(&filter).matches(&facts, filter::EGRESS),
                known && filter.takes_flags(flags)
            );
            let filter = PacketFilter { state: Some(state), ..any() };
            let facts = Facts { state: tcp_state(flags.into()), ..packet() };
            prop_assert_eq!(
                entry(&filter).matches(&facts, filter::EGRESS),
                filter.takes_flags(flags)
            );
        }
    }
}
