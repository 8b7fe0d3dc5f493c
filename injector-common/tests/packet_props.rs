//! Laws of reading packets.

#[allow(dead_code, reason = "shared with the tests of filters")]
mod support;

use injector_common::packet::{Facts, PacketBytes, parse};
use proptest::{collection::vec, prelude::*, sample::Index};
use support::{IPV4, IPV6, Packet, Shape, Transport, any_shape, any_v6};

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

    fn fill<const N: usize>(&self, offset: u32, words: &mut [u32; N]) -> bool {
        assert!(
            offset >= self.l2_len,
            "{offset} lies in the link-layer header"
        );
        let end = offset as usize + 4 * N;
        assert!(end <= u32::MAX as usize, "{offset} is about to overflow");
        let filled = self.bytes.fill(offset, words);
        assert_eq!(filled, end <= self.bytes.len());
        filled
    }

    fn frame_len(&self) -> u32 {
        self.bytes.frame_len()
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
    fn padding_is_no_payload(shape in any_shape(), padding in 0..64u32) {
        let packet = shape.build();
        let facts = packet.facts;
        let frame_len = u32::try_from(packet.bytes.len()).expect("short") + padding;
        prop_assert_eq!(facts.end(frame_len), facts.end_offset);
        let payload_len = facts.end_offset - facts.payload_offset;
        prop_assert_eq!(facts.payload_len(frame_len), payload_len);
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
    fn a_packet_that_is_shorter_than_it_states_is_let_alone(shape in any_shape(), cut in any::<Index>()) {
        let packet = shape.build();
        let cut = cut.index(packet.bytes.len());
        let facts = read(&packet.bytes[..cut], packet.ether_type, packet.l2_len);
        // What pads the frame may be missing.
        let is_whole = cut >= packet.facts.end_offset as usize;
        prop_assert_eq!(facts, is_whole.then_some(packet.facts));
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
        let tcp = Shape { transport: Transport::Tcp { ports, options: 0, flags: 2 }, ..dhcp };
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
}
