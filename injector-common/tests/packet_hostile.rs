//! What the parser makes of a million hostile packets, compared with what another
//! parser makes of them, which takes its time.
//!
//! The kernel is asked the same in `tests/tests/hostile.rs`.

#[path = "support/dice.rs"]
mod dice;
#[path = "support/hostile.rs"]
mod hostile;

use dice::{PACKETS, seed};
use etherparse::{
    IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice,
    TcpHeaderSlice, UdpHeaderSlice,
};
use hostile::{Packet, packet};
use injector_common::{
    ends::Ends,
    filter::{EGRESS, INGRESS, PacketFilter, PortSet},
    packet::{Facts, PROTO_ICMP, PacketBytes, TCP_FLAGS_KNOWN, parse},
};

/// How often each outcome must at least occur for the comparison to mean something.
const AT_LEAST: u64 = PACKETS / 500;

#[test]
fn a_million_hostile_packets_are_read_as_another_parser_reads_them() {
    let seed = seed();
    let mut seen = Seen::default();
    for number in 0..PACKETS {
        let packet = packet(seed, number);
        let found = read(&packet);
        let facts = Facts::NONE;
        let expected = reference(&packet).map(|expected| expected.facts(facts));
        assert_eq!(
            found, expected,
            "packet {number} of seed {seed}: {packet:02x?}"
        );
        for facts in found.iter() {
            assert_facts_lie_within(facts, &packet);
            assert_only_what_is_read_matches(facts);
        }
        seen.count(&packet, found.as_ref());
    }
    seen.assert_all();
}

/// Bytes that complain of a parser that looks where no packet is.
struct Guarded<'a>(&'a Packet);

impl PacketBytes for Guarded<'_> {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        assert!(offset >= self.0.l2_len, "{offset} is before the packet");
        self.0.bytes.load(offset)
    }

    fn fill<const N: usize>(&self, offset: u32, words: &mut [u32; N]) -> bool {
        assert!(offset >= self.0.l2_len, "{offset} is before the packet");
        self.0.bytes.fill(offset, words)
    }

    fn frame_len(&self) -> u32 {
        self.0.bytes.frame_len()
    }

    fn is_super(&self) -> bool {
        self.0.gso_size != 0
    }
}

fn read(packet: &Packet) -> Option<Facts> {
    let mut facts = Facts::NONE;
    parse(
        &Guarded(packet),
        packet.ether_type,
        packet.l2_len,
        &mut facts,
    )
    .then_some(facts)
}

#[track_caller]
fn assert_facts_lie_within(facts: &Facts, packet: &Packet) {
    assert!(facts.payload_offset <= facts.end_offset, "{facts:?}");
    assert!(facts.end_offset <= packet.bytes.frame_len(), "{facts:?}");
    assert!(
        facts.is_fragment() || facts.transport_offset <= facts.payload_offset,
        "{facts:?}"
    );
}

/// A condition on a transport header is met by none that was not read.
#[track_caller]
fn assert_only_what_is_read_matches(facts: &Facts) {
    let mut by_port = PacketFilter::ANY;
    by_port.peer_ports = PortSet::NONE;
    by_port.peer_ports.ranges[0] = [1, u16::MAX];
    let by_flags = PacketFilter {
        flagless: 0,
        ..PacketFilter::ANY
    };
    for filter in [by_port, by_flags] {
        for direction in [EGRESS, INGRESS] {
            assert!(!(facts.is_fragment() && filter.matches(facts, direction)));
        }
    }
}

/// What another parser finds, each header in nothing but what the one before it
/// leaves to it.
struct Reference {
    family: u8,
    ends: [[u8; 16]; 2],
    number: u8,
    dscp: u8,
    /// The transport header, if it can be had.
    transport: Option<Transport>,
    /// How much of the packet lies before the transport header.
    before: usize,
    /// The length of the whole.
    len: usize,
    l2_len: usize,
}

enum Transport {
    Tcp {
        ports: [u16; 2],
        flags: u8,
        len: usize,
    },
    Udp {
        ports: [u16; 2],
    },
    Icmp {
        kind: u8,
        id: u16,
    },
    Other,
}

fn reference(packet: &Packet) -> Option<Reference> {
    let l2_len = packet.l2_len as usize;
    let bytes = packet.bytes.get(l2_len..)?;
    let is_super = packet.gso_size != 0;
    match u16::from_be(packet.ether_type) {
        0x0800 => reference_v4(bytes, l2_len, is_super),
        0x86dd => reference_v6(bytes, l2_len, is_super),
        _ => None,
    }
}

fn reference_v4(bytes: &[u8], l2_len: usize, is_super: bool) -> Option<Reference> {
    let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
    let stated = usize::from(header.total_len());
    let len = if stated == 0 && is_super {
        bytes.len()
    } else {
        stated
    };
    let before = header.slice().len();
    let payload = bytes.get(before..len)?;
    let number = header.protocol();
    let is_later = header.fragments_offset().value() != 0;
    Some(Reference {
        family: 4,
        ends: [header.source_addr(), header.destination_addr()]
            .map(|addr| addr.to_ipv6_mapped().octets()),
        number: number.0,
        dscp: header.dcp().value(),
        transport: if is_later {
            None
        } else {
            reference_transport(number, payload, 4)
        },
        before,
        len,
        l2_len,
    })
}

fn reference_v6(bytes: &[u8], l2_len: usize, is_super: bool) -> Option<Reference> {
    let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
    let mut number = header.next_header();
    let stated = usize::from(header.payload_length());
    let may_be_jumbo = is_super || number == IpNumber::IPV6_HEADER_HOP_BY_HOP;
    let len = if stated == 0 && may_be_jumbo {
        bytes.len()
    } else {
        40 + stated
    };
    let mut payload = bytes.get(40..len)?;
    let mut is_later = false;
    // More than so many are not followed.
    for _ in 0..6 {
        let header_len = match number {
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_DESTINATION_OPTIONS => {
                let header = Ipv6RawExtHeaderSlice::from_slice(payload).ok()?;
                number = header.next_header();
                header.slice().len()
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let header = Ipv6FragmentHeaderSlice::from_slice(payload).ok()?;
                number = header.next_header();
                is_later = header.fragment_offset().value() != 0;
                header.slice().len()
            }
            _ => break,
        };
        payload = &payload[header_len..];
        if is_later {
            break;
        }
    }
    Some(Reference {
        family: 6,
        ends: [header.source(), header.destination()],
        number: number.0,
        dscp: header.dscp().value(),
        transport: if is_later {
            None
        } else {
            reference_transport(number, payload, 6)
        },
        before: len - payload.len(),
        len,
        l2_len,
    })
}

fn reference_transport(number: IpNumber, payload: &[u8], family: u8) -> Option<Transport> {
    match number {
        IpNumber::TCP => {
            let header = TcpHeaderSlice::from_slice(payload).ok()?;
            let bits = [
                header.fin(),
                header.syn(),
                header.rst(),
                header.psh(),
                header.ack(),
                header.urg(),
                header.ece(),
                header.cwr(),
            ];
            Some(Transport::Tcp {
                ports: [header.source_port(), header.destination_port()],
                flags: (0..).zip(bits).map(|(bit, is)| u8::from(is) << bit).sum(),
                len: header.slice().len(),
            })
        }
        IpNumber::UDP => {
            let header = UdpHeaderSlice::from_slice(payload).ok()?;
            let ports = [header.source_port(), header.destination_port()];
            Some(Transport::Udp { ports })
        }
        // Each belongs to one family.
        IpNumber::ICMP if family == 6 => Some(Transport::Other),
        IpNumber::IPV6_ICMP if family == 4 => Some(Transport::Other),
        IpNumber::ICMP | IpNumber::IPV6_ICMP => {
            // Its own parser wants more of some messages than the host does.
            let [kind, _, _, _, high, low, _, _] = *payload.first_chunk()?;
            let is_echo = match family {
                4 => matches!(kind, 0 | 8),
                _ => matches!(kind, 128 | 129),
            };
            let id = if is_echo {
                u16::from_be_bytes([high, low])
            } else {
                0
            };
            Some(Transport::Icmp { kind, id })
        }
        _ => Some(Transport::Other),
    }
}

impl Reference {
    /// The facts that follow, of which `facts` are none yet.
    fn facts(self, mut facts: Facts) -> Facts {
        let offset = |at: usize| u32::try_from(self.l2_len + at).expect("a short packet");
        [facts.src, facts.dst] = self.ends.map(|addr| {
            [0, 4, 8, 12].map(|at| {
                let word = addr[at..].first_chunk().expect("four bytes");
                u32::from_ne_bytes(*word)
            })
        });
        facts.family = self.family;
        facts.number = self.number;
        facts.proto = match (self.family, self.number) {
            (6, 58) => PROTO_ICMP,
            (6, 1) => 256,
            (_, number) => number.into(),
        };
        facts.dscp = self.dscp;
        facts.end_offset = offset(self.len);
        facts.payload_offset = offset(self.before);
        facts.transport_offset = u32::MAX;
        let Some(transport) = self.transport else {
            return facts;
        };
        facts.transport_offset = facts.payload_offset;
        facts.payload_offset += match transport {
            Transport::Tcp { ports, flags, len } => {
                [facts.src_port, facts.dst_port] = ports;
                facts.tcp_flags = u16::from(flags) | TCP_FLAGS_KNOWN;
                facts.state = injector_common::conversation::tcp_state(facts.tcp_flags);
                u32::try_from(len).expect("a short header")
            }
            Transport::Udp { ports } => {
                [facts.src_port, facts.dst_port] = ports;
                let both = |pair: [u16; 2]| ports.iter().all(|port| pair.contains(port));
                facts.protected = u8::from(both([67, 68]) || both([546, 547]));
                8
            }
            Transport::Icmp { kind, id } => {
                (facts.icmp_type, facts.echo_id) = (kind, id);
                let is_discovery = matches!(kind, 130..=137 | 143);
                facts.protected = u8::from(self.family == 6 && is_discovery);
                8
            }
            Transport::Other => 0,
        };
        facts
    }
}

/// How often each outcome occurred.
#[derive(Default)]
struct Seen(std::collections::BTreeMap<&'static str, [u64; 2]>);

impl Seen {
    fn count(&mut self, packet: &Packet, found: Option<&Facts>) {
        let is = |what: fn(&Facts) -> bool| found.is_some_and(what);
        let padded = found.is_some_and(|facts| facts.end_offset < packet.bytes.frame_len());
        for (name, is) in [
            ("read", found.is_some()),
            ("IPv6", is(|facts| facts.family == 6)),
            ("no transport", is(Facts::is_fragment)),
            ("ports", is(|facts| facts.src_port != 0)),
            ("TCP flags", is(|facts| facts.tcp_flags != 0)),
            ("echo", is(|facts| facts.echo_id != 0)),
            ("protected", is(|facts| facts.protected == 1)),
            ("padded", padded),
            ("no transport, padded", padded && is(Facts::is_fragment)),
        ] {
            self.0.entry(name).or_default()[usize::from(is)] += 1;
        }
    }

    fn assert_all(&self) {
        for (name, [without, with]) in &self.0 {
            assert!(
                *without >= AT_LEAST && *with >= AT_LEAST,
                "{name}: {with} packets with and {without} without it test little"
            );
        }
    }
}

/// By its ends a packet is told to be a bystander's before it is read. So wherever they are
/// to be had, they must be what the reading finds.
#[test]
fn ends_are_those_of_the_packet() {
    let seed = seed();
    let (mut plain, mut other) = (0, 0);
    for number in 0..PACKETS {
        let packet = packet(seed, number);
        let mut ends = Ends::NONE;
        let family = ends.read(&Guarded(&packet), packet.ether_type, packet.l2_len);
        let Some(facts) = read(&packet) else {
            continue;
        };
        if facts.is_fragment() {
            continue;
        }
        let mut expected = Ends::NONE;
        expected.write(&facts);
        if family == 0 {
            // Something lies before the ports, or there are none.
            let start = packet.l2_len + if facts.family == 4 { 20 } else { 40 };
            assert!(
                facts.transport_offset != start || !matches!(facts.number, 6 | 17),
                "packet {number} of seed {seed}: {packet:02x?}"
            );
            other += 1;
            continue;
        }
        assert_eq!(family, u32::from(facts.family), "packet {number} of {seed}");
        assert_eq!(
            (ends.is_tcp(), ends.key(family)),
            (facts.number == 6, expected.key(family)),
            "packet {number} of seed {seed}: {packet:02x?}"
        );
        plain += 1;
    }
    assert!(plain > AT_LEAST && other > AT_LEAST, "{plain} {other}");
}
