//! Answers to packets, as a firewall or a peer gives them: which packets may be
//! answered, and what stands in an answer's headers.
//!
//! Headers are arrays of words that hold the bytes of the wire, so that their
//! checksums are sums of words.

use crate::packet::{Facts, PROTO_ICMP, PROTO_TCP, TCP_FLAGS_KNOWN, V4_MAPPED};

/// TCP flag: no more data from the sender.
pub const FIN: u8 = 0x01;
/// TCP flag: the connection begins.
pub const SYN: u8 = 0x02;
/// TCP flag: the connection is over at once.
pub const RST: u8 = 0x04;
/// TCP flag: there is something to read.
pub const PSH: u8 = 0x08;
/// TCP flag: the acknowledgement number counts.
pub const ACK: u8 = 0x10;

/// Length of a TCP header without options.
pub const TCP_LEN: u32 = 20;
/// Length of an ICMP header of either family.
pub const ICMP_LEN: u32 = 8;

/// How long an ICMP error is at most (RFC 1812 §4.3.2.3).
const MAX_ICMPV4: u32 = 576;
/// How long an ICMPv6 error is at most: the least that every link takes
/// (RFC 4443 §2.4).
const MAX_ICMPV6: u32 = 1280;

/// Time to live of an answer.
const TTL: u8 = 64;

/// What a TCP segment says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Number of its first byte.
    pub seq: u32,
    /// Number of the next byte that its sender expects, if [`ACK`] is set.
    pub ack: u32,
    /// Its flags.
    pub flags: u8,
}

impl Segment {
    /// What answers a segment with so many bytes of payload, and ends its
    /// connection.
    #[inline(always)]
    #[must_use]
    pub const fn last_answer(self, payload_len: u32) -> Self {
        let fin = (self.flags & FIN != 0) as u32;
        Self {
            seq: self.ack,
            ack: self.seq.wrapping_add(payload_len).wrapping_add(fin),
            flags: FIN | PSH | ACK,
        }
    }

    /// What somebody answers who knows nothing of the connection
    /// (RFC 9293 §3.10.7.1), to a segment with so many bytes of payload.
    #[inline(always)]
    #[must_use]
    pub const fn refusal(self, payload_len: u32) -> Self {
        if self.flags & ACK != 0 {
            return Self {
                seq: self.ack,
                ack: 0,
                flags: RST,
            };
        }
        let syn = (self.flags & SYN != 0) as u32;
        let fin = (self.flags & FIN != 0) as u32;
        Self {
            seq: 0,
            ack: self.seq.wrapping_add(payload_len).wrapping_add(syn + fin),
            flags: RST | ACK,
        }
    }
}

/// Whether a packet may be answered: not a reset, nor an ICMP error, nor a later
/// fragment, nor one to or from many (RFC 1122 §3.2.2, RFC 4443 §2.4). By a reset
/// only TCP is answered.
#[inline(always)]
#[must_use]
pub const fn may_be_answered(facts: &Facts, by_reset: bool) -> bool {
    if facts.is_fragment() || is_many(facts.family, facts.dst) || is_nobody(facts.src) {
        return false;
    }
    if facts.proto == PROTO_TCP {
        // Flags that are not known may be those of a reset.
        facts.tcp_flags & (TCP_FLAGS_KNOWN | RST as u16) == TCP_FLAGS_KNOWN
    } else {
        !by_reset && (facts.proto != PROTO_ICMP || is_query(facts.family, facts.icmp_type))
    }
}

/// ICMP that asks or answers, and tells of no error.
const fn is_query(family: u8, kind: u8) -> bool {
    if family == 4 {
        // Destination unreachable, source quench, redirect, time exceeded,
        // parameter problem (RFC 792).
        !matches!(kind, 3 | 4 | 5 | 11 | 12)
    } else {
        // Errors have the upper bit clear (RFC 4443 §2.1).
        kind >= 128
    }
}

/// A multicast or broadcast address.
const fn is_many(family: u8, address: [u32; 4]) -> bool {
    if family == 4 {
        // 224.0.0.0/4, and above it only the broadcast address is in use.
        u32::from_be(address[3]) >= 0xe000_0000
    } else {
        u32::from_be(address[0]) >> 24 == 0xff
    }
}

/// The unspecified address of either family.
const fn is_nobody(address: [u32; 4]) -> bool {
    address[3] == 0
        && address[0] == 0
        && address[1] == 0
        && (address[2] == 0 || address[2] == V4_MAPPED)
}

/// How much of a packet an ICMP error quotes, from its network header on, if
/// there are `len` bytes of it.
#[inline(always)]
#[must_use]
pub const fn quoted(family: u8, len: u32) -> u32 {
    let most = if family == 4 {
        MAX_ICMPV4 - ip_len(4) - ICMP_LEN
    } else {
        MAX_ICMPV6 - ip_len(6) - ICMP_LEN
    };
    if len < most { len } else { most }
}

/// Length of a network header without options.
#[inline(always)]
#[must_use]
pub const fn ip_len(family: u8) -> u32 {
    if family == 4 { 20 } else { 40 }
}

/// Who sends an answer to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The answer's source, in the form of [`Facts::src`].
    pub src: [u32; 4],
    /// Its destination.
    pub dst: [u32; 4],
    /// Source port; of no meaning to ICMP.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
}

impl Ends {
    /// The ends of a packet.
    #[inline(always)]
    #[must_use]
    pub const fn of(facts: &Facts) -> Self {
        Self {
            src: facts.src,
            dst: facts.dst,
            src_port: facts.src_port,
            dst_port: facts.dst_port,
        }
    }

    /// The same ends, the other way.
    #[inline(always)]
    #[must_use]
    pub const fn back(self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
        }
    }

    /// Sum of the pseudo header that a checksum of TCP or ICMPv6 covers. The two
    /// words 0xffff in front of an IPv4 address add nothing to a sum modulo
    /// 0xffff.
    #[inline(always)]
    #[must_use]
    pub const fn pseudo_sum(&self, proto: u8, len: u32) -> u64 {
        sum(&self.src) + sum(&self.dst) + (proto as u32).to_be() as u64 + len.to_be() as u64
    }

    /// An IPv4 header in front of `len` bytes.
    #[inline(always)]
    #[must_use]
    pub const fn ipv4_header(&self, proto: u8, len: u32) -> [u32; 5] {
        // No fragment, and not to be made fragments of.
        let mut header = [
            (0x4500_0000 | (len + 20) & 0xffff).to_be(),
            0x4000u32.to_be(),
            u32::from_ne_bytes([TTL, proto, 0, 0]),
            self.src[3],
            self.dst[3],
        ];
        let [high, low] = complement(sum(&header)).to_ne_bytes();
        header[2] = u32::from_ne_bytes([TTL, proto, high, low]);
        header
    }

    /// An IPv6 header in front of `len` bytes.
    #[inline(always)]
    #[must_use]
    pub const fn ipv6_header(&self, proto: u8, len: u32) -> [u32; 10] {
        let (src, dst) = (&self.src, &self.dst);
        [
            0x6000_0000u32.to_be(),
            (len << 16 | (proto as u32) << 8 | TTL as u32).to_be(),
            src[0],
            src[1],
            src[2],
            src[3],
            dst[0],
            dst[1],
            dst[2],
            dst[3],
        ]
    }

    /// A UDP header in front of a payload, `len` bytes with it.
    #[inline(always)]
    #[must_use]
    pub const fn udp_header(&self, len: u32, checksum: u16) -> [u32; 2] {
        let [l0, l1] = [(len >> 8 & 0xff) as u8, (len & 0xff) as u8];
        let [high, low] = checksum.to_ne_bytes();
        [self.ports(), u32::from_ne_bytes([l0, l1, high, low])]
    }

    /// A TCP header without options in front of a payload.
    #[inline(always)]
    #[must_use]
    pub const fn tcp_head(&self, segment: Segment, checksum: u16) -> [u32; 5] {
        let [high, low] = checksum.to_ne_bytes();
        [
            self.ports(),
            segment.seq.to_be(),
            segment.ack.to_be(),
            // Five words long; a window for whatever still comes.
            u32::from_ne_bytes([0x50, segment.flags, 0xff, 0xff]),
            u32::from_ne_bytes([high, low, 0, 0]),
        ]
    }

    #[inline(always)]
    const fn ports(&self) -> u32 {
        let [s0, s1] = self.src_port.to_be_bytes();
        let [d0, d1] = self.dst_port.to_be_bytes();
        u32::from_ne_bytes([s0, s1, d0, d1])
    }

    /// A TCP segment without payload. Its checksum is complete, or the start
    /// value from which a device goes on.
    #[inline(always)]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "6")]
    pub const fn tcp_header(&self, segment: Segment, device_sums: bool) -> [u32; 5] {
        let mut header = [
            self.ports(),
            segment.seq.to_be(),
            segment.ack.to_be(),
            // Five words long; no window.
            u32::from_ne_bytes([0x50, segment.flags, 0, 0]),
            0,
        ];
        let pseudo = self.pseudo_sum(PROTO_TCP as u8, TCP_LEN);
        let checksum = if device_sums {
            fold(pseudo)
        } else {
            complement(pseudo + sum(&header))
        };
        let [high, low] = checksum.to_ne_bytes();
        header[4] = u32::from_ne_bytes([high, low, 0, 0]);
        header
    }
}

/// The head of an ICMP error in front of a quote with this sum. `rest` is its second word,
/// `pseudo` the sum of the pseudo header, 0 for IPv4.
#[inline(always)]
#[must_use]
pub const fn icmp_header(kind: u8, code: u8, rest: u32, pseudo: u64, quote: u64) -> [u32; 2] {
    let head = u32::from_ne_bytes([kind, code, 0, 0]);
    let [high, low] = complement(head as u64 + rest as u64 + pseudo + quote).to_ne_bytes();
    [u32::from_ne_bytes([kind, code, high, low]), rest]
}

/// Sum of words, to be folded.
#[inline(always)]
#[must_use]
pub const fn sum<const N: usize>(words: &[u32; N]) -> u64 {
    let mut sum = 0;
    let mut at = 0;
    while at < N {
        sum += words[at] as u64;
        at += 1;
    }
    sum
}

/// The sum modulo 0xffff (RFC 1071).
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// The checksum of what has this sum.
#[inline(always)]
#[must_use]
pub const fn complement(sum: u64) -> u16 {
    !fold(sum)
}
