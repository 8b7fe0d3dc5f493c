//! That a rule is refused exactly where no packet is hit: against the very functions
//! by which programs decide.

use std::net::IpAddr;

use injector_common::{
    answer::{ACK, FIN, PSH, RST, SYN, may_be_answered},
    faults::{
        net_corrupt::{self, Region},
        net_reset::is_open,
    },
    packet::{Facts, TCP_FLAGS_KNOWN, V4_MAPPED},
};
use proptest::prelude::*;

use super::*;
use crate::{
    faults::{
        FaultKindDef as _, net_corrupt::NetCorrupt, net_loss::NetLoss, net_reject::NetReject,
        net_reset::NetReset, raw,
    },
    model::{After, Answer, Damage, Extent, Fault, PacketFault},
};

/// The fault of a line of options, behind the name of its kind.
fn fault(line: &str) -> Result<Fault, SpecError> {
    let (kind, options) = line.split_once(' ').unwrap_or((line, ""));
    match kind {
        "net-corrupt" => NetCorrupt::validate(raw(options)),
        "net-reject" => NetReject::validate(raw(options)),
        "net-reset" => NetReset::validate(raw(options)),
        "net-loss" => NetLoss::validate(raw(options)),
        _ => panic!("{line}"),
    }
}

#[test]
fn what_a_kind_never_acts_on_is_refused() {
    for (line, field, part) in [
        ("net-corrupt --proto 47", "proto", "protocol 47 packets"),
        ("net-corrupt --proto tcp,47", "proto", "tcp, udp, icmp"),
        (
            "net-corrupt --proto !tcp,!udp,!icmp",
            "proto",
            "nothing to damage",
        ),
        // The ICMP of the other family is no ICMP.
        (
            "net-corrupt --proto 1 --peer fd00::/8",
            "proto",
            "protocol 1",
        ),
        (
            "net-corrupt --proto 58 --peer 10.0.0.0/8",
            "proto",
            "protocol 58",
        ),
        ("net-corrupt --size 20-27", "size", "within 29 to 65575"),
        ("net-corrupt --size 20-28", "size", "within 29"),
        ("net-corrupt --proto tcp --size 20-40", "size", "within 41"),
        ("net-corrupt --bytes 8 --size 20-35", "size", "within 36"),
        ("net-corrupt --bits 8 --size 20-29", "size", "within 30"),
        (
            "net-corrupt --region headers --size 27",
            "size",
            "within 28",
        ),
        (
            "net-corrupt --peer ::/0 --size !49-65575",
            "size",
            "within 49",
        ),
        ("net-reset --state new", "state", "net-reject"),
        (
            "net-reset --tcp-flags syn,!ack",
            "tcp-flags",
            "neither syn nor rst",
        ),
        ("net-reset --tcp-flags syn", "tcp-flags", "have ack"),
        ("net-reset --tcp-flags rst", "tcp-flags", "have ack"),
        ("net-reset --tcp-flags !ack", "tcp-flags", "have ack"),
        ("net-reset --size 20-39", "size", "within 40"),
        (
            "net-reset --after-bytes 1 --size 20-40",
            "size",
            "within 41",
        ),
        ("net-reject --tcp-flags rst", "tcp-flags", "never answered"),
        (
            "net-reject --proto tcp --tcp-flags rst,ack",
            "tcp-flags",
            "without rst",
        ),
        ("net-reject --peer 224.0.0.0/4", "peer", "single hosts"),
        ("net-reject --peer ff02::1", "peer", "single hosts"),
        ("net-reject --peer 255.255.255.255", "peer", "single hosts"),
        (
            "net-reject --peer 0.0.0.0 --direction ingress",
            "peer",
            "from nobody",
        ),
        (
            "net-loss --proto tcp --tcp-flags ack --size 20-39",
            "size",
            "within 40",
        ),
        ("net-loss --peer-port 80 --size 20-27", "size", "within 28"),
        ("net-loss --peer ::/0 --size 20-39", "size", "within 40"),
        (
            "net-loss --peer 0.0.0.0/0 --size 65536",
            "size",
            "within 20 to 65535",
        ),
        (
            "net-loss --peer-port 67 --local-port 68 --size 28",
            "size",
            "within 40",
        ),
        (
            "net-loss --proto udp --peer-port 67 --local-port 68",
            "peer-port",
            "DHCP",
        ),
        (
            "net-loss --proto udp --peer-port 547 --local-port 546-547",
            "peer-port",
            "DHCP",
        ),
    ] {
        let error = fault(line).expect_err(line);
        assert_eq!(error.field, field, "{line}: {error}");
        assert!(error.to_string().contains(part), "{line}: {error}");
    }
}

#[test]
fn what_some_packet_meets_is_not() {
    for line in [
        "net-corrupt --proto !47",
        "net-corrupt --size 20-29",
        "net-corrupt --proto icmp --peer fd00::/8 --size 49",
        "net-corrupt --region headers --size 28",
        "net-reset --state established",
        "net-reset --tcp-flags ack,!psh --size 40",
        "net-reset --after 1s --size 20-40",
        "net-reject --state new",
        "net-reject --tcp-flags !ack",
        "net-reject --proto 47 --size 20",
        "net-reject --peer 224.0.0.0/4 --direction ingress",
        "net-reject --peer db.example.net,!0.0.0.0/0",
        "net-loss --proto tcp --size 20",
        "net-loss --proto udp --peer-port 67",
        "net-loss --proto udp --peer-port 67-68 --local-port 546",
        "net-loss --peer-port 67 --local-port 68",
        "net-loss --peer 0.0.0.0/0,::/0 --size 65536",
    ] {
        assert!(fault(line).is_ok(), "{line}: {:?}", fault(line));
    }
}

/// Whether a number is in the set.
fn holds(ranges: &Ranges, number: u128) -> bool {
    ranges.overlaps(&Ranges::from_iter([(number, number)]))
}

/// Whether a kind acts on a packet, by what programs ask.
fn acts(fault: &PacketFault, facts: &Facts) -> bool {
    let flags = u8::try_from(facts.tcp_flags & 0xff).expect("a byte");
    let known = facts.tcp_flags & TCP_FLAGS_KNOWN != 0;
    match fault {
        PacketFault::Corrupt(Damage { extent, region, .. }) => {
            let (count, unit) = match *extent {
                Extent::Bits(count) => (count, net_corrupt::UNIT_BITS),
                Extent::Bytes(count) => (count, net_corrupt::UNIT_BYTES),
            };
            let region = match region {
                crate::model::Region::Payload => net_corrupt::REGION_PAYLOAD,
                crate::model::Region::Headers => net_corrupt::REGION_HEADERS,
            };
            let params = net_corrupt::params(net_corrupt::CHECKSUM_VALID, count, unit, region);
            Region::of(facts, facts.size, params).has_room(params)
        }
        PacketFault::Reject { by, .. } => {
            let by_reset = match by {
                Answer::Reset => true,
                Answer::Either => facts.proto == PROTO_TCP,
                Answer::Icmp => false,
            };
            may_be_answered(facts, by_reset)
        }
        PacketFault::Reset { after, .. } => {
            let carries = facts.payload_len(facts.size) > 0;
            known && is_open(flags) && (carries || !matches!(after, After::Bytes(_)))
        }
        PacketFault::Loss { .. }
        | PacketFault::Delay(_)
        | PacketFault::Duplicate { .. }
        | PacketFault::Reorder { .. }
        | PacketFault::Rate(_)
        | PacketFault::Partition
        | PacketFault::Dns(_) => true,
    }
}

/// Flags of TCP: all sets of these.
const FLAGS: [u8; 5] = [FIN, SYN, RST, PSH, ACK];

/// Ports, of DHCP and others.
const PORTS: [u16; 6] = [80, 9000, 67, 68, 546, 547];

/// Both ports of the packets in a small world that a filter takes: the peer's and the
/// target's own.
fn ports(filter: &PacketFilter, transport: Transport, known: bool) -> Vec<[u16; 2]> {
    let ported = matches!(transport, Transport::Tcp | Transport::Udp);
    if !known || !ported {
        let any = filter.peer_ports.is_any() && filter.local_ports.is_any();
        return any.then_some([0, 0]).into_iter().collect();
    }
    let [peer, local] = [&filter.peer_ports, &filter.local_ports].map(|ports| ports.ports());
    let pairs = PORTS
        .iter()
        .flat_map(|one| PORTS.map(|other| [*one, other]));
    let is_dhcp = |pair: &[u16; 2]| {
        let all = |of: [u16; 2]| pair.iter().all(|port| of.contains(port));
        transport == Transport::Udp && (all([67, 68]) || all([546, 547]))
    };
    pairs
        .filter(|pair| holds(&peer, pair[0].into()) && holds(&local, pair[1].into()))
        .filter(|pair| !is_dhcp(pair))
        .collect()
}

/// The flags of packets in a small world that a filter takes; 0 for none.
fn flags(filter: &PacketFilter, transport: Transport, known: bool) -> Vec<u8> {
    match transport {
        Transport::Tcp if known => {
            let sets = (0..1 << FLAGS.len()).map(|set: usize| {
                let chosen = (0..FLAGS.len()).filter(|bit| set >> bit & 1 != 0);
                chosen.fold(0, |flags, bit| flags | FLAGS[bit])
            });
            sets.filter(|flags| filter.takes_flags(*flags)).collect()
        }
        // Any packet of UDP may be new, or not.
        Transport::Udp if known && filter.tcp_flags.is_empty() => vec![0],
        Transport::Tcp | Transport::Udp | Transport::Icmp | Transport::Other
            if !filter.takes_headless() =>
        {
            vec![]
        }
        Transport::Tcp | Transport::Udp | Transport::Icmp | Transport::Other => vec![0],
    }
}

/// The addresses in a small world that a filter takes at one end.
fn addresses(choice: &Choice<crate::model::Cidr>, v4: bool) -> Vec<IpAddr> {
    let texts: &[&str] = if v4 {
        &["10.0.0.1", "224.0.0.1", "0.0.0.0", "192.0.2.1"]
    } else {
        &["fd00::1", "ff02::1", "::", "2001:db8::1"]
    };
    let set = &choice.addresses()[usize::from(!v4)];
    let all = texts.iter().map(|text| text.parse().expect(text));
    all.filter(|peer| match peer {
        IpAddr::V4(v4) => holds(set, v4.to_bits().into()),
        IpAddr::V6(v6) => holds(set, v6.to_bits()),
    })
    .collect()
}

/// Packets of one family and protocol.
struct Packets {
    facts: Facts,
    sizes: Vec<u32>,
    flags: Vec<u8>,
    peers: Vec<IpAddr>,
    own: Vec<IpAddr>,
    ports: Vec<[u16; 2]>,
    directions: Vec<Direction>,
}

impl Packets {
    /// Whether it is so for one of them.
    fn any(&self, so: impl Fn(&Facts) -> bool) -> bool {
        let is_tcp = self.facts.proto == PROTO_TCP && !self.facts.is_fragment();
        let ends = self
            .peers
            .iter()
            .flat_map(|peer| self.ports.iter().map(move |ports| (*peer, *ports)));
        let ends = ends.flat_map(|end| self.own.iter().map(move |own| (end, *own)));
        let mut all = ends.flat_map(|end| self.directions.iter().map(move |way| (end, *way)));
        all.any(|(((peer, [peer_port, local_port]), local), way)| {
            let mut facts = Facts {
                src: words(local),
                dst: words(peer),
                src_port: local_port,
                dst_port: peer_port,
                ..self.facts
            };
            if way == Direction::Ingress {
                std::mem::swap(&mut facts.src, &mut facts.dst);
                std::mem::swap(&mut facts.src_port, &mut facts.dst_port);
            }
            self.sizes.iter().any(|&size| {
                (facts.size, facts.end_offset) = (size, size);
                self.flags.iter().any(|&flags| {
                    if is_tcp {
                        facts.tcp_flags = TCP_FLAGS_KNOWN | u16::from(flags);
                    }
                    so(&facts)
                })
            })
        })
    }
}

/// Whether some packet of a small world is hit.
fn has_witness(fault: &Fault) -> bool {
    let Fault::Packet(filter, fault) = fault else {
        panic!("{fault:?}")
    };
    let numbers = filter.protocols.numbers();
    let sizes = (20..=80).chain([1500, 65_535, 65_536, 65_575]);
    let taken = filter.sizes.lengths();
    let sizes: Vec<u32> = sizes.filter(|size| holds(&taken, (*size).into())).collect();
    let directions: Vec<Direction> = [Direction::Egress, Direction::Ingress]
        .into_iter()
        .filter(|way| filter.direction == Direction::Both || filter.direction == *way)
        .collect();
    for v4 in [true, false] {
        let (ip_len, longest) = if v4 { (20, 65_535) } else { (40, 65_575) };
        for number in [1u8, 6, 17, 47, 58, 132]
            .into_iter()
            .filter(|one| numbers.has(*one))
        {
            let transport = Transport::of(number, v4);
            for known in [true, false] {
                let header_len = if known { transport.header_len() } else { 0 };
                let facts = Facts {
                    family: if v4 { 4 } else { 6 },
                    number,
                    proto: match transport {
                        Transport::Tcp => PROTO_TCP,
                        Transport::Udp => PROTO_UDP,
                        Transport::Icmp => PROTO_ICMP,
                        Transport::Other => 256,
                    },
                    transport_offset: if known { ip_len } else { u32::MAX },
                    payload_offset: ip_len + header_len,
                    // An echo.
                    icmp_type: if v4 { 8 } else { 128 },
                    ..Facts::NONE
                };
                let lengths = ip_len + header_len..=longest;
                let packets = Packets {
                    facts,
                    sizes: sizes
                        .iter()
                        .copied()
                        .filter(|size| lengths.contains(size))
                        .collect(),
                    flags: flags(filter, transport, known),
                    peers: addresses(&filter.peers, v4),
                    own: addresses(&filter.locals, v4),
                    ports: ports(filter, transport, known),
                    directions: directions.clone(),
                };
                if packets.any(|facts| acts(fault, facts)) {
                    return true;
                }
            }
        }
    }
    false
}

/// An address as programs have it.
fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(v4) => [0, 0, V4_MAPPED, u32::from_ne_bytes(v4.octets())],
        IpAddr::V6(v6) => {
            let bytes = v6.octets();
            std::array::from_fn(|word| {
                u32::from_ne_bytes(std::array::from_fn(|byte| bytes[4 * word + byte]))
            })
        }
    }
}

/// One of an option's values, or mostly none.
fn option(name: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just(String::new()),
        1 => proptest::sample::select(values).prop_map(move |value| format!(" --{name} {value}")),
    ]
}

/// The filter, as it would be without what kinds need.
fn unchecked(line: &str) -> Option<Fault> {
    let (kind, options) = line.split_once(' ').unwrap_or((line, ""));
    let own = ["bytes", "bits", "region", "with", "after-bytes"];
    let (mut of_filter, mut of_kind) = (String::new(), String::new());
    for option in options
        .split("--")
        .map(str::trim)
        .filter(|text| !text.is_empty())
    {
        let is_own = own.iter().any(|name| option.starts_with(name));
        let line = if is_own { &mut of_kind } else { &mut of_filter };
        line.push_str(&format!(" --{option}"));
    }
    let Fault::Packet(_, fault) = fault(&format!("{kind}{of_kind}")).ok()? else {
        return None;
    };
    // A filter that is refused by itself has no kind to blame.
    let Fault::Packet(filter, _) = self::fault(&format!("net-loss{of_filter}")).ok()? else {
        return None;
    };
    Some(Fault::Packet(filter, fault))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_rule_is_refused_if_no_packet_is_hit_and_only_then(
        kind in proptest::sample::select(&[
            "net-loss", "net-corrupt", "net-corrupt --bytes 8", "net-corrupt --bits 8",
            "net-corrupt --region headers", "net-reject", "net-reject --with rst",
            "net-reject --with icmp", "net-reset", "net-reset --after-bytes 5",
        ][..]),
        proto in option("proto", &[
            "tcp", "udp", "icmp", "47", "1", "58", "!tcp", "icmp,!58", "!tcp,!udp,!icmp", "!47",
        ]),
        peer in option("peer", &[
            "10.0.0.0/8", "fd00::/8", "224.0.0.0/4", "ff00::/8", "0.0.0.0", "::", "!0.0.0.0/0", "!::/0",
        ]),
        local in option("local", &["192.0.2.0/24", "::", "fd00::/8", "224.0.0.0/4", "!10.0.0.0/8", "!::/0"]),
        peer_port in option("peer-port", &["80", "67-68", "547", "67"]),
        local_port in option("local-port", &["9000", "67-68", "546-547", "67"]),
        size in option("size", &[
            "20-27", "28", "29", "30-39", "40", "41", "47", "48", "49", "60", "61", "!29-65575",
            "!41-65575", "!20-60", "65536-65575", "!20-65535",
        ]),
        flags in option("tcp-flags", &["rst", "syn,!ack", "ack", "!rst", "syn", "psh", "!ack"]),
        state in option("state", &["new", "established"]),
        direction in option("direction", &["ingress", "both"]),
    ) {
        let line = format!("{kind}{proto}{peer}{local}{peer_port}{local_port}{size}{flags}{state}{direction}");
        match fault(&line) {
            Ok(fault) => prop_assert!(has_witness(&fault), "{line} hits nothing"),
            Err(error) => {
                if let Some(fault) = unchecked(&line) {
                    prop_assert!(!has_witness(&fault), "{line} is refused: {error}");
                }
            }
        }
    }
}
