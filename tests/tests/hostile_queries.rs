//! Hostile queries of DNS through the program in the kernel: those are answered that the
//! host reads as queries of the names a rule asks for, and an answer has nothing in it but
//! what the query had, and what the rule says.
//!
//! What the host reads is compared with another parser in
//! `injector-common/tests/dns_hostile.rs`. A run of a program that is not attached ends where
//! it wants its packet redirected, so an answer over UDP is looked at as it would be sent. One
//! over TCP is a copy, which the program sends by itself: it arrives at the loopback of a
//! namespace of the test's own. That a resolver takes either is for `dns.rs` to show.

#[path = "../../injector-common/tests/support/dice.rs"]
mod dice;
#[path = "../../injector-common/tests/support/queries.rs"]
mod queries;
#[path = "support/query_frames.rs"]
mod query_frames;

use std::{collections::BTreeMap, os::fd::AsFd as _};

use aya::maps::Array;
use dice::{Dice, PACKETS, seed};
use injector_common::{
    FaultKind, RuleEntry, RuleSlot, RuleStats,
    dns::{NAME_IN, NAME_OUT, NOERROR, NXDOMAIN, REFUSED, TYPE_A, TYPE_AAAA},
    faults::{
        Params,
        dns::{self as fault, TIMEOUT, TRUNCATED},
    },
    filter::{EGRESS, PacketFilter, PortSet},
    names::{MAP_STATS, PROG_EGRESS},
    packet::{self as reading, Facts},
    uses::Uses,
};
use injector_tests::{
    capture::Capture,
    kernel::Where,
    netns::{Ip, Netns},
    replies::{self, Answer},
    require,
    test_run::{self, ETHERNET, Frame, NEXT},
    wait,
};
use queries::{Query, over_tcp, over_udp};
use query_frames::{TCP, UDP, frame};

/// `TC_ACT_REDIRECT`: the packet goes elsewhere, or nowhere.
const REDIRECTED: u32 = 7;

/// What the table has to say.
const ENDS: &[(&str, u32)] = &[
    ("\0example.net", NAME_IN),
    (".example.net", NAME_OUT),
    ("\0db.example.net", NAME_IN),
    (".low.example.net", NAME_IN),
    ("\0spared.low.example.net", NAME_OUT),
];
const V4: [u8; 4] = [192, 0, 2, 7];
const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
const TTL: u32 = 300;

/// How many packets go through the program; see `hostile.rs` for why fewer do elsewhere.
fn packets() -> u64 {
    if Where::current().is_virtual() {
        PACKETS / 250
    } else {
        PACKETS / 10
    }
}

/// How many packets pass one rule.
const ROUND: u64 = 50;

#[test]
fn hostile_queries_are_answered_where_the_host_reads_them() {
    require!(Dns);
    Netns::new().enter(check);
}

fn check() {
    let seed = seed();
    let netns = Netns::current();
    let captures = [Ip::V4, Ip::V6].map(|ip| Capture::start(&netns, "lo", ip));
    let mut ebpf = test_run::load_for(Uses::kind(FaultKind::Dns).and(Uses::PORTS));
    let program = test_run::program(&mut ebpf, PROG_EGRESS);
    let stats = ebpf.take_map(MAP_STATS).expect("the object has the map");
    let stats: Array<_, RuleStats> = stats.try_into().expect("an array");
    let mut rules = test_run::arm_queries(&mut ebpf, ENDS);

    let mut rule = rule(&mut Dice::new(seed, u64::MAX));
    let (mut seen, mut copies, mut hits) = (BTreeMap::<_, u64>::new(), Vec::new(), 0);
    for number in 0..packets() {
        let dice = &mut Dice::new(seed, number);
        if number.is_multiple_of(ROUND) {
            assert_arrived(&captures, &mut copies);
            rule = self::rule(dice);
            rules.set(0, rule, 0).expect("write the rule");
        }
        let frame = frame(dice);
        let gso_size = if dice.one_in(30) { 100 } else { 0 };
        let expected = Hit::of(&rule.versions[0], &frame, gso_size);
        let context = || format!("packet {number} of seed {seed}: {frame:02x?}");
        let Ok((verdict, made)) = test_run::run_to_frame(program.as_fd(), &frame, gso_size) else {
            *seen.entry("refused").or_default() += 1;
            continue;
        };
        let Some(hit) = expected else {
            assert_eq!((verdict, &made), (NEXT, &frame), "{}", context());
            *seen.entry("spared").or_default() += 1;
            continue;
        };
        hits += 1;
        *seen.entry(hit.what()).or_default() += 1;
        if fault::code(hit.params) == TIMEOUT {
            assert_eq!(verdict, REDIRECTED, "{}", context());
        } else if hit.is_tcp() {
            assert_eq!(verdict, NEXT, "{}", context());
            hit.assert_is_reset(&made, &context);
            copies.push(hit.answer());
        } else {
            assert_eq!(verdict, REDIRECTED, "{}", context());
            assert_eq!(made[..6], frame[6..12], "{}", context());
            assert_eq!(made[6..12], frame[..6], "{}", context());
            assert_eq!(made[12..14], frame[12..14], "{}", context());
            assert_is_answer(&made[ETHERNET..], &hit.answer(), &context);
        }
    }
    assert_arrived(&captures, &mut copies);
    println!("{seen:?}");
    let stats = stats.get(&0, 0).expect("the rule's counts");
    assert_eq!(
        (stats.matched, stats.injected, stats.errors),
        (hits, hits, 0)
    );
    let least = packets() / 500;
    for what in ["spared", "lost", "over UDP", "over TCP", "two over TCP"] {
        assert!(
            seen.get(what).is_some_and(|&count| count >= least),
            "{what}: {seen:?}"
        );
    }
    assert!(seen["refused"] < packets() / 20, "{seen:?}");
}

/// Waits for the copies that the program has sent, and checks each.
#[track_caller]
fn assert_arrived(captures: &[Capture; 2], expected: &mut Vec<Answer>) {
    let mut found = Vec::new();
    wait::until("all answers over TCP", || {
        for capture in captures {
            found.extend(capture.take());
        }
        (found.len() >= expected.len()).then_some(())
    });
    let mut found: Vec<Answer> = found.iter().map(|packet| replies::read(packet)).collect();
    found.sort();
    expected.sort();
    assert_eq!(&found, expected);
    expected.clear();
}

#[track_caller]
fn assert_is_answer(packet: &[u8], expected: &Answer, context: &dyn Fn() -> String) {
    assert_eq!(&replies::read(packet), expected, "{}", context());
}

/// A packet that a rule hits.
struct Hit<'a> {
    frame: &'a [u8],
    facts: Facts,
    params: Params,
    queries: Vec<Query>,
}

impl<'a> Hit<'a> {
    /// What the host reads of a packet, if the rule hits it.
    fn of(rule: &RuleEntry, frame: &'a [u8], gso_size: u32) -> Option<Self> {
        let mut facts = Facts::NONE;
        let ether_type = u16::from_ne_bytes([frame[12], frame[13]]);
        let l2_len = test_run::L2_LEN;
        if !reading::parse(&Frame(frame, gso_size), ether_type, l2_len, &mut facts)
            || !rule.filter.matches(&facts, EGRESS)
            || facts.is_fragment()
            || gso_size != 0
        {
            return None;
        }
        let (start, end) = (facts.payload_offset as usize, facts.end_offset as usize);
        let transport = &frame[facts.transport_offset as usize..end];
        let payload = &frame[start..end];
        let queries = if facts.number == TCP {
            // Neither SYN nor RST, and ACK.
            let is_amid = transport[13] & 0x16 == 0x10;
            if is_amid {
                over_tcp(payload)
            } else {
                Vec::new()
            }
        } else {
            let stated = usize::from(u16::from_be_bytes([transport[4], transport[5]]));
            if stated == transport.len() {
                over_udp(payload)
            } else {
                Vec::new()
            }
        };
        let params = rule.params;
        let means = |query: &Query| {
            fault::takes_type(params, query.kind)
                && (!fault::asks_table(params) || is_asked_for(&query.name))
        };
        (!queries.is_empty() && queries.iter().all(means)).then_some(Self {
            frame,
            facts,
            params,
            queries,
        })
    }

    fn is_tcp(&self) -> bool {
        self.facts.number == TCP
    }

    fn what(&self) -> &'static str {
        match self.queries.len() {
            _ if fault::code(self.params) == TIMEOUT => "lost",
            2 => "two over TCP",
            _ if self.is_tcp() => "over TCP",
            _ => "over UDP",
        }
    }

    /// Where the packet's addresses begin and end.
    fn addresses(&self) -> [&[u8]; 2] {
        let (at, len) = if self.facts.family == 4 {
            (12, 4)
        } else {
            (8, 16)
        };
        [0, len].map(|more| &self.frame[ETHERNET + at + more..][..len])
    }

    fn transport(&self) -> &[u8] {
        &self.frame[self.facts.transport_offset as usize..]
    }

    /// What it should be answered.
    fn answer(&self) -> Answer {
        let [src, dst] = self.addresses();
        let transport = self.transport();
        let [a, b, c, d] = transport[..4].try_into().expect("ports");
        let mut payload = Vec::new();
        for query in &self.queries {
            let message = self.message(query);
            assert!(message.len() <= 512, "more than all clients take");
            if self.is_tcp() {
                let len = u16::try_from(message.len()).expect("a short message");
                payload.extend(len.to_be_bytes());
            }
            payload.extend(message);
        }
        let state = self.is_tcp().then(|| {
            let number = |at: usize| transport[at..at + 4].try_into().expect("four bytes");
            let seq = u32::from_be_bytes(number(4));
            let fin = u32::from(transport[13] & 1);
            let len = self.facts.end_offset - self.facts.payload_offset;
            let ack = seq.wrapping_add(len).wrapping_add(fin).to_be_bytes();
            let [e, f, g, h]: [u8; 4] = number(8);
            ([e, f, g, h, ack[0], ack[1], ack[2], ack[3]], 0x19)
        });
        Answer {
            proto: self.facts.number,
            src: dst.to_vec(),
            dst: src.to_vec(),
            ports: [c, d, a, b],
            state,
            payload,
        }
    }

    /// The message that answers one query.
    fn message(&self, query: &Query) -> Vec<u8> {
        let start = self.facts.payload_offset as usize;
        let asked = &self.frame[start + query.start..start + query.question_end];
        let code = fault::code(self.params);
        let record: &[u8] = match query.kind {
            TYPE_A if code == NOERROR => &V4,
            TYPE_AAAA if code == NOERROR => &V6,
            _ => &[],
        };
        let (rcode, cut) = if code == TRUNCATED { (0, 2) } else { (code, 0) };
        let flags = [0x80 | cut | asked[2] & 1, 0x80 | asked[3] & 0x10 | rcode];
        let records = u8::from(!record.is_empty());
        let counts = [0, 1, 0, records, 0, 0, 0, u8::from(query.has_opt)];
        let mut message = [&asked[..2], &flags, &counts, &asked[12..]].concat();
        if records == 1 {
            let len = u8::try_from(record.len()).expect("an address");
            message.extend([0xc0, 12]);
            message.extend(query.kind.to_be_bytes());
            message.extend([0, 1]);
            message.extend(TTL.to_be_bytes());
            message.extend([0, len]);
            message.extend(record);
        }
        if query.has_opt {
            let opt = &self.frame[start + query.question_end..];
            message.extend(&opt[..5]);
            message.extend([0, 0, opt[7] & 0x80, 0, 0, 0]);
        }
        message
    }

    /// What goes on to the name server instead of the query: a reset, and nothing else.
    fn assert_is_reset(&self, made: &[u8], context: &dyn Fn() -> String) {
        let [src, dst] = self.addresses().map(<[u8]>::to_vec);
        let transport = self.transport();
        let expected = Answer {
            proto: TCP,
            src,
            dst,
            ports: transport[..4].try_into().expect("four bytes"),
            state: Some((transport[4..12].try_into().expect("eight bytes"), 0x14)),
            payload: Vec::new(),
        };
        assert_eq!(made[..ETHERNET], self.frame[..ETHERNET], "{}", context());
        assert_is_answer(&made[ETHERNET..], &expected, context);
    }
}

/// Whether the longest end in the table that a name has is one that is asked for.
fn is_asked_for(name: &[u8]) -> bool {
    let name = [b"\0", name].concat();
    let ends = ENDS
        .iter()
        .filter(|(end, _)| name.ends_with(end.as_bytes()));
    ends.max_by_key(|(end, _)| end.len())
        .is_some_and(|(_, value)| *value == NAME_IN)
}

/// A rule for queries to the usual port.
fn rule(dice: &mut Dice) -> RuleSlot {
    let mut filter = PacketFilter::ANY;
    filter.peer_ports = PortSet::NONE;
    filter.peer_ports.ranges[0] = [53, 53];
    let code = dice.of(&[NXDOMAIN, REFUSED, NOERROR, NOERROR, TRUNCATED, TIMEOUT]);
    let protocols = if code == TRUNCATED {
        1 << UDP
    } else {
        1 << UDP | 1 << TCP
    };
    filter.protocols = [protocols, 0, 0, 0];
    let mut params = if code == NOERROR {
        fault::addresses(Some(V4), Some(V6), TTL)
    } else {
        fault::params(code)
    };
    let types: &[u16] = if dice.one_in(3) {
        &[TYPE_A, TYPE_AAAA]
    } else {
        &[]
    };
    params = fault::of_types(params, types);
    if dice.one_in(2) {
        params = fault::of_names(params);
    }
    let mut slot = test_run::loss(filter);
    for version in &mut slot.versions {
        version.kind = FaultKind::Dns as u32;
        version.params = params;
    }
    slot
}
