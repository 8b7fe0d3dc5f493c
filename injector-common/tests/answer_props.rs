//! Laws of what stands in an answer, against the sums that RFC 1071 defines.

use injector_common::{
    answer::{
        ACK, Ends, FIN, RST, SYN, Segment, TCP_LEN, icmp_header, ip_len, may_be_answered, quoted,
    },
    packet::{self, Facts, PROTO_ICMP, PROTO_TCP, PROTO_UDP, TCP_FLAGS_KNOWN},
};
use proptest::prelude::*;

/// The sum of RFC 1071, byte by byte: 0xffff for what holds its own checksum.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    words.fold(0, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    })
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn any_ends() -> impl Strategy<Value = (u8, Ends)> {
    let address = any::<[u32; 4]>();
    (any::<bool>(), address, address, any::<u16>(), any::<u16>()).prop_map(
        |(v6, mut src, mut dst, src_port, dst_port)| {
            if !v6 {
                for address in [&mut src, &mut dst] {
                    address[..3].copy_from_slice(&[0, 0, packet::V4_MAPPED]);
                }
            }
            let ends = Ends {
                src,
                dst,
                src_port,
                dst_port,
            };
            (if v6 { 6 } else { 4 }, ends)
        },
    )
}

fn any_segment() -> impl Strategy<Value = Segment> {
    (any::<u32>(), any::<u32>(), any::<u8>()).prop_map(|(seq, ack, flags)| Segment {
        seq,
        ack,
        flags,
    })
}

/// The pseudo header of RFC 9293 §3.1 or RFC 8200 §8.1.
fn pseudo(family: u8, ends: &Ends, proto: u8, len: u32) -> Vec<u8> {
    let from = if family == 4 { 3 } else { 0 };
    let mut pseudo = bytes(&ends.src[from..]);
    pseudo.extend(bytes(&ends.dst[from..]));
    pseudo.extend(len.to_be_bytes());
    pseudo.extend([0, 0, 0, proto]);
    pseudo
}

fn network_header(family: u8, ends: &Ends, proto: u8, len: u32) -> Vec<u8> {
    if family == 4 {
        bytes(&ends.ipv4_header(proto, len))
    } else {
        bytes(&ends.ipv6_header(proto, len))
    }
}

proptest! {
    #[test]
    fn an_answer_reads_as_it_was_meant((family, ends) in any_ends(), segment in any_segment()) {
        let mut packet = network_header(family, &ends, 6, TCP_LEN);
        if family == 4 {
            prop_assert_eq!(sum(&packet), 0xffff, "the header fits its checksum");
        }
        packet.extend(bytes(&ends.tcp_header(segment, false)));
        let mut facts = Facts::NONE;
        let ether_type: u16 = if family == 4 { 0x0800 } else { 0x86dd };
        prop_assert!(packet::parse(&packet[..], ether_type.to_be(), 0, &mut facts));
        prop_assert_eq!(facts.family, family);
        prop_assert_eq!(Ends::of(&facts), ends);
        prop_assert_eq!(facts.proto, PROTO_TCP);
        prop_assert_eq!(facts.transport_offset, ip_len(family));
        prop_assert_eq!(facts.payload_offset, facts.end_offset, "no payload");
        prop_assert_eq!(facts.end_offset as usize, packet.len());
        let tcp = &packet[facts.transport_offset as usize..];
        let read = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().expect("four bytes"));
        prop_assert_eq!((read(4), read(8), tcp[13]), (segment.seq, segment.ack, segment.flags));
    }

    #[test]
    fn a_segment_fits_its_checksum((family, ends) in any_ends(), segment in any_segment()) {
        let mut all = pseudo(family, &ends, 6, TCP_LEN);
        all.extend(bytes(&ends.tcp_header(segment, false)));
        prop_assert_eq!(sum(&all), 0xffff);
    }

    /// A device puts the complement of the sum over the segment, start value
    /// included, in the start value's place (`skb_checksum_help`).
    #[test]
    fn a_device_completes_a_segment((family, ends) in any_ends(), segment in any_segment()) {
        let mut tcp = bytes(&ends.tcp_header(segment, true));
        let filled = !u16::try_from(sum(&tcp)).expect("folded");
        tcp[16..18].copy_from_slice(&filled.to_be_bytes());
        let mut all = pseudo(family, &ends, 6, TCP_LEN);
        all.extend(tcp);
        prop_assert_eq!(sum(&all), 0xffff);
    }

    #[test]
    fn an_error_fits_its_checksum(
        (family, ends) in any_ends(),
        kind in any::<u8>(),
        code in any::<u8>(),
        rest in any::<u32>(),
        quote in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let len = u32::try_from(8 + quote.len()).expect("short");
        let mut all = Vec::new();
        let pseudo_sum = if family == 6 {
            all = pseudo(family, &ends, 58, len);
            ends.pseudo_sum(58, len)
        } else {
            0
        };
        let mut padded = quote.clone();
        padded.resize(quote.len().next_multiple_of(4), 0);
        let words = padded.chunks(4).map(|word| u32::from_ne_bytes(word.try_into().expect("4")));
        let quote_sum = words.map(u64::from).sum();
        all.extend(bytes(&icmp_header(kind, code, rest, pseudo_sum, quote_sum)));
        all.extend(quote);
        prop_assert_eq!(sum(&all), 0xffff);
    }

    /// RFC 9293 §3.10.7.1: the answer's number is the one that the sender waits
    /// for, or it confirms all that the sender sent.
    #[test]
    fn a_refusal_is_accepted(segment in any_segment(), len in 0..100_000u32) {
        let answer = segment.refusal(len);
        prop_assert!(answer.flags & RST != 0 && answer.flags & (SYN | FIN) == 0);
        if segment.flags & ACK != 0 {
            prop_assert_eq!((answer.seq, answer.flags), (segment.ack, RST));
        } else {
            let counted = u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
            prop_assert_eq!(answer.seq, 0);
            prop_assert_eq!(answer.flags, RST | ACK);
            prop_assert_eq!(answer.ack.wrapping_sub(segment.seq), len + counted);
        }
    }

    #[test]
    fn an_error_is_no_longer_than_it_may(v6 in any::<bool>(), len in 0..100_000u32) {
        let (family, most) = if v6 { (6, 1280) } else { (4, 576) };
        let part = quoted(family, len);
        prop_assert!(part <= len && ip_len(family) + 8 + part <= most);
        prop_assert!(part == len || ip_len(family) + 8 + part == most);
    }
}

fn facts(family: u8, proto: u32, icmp_type: u8, src: &str, dst: &str) -> Facts {
    let words = |text: &str| {
        let address: std::net::IpAddr = text.parse().expect("an address");
        let v6 = match address {
            std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            std::net::IpAddr::V6(v6) => v6,
        };
        let b = v6.octets();
        std::array::from_fn(|n| {
            u32::from_ne_bytes([b[4 * n], b[4 * n + 1], b[4 * n + 2], b[4 * n + 3]])
        })
    };
    Facts {
        family,
        proto,
        icmp_type,
        src: words(src),
        dst: words(dst),
        ..Facts::NONE
    }
}

#[test]
fn some_packets_are_never_answered() {
    let (a, b) = ("10.0.0.1", "10.0.0.2");
    let (c, d) = ("fd00::1", "fd00::2");
    for (facts, flags, by_reset, expected) in [
        (facts(4, PROTO_TCP, 0, a, b), SYN, true, true),
        (facts(6, PROTO_TCP, 0, c, d), ACK, true, true),
        (facts(4, PROTO_TCP, 0, a, b), RST | ACK, true, false),
        (facts(4, PROTO_TCP, 0, a, b), RST, false, false),
        (facts(4, PROTO_UDP, 0, a, b), 0, false, true),
        (facts(4, PROTO_UDP, 0, a, b), 0, true, false),
        (facts(6, PROTO_UDP, 0, c, "ff02::fb"), 0, false, false),
        (facts(4, PROTO_UDP, 0, a, "224.0.0.251"), 0, false, false),
        (
            facts(4, PROTO_UDP, 0, a, "255.255.255.255"),
            0,
            false,
            false,
        ),
        (facts(4, PROTO_UDP, 0, "0.0.0.0", b), 0, false, false),
        (facts(6, PROTO_UDP, 0, "::", d), 0, false, false),
        (facts(6, PROTO_TCP, 0, "::1", "::1"), SYN, true, true),
        // An echo may be, an error may not.
        (facts(4, PROTO_ICMP, 8, a, b), 0, false, true),
        (facts(4, PROTO_ICMP, 3, a, b), 0, false, false),
        (facts(4, PROTO_ICMP, 11, a, b), 0, false, false),
        (facts(6, PROTO_ICMP, 128, c, d), 0, false, true),
        (facts(6, PROTO_ICMP, 1, c, d), 0, false, false),
        (facts(6, PROTO_ICMP, 3, c, d), 0, false, false),
    ] {
        let tcp_flags = u16::from(flags) | TCP_FLAGS_KNOWN;
        let known = if facts.proto == PROTO_TCP {
            tcp_flags
        } else {
            0
        };
        let facts = Facts {
            tcp_flags: known,
            ..facts
        };
        assert_eq!(may_be_answered(&facts, by_reset), expected, "{facts:?}");
        let fragment = Facts {
            transport_offset: u32::MAX,
            ..facts
        };
        assert!(!may_be_answered(&fragment, by_reset));
    }
    let cut_short = facts(4, PROTO_TCP, 0, a, b);
    assert!(!may_be_answered(&cut_short, true), "it may be a reset");
}
