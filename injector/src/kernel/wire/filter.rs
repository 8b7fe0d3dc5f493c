//! Packet filters as they lie in the maps.

use std::{net::IpAddr, ops::RangeInclusive};

use aya::maps::lpm_trie::Key;
use injector_common::{
    conversation::{STATE_ESTABLISHED, STATE_NEW},
    filter::{
        self, MAX_MARKS, MAX_SIZE_RANGES, PEER_IN, PEER_OUT, PacketFilter as WireFilter, PeerName,
        PortSet,
    },
};

use crate::model::{Choice, Cidr, Direction, Mark, PacketFilter, State, sets::Numbers};

pub(super) fn entry(filter: &PacketFilter) -> WireFilter {
    let peers = &filter.peers;
    let single = filter.single_peer();
    let (peer_addr, peer_mask) = single.map_or(([0; 4], [0; 4]), network);
    let (marks, marks_taken) = marks(&filter.marks);
    let flags = (0..=u8::MAX).filter(|flags| filter.takes_these_flags(*flags));
    WireFilter {
        protocols: filter.protocol_numbers().0,
        dscps: filter.dscps.bits(),
        tcp_flags: Numbers::from_iter(flags).0,
        peer_addr,
        peer_mask,
        marks,
        sizes: sizes(&filter.sizes),
        peer_ports: ports(&filter.peer_ports),
        local_ports: ports(&filter.local_ports),
        peers: if single.is_some() {
            filter::PEERS_BY_MASK
        } else {
            asked(peers)
        },
        locals: asked(&filter.locals),
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
        states: states(&filter.states),
        // Where the header was not read, nothing is known to be clear.
        flagless: filter.tcp_flags.is_empty().into(),
        marks_taken,
        _pad: [0; 3],
    }
}

/// How the table is asked for networks.
const fn asked(networks: &Choice<Cidr>) -> u32 {
    match (networks.is_any(), networks.these.is_empty()) {
        (true, _) => filter::PEERS_BY_MASK,
        (false, false) => filter::PEERS_LISTED,
        (false, true) => filter::PEERS_EXCEPTED,
    }
}

/// What the peer table has to say for the rule with this key: nothing of peers where the
/// filter itself says all.
pub(in crate::kernel) fn peers(
    rule: u32,
    filter: &PacketFilter,
) -> impl Iterator<Item = (Key<PeerName>, u32)> {
    let listed = filter.single_peer().is_none();
    let networks = filter.peers.each().filter(move |_| listed);
    let peers = networks.map(move |(cidr, left_out)| (peer_key(rule, cidr), peer_value(left_out)));
    peers.chain(filter.locals.each().map(move |(cidr, left_out)| {
        let peer = peer_key(rule, cidr);
        let local = Key::new(peer.prefix_len(), peer.data().at_local_end());
        (local, peer_value(left_out))
    }))
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

/// A bit for each state that a packet may have.
fn states(choice: &Choice<State>) -> u16 {
    if choice.is_any() {
        return u16::MAX;
    }
    let taken = State::ALL.iter().filter(|state| choice.takes(state));
    taken.fold(0, |bits, state| {
        bits | 1
            << match state {
                State::New => STATE_NEW,
                State::Established => STATE_ESTABLISHED,
            }
    })
}

/// The marks with their masks, and which sets of them a packet's may differ from.
fn marks(choice: &Choice<Mark>) -> ([[u32; 2]; MAX_MARKS], u16) {
    let mut marks = [[0; 2]; MAX_MARKS];
    // Unused, one differs from no packet's mark.
    let slots = marks.iter_mut().zip(choice.each());
    let asked: Vec<bool> = slots
        .map(|(slot, (mark, left_out))| {
            *slot = [mark.value, mark.mask];
            !left_out
        })
        .collect();
    let takes = |differing: usize| {
        let meets = |wanted: bool| {
            let mut marks = asked.iter().enumerate();
            marks.any(|(index, asked)| *asked == wanted && differing >> index & 1 == 0)
        };
        (choice.these.is_empty() || meets(true)) && !meets(false)
    };
    let sets = (0..1 << MAX_MARKS).filter(|differing| takes(*differing));
    (
        marks,
        sets.fold(0, |taken, differing| taken | 1 << differing),
    )
}

/// The first size of each range and how many more there are. What ends with the last of
/// all numbers goes on with what begins at 0; a range that is not needed is the first one
/// again.
fn sizes(choice: &Choice<RangeInclusive<u32>>) -> [[u32; 2]; MAX_SIZE_RANGES] {
    let lengths = choice.lengths();
    let number = |size: u128| u32::try_from(size).unwrap_or(u32::MAX);
    let mut ranges: Vec<[u32; 2]> = lengths
        .ends()
        .iter()
        .map(|&(first, last)| [number(first), number(last - first)])
        .collect();
    if let [[0, span], .., [first, _]] = ranges[..] {
        let around = [first, span.wrapping_sub(first)];
        ranges.pop();
        ranges[0] = around;
    }
    let first = ranges.first().copied().unwrap_or([0, u32::MAX]);
    let mut slots = [first; MAX_SIZE_RANGES];
    for (slot, range) in slots.iter_mut().zip(ranges) {
        *slot = range;
    }
    slots
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

    use injector_common::packet::{Facts, TCP_FLAGS_KNOWN};
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
    fn own_addresses_are_always_in_the_table() {
        for (these, not, how) in [
            (&["10.0.0.0/8"][..], &[][..], filter::PEERS_LISTED),
            (&[], &["10.0.0.0/8", "::1"], filter::PEERS_EXCEPTED),
        ] {
            let locals = of_peers(these, not).peers;
            let filter = PacketFilter {
                locals,
                ..of_peers(&["10.0.0.0/8"], &[])
            };
            let entry = entry(&filter);
            assert_eq!((entry.peers, entry.locals), (filter::PEERS_BY_MASK, how));
            let names: Vec<PeerName> = peers(3, &filter).map(|(key, _)| key.data()).collect();
            assert_eq!(names.len(), these.len() + not.len());
            assert!(names.iter().all(|name| name.owner >> 31 == 1));
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
        fn sizes_are_those_of_the_choice(
            these in vec((20..200u32, 0..100u32), 0..=MAX_SIZE_RANGES),
            not in vec((20..200u32, 0..100u32), 0..=MAX_SIZE_RANGES),
            size in 20..320u32,
        ) {
            let not = &not[..not.len().min(MAX_SIZE_RANGES - these.len())];
            let ranges = |list: &[(u32, u32)]| -> Vec<RangeInclusive<u32>> {
                list.iter().map(|(first, more)| *first..=first + more).collect()
            };
            let choice = Choice { these: ranges(&these), not: ranges(not) };
            let inside = |list: &[RangeInclusive<u32>]| list.iter().any(|range| range.contains(&size));
            let expected = (choice.these.is_empty() || inside(&choice.these)) && !inside(&choice.not);
            prop_assume!(!choice.lengths().is_empty());
            let filter = PacketFilter { sizes: choice, ..PacketFilter::new(Direction::Egress) };
            let facts = Facts { size, ..packet() };
            prop_assert_eq!(entry(&filter).matches(&facts, filter::EGRESS), expected);
        }

        #[test]
        fn marks_are_those_of_the_choice(
            marks in vec((0..8u32, 1..8u32, any::<bool>()), 0..=MAX_MARKS),
            mark in 0..8u32,
        ) {
            let of = |wanted: bool| -> Vec<Mark> {
                let some = marks.iter().filter(|(_, _, asked)| *asked == wanted);
                some.map(|(value, mask, _)| Mark { value: value & mask, mask: *mask }).collect()
            };
            let choice = Choice { these: of(true), not: of(false) };
            let meets = |list: &[Mark]| list.iter().any(|one| mark & one.mask == one.value);
            let expected = (choice.these.is_empty() || meets(&choice.these)) && !meets(&choice.not);
            let filter = PacketFilter { marks: choice, ..PacketFilter::new(Direction::Egress) };
            let facts = Facts { mark, ..packet() };
            prop_assert_eq!(entry(&filter).matches(&facts, filter::EGRESS), expected);
        }

        #[test]
        fn flags_and_states_are_those_of_the_model(
            wanted in vec((any::<u8>(), any::<u8>()), 1..4),
            flags in any::<u8>(), known in any::<bool>(),
            state in prop_oneof![Just(State::New), Just(State::Established)],
            negated in any::<bool>(), both in any::<bool>(),
        ) {
            use injector_common::conversation::tcp_state;
            let any = || PacketFilter::new(Direction::Egress);
            let of = |(set, clear): &(u8, u8)| {
                crate::model::TcpFlags { set: set & !clear, clear: *clear }
            };
            let tcp_flags = wanted.iter().map(of).collect();
            let filter = PacketFilter { tcp_flags, ..any() };
            let tcp_flags = if known { u16::from(flags) | TCP_FLAGS_KNOWN } else { 0 };
            let facts = Facts { tcp_flags, ..packet() };
            let met = wanted.iter().any(|(set, clear)| {
                flags & (set & !clear) == set & !clear && flags & clear == 0
            });
            prop_assert_eq!(entry(&filter).matches(&facts, filter::EGRESS), known && met);

            let mut states = Choice::<State>::ANY;
            if negated { states.not.push(state) } else { states.these.push(state) }
            if both && !negated {
                states.these = State::ALL.to_vec();
            }
            let filter = PacketFilter { states, ..any() };
            let facts = Facts { state: tcp_state(flags.into()), ..packet() };
            prop_assert_eq!(
                entry(&filter).matches(&facts, filter::EGRESS),
                filter.takes_flags(flags)
            );
            // A packet of no conversation meets no condition on one.
            let facts = Facts { state: 0, ..packet() };
            prop_assert!(!entry(&filter).matches(&facts, filter::EGRESS));
        }
    }
}
