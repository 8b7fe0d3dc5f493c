//! Laws of what `net-corrupt` does to a packet.

#[allow(dead_code, reason = "shared with the tests of filters")]
mod support;

use std::collections::BTreeMap;

use injector_common::{
    answer::{complement, fold},
    faults::{
        Params,
        net_corrupt::{
            self, CHECKSUM_BROKEN, CHECKSUM_VALID, MAX_CHANGES, MAX_HEADER_BYTES, REGION_HEADERS,
            REGION_PAYLOAD, Region, Sums, UNIT_BITS, UNIT_BYTES,
        },
    },
    packet::{PROTO_ICMP, PROTO_TCP, PROTO_UDP},
};
use proptest::prelude::*;
use support::{Packet, Shape, any_shape};

fn any_params() -> impl Strategy<Value = Params> {
    (
        1..=MAX_CHANGES,
        prop_oneof![Just(UNIT_BYTES), Just(UNIT_BITS)],
        prop_oneof![Just(REGION_PAYLOAD), Just(REGION_HEADERS)],
    )
        .prop_map(|(count, unit, region)| net_corrupt::params(CHECKSUM_VALID, count, unit, region))
}

fn region(packet: &Packet, params: Params) -> Region {
    let frame_len = u32::try_from(packet.bytes.len()).expect("short");
    Region::of(&packet.facts, frame_len, params)
}

/// Damages a packet as the program does, and returns its sums.
fn damage(packet: &Packet, params: Params, draw: u64) -> (Vec<u8>, Sums) {
    let (mut bytes, mut sums) = (packet.bytes.clone(), Sums::NONE);
    let region = region(packet, params);
    for k in 0..u64::from(MAX_CHANGES) {
        let Some((offset, pattern)) = region.change(params, draw, k) else {
            break;
        };
        let byte = &mut bytes[offset as usize];
        *byte = sums.damage(offset - packet.facts.transport_offset, *byte, pattern);
    }
    (bytes, sums)
}

/// Whether this byte of the packet may change.
fn may_change(packet: &Packet, params: Params, offset: usize) -> bool {
    let facts = &packet.facts;
    if facts.is_fragment() {
        return false;
    }
    let offset = u32::try_from(offset).expect("short");
    if params[3] == REGION_PAYLOAD {
        return (facts.payload_offset..facts.end_offset).contains(&offset)
            && matches!(facts.proto, PROTO_TCP | PROTO_UDP | PROTO_ICMP);
    }
    if !(facts.transport_offset..facts.payload_offset).contains(&offset) {
        return false;
    }
    match (facts.proto, offset - facts.transport_offset) {
        (PROTO_TCP, place) => !matches!(place, 12 | 16 | 17),
        (PROTO_UDP, place) => place < 4,
        (PROTO_ICMP, place) => !matches!(place, 2 | 3),
        _ => false,
    }
}

/// What the checksum of the packet is made of, with both its own bytes 0.
fn sum_of(packet: &Packet, bytes: &[u8]) -> u64 {
    let start = packet.facts.transport_offset as usize;
    let words = bytes[start..packet.facts.end_offset as usize].chunks(2);
    words
        .map(|word| {
            u64::from(u16::from_ne_bytes([
                word[0],
                word.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn exactly_so_many_bits_or_bytes_change(
        shape in any_shape(),
        params in any_params(),
        draw in any::<u64>(),
    ) {
        let packet = shape.build();
        let may = |offset: &usize| may_change(&packet, params, *offset);
        let room = (0..packet.bytes.len()).filter(may).count();
        let count = usize::try_from(params[1]).expect("small");
        let needed = if params[2] == UNIT_BITS { count.div_ceil(4) } else { count };
        let has_room = region(&packet, params).has_room(params);
        prop_assert_eq!(has_room, room >= needed);

        let (damaged, _) = damage(&packet, params, draw);
        let (mut bits, mut changed) = (0, 0);
        for (offset, (old, new)) in packet.bytes.iter().zip(&damaged).enumerate() {
            if old != new {
                prop_assert!(may(&offset), "byte {} of {:?}", offset, packet);
                bits += (old ^ new).count_ones() as usize;
                changed += 1;
            }
        }
        let found = if params[2] == UNIT_BITS { bits } else { changed };
        prop_assert_eq!(found, if has_room { count } else { 0 });
    }

    #[test]
    fn damage_shows_in_the_sum_and_can_be_made_to_fit(
        shape in any_shape(),
        params in any_params(),
        draw in any::<u64>(),
        start in 1..=u16::MAX,
    ) {
        let packet = shape.build();
        if region(&packet, params).has_room(params) {
            let (damaged, sums) = damage(&packet, params, draw);
            let start_sum = u64::from(start);
            let before = complement(start_sum + sum_of(&packet, &packet.bytes));
            let after = complement(start_sum + sum_of(&packet, &damaged));
            prop_assert_ne!(before, after);
            // Made to fit as the kernel does it (RFC 1624, equation 3).
            let (old, new) = sums.words();
            let fitted = complement(u64::from(!before) + u64::from(!old) + u64::from(new));
            prop_assert_eq!(fitted % 0xffff, after % 0xffff);
            // Filled in by a device, it is what it would have been.
            let undone = sums.undone(start);
            prop_assert_ne!(undone, 0, "no checksum, to UDP");
            let filled = complement(u64::from(undone) + sum_of(&packet, &damaged));
            prop_assert_eq!(filled % 0xffff, before % 0xffff);
        }
    }

    #[test]
    fn nothing_but_a_small_number_is_obeyed(
        shape in any_shape(),
        params in any::<Params>(),
        draw in any::<u64>(),
        k in any::<u64>(),
    ) {
        let packet = shape.build();
        if params[1] == 0 || params[1] > u64::from(MAX_CHANGES) {
            prop_assert_eq!(region(&packet, params).change(params, draw, k), None);
        }
        prop_assert_eq!(
            region(&packet, params).change(params, draw, k.max(MAX_CHANGES.into())),
            None
        );
    }

    #[test]
    fn any_words_fold_without_loss(words in proptest::collection::vec(any::<u16>(), 0..9)) {
        let sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
        prop_assert_eq!(u64::from(fold(sum)) % 0xffff, sum % 0xffff);
    }
}

/// A packet with 20 bytes of payload.
fn shape(transport: support::Transport) -> Shape {
    Shape {
        src: "192.0.2.1".parse().expect("an address"),
        dst: "192.0.2.2".parse().expect("an address"),
        l2: vec![0; 14],
        tos: 0,
        options: 0,
        extensions: Vec::new(),
        fragment: None,
        transport,
        payload: vec![0x55; 20],
        trailer: Vec::new(),
    }
}

/// Every byte and bit of a region is hit, one as often as another.
#[test]
fn a_single_change_hits_everything_evenly() {
    let tcp = support::Transport::Tcp {
        ports: [1, 2],
        options: 0,
        flags: 0,
    };
    for (transport, region, bytes) in [
        (tcp, REGION_HEADERS, 17),
        (support::Transport::Udp { ports: [1, 2] }, REGION_HEADERS, 4),
        (
            support::Transport::Icmp { kind: 8, id: 1 },
            REGION_HEADERS,
            6,
        ),
        (tcp, REGION_PAYLOAD, 20),
    ] {
        let packet = shape(transport).build();
        for (unit, units) in [(UNIT_BYTES, bytes), (UNIT_BITS, bytes * 8)] {
            let params = net_corrupt::params(CHECKSUM_VALID, 1, unit, region);
            let region = self::region(&packet, params);
            let mut hits = BTreeMap::new();
            let each = 200;
            for draw in 0..u64::from(units * each) {
                let (offset, pattern) = region.change(params, draw, 0).expect("room");
                let bit = if unit == UNIT_BITS { pattern } else { 0 };
                *hits.entry((offset, bit)).or_insert(0u32) += 1;
            }
            assert_eq!(hits.len(), units as usize, "{transport:?}: {hits:?}");
            assert!(
                hits.values()
                    .all(|hits| (each / 2..each * 2).contains(hits)),
                "{transport:?}: {hits:?}"
            );
        }
    }
}

#[test]
fn bits_that_cancel_out_are_not_flipped() {
    // The upper bytes of two words: one bit up, the same bit down.
    let mut sums = Sums::NONE;
    assert_eq!(sums.damage(0, 0b0000, 0b0100), 0b0100);
    assert_eq!(sums.damage(2, 0b0100, 0b0100), 0b1100, "the bit beside it");
    let (old, new) = sums.words();
    assert_ne!(old, new);
    // Two bytes of nothing that become a word of ones, which sums up to nothing.
    let mut sums = Sums::NONE;
    assert_eq!(sums.damage(0, 0, 0xff), 0xff);
    assert_eq!(sums.damage(1, 0, 0xff), 0xfe);
}

#[test]
fn any_header_has_room_for_what_is_allowed() {
    for transport in [
        support::Transport::Udp { ports: [1, 2] },
        support::Transport::Icmp { kind: 8, id: 1 },
    ] {
        let packet = shape(transport).build();
        for (unit, most) in [(UNIT_BYTES, MAX_HEADER_BYTES), (UNIT_BITS, MAX_CHANGES)] {
            let params = net_corrupt::params(CHECKSUM_VALID, most, unit, REGION_HEADERS);
            assert!(region(&packet, params).has_room(params), "{transport:?}");
        }
    }
}

#[test]
fn only_a_broken_checksum_needs_the_detour() {
    let of = |checksum| {
        let params = net_corrupt::params(checksum, 1, UNIT_BYTES, REGION_PAYLOAD);
        net_corrupt::needs_detour(params)
    };
    assert!(of(CHECKSUM_BROKEN));
    assert!(!of(CHECKSUM_VALID));
}
