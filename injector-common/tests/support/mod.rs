//! Packets of every shape, built byte by byte, with the facts that a parser
//! must find in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use injector_common::{
    conversation::{STATE_ESTABLISHED, STATE_NEW, STATE_NONE},
    filter::{EGRESS, INGRESS},
    packet::{Facts, PROTO_ICMP, PROTO_TCP, PROTO_UDP, TCP_FLAGS_KNOWN},
};
use proptest::{collection::vec, prelude::*, sample::select};

pub(crate) const IPV4: u16 = 0x0800_u16.to_be();
pub(crate) const IPV6: u16 = 0x86dd_u16.to_be();

const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

/// What a packet consists of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) src: IpAddr,
    /// Of the same family as `src`.
    pub(crate) dst: IpAddr,
    pub(crate) l2: Vec<u8>,
    /// Type of service, or traffic class.
    pub(crate) tos: u8,
    /// IPv4 options, in words of 4 bytes.
    pub(crate) options: u8,
    /// IPv6 extension headers: number, and length beyond the first 8 bytes in
    /// units of 8 bytes.
    pub(crate) extensions: Vec<(u8, u8)>,
    /// Offset in units of 8 bytes, and whether more fragments follow.
    pub(crate) fragment: Option<(u16, bool)>,
    pub(crate) transport: Transport,
    pub(crate) payload: Vec<u8>,
    /// Bytes behind the packet that pad its frame.
    pub(crate) trailer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Transport {
    Tcp {
        ports: [u16; 2],
        options: u8,
        flags: u8,
    },
    Udp {
        ports: [u16; 2],
    },
    Icmp {
        kind: u8,
        id: u16,
    },
    Other {
        number: u8,
    },
}

/// A packet with what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) ether_type: u16,
    pub(crate) l2_len: u32,
    pub(crate) facts: Facts,
}

impl Shape {
    pub(crate) fn build(&self) -> Packet {
        let mut bytes = self.l2.clone();
        let l3 = bytes.len();
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.ipv4(&mut bytes, src, dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.ipv6(&mut bytes, src, dst),
            _ => panic!("a packet has one family"),
        }
        let transport = bytes.len();
        let has_transport = self.fragment.is_none_or(|(offset, _)| offset == 0);
        if has_transport {
            self.transport(&mut bytes);
        }
        let payload = bytes.len();
        bytes.extend(&self.payload);
        let end = bytes.len();
        bytes.extend(&self.trailer);
        self.set_length(&mut bytes, l3, end);

        let [src_port, dst_port] = match self.transport {
            Transport::Tcp { ports, .. } | Transport::Udp { ports } if has_transport => ports,
            Transport::Tcp { .. }
            | Transport::Udp { .. }
            | Transport::Icmp { .. }
            | Transport::Other { .. } => [0, 0],
        };
        let facts = Facts {
            src: words(self.src),
            dst: words(self.dst),
            proto: self.proto(),
            transport_offset: if has_transport {
                offset(transport)
            } else {
                u32::MAX
            },
            payload_offset: offset(payload),
            end_offset: offset(end),
            size: 0,
            mark: 0,
            src_port,
            dst_port,
            echo_id: self.echo_id().filter(|_| has_transport).unwrap_or(0),
            tcp_flags: match self.tcp_flags() {
                Some(flags) if has_transport => u16::from(flags) | TCP_FLAGS_KNOWN,
                Some(_) | None => 0,
            },
            icmp_type: self.icmp_type().filter(|_| has_transport).unwrap_or(0),
            family: if self.src.is_ipv4() { 4 } else { 6 },
            number: self.next_header(),
            dscp: self.tos >> 2,
            state: match self.tcp_flags() {
                Some(flags) if has_transport && flags & 0x12 == 0x02 => STATE_NEW,
                Some(_) if has_transport => STATE_ESTABLISHED,
                Some(_) | None => STATE_NONE,
            },
            protected: u8::from(has_transport && self.is_protected()),
        };
        Packet {
            bytes,
            ether_type: if self.src.is_ipv4() { IPV4 } else { IPV6 },
            l2_len: offset(l3),
            facts,
        }
    }

    fn icmp_type(&self) -> Option<u8> {
        match self.transport {
            Transport::Icmp { kind, .. } => Some(kind),
            Transport::Tcp { .. } | Transport::Udp { .. } | Transport::Other { .. } => None,
        }
    }

    fn tcp_flags(&self) -> Option<u8> {
        match self.transport {
            Transport::Tcp { flags, .. } => Some(flags),
            Transport::Udp { .. } | Transport::Icmp { .. } | Transport::Other { .. } => None,
        }
    }

    /// Echo request and reply have an identifier.
    fn echo_id(&self) -> Option<u16> {
        match (self.transport, self.src.is_ipv4()) {
            (Transport::Icmp { kind: 8 | 0, id }, true) => Some(id),
            (
                Transport::Icmp {
                    kind: 128 | 129,
                    id,
                },
                false,
            ) => Some(id),
            (
                Transport::Tcp { .. }
                | Transport::Udp { .. }
                | Transport::Icmp { .. }
                | Transport::Other { .. },
                _,
            ) => None,
        }
    }

    fn proto(&self) -> u32 {
        match self.transport {
            Transport::Tcp { .. } => PROTO_TCP,
            Transport::Udp { .. } => PROTO_UDP,
            Transport::Icmp { .. } => PROTO_ICMP,
            Transport::Other { number } => u32::from(number),
        }
    }

    /// What no rule may touch: DHCP, DHCPv6, neighbour discovery.
    fn is_protected(&self) -> bool {
        match self.transport {
            Transport::Udp { ports } => [[67, 68], [546, 547]]
                .iter()
                .any(|both| ports.iter().all(|port| both.contains(port))),
            Transport::Icmp { kind, .. } => {
                self.src.is_ipv6() && ((130..=137).contains(&kind) || kind == 143)
            }
            Transport::Tcp { .. } | Transport::Other { .. } => false,
        }
    }

    /// The transport's number in the header that stands before it.
    fn next_header(&self) -> u8 {
        if self.src.is_ipv6() && self.icmp_type().is_some() {
            ICMPV6
        } else {
            u8::try_from(self.proto()).expect("a protocol is a byte")
        }
    }

    fn ipv4(&self, bytes: &mut Vec<u8>, src: Ipv4Addr, dst: Ipv4Addr) {
        let flags = match self.fragment {
            Some((offset, more)) => offset | u16::from(more) << 13,
            None => 1 << 14,
        };
        bytes.extend([0x45 + self.options, self.tos, 0, 0, 0x12, 0x34]);
        bytes.extend(flags.to_be_bytes());
        bytes.extend([64, self.next_header(), 0xab, 0xcd]);
        bytes.extend(src.octets());
        bytes.extend(dst.octets());
        bytes.extend(std::iter::repeat_n(1, usize::from(self.options) * 4));
    }

    fn ipv6(&self, bytes: &mut Vec<u8>, src: Ipv6Addr, dst: Ipv6Addr) {
        // A later fragment holds no header that stood behind the fragment's.
        let mut headers = self.extensions.clone();
        if self.fragment.is_some() {
            headers.push((FRAGMENT, 0));
        }
        let mut numbers = headers.iter().map(|header| header.0).skip(1);
        let first = headers
            .first()
            .map_or(self.next_header(), |header| header.0);
        // The flow label behind the traffic class is no part of it.
        let class = [0x60 | self.tos >> 4, self.tos << 4 | 0x0a, 0xbc, 0xde];
        bytes.extend(class);
        bytes.extend([0, 0, first, 64]);
        bytes.extend(src.octets());
        bytes.extend(dst.octets());
        for (number, length) in &headers {
            let next = numbers.next().unwrap_or(self.next_header());
            match self.fragment {
                Some((offset, more)) if *number == FRAGMENT => {
                    bytes.extend([next, 0]);
                    bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
                    bytes.extend([0, 0, 0, 7]);
                }
                _ => {
                    bytes.extend([next, *length]);
                    bytes.extend(std::iter::repeat_n(0xff, usize::from(*length) * 8 + 6));
                }
            }
        }
    }

    fn transport(&self, bytes: &mut Vec<u8>) {
        match self.transport {
            Transport::Tcp {
                ports,
                options,
                flags,
            } => {
                ports
                    .iter()
                    .for_each(|port| bytes.extend(port.to_be_bytes()));
                bytes.extend([0; 8]);
                bytes.extend([(5 + options) << 4, flags, 0, 0, 0, 0, 0, 0]);
                bytes.extend(std::iter::repeat_n(1, usize::from(options) * 4));
            }
            Transport::Udp { ports } => {
                ports
                    .iter()
                    .for_each(|port| bytes.extend(port.to_be_bytes()));
                bytes.extend([0; 4]);
            }
            Transport::Icmp { kind, id } => {
                bytes.extend([kind, 0, 0xab, 0xcd]);
                bytes.extend(id.to_be_bytes());
                bytes.extend([0, 1]);
            }
            Transport::Other { .. } => {}
        }
    }

    fn set_length(&self, bytes: &mut [u8], l3: usize, end: usize) {
        let (at, length) = if self.src.is_ipv4() {
            (l3 + 2, end - l3)
        } else {
            (l3 + 4, end - l3 - 40)
        };
        let length = u16::try_from(length).expect("a packet is short");
        bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
    }
}

/// An address as programs read it from the wire, IPv4 in its mapped form.
pub(crate) fn words(address: IpAddr) -> [u32; 4] {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    [0, 4, 8, 12].map(|at| {
        let [a, b, c, d] = std::array::from_fn(|byte| octets[at + byte]);
        u32::from_ne_bytes([a, b, c, d])
    })
}

fn offset(index: usize) -> u32 {
    u32::try_from(index).expect("a packet is short")
}

/// Ports, those of DHCP more often than chance has it.
pub(crate) fn any_port() -> impl Strategy<Value = u16> {
    prop_oneof![
        2 => any::<u16>(),
        1 => select(vec![66, 67, 68, 69, 545, 546, 547, 548]),
    ]
}

pub(crate) fn any_transport() -> impl Strategy<Value = Transport> {
    let ports = || [any_port(), any_port()];
    prop_oneof![
        (ports(), 0..=10u8, any::<u8>()).prop_map(|(ports, options, flags)| Transport::Tcp {
            ports,
            options,
            flags
        }),
        ports().prop_map(|ports| Transport::Udp { ports }),
        (
            prop_oneof![any::<u8>(), 128..140u8, select(vec![0, 8])],
            any::<u16>()
        )
            .prop_map(|(kind, id)| Transport::Icmp { kind, id }),
        // SCTP, GRE, ESP, "no next header".
        select(vec![132, 47, 50, 59]).prop_map(|number| Transport::Other { number }),
    ]
}

/// IPv6 addresses. Half of proptest's own are mapped IPv4 addresses.
pub(crate) fn any_v6() -> impl Strategy<Value = Ipv6Addr> {
    prop_oneof![
        4 => any::<u128>().prop_map(Ipv6Addr::from_bits),
        1 => any::<Ipv6Addr>(),
    ]
}

pub(crate) fn any_ends() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(src, dst)| (src.into(), dst.into())),
        (any_v6(), any_v6()).prop_map(|(src, dst)| (src.into(), dst.into())),
    ]
}

pub(crate) fn any_shape() -> impl Strategy<Value = Shape> {
    // With a fragment header there are at most as many as are followed.
    let extension = (select(vec![0, 43, 60]), 0..4u8);
    let fragment = (prop_oneof![Just(0), 1..0x2000u16], any::<bool>());
    (
        any_ends(),
        (vec(any::<u8>(), 0..20), any::<u8>()),
        0..=10u8,
        vec(extension, 0..=5),
        proptest::option::weighted(0.3, fragment),
        any_transport(),
        vec(any::<u8>(), 0..64),
        vec(any::<u8>(), 0..20),
    )
        .prop_map(
            |(
                (src, dst),
                (l2, tos),
                options,
                extensions,
                fragment,
                transport,
                payload,
                trailer,
            )| Shape {
                src,
                dst,
                l2,
                tos,
                options,
                extensions,
                fragment,
                transport,
                payload,
                trailer,
            },
        )
}

/// Facts of packets that were really parsed.
pub(crate) fn any_facts() -> impl Strategy<Value = Facts> {
    any_shape().prop_map(|shape| shape.build().facts)
}

/// Facts of the packet that goes the other way.
pub(crate) fn reversed(facts: &Facts) -> Facts {
    Facts {
        src: facts.dst,
        dst: facts.src,
        src_port: facts.dst_port,
        dst_port: facts.src_port,
        ..*facts
    }
}

/// One of the two directions.
pub(crate) fn any_way() -> impl Strategy<Value = u32> {
    prop_oneof![Just(EGRESS), Just(INGRESS)]
}
