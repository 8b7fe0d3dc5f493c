//! Facts about a packet, read from its headers.
//!
//! The bytes come through [`PacketBytes`], which the BPF side implements on a
//! socket buffer and tests implement on a slice: one parser serves both.

use core::hint::black_box;

use network_types::{eth::EtherType, ip::Ipv6Hdr};

use crate::conversation::{STATE_NONE, tcp_state};

/// Something that bytes of a packet can be copied from.
pub trait PacketBytes {
    /// The `N` bytes at `offset` from the start of the link-layer header, or
    /// `None` where the packet is shorter.
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;

    /// Copies the `N` words at `offset` in the order of the wire; whether the packet has
    /// them all. If not, what `words` holds then means nothing.
    fn fill<const N: usize>(&self, offset: u32, words: &mut [u32; N]) -> bool;

    /// Length of the packet in bytes, from the start of the link-layer header.
    fn frame_len(&self) -> u32;

    /// Whether it is a super-packet, which may be too long to state its length.
    fn is_super(&self) -> bool {
        false
    }
}

impl PacketBytes for [u8] {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = offset as usize;
        self.get(start..start.checked_add(N)?)?.try_into().ok()
    }

    fn fill<const N: usize>(&self, offset: u32, words: &mut [u32; N]) -> bool {
        let bytes = self.get(offset as usize..).unwrap_or_default();
        if bytes.len() < 4 * N {
            return false;
        }
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
        true
    }

    fn frame_len(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }
}

/// ICMP of IPv4.
pub const PROTO_ICMP: u32 = 1;
/// TCP.
pub const PROTO_TCP: u32 = 6;
/// UDP.
pub const PROTO_UDP: u32 = 17;
/// ICMP of IPv6; [`Facts::proto`] names it [`PROTO_ICMP`].
pub const PROTO_ICMPV6: u8 = 58;

/// [`Facts::proto`] of IPv4's ICMP in a packet of IPv6, which nothing speaks.
const PROTO_STRANGE: u32 = 256;

/// Bit of [`Facts::tcp_flags`] that says that they were read.
pub const TCP_FLAGS_KNOWN: u16 = 1 << 8;

/// Length of the IPv6 header.
#[expect(clippy::cast_possible_truncation, reason = "it is 40")]
const IPV6_LEN: u32 = Ipv6Hdr::LEN as u32;

/// How many IPv6 extension headers are followed to the transport header.
const MAX_EXTENSIONS: usize = 6;

/// What the hooks know of a packet.
///
/// Aligned for the sake of clearing it, a word of 8 bytes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(8))]
pub struct Facts {
    /// Source address; IPv4 as `::ffff:a.b.c.d`. Wire order, native words.
    pub src: [u32; 4],
    /// Destination address, likewise.
    pub dst: [u32; 4],
    /// Protocol number of the transport; ICMPv6 is given as ICMP, and ICMP within IPv6
    /// as a number of nothing.
    pub proto: u32,
    /// Offset of the transport header from the start of the packet.
    pub transport_offset: u32,
    /// Offset of the payload behind the transport header.
    pub payload_offset: u32,
    /// Offset just past the last byte that the network header speaks of, or of the
    /// frame where a super-packet is too long to state it.
    pub end_offset: u32,
    /// Length of the packet in bytes, from the network header on; of a
    /// super-packet that of one segment. See [`Facts::note_frame`].
    pub size: u32,
    /// The mark that the host gave the packet.
    pub mark: u32,
    /// Source port; 0 where there is none, as in a later fragment.
    pub src_port: u16,
    /// Destination port, likewise.
    pub dst_port: u16,
    /// Identifier of an ICMP echo, request or reply (RFC 792, RFC 4443 §4); 0
    /// for anything else.
    pub echo_id: u16,
    /// The flags of a TCP header, and [`TCP_FLAGS_KNOWN`]; 0 where there is none.
    pub tcp_flags: u16,
    /// First byte of the ICMP header; 0 for other protocols.
    pub icmp_type: u8,
    /// 4 or 6.
    pub family: u8,
    /// Protocol number of the transport; of ICMP of IPv6 its own, 58.
    pub number: u8,
    /// Code point of differentiated services (RFC 2474), 0 to 63.
    pub dscp: u8,
    /// [`crate::conversation::STATE_NONE`], or what is known of the
    /// conversation. For UDP the hooks have to find it out.
    pub state: u8,
    /// 1 for a packet that no rule may ever touch: neighbour discovery or DHCP,
    /// without which the host loses its address.
    pub protected: u8,
}

/// What an echo request and its reply have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct EchoKey {
    /// The address that was asked.
    pub peer: [u32; 4],
    /// The echo's identifier.
    pub id: u32,
}

impl Facts {
    /// Facts of no packet, to be overwritten.
    pub const NONE: Self = Self {
        src: [0; 4],
        dst: [0; 4],
        proto: 0,
        transport_offset: 0,
        payload_offset: 0,
        end_offset: 0,
        size: 0,
        mark: 0,
        src_port: 0,
        dst_port: 0,
        echo_id: 0,
        tcp_flags: 0,
        icmp_type: 0,
        family: 0,
        number: 0,
        dscp: 0,
        state: STATE_NONE,
        protected: 0,
    };

    /// Facts of the packets that go to `dst` by `connect`: an address in wire
    /// order and native words, IPv4 as `::ffff:a.b.c.d`, of whichever socket.
    #[inline(always)]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "only that of MPTCP (262) is larger, and its packets are TCP's (6)"
    )]
    pub const fn of_connect(dst: [u32; 4], dst_port: u16, proto: u32) -> Self {
        let mapped = dst[0] == 0 && dst[1] == 0 && dst[2] == V4_MAPPED;
        Self {
            dst,
            dst_port,
            proto,
            number: proto as u8,
            family: if mapped { 4 } else { 6 },
            ..Self::NONE
        }
    }

    /// Whether no transport header is to be had: of a later fragment, where it lies
    /// in another packet, and of a packet that ends within it.
    #[inline(always)]
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.transport_offset == NO_TRANSPORT
    }

    /// Offset just past the last byte that belongs to the packet, in a frame of
    /// `frame_len` bytes: the frame may be padded beyond the packet, as a short
    /// one is on Ethernet, and a super-packet of more than 64 KiB does not state
    /// its length.
    #[inline(always)]
    #[must_use]
    pub const fn end(&self, frame_len: u32) -> u32 {
        if self.end_offset >= self.payload_offset && self.end_offset < frame_len {
            self.end_offset
        } else {
            frame_len
        }
    }

    /// Length of the payload behind the transport header, in a frame of
    /// `frame_len` bytes.
    #[inline(always)]
    #[must_use]
    pub const fn payload_len(&self, frame_len: u32) -> u32 {
        self.end(frame_len).saturating_sub(self.payload_offset)
    }

    /// Notes what the headers do not say: the length of the whole frame, the
    /// payload of one segment if it is a super-packet, otherwise 0, and its mark.
    ///
    /// All segments but the last have one size, which is the headers' and the
    /// payload's. A super-packet may be too long to state its length at all.
    #[inline(always)]
    pub const fn note_frame(&mut self, l2_len: u32, frame_len: u32, gso_size: u32, mark: u32) {
        let whole = frame_len.saturating_sub(l2_len);
        let headers = self.payload_offset.saturating_sub(l2_len);
        let segment = headers.saturating_add(gso_size);
        self.size = if gso_size == 0 {
            self.end_offset.saturating_sub(l2_len)
        } else if segment < whole {
            segment
        } else {
            whole
        };
        self.mark = mark;
    }
}

/// Whether this is the protocol of an IPv4 or IPv6 packet, in the order of the wire,
/// as `skb->protocol` has it.
#[inline(always)]
#[must_use]
pub const fn is_ip(ether_type: u16) -> bool {
    ether_type == EtherType::Ipv4 as u16 || ether_type == EtherType::Ipv6 as u16
}

/// Reads the facts of a packet whose network header starts at `l2_len` into
/// `facts`; whether it is a packet that rules speak of.
///
/// `ether_type` is the packet's protocol in the order of the wire, as
/// `skb->protocol` has it. Anything but IPv4 and IPv6 is never touched, nor is a
/// packet that is shorter than it states, or whose network header, with options and
/// extension headers, does not end within it: no receiver reads such a packet. One
/// that ends within its transport header has no ports, as a later fragment has none.
/// Where the frame goes on behind the packet is nothing of it.
///
/// The facts are written in place: a copy would not fit on BPF's stack.
#[inline(always)]
#[must_use]
pub fn parse<P: PacketBytes + ?Sized>(
    packet: &P,
    ether_type: u16,
    l2_len: u32,
    facts: &mut Facts,
) -> bool {
    let mut headers = Headers {
        // A zero that the compiler knows becomes a loop, byte by byte.
        words: [black_box(0); _],
        whole: false,
    };
    let read = if ether_type == EtherType::Ipv4 as u16 {
        parse_v4(packet, l2_len, &mut headers, facts)
    } else if ether_type == EtherType::Ipv6 as u16 {
        parse_v6(packet, l2_len, &mut headers, facts)
    } else {
        None
    };
    if read.is_some() {
        parse_transport(packet, &mut headers, facts);
    }
    read.is_some()
}

/// The first words of a packet's headers, in the order of the wire.
///
/// Each copy out of a packet is a call of the kernel. So those of both headers are copied
/// at once where nothing lies between them, as in nearly all packets.
struct Headers {
    /// The transport's last, and before them the network's.
    words: [u32; NETWORK_WORDS + TRANSPORT_WORDS],
    /// Whether the transport's are known.
    whole: bool,
}

/// Words of an IPv6 header.
const NETWORK_WORDS: usize = IPV6_LEN as usize / 4;
/// Words of a TCP header without options.
const TRANSPORT_WORDS: usize = SEGMENT_LEN as usize / 4;

impl Headers {
    /// Reads a network header of `NETWORK` words, and if there are as many, the `BOTH` words
    /// that end with a transport header behind it; the former.
    #[inline(always)]
    fn network<const NETWORK: usize, const BOTH: usize, P: PacketBytes + ?Sized>(
        &mut self,
        packet: &P,
        offset: u32,
    ) -> Option<[u32; NETWORK]> {
        const { assert!(BOTH == NETWORK + TRANSPORT_WORDS) };
        self.whole = packet.fill(offset, self.words.last_chunk_mut::<BOTH>()?);
        let network = self.words.first_chunk_mut::<NETWORK_WORDS>()?;
        let network = network.last_chunk_mut::<NETWORK>()?;
        (self.whole || packet.fill(offset, network)).then_some(*network)
    }

    /// The transport header at `offset`, or the first [`DATAGRAM_LEN`] bytes of it where no
    /// more are `needed`.
    #[inline(always)]
    fn transport<P: PacketBytes + ?Sized>(
        &mut self,
        packet: &P,
        offset: u32,
        needed: u32,
    ) -> Option<[u32; TRANSPORT_WORDS]> {
        let words = self.words.last_chunk_mut::<TRANSPORT_WORDS>()?;
        let read = self.whole
            || packet.fill(offset, words)
            || needed <= DATAGRAM_LEN && packet.fill(offset, words.first_chunk_mut::<2>()?);
        read.then_some(*words)
    }
}

/// Where a header's fragment offset is not zero, ports lie in another packet.
const NO_TRANSPORT: u32 = u32::MAX;

/// Where a packet ends that is as long as `stated` behind `start`; 0 for one that is
/// shorter. One whose length a `jumbo` need not state ends with its frame.
#[inline(always)]
fn end<P: PacketBytes + ?Sized>(packet: &P, start: u32, stated: u32, jumbo: bool) -> u32 {
    let frame_len = packet.frame_len();
    if stated == 0 && jumbo {
        frame_len
    } else if start + stated > frame_len {
        0
    } else {
        start + stated
    }
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "parts of words, which are as long"
)]
fn parse_v4<P: PacketBytes + ?Sized>(
    packet: &P,
    l3: u32,
    headers: &mut Headers,
    facts: &mut Facts,
) -> Option<()> {
    let [first, second, third, src, dst] = headers.network::<5, 10, P>(packet, l3)?;
    let (first, second, third) = (be(first), be(second), be(third));
    let header_len = (first >> 24 & 0x0f) * 4;
    let end = end(packet, l3, first & 0xffff, packet.is_super());
    if first >> 28 != 4 || header_len < 20 || l3 + header_len > end {
        return None;
    }
    // Options lie between the two.
    headers.whole &= header_len == 20;
    let number = (third >> 16) as u8;
    facts.src = mapped(src);
    facts.dst = mapped(dst);
    facts.proto = u32::from(number);
    facts.number = number;
    facts.dscp = (first >> 18) as u8 & 0x3f;
    facts.payload_offset = l3 + header_len;
    facts.transport_offset = if second & 0x1fff == 0 {
        l3 + header_len
    } else {
        NO_TRANSPORT
    };
    facts.end_offset = end;
    facts.family = 4;
    Some(())
}

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "parts of words, which are as long"
)]
fn parse_v6<P: PacketBytes + ?Sized>(
    packet: &P,
    l3: u32,
    headers: &mut Headers,
    facts: &mut Facts,
) -> Option<()> {
    let [first, second, addresses @ ..] = headers.network::<10, 15, P>(packet, l3)?;
    let (first, second) = (be(first), be(second));
    if first >> 28 != 6 {
        return None;
    }
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    facts.src = [s0, s1, s2, s3];
    facts.dst = [d0, d1, d2, d3];
    let first_next = (second >> 8) as u8;
    let mut next = first_next;
    let mut offset = l3 + IPV6_LEN;
    let mut fragment = 0;
    for _ in 0..MAX_EXTENSIONS {
        match next {
            // Hop-by-hop, routing, destination options (RFC 8200 §4): length
            // in units of 8 bytes, without the first.
            0 | 43 | 60 => {
                let head: [u8; 2] = packet.load(offset)?;
                next = head[0];
                offset += (u32::from(head[1]) + 1) * 8;
            }
            44 => {
                let head: [u8; 4] = packet.load(offset)?;
                next = head[0];
                fragment = u16::from_be_bytes([head[2], head[3]]) & 0xfff8;
                offset += 8;
                if fragment != 0 {
                    // What follows is payload, whatever `next` says of the
                    // first fragment.
                    break;
                }
            }
            _ => break,
        }
    }
    // A jumbogram states its length in a hop-by-hop option (RFC 2675 §3).
    let jumbo = packet.is_super() || first_next == 0;
    let end = end(packet, l3 + IPV6_LEN, second >> 16, jumbo);
    if offset > end {
        return None;
    }
    headers.whole &= offset == l3 + IPV6_LEN;
    facts.proto = if next == PROTO_ICMPV6 {
        PROTO_ICMP
    } else if u32::from(next) == PROTO_ICMP {
        PROTO_STRANGE
    } else {
        u32::from(next)
    };
    facts.number = next;
    facts.dscp = (first >> 22) as u8 & 0x3f;
    facts.payload_offset = offset;
    facts.transport_offset = if fragment == 0 { offset } else { NO_TRANSPORT };
    facts.end_offset = end;
    facts.family = 6;
    Some(())
}

/// Length of the headers of UDP and ICMP, and of an echo.
const DATAGRAM_LEN: u32 = 8;
/// Length of a TCP header without options.
const SEGMENT_LEN: u32 = 20;

#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "parts of words, which are as long"
)]
fn parse_transport<P: PacketBytes + ?Sized>(packet: &P, headers: &mut Headers, facts: &mut Facts) {
    let offset = facts.transport_offset;
    let (is_tcp, is_udp) = (facts.proto == PROTO_TCP, facts.proto == PROTO_UDP);
    if offset == NO_TRANSPORT || !(is_tcp || is_udp || facts.proto == PROTO_ICMP) {
        return;
    }
    let least = if is_tcp { SEGMENT_LEN } else { DATAGRAM_LEN };
    let words = headers.transport(packet, offset, least);
    let [first, second, _, fourth, _] = words.unwrap_or_default();
    let (first, fourth) = (be(first), be(fourth));
    let len = if is_tcp {
        (fourth >> 28) * 4
    } else {
        DATAGRAM_LEN
    };
    if words.is_none() || len < least || offset + len > facts.end_offset {
        facts.transport_offset = NO_TRANSPORT;
        return;
    }
    facts.payload_offset = offset + len;
    if facts.proto == PROTO_ICMP {
        facts.icmp_type = (first >> 24) as u8;
        if is_echo(facts.family, facts.icmp_type) {
            facts.echo_id = (be(second) >> 16) as u16;
        }
        facts.protected = (facts.family == 6 && is_discovery(facts.icmp_type)) as u8;
        return;
    }
    facts.src_port = (first >> 16) as u16;
    facts.dst_port = first as u16;
    if is_tcp {
        facts.tcp_flags = (fourth >> 16) as u16 & 0xff | TCP_FLAGS_KNOWN;
        facts.state = tcp_state(facts.tcp_flags);
    }
    facts.protected = (is_udp && is_dhcp(facts.src_port, facts.dst_port)) as u8;
}

/// The number that a word of the wire stands for.
const fn be(word: u32) -> u32 {
    u32::from_be(word)
}

/// Whether packets of this protocol bring another packet, which the host takes out: IP
/// in IP (RFC 2003, RFC 4213), GRE (RFC 2784), and ESP (RFC 4303).
#[inline(always)]
#[must_use]
pub const fn is_tunnel(number: u8) -> bool {
    matches!(number, 4 | 41 | 47 | 50)
}

/// Router and neighbour discovery (RFC 4861 §4: types 133 to 137), and the
/// multicast listener reports without which a switch would not pass it on
/// (RFC 2710 §3: 130 to 132; RFC 3810 §5.2: 143).
const fn is_discovery(kind: u8) -> bool {
    matches!(kind, 130..=137 | 143)
}

/// Echo request and reply: RFC 792 for IPv4, RFC 4443 §4 for IPv6.
const fn is_echo(family: u8, kind: u8) -> bool {
    if family == 4 {
        matches!(kind, 0 | 8)
    } else {
        matches!(kind, 128 | 129)
    }
}

/// DHCP (RFC 2131: 67 and 68) and DHCPv6 (RFC 8415: 546 and 547).
const fn is_dhcp(src: u16, dst: u16) -> bool {
    matches!((src, dst), (67 | 68, 67 | 68) | (546 | 547, 546 | 547))
}

/// Third word of the IPv6 form of an IPv4 address, `::ffff:a.b.c.d`.
pub const V4_MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

/// The IPv6 form of an IPv4 address, both in the order of the wire.
const fn mapped(v4: u32) -> [u32; 4] {
    [0, 0, V4_MAPPED, v4]
}
