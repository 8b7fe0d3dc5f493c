//! The kernel decides as the host does: the same vectors through the same
//! functions, compiled for BPF and for this machine.
//!
//! The program under test is never attached; `BPF_PROG_TEST_RUN` calls it on a
//! packet of ours (`injector_common::parity` says what lies in it).

use aya::{
    Ebpf,
    maps::lpm_trie::{Key, LpmTrie},
};
use injector_common::{
    Trigger,
    faults::{Params, net_corrupt, net_delay::MAX_DELAY_NS},
    filter::{
        EGRESS, FAMILY_V4, FAMILY_V6, INGRESS, MAX_MARKS, MAX_SIZE_RANGES, PEERS_BY_MASK,
        PEERS_EXCEPTED, PEERS_LISTED, PacketFilter, PeerName, PortSet, directions,
    },
    names::{MAP_PEERS, PROG_PARITY},
    packet::{self, Facts},
    parity::{ParityResult, ParityVector},
    random,
    trigger::THRESHOLD_ALWAYS,
};
use injector_tests::test_run;

const VECTORS: u64 = 4_000;
/// Of [`VECTORS`], how often each outcome must at least occur for the
/// comparison to mean something.
const AT_LEAST: u64 = 40;

const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;
const ARP: u32 = 0x0806_u16.to_be() as u32;

#[test]
fn the_kernel_decides_as_the_host_does() {
    let mut ebpf = test_run::load();
    let networks = networks();
    fill(&mut ebpf, &networks);
    let fd = &test_run::program(&mut ebpf, PROG_PARITY);

    let mut seen = Seen::default();
    for number in 0..VECTORS {
        let mut dice = Dice {
            seed: number,
            rolled: 0,
        };
        let l2_len = dice.of(&[0, 14, 14, 18]);
        let packet = dice.packet(l2_len);
        let vector = dice.vector(&packet, l2_len);
        let expected = test_run::on_host(&vector, &packet, |name| longest(&networks, name));
        let found = test_run::in_kernel(fd, &vector, &packet);
        assert_eq!(
            found, expected,
            "vector {number}: {vector:?}\npacket {packet:02x?}"
        );
        seen.count(&vector, &expected);
    }
    seen.assert_all();
}

/// A network in the peer table: how many leading bits of a name, which, and
/// what it says.
type Network = (u32, PeerName, u32);

/// Networks of the rule at 0, so short that random addresses lie in them, and of
/// the next rule, which must not matter.
fn networks() -> Vec<Network> {
    let mut dice = Dice {
        seed: VECTORS,
        rolled: 0,
    };
    let mut networks: Vec<Network> = Vec::new();
    while networks.len() < 300 {
        let (rule, family) = (dice.of(&[0, 0, 0, 1]), dice.of(&[4, 6]));
        let bits = dice.of(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        let head = u32::from_ne_bytes([dice.byte(), dice.byte(), 0, 0]);
        let mut addr = [head, 0, 0, 0];
        if family == 4 {
            addr = [0, 0, 0xffff_u32.to_be(), head];
        }
        let prefix = PeerName::prefix(family, bits);
        let mut name = truncated(PeerName::new(rule, family, addr), prefix);
        if dice.of(&[true, false]) {
            name = name.at_local_end();
        }
        if !networks
            .iter()
            .any(|known| (known.0, known.1) == (prefix, name))
        {
            networks.push((prefix, name, dice.of(&[0, 1])));
        }
        // There are only so many short ones.
        if dice.rolled > 100_000 {
            break;
        }
    }
    networks
}

/// A name with only its leading bits.
fn truncated(name: PeerName, bits: u32) -> PeerName {
    let mut words = [
        name.owner,
        name.addr[0],
        name.addr[1],
        name.addr[2],
        name.addr[3],
    ];
    for (word, before) in words.iter_mut().zip((0..).step_by(32)) {
        let kept = bits.saturating_sub(before).min(32);
        *word &= u32::MAX.checked_shl(32 - kept).unwrap_or(0).to_be();
    }
    let [owner, addr @ ..] = words;
    PeerName { owner, addr }
}

fn fill(ebpf: &mut Ebpf, networks: &[Network]) {
    let map = ebpf
        .map_mut(MAP_PEERS)
        .expect("the object has a peer table");
    let mut table: LpmTrie<_, [u32; 5], u32> = LpmTrie::try_from(map).expect("a trie");
    for (prefix, PeerName { owner, addr }, value) in networks {
        let name = [*owner, addr[0], addr[1], addr[2], addr[3]];
        table
            .insert(&Key::new(*prefix, name), value, 0)
            .expect("the table takes a network");
    }
}

/// What the longest of the networks says that takes a name in.
fn longest(networks: &[Network], name: PeerName) -> Option<u32> {
    let around = networks
        .iter()
        .filter(|(prefix, network, _)| truncated(name, *prefix) == *network);
    around
        .max_by_key(|(prefix, ..)| *prefix)
        .map(|found| found.2)
}

/// Seeded chance.
struct Dice {
    seed: u64,
    rolled: u64,
}

impl Dice {
    fn bits(&mut self) -> u64 {
        self.rolled += 1;
        random::draw(random::mix(self.seed), self.rolled)
    }

    /// A number in `0..count`.
    fn below(&mut self, count: u64) -> u64 {
        self.bits() % count
    }

    fn short(&mut self) -> u16 {
        u16::try_from(self.below(1 << 16)).expect("16 bits")
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("8 bits")
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = usize::try_from(self.below(choices.len() as u64)).expect("an index");
        choices[index]
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// A link-layer header of noise and a network header with plausible first
    /// bytes, the rest noise; sometimes noise alone, often cut short.
    fn packet(&mut self, l2_len: u32) -> Vec<u8> {
        let mut ip = self.bytes(120);
        match self.below(8) {
            0 => {}
            1..=3 => {
                ip[0] = 0x40 | self.of(&[4, 5, 5, 5, 6, 15]);
                ip[2] = 0;
                ip[3] = self.of(&[120, 120, 120, 100, ip[3]]);
                ip[32] = self.of(&[0x50, 0x60, ip[32]]); // a TCP header's length
                ip[6] &= self.of(&[0x00, 0x20, 0xff]);
                ip[7] = if ip[6] == 0 { 0 } else { ip[7] };
                ip[9] = self.of(&[1, 6, 17, 17, 47]);
                ip[20] = self.of(&[0, 8, ip[20]]); // echo
                if self.below(4) == 0 {
                    // DHCP
                    ip[9] = 17;
                    ip[20..24].copy_from_slice(&[0, 68, 0, 67]);
                }
            }
            _ => {
                ip[0] = 0x60;
                ip[4] = 0;
                ip[5] = self.of(&[80, 80, 80, 60, ip[5]]);
                ip[52] = self.of(&[0x50, 0x60, ip[52]]); // a TCP header's length
                ip[6] = self.of(&[0, 6, 17, 43, 44, 58, 60]);
                // Extension headers, in case there are any, or a transport.
                ip[40] = self.of(&[6, 17, 44, 58, 60, 128, 129, 133, 135]);
                ip[41] = self.of(&[0, 0, 1, 2]);
                ip[42] = self.of(&[0, 0, 0xff]);
                ip[43] = self.of(&[0, 0, 8, 1]);
                ip[48] = self.of(&[6, 17, 58, 136]);
                ip[49] = 0;
            }
        }
        let cut = if self.below(3) == 0 {
            self.below(120)
        } else {
            120
        };
        ip.truncate(usize::try_from(cut).expect("a length"));
        [self.bytes(u64::from(l2_len)), ip].concat()
    }

    /// Inputs that fit `packet` as often as not.
    fn vector(&mut self, packet: &[u8], l2_len: u32) -> ParityVector {
        let family = packet.get(l2_len as usize).map_or(0, |byte| byte >> 4);
        let ether_type = match family {
            4 => IPV4,
            6 => IPV6,
            _ => self.of(&[IPV4, IPV6, ARP]),
        };
        let direction = self.of(&[EGRESS, INGRESS]);
        let delay = self.below(MAX_DELAY_NS + 1);
        let jitter = self.of(&[0, 1, delay / 2, delay]).min(delay);
        let damage = self.damage();
        let n = self.of(&[1, 2, 7, u64::MAX >> 1]).max(self.below(200));
        ParityVector {
            trigger: self.trigger(),
            params: self.of(&[
                [delay, jitter, 0, 0],
                [delay, jitter, 0, 0],
                [5, 0, 0, 0],
                [133, 1, 0, 0],
                [134, 0, 0, 0],
                damage,
                damage,
                damage,
            ]),
            seed: self.bits(),
            n,
            spent: self.below(6),
            in_flow: n.saturating_add(self.below(2 * MAX_DELAY_NS)),
            seen: self.below(16) & self.below(16),
            filter: self.filter(packet, ether_type, l2_len, direction),
            direction,
            l2_len,
            ether_type,
            frame_len: self.of(&[0, 60, 134, 65_000]),
            gso_size: self.of(&[0, 0, 1, 1448]),
            mark: self.of(&[0, 1, 3, u32::MAX]),
        }
    }

    fn damage(&mut self) -> Params {
        net_corrupt::params(
            net_corrupt::CHECKSUM_VALID,
            self.of(&[0, 1, 2, 3, 8, 9]),
            self.of(&[net_corrupt::UNIT_BYTES, net_corrupt::UNIT_BITS]),
            self.of(&[net_corrupt::REGION_PAYLOAD, net_corrupt::REGION_HEADERS]),
        )
    }

    fn trigger(&mut self) -> Trigger {
        let first = self.of(&[1, 2, 5]);
        let any = self.below(THRESHOLD_ALWAYS);
        Trigger {
            threshold: self.of(&[0, any, any, THRESHOLD_ALWAYS, THRESHOLD_ALWAYS]),
            first,
            last: self.of(&[u64::MAX, first, first + 50]),
            step: self.of(&[0, 1, 1, 2, 3]),
            times: self.of(&[0, 1, 3]),
            correlation: self.of(&[0, any / 2, THRESHOLD_ALWAYS]),
        }
    }

    /// A filter around the packet's own facts, off by a bit now and then.
    fn filter(&mut self, packet: &[u8], ether_type: u32, l2_len: u32, way: u32) -> PacketFilter {
        let mut facts = Facts::NONE;
        let ether_type = u16::try_from(ether_type).expect("16 bits");
        let _ = packet::parse(packet, ether_type, l2_len, &mut facts);
        let mut filter = PacketFilter::ANY;
        let (peer, peer_port) = if way == EGRESS {
            (facts.dst, facts.dst_port)
        } else {
            (facts.src, facts.src_port)
        };
        if self.below(2) == 0 {
            filter.peer_mask = [u32::MAX, u32::MAX, u32::MAX, self.of(&[0, 0xff, u32::MAX])];
            filter.peer_addr = [0, 1, 2, 3].map(|word| peer[word] & filter.peer_mask[word]);
            if self.below(4) == 0 {
                filter.peer_addr[3] ^= 1;
            }
        }
        if self.below(3) == 0 {
            filter.peer_ports = PortSet::NONE;
            let first = peer_port.saturating_sub(self.of(&[0, 1]));
            filter.peer_ports.ranges[0] = self.of(&[[1, 1], [first, peer_port], [0, first]]);
            filter.peer_ports.ranges[1] = [peer_port, peer_port.saturating_add(self.of(&[0, 5]))];
        }
        if self.below(8) == 0 {
            filter.local_ports.ranges[0][0] = self.short();
        }
        filter.directions =
            directions(self.of(&[EGRESS, INGRESS, EGRESS | INGRESS, EGRESS | INGRESS]));
        filter.families = self.of(&[FAMILY_V4, FAMILY_V6, FAMILY_V4 | FAMILY_V6]);
        if self.below(3) == 0 {
            filter.protocols = [self.bits(), self.bits(), self.bits(), self.bits()];
            filter.protocols[usize::from(facts.number >> 6)] |= 1 << (facts.number & 63);
        }
        if self.below(6) == 0 {
            filter.dscps = self.bits();
        }
        if self.below(6) == 0 {
            filter.states = self.of(&[1, 2, 4, 6]);
        }
        if self.below(6) == 0 {
            filter.flagless = self.of(&[0, 1]);
            filter.tcp_flags = [self.bits(), self.bits(), self.bits(), self.bits()];
        }
        if self.below(6) == 0 {
            filter.marks =
                [(); MAX_MARKS].map(|()| [self.of(&[0, 1, 2]), self.of(&[0, 1, 3, u32::MAX])]);
            filter.marks_taken = self.short();
        }
        if self.below(6) == 0 {
            let (first, span) = ([20, 40, 100, 1500], [0, 5, 50, 1500, u32::MAX - 10]);
            filter.sizes = [(); MAX_SIZE_RANGES].map(|()| [self.of(&first), self.of(&span)]);
        }
        filter.peers = self.of(&[PEERS_BY_MASK, PEERS_BY_MASK, PEERS_LISTED, PEERS_EXCEPTED]);
        if self.below(4) == 0 {
            filter.locals = self.of(&[PEERS_LISTED, PEERS_EXCEPTED]);
        }
        filter
    }
}

/// How often each outcome occurred.
#[derive(Default)]
struct Seen(std::collections::BTreeMap<&'static str, [u64; 2]>);

impl Seen {
    fn count(&mut self, vector: &ParityVector, result: &ParityResult) {
        for (name, is) in [
            ("parsed", result.parsed == 1),
            ("IPv4", result.family == 4),
            ("IPv6", result.family == 6),
            ("fragment", result.is_fragment == 1),
            ("ports", result.src_port != 0),
            ("ICMP type", result.icmp_type != 0),
            ("echo", result.echo_id != 0),
            ("protected", result.protected == 1),
            ("TCP flags", result.tcp_flags != 0),
            ("code point", result.dscp != 0),
            ("new", result.state == 1),
            ("established", result.state == 2),
            ("matches", result.matches == 1),
            (
                "matches by the table",
                result.matches == 1 && vector.filter.asks_table(),
            ),
            ("selected", result.selected == 1),
            ("exhausted", result.verdict == 2),
            ("place", result.pattern != 0),
            ("kept in order", result.departure_ns == vector.in_flow),
            ("fallback errno", result.return_value == -5),
            ("a value", result.pretended > 0),
            ("an error", result.pretended < 0),
        ] {
            self.0.entry(name).or_default()[usize::from(is)] += 1;
        }
    }

    fn assert_all(&self) {
        for (name, [without, with]) in &self.0 {
            assert!(
                *without >= AT_LEAST && *with >= AT_LEAST,
                "{name}: {with} vectors with and {without} without it test little"
            );
        }
    }
}
