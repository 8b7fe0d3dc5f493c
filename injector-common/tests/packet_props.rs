//! Laws of reading packets and of filters.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use injector_common::{
    filter::{EGRESS, FAMILY_V4, FAMILY_V6, INGRESS, PacketFilter},
    packet::{Facts, PacketBytes, parse},
};
use proptest::{collection::vec, prelude::*, sample::Index};
use support::{IPV4, IPV6, Packet, Shape, Transport, any_ends, any_port, any_shape, any_v6, words};

/// Bytes that complain of a parser that looks where no packet is.
struct Guarded<'a> {
    bytes: &'a [u8],
    l2_len: u32,
}

impl PacketBytes for Guarded<'_> {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        assert!(
            offset >= self.l2_len,
            "{offset} lies in the link-layer header"
        );
        let end = offset as usize + N;
        assert!(end <= u32::MAX as usize, "{offset} is about to overflow");
        // Nothing is to be had from a header that begins behind the packet.
        let loaded = self.bytes.load(offset);
        assert_eq!(loaded.is_some(), end <= self.bytes.len());
        loaded
    }
}

fn read(bytes: &[u8], ether_type: u16, l2_len: u32) -> Option<Facts> {
    let mut facts = Facts::NONE;
    let guarded = Guarded { bytes, l2_len };
    parse(&guarded, ether_type, l2_len, &mut facts).then_some(facts)
}

fn any_ether_type() -> impl Strategy<Value = u16> {
    prop_oneof![Just(IPV4), Just(IPV6), any::<u16>()]
}

/// Facts of packets that were really parsed.
fn any_facts() -> impl Strategy<Value = Facts> {
    any_shape().prop_map(|shape| shape.build().facts)
}

fn reversed(facts: &Facts) -> Facts {
    Facts {
        src: facts.dst,
        dst: facts.src,
        src_port: facts.dst_port,
        dst_port: facts.src_port,
        ..*facts
    }
}

fn any_way() -> impl Strategy<Value = u32> {
    prop_oneof![Just(EGRESS), Just(INGRESS)]
}

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn noise_never_trips_the_parser(
        bytes in vec(any::<u8>(), 0..200),
        ether_type in any_ether_type(),
        l2_len in prop_oneof![0..20u32, any::<u32>()],
    ) {
        if let Some(facts) = read(&bytes, ether_type, l2_len) {
            prop_assert!(ether_type == IPV4 && facts.family == 4
                || ether_type == IPV6 && facts.family == 6);
            prop_assert!(facts.payload_offset >= l2_len + 20);
        }
    }

    #[test]
    fn damage_never_trips_the_parser(
        shape in any_shape(),
        damage in vec(any::<(Index, u8)>(), 0..6),
        cut in any::<Index>(),
    ) {
        let Packet { mut bytes, ether_type, l2_len, .. } = shape.build();
        for (place, byte) in damage {
            *place.get_mut(&mut bytes) = byte;
        }
        let _ = read(&bytes, ether_type, l2_len);
        let _ = read(&bytes[..cut.index(bytes.len())], ether_type, l2_len);
    }

    #[test]
    fn facts_are_what_the_packet_was_built_of(shape in any_shape()) {
        let packet = shape.build();
        let facts = read(&packet.bytes, packet.ether_type, packet.l2_len);
        prop_assert_eq!(facts, Some(packet.facts));
        prop_assert_eq!(
            packet.facts.is_fragment(),
            shape.fragment.is_some_and(|(offset, _)| offset != 0)
        );
    }

    #[test]
    fn the_payload_has_no_say(shape in any_shape(), other in vec(any::<u8>(), 64)) {
        let packet = shape.build();
        let mut bytes = packet.bytes;
        let payload = packet.facts.payload_offset as usize;
        for (byte, new) in bytes[payload..].iter_mut().zip(other) {
            *byte = new;
        }
        prop_assert_eq!(read(&bytes, packet.ether_type, packet.l2_len), Some(packet.facts));
    }

    #[test]
    fn a_later_fragment_has_no_headers(
        shape in any_shape(),
        ends in (any_v6(), any_v6()),
        offset in 1..0x2000u16,
        more in any::<bool>(),
        number in prop_oneof![Just(0u8), Just(43), Just(44), Just(60)],
    ) {
        // What looks like a further header lies in the first fragment; here
        // is payload.
        let packet = Shape {
            src: ends.0.into(),
            dst: ends.1.into(),
            fragment: Some((offset, more)),
            transport: Transport::Other { number },
            ..shape
        }
        .build();
        let facts = read(&packet.bytes, packet.ether_type, packet.l2_len);
        prop_assert_eq!(facts, Some(packet.facts));
    }

    #[test]
    fn a_cut_packet_keeps_its_ends_or_is_let_alone(shape in any_shape(), cut in any::<Index>()) {
        let packet = shape.build();
        let bytes = &packet.bytes[..cut.index(packet.bytes.len())];
        if let Some(facts) = read(bytes, packet.ether_type, packet.l2_len) {
            let network = |facts: Facts| (facts.src, facts.dst, facts.proto, facts.transport_offset);
            prop_assert_eq!(network(facts), network(packet.facts));
            prop_assert!(facts.src_port == packet.facts.src_port || facts.src_port == 0);
        }
    }

    #[test]
    fn other_protocols_are_let_alone(shape in any_shape(), ether_type in any::<u16>()) {
        let packet = shape.build();
        prop_assume!(ether_type != packet.ether_type);
        prop_assert_eq!(read(&packet.bytes, ether_type, packet.l2_len), None);
    }

    #[test]
    fn address_assignment_is_protected(shape in any_shape(), forth in any::<bool>()) {
        let ports = match (shape.src.is_ipv4(), forth) {
            (true, true) => [68, 67],
            (true, false) => [67, 68],
            (false, true) => [546, 547],
            (false, false) => [547, 546],
        };
        let dhcp = Shape { fragment: None, transport: Transport::Udp { ports }, ..shape.clone() };
        let packet = dhcp.build();
        let facts = read(&packet.bytes, packet.ether_type, packet.l2_len).unwrap();
        prop_assert_eq!(facts.protected, 1);
        let tcp = Shape { transport: Transport::Tcp { ports, options: 0 }, ..dhcp };
        let packet = tcp.build();
        let facts = read(&packet.bytes, packet.ether_type, packet.l2_len).unwrap();
        prop_assert_eq!(facts.protected, 0);
    }

    #[test]
    fn only_neighbour_discovery_is_protected_icmp(shape in any_shape(), kind in 133..=137u8) {
        for (kind, expected) in [(kind, u8::from(shape.src.is_ipv6())), (128, 0), (8, 0), (0, 0)] {
            let transport = Transport::Icmp { kind, id: 7 };
            let packet = Shape { fragment: None, transport, ..shape.clone() }.build();
            let facts = read(&packet.bytes, packet.ether_type, packet.l2_len).unwrap();
            prop_assert_eq!(facts.protected, expected, "type {}", kind);
        }
    }

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
    fn ports_are_inclusive_ranges(
        facts in any_facts(),
        ports in [any_port(), any_port()],
        ranges in [[any_port(), any_port()], [any_port(), any_port()]],
        way in any_way(),
    ) {
        let facts = Facts { src_port: ports[0], dst_port: ports[1], ..facts };
        let (peer_port, local_port) =
            if way == EGRESS { (ports[1], ports[0]) } else { (ports[0], ports[1]) };
        let [[peer_port_first, peer_port_last], [local_port_first, local_port_last]] = ranges;
        let filter = PacketFilter {
            peer_port_first,
            peer_port_last,
            local_port_first,
            local_port_last,
            ..PacketFilter::ANY
        };
        let expected = (peer_port_first..=peer_port_last).contains(&peer_port)
            && (local_port_first..=local_port_last).contains(&local_port);
        prop_assert_eq!(filter.matches(&facts, way), expected);
        let edges = PacketFilter {
            peer_port_first: peer_port,
            peer_port_last: peer_port,
            local_port_first: local_port,
            local_port_last: local_port,
            ..filter
        };
        prop_assert!(edges.matches(&facts, way));
    }

    #[test]
    fn a_packet_without_ports_matches_no_range_of_them(facts in any_facts(), way in any_way()) {
        let facts = Facts { src_port: 0, dst_port: 0, ..facts };
        let filter = PacketFilter { peer_port_first: 1, ..PacketFilter::ANY };
        prop_assert!(!filter.matches(&facts, way));
    }

    #[test]
    fn protocol_direction_and_family_are_conditions(
        facts in any_facts(),
        proto in prop_oneof![Just(0u32), Just(1), Just(6), Just(17)],
        directions in 0..=3u16,
        families in 0..=3u16,
        way in any_way(),
    ) {
        let filter = PacketFilter { proto, directions, families, ..PacketFilter::ANY };
        let family = if facts.family == 4 { FAMILY_V4 } else { FAMILY_V6 };
        let expected = (proto == 0 || proto == facts.proto)
            && u32::from(directions) & way != 0
            && families & family != 0;
        prop_assert_eq!(filter.matches(&facts, way), expected);
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
        filter.peer_port_first = ranges[0][0].min(peer(&facts, EGRESS).1);
        filter.peer_port_last = ranges[0][1];
        [filter.local_port_first, filter.local_port_last] = ranges[1];
        prop_assert_eq!(
            filter.matches(&facts, EGRESS),
            filter.matches(&reversed(&facts), INGRESS)
        );
    }
}
