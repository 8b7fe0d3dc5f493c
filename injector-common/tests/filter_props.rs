//! Laws of filters.

#[allow(dead_code, reason = "shared with the tests of the parser")]
mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use injector_common::{
    filter::{
        EGRESS, FAMILY_V4, FAMILY_V6, INGRESS, MAX_MARKS, MAX_PORT_RANGES, MAX_SIZE_RANGES,
        PEER_IN, PEER_OUT, PEERS_EXCEPTED, PEERS_LISTED, PacketFilter, PeerName, PortSet,
    },
    packet::{Facts, TCP_FLAGS_KNOWN},
};
use proptest::{collection::vec, prelude::*};
use support::{any_ends, any_facts, any_port, any_shape, any_v6, any_way, reversed, words};

/// The peer's end of a packet: address and port.
fn peer(facts: &Facts, way: u32) -> ([u32; 4], u16) {
    if way == EGRESS {
        (facts.dst, facts.dst_port)
    } else {
        (facts.src, facts.src_port)
    }
}

/// A filter on a network, made from its standard-library form.
fn network(address: IpAddr, prefix: u32) -> PacketFilter {
    let (families, address, prefix) = match address {
        IpAddr::V4(v4) => (FAMILY_V4, v4.to_ipv6_mapped(), prefix + 96),
        IpAddr::V6(v6) => (FAMILY_V6, v6, prefix),
    };
    let mask = Ipv6Addr::from_bits(u128::MAX.checked_shl(128 - prefix).unwrap_or(0));
    PacketFilter {
        peer_addr: words(Ipv6Addr::from_bits(address.to_bits() & mask.to_bits()).into()),
        peer_mask: words(mask.into()),
        families,
        ..PacketFilter::ANY
    }
}

/// Whether the standard library's arithmetic puts both in one network.
fn in_one_network(a: IpAddr, b: IpAddr, prefix: u32) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            prefix == 0 || (a.to_bits() ^ b.to_bits()) >> (32 - prefix) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            prefix == 0 || (a.to_bits() ^ b.to_bits()) >> (128 - prefix) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// `address` with its last `bits` bits taken from `other`.
fn near(address: IpAddr, other: u128, bits: u32) -> IpAddr {
    let low = 1u128.checked_shl(bits).map_or(u128::MAX, |bit| bit - 1);
    let mix = |address: u128| (address & !low) | (other & low);
    match address {
        IpAddr::V4(v4) => {
            let mixed = mix(v4.to_bits().into()) & u128::from(u32::MAX);
            IpAddr::V4(u32::try_from(mixed).expect("32 bits").into())
        }
        IpAddr::V6(v6) => IpAddr::V6(mix(v6.to_bits()).into()),
    }
}

/// One range of ports; empty where it ends before it starts.
fn ports(first: u16, last: u16) -> PortSet {
    let mut set = PortSet::NONE;
    if first <= last {
        set.ranges[0] = [first, last];
    }
    set
}

/// A filter on nothing but a set of protocols.
fn protocols(numbers: &[u8]) -> PacketFilter {
    let mut filter = PacketFilter {
        protocols: [0; 4],
        ..PacketFilter::ANY
    };
    for number in numbers {
        filter.protocols[usize::from(number >> 6)] |= 1 << (number & 63);
    }
    filter
}

fn any_mark() -> impl Strategy<Value = [u32; 2]> {
    let mask = prop_oneof![Just(0u32), Just(1), any::<u32>(), Just(u32::MAX)];
    (any::<u32>(), mask).prop_map(|(value, mask)| [value, mask])
}

fn any_size_range() -> impl Strategy<Value = [u32; 2]> {
    let span = prop_oneof![0..2000u32, any::<u32>(), Just(u32::MAX)];
    (any::<u32>(), span).prop_map(|(first, span)| [first, span])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_matches_everything(facts in any_facts(), way in any_way()) {
        prop_assert!(PacketFilter::ANY.matches(&facts, way));
    }

    #[test]
    fn networks_are_those_of_the_standard_library(
        (src, dst) in any_ends(),
        shape in any_shape(),
        prefix in 0..=128u32,
        flip in 0..=128u32,
        noise in any::<u128>(),
        way in any_way(),
    ) {
        let bits = if src.is_ipv4() { 32 } else { 128 };
        let prefix = prefix % (bits + 1);
        let other = near(src, noise, flip % (bits + 1));
        // The peer's address lies beside the network's; the local one anywhere.
        let (from, to) = if way == EGRESS { (dst, other) } else { (other, dst) };
        let facts = Facts {
            src: words(from),
            dst: words(to),
            family: if src.is_ipv4() { 4 } else { 6 },
            ..shape.build().facts
        };
        let expected = in_one_network(src, other, prefix);
        prop_assert_eq!(network(src, prefix).matches(&facts, way), expected);
    }

    #[test]
    fn the_end_of_a_socket_is_taken_as_a_packet_to_it(
        (address, other) in any_ends(),
        prefix in 0..=128u32,
        (first, last, port) in (any_port(), any_port(), any_port()),
        kept in any::<bool>(),
    ) {
        let prefix = prefix % if address.is_ipv4() { 33 } else { 129 };
        let filter = PacketFilter {
            peer_ports: ports(first, last),
            ..network(address, prefix)
        };
        let to = if kept { address } else { other };
        let facts = Facts::of_connect(words(to), port, 6);
        let taken = filter.takes_end(facts.family, &facts.dst, port);
        prop_assert_eq!(taken, filter.matches(&facts, EGRESS));
        prop_assert!(PacketFilter::ANY.takes_end(facts.family, &facts.dst, port));
    }

    #[test]
    fn families_do_not_mix(
        facts in any_facts(),
        v4 in any::<Ipv4Addr>(),
        v6 in any_v6(),
        prefix in 0..=32u32,
        v6_prefix in 0..=128u32,
    ) {
        let (v4, v6) = (IpAddr::from(v4), IpAddr::from(v6));
        let to_v6 = Facts { dst: words(v6), family: 6, ..facts };
        prop_assert!(!network(v4, prefix).matches(&to_v6, EGRESS));
        let to_v4 = Facts { dst: words(v4), family: 4, ..facts };
        prop_assert!(!network(v6, v6_prefix).matches(&to_v4, EGRESS));
        // Not even where the address is within, as every one is in `::/0`.
        let mapped: IpAddr = Ipv6Addr::from_bits(0xffff << 32).into();
        for prefix in 0..=96 {
            prop_assert!(!network(mapped, prefix).matches(&to_v4, EGRESS));
        }
        prop_assert!(network(v6, 0).matches(&to_v6, EGRESS));
        prop_assert!(network(v4, 0).matches(&to_v4, EGRESS));
    }

    #[test]
    fn sets_of_ports_hold_what_their_ranges_hold(
        cuts in proptest::collection::btree_set(any::<u16>(), 0..=2 * MAX_PORT_RANGES + 2),
        port in any::<u16>(),
    ) {
        let cuts: Vec<u16> = cuts.into_iter().collect();
        let mut set = PortSet::NONE;
        let mut expected = false;
        for (range, ends) in set.ranges.iter_mut().zip(cuts.chunks_exact(2)) {
            *range = [ends[0], ends[1]];
            expected |= (ends[0]..=ends[1]).contains(&port);
            // The edges belong to it, what lies beyond does not.
        }
        prop_assert_eq!(set.holds(port), expected);
        for ends in cuts.chunks_exact(2) {
            prop_assert!(set.holds(ends[0]) && set.holds(ends[1]));
        }
        prop_assert!(PortSet::ANY.holds(port) && !PortSet::NONE.holds(port));
    }

    #[test]
    fn both_ends_have_ports_of_their_own(
        facts in any_facts(),
        own in [any_port(), any_port()],
        ranges in [[any_port(), any_port()], [any_port(), any_port()]],
        way in any_way(),
    ) {
        let facts = Facts { src_port: own[0], dst_port: own[1], ..facts };
        let (peer_port, local_port) =
            if way == EGRESS { (own[1], own[0]) } else { (own[0], own[1]) };
        let [peer, local] = ranges.map(|[first, last]| ports(first, last));
        let filter = PacketFilter { peer_ports: peer, local_ports: local, ..PacketFilter::ANY };
        prop_assert_eq!(
            filter.matches(&facts, way),
            peer.holds(peer_port) && local.holds(local_port)
        );
        let edges = PacketFilter {
            peer_ports: ports(peer_port, peer_port),
            local_ports: ports(local_port, local_port),
            ..filter
        };
        prop_assert!(edges.matches(&facts, way));
    }

    #[test]
    fn a_packet_without_ports_matches_no_range_of_them(facts in any_facts(), way in any_way()) {
        let facts = Facts { src_port: 0, dst_port: 0, ..facts };
        let filter = PacketFilter { peer_ports: ports(1, u16::MAX), ..PacketFilter::ANY };
        prop_assert!(!filter.matches(&facts, way));
    }

    #[test]
    fn protocol_direction_and_family_are_conditions(
        facts in any_facts(),
        numbers in vec(prop_oneof![Just(1u8), Just(6), Just(17), Just(58), any::<u8>()], 0..6),
        directions in 0..=3u16,
        families in 0..=3u16,
        way in any_way(),
    ) {
        let filter = PacketFilter { directions, families, ..protocols(&numbers) };
        let family = if facts.family == 4 { FAMILY_V4 } else { FAMILY_V6 };
        let expected = numbers.contains(&facts.number)
            && u32::from(directions) & way != 0
            && families & family != 0;
        prop_assert_eq!(filter.matches(&facts, way), expected);
    }

    #[test]
    fn code_point_mark_and_flags_are_conditions(
        facts in any_facts(),
        dscps in any::<u64>(),
        mark in any::<u32>(),
        marks in [any_mark(), any_mark(), any_mark(), any_mark()],
        same in 0..16usize,
        marks_taken in any::<u16>(),
        tcp_flags in [any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()],
        flagless in 0..=1u16,
        flags in prop_oneof![Just(0u16), TCP_FLAGS_KNOWN..2 * TCP_FLAGS_KNOWN],
        states in 0..8u16,
        state in 0..3u8,
    ) {
        let marks: [[u32; 2]; MAX_MARKS] = std::array::from_fn(|index| {
            let [value, mask] = marks[index];
            [if same >> index & 1 != 0 { mark } else { value } & mask, mask]
        });
        let facts = Facts { mark, state, tcp_flags: flags, ..facts };
        let filter = PacketFilter {
            dscps, marks, marks_taken, tcp_flags, flagless, states, ..PacketFilter::ANY
        };
        let differing = marks.iter().enumerate().fold(0, |set, (index, [value, mask])| {
            set | usize::from(mark & mask != *value) << index
        });
        let byte = usize::from(flags & 0xff);
        let expected = dscps & 1 << facts.dscp != 0
            && marks_taken >> differing & 1 != 0
            && (if flags == 0 { flagless == 1 } else { tcp_flags[byte / 64] >> (byte % 64) & 1 != 0 })
            && states & 1 << state != 0;
        prop_assert_eq!(filter.matches(&facts, EGRESS), expected);
    }

    #[test]
    fn a_size_in_one_of_the_ranges_matches(
        facts in any_facts(),
        ranges in [any_size_range(), any_size_range(), any_size_range(), any_size_range()],
        size in any::<u32>(),
        near in 0..MAX_SIZE_RANGES,
        beside in -1..=1i32,
    ) {
        let [first, span] = ranges[near];
        for size in [size, first.wrapping_add_signed(beside), first.wrapping_add(span).wrapping_add_signed(beside)] {
            let facts = Facts { size, ..facts };
            let filter = PacketFilter { sizes: ranges, ..PacketFilter::ANY };
            let inside = ranges.iter().any(|[first, span]| size.wrapping_sub(*first) <= *span);
            prop_assert_eq!(filter.matches(&facts, EGRESS), inside);
        }
    }

    #[test]
    fn sizes_are_a_range_or_all_but_a_range(
        facts in any_facts(),
        ends in [any::<u32>(), any::<u32>()],
        size in any::<u32>(),
        near in 0..3u32,
    ) {
        let (first, last) = (ends[0].min(ends[1]), ends[0].max(ends[1]));
        prop_assume!(first > 0 && last < u32::MAX);
        for size in [size, first + near - 1, last.saturating_add(near) - 1] {
            let facts = Facts { size, ..facts };
            let inside = PacketFilter {
                sizes: [[first, last - first]; MAX_SIZE_RANGES],
                ..PacketFilter::ANY
            };
            let outside = PacketFilter {
                sizes: [[last + 1, first.wrapping_sub(last + 2)]; MAX_SIZE_RANGES],
                ..PacketFilter::ANY
            };
            prop_assert_eq!(inside.matches(&facts, EGRESS), (first..=last).contains(&size));
            prop_assert_eq!(outside.matches(&facts, EGRESS), !(first..=last).contains(&size));
        }
    }

    #[test]
    fn a_segment_has_the_headers_of_its_packet(
        shape in any_shape(),
        gso_size in 1..5000u32,
        more in 0..100_000u32,
        mark in any::<u32>(),
    ) {
        let packet = shape.build();
        let length = u32::try_from(packet.bytes.len()).unwrap();
        let mut facts = packet.facts;
        // Padding behind the packet is none of it.
        facts.note_frame(packet.l2_len, length, 0, mark);
        prop_assert_eq!(facts.size, facts.end_offset - packet.l2_len);
        prop_assert_eq!(facts.mark, mark);
        let headers = facts.payload_offset - packet.l2_len;
        facts.note_frame(packet.l2_len, length + more, gso_size, mark);
        prop_assert_eq!(facts.size, (headers + gso_size).min(length + more - packet.l2_len));
    }

    #[test]
    fn what_the_table_says_decides(facts in any_facts()) {
        for (peers, unknown) in [(PEERS_LISTED, false), (PEERS_EXCEPTED, true)] {
            let filter = PacketFilter { peers, ..PacketFilter::ANY };
            prop_assert!(filter.asks_table() && filter.matches(&facts, EGRESS));
            prop_assert!(filter.takes_peer(Some(PEER_IN)) && !filter.takes_peer(Some(PEER_OUT)));
            prop_assert_eq!(filter.takes_peer(None), unknown);
        }
        for (locals, unknown) in [(PEERS_LISTED, false), (PEERS_EXCEPTED, true)] {
            let filter = PacketFilter { locals, ..PacketFilter::ANY };
            prop_assert!(filter.asks_for_local() && !filter.asks_table());
            prop_assert!(filter.takes_local(Some(PEER_IN)) && !filter.takes_local(Some(PEER_OUT)));
            prop_assert_eq!(filter.takes_local(None), unknown);
        }
        prop_assert!(!PacketFilter::ANY.asks_table() && !PacketFilter::ANY.asks_for_local());
    }

    #[test]
    fn names_of_peers_are_apart(facts in any_facts(), rules in [0..64u32, 0..64u32]) {
        let [one, other] = rules.map(|rule| PeerName::of(rule, &facts, EGRESS));
        prop_assert_eq!(one == other, rules[0] == rules[1]);
        let v4 = PeerName::new(rules[0], 4, facts.dst);
        let v6 = PeerName::new(rules[1], 6, facts.dst);
        prop_assert!(v4 != v6);
        prop_assert_eq!(one, PeerName::of(rules[0], &reversed(&facts), INGRESS));
        // The two ends of a packet, each as the peer's and as the target's own.
        let local = PeerName::of_local(rules[0], &facts, EGRESS);
        prop_assert!(local != one && local != other);
        prop_assert_eq!(local, PeerName::of_local(rules[0], &reversed(&facts), INGRESS));
        prop_assert_eq!(local, PeerName::of(rules[0], &facts, INGRESS).at_local_end());
    }

    #[test]
    fn a_filter_does_not_care_who_sends(
        facts in any_facts(),
        prefix in 0..=128u32,
        ranges in [[any_port(), any_port()], [any_port(), any_port()]],
        own_peer in any::<bool>(),
        address in any_v6(),
    ) {
        let mut filter = network(address.into(), prefix);
        if own_peer {
            let mask = filter.peer_mask;
            let (address, _) = peer(&facts, EGRESS);
            filter.peer_addr = std::array::from_fn(|word| address[word] & mask[word]);
        }
        filter.peer_ports = ports(ranges[0][0].min(peer(&facts, EGRESS).1), ranges[0][1]);
        filter.local_ports = ports(ranges[1][0], ranges[1][1]);
        prop_assert_eq!(
            filter.matches(&facts, EGRESS),
            filter.matches(&reversed(&facts), INGRESS)
        );
    }
}
