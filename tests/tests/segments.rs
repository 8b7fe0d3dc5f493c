//! `--unit segment`: super-packets are judged as the packets that they are on the wire.

use std::{ops::RangeInclusive, os::fd::AsFd as _, time::Duration};

use injector_common::{
    FaultKind, SiteEntry,
    filter::PacketFilter,
    names::{PROG_EGRESS, PROG_INGRESS},
    random::{draw, roll, rule_seed},
    trigger::{THRESHOLD_ALWAYS, Trigger},
    uses::Uses,
};
use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    dialer::DialBed,
    netns::{Ip, Pair},
    require,
    test_run::{self, NEXT},
    traffic::{Direction, Load, TcpFlow, UdpFlow},
};

/// How many packets the kernel takes as one super-packet.
const TOGETHER: u64 = 20;
const LOAD: Load = Load::of(200 * TOGETHER).sized(500);

const SEED: u64 = 7;
/// A quarter: a share that the kernel's threshold stands for exactly.
const PERCENT: &str = "25";
const QUARTER: Trigger = Trigger {
    threshold: THRESHOLD_ALWAYS / 4,
    ..Trigger::ALWAYS
};

/// Whether the only rule selects its `n`th packet.
fn selected(n: u64) -> bool {
    QUARTER.selects(n, roll(draw(rule_seed(SEED, 0), n)))
}

/// A victim and a bystander that send, or are sent, super-packets.
struct Bed {
    cgroup: Cgroup,
    victim: UdpFlow,
    bystander: UdpFlow,
    pair: Pair,
}

impl Bed {
    fn new(direction: Direction, ip: Ip) -> Self {
        let pair = Pair::new();
        let cgroup = Cgroup::new("victim");
        let flow = |group: Option<&Cgroup>, number: u16| {
            let mut near = Place::netns(&pair.near);
            if let Some(group) = group {
                near = near.and_cgroup(group);
            }
            let far = Place::netns(&pair.far);
            let ends = (
                (Pair::near_address(ip), 8000 + number).into(),
                (Pair::far_address(ip), 7000 + number).into(),
            );
            let (sender, receiver, (from, to)) = match direction {
                Direction::Egress => (near, far, ends),
                Direction::Ingress => (far, near, (ends.1, ends.0)),
            };
            let mut flow = UdpFlow::new(from, to);
            flow.start_receiver(receiver);
            flow.start_sender_of_super_packets(sender, TOGETHER);
            flow
        };
        Self {
            victim: flow(Some(&cgroup), 1),
            bystander: flow(None, 2),
            cgroup,
            pair,
        }
    }

    fn inject(&self, fault: &[&str], direction: Direction) -> Injection {
        let target = self.cgroup.target();
        let way = match direction {
            Direction::Egress => "egress",
            Direction::Ingress => "ingress",
        };
        let place = ["--target", &target, "--proto", "udp", "--direction", way];
        Injection::start(&[fault, &place, &["--seed", "7", "--for", "90s"]].concat())
    }
}

/// The packets that the rule must have selected, from 1, where its `n`th judgement is of
/// `together` packets.
fn expected(together: u64) -> Vec<u64> {
    (1..=LOAD.count)
        .filter(|packet| selected((packet - 1) / together + 1))
        .collect()
}

fn loses_what_it_selects(direction: Direction, ip: Ip) {
    require!(Segments);
    let bed = Bed::new(direction, ip);
    for (unit, together) in [("packet", TOGETHER), ("segment", 1)] {
        let fault = ["net-loss", "--percent", PERCENT, "--unit", unit];
        let injection = bed.inject(&fault, direction);
        let arrived = bed.victim.round(LOAD);
        bed.bystander.round(LOAD).assert_untouched(LOAD);
        let rule = injection.stop().rule();
        assert_eq!(arrived.lost, expected(together), "{unit}");
        let strange = (arrived.damaged, arrived.duplicates, arrived.inversions);
        assert_eq!(strange, (0, 0, 0), "{unit}");
        assert_eq!(rule.matched, LOAD.count / together, "{unit}");
        assert_eq!(rule.injected, arrived.missing() / together, "{unit}");
    }
    bed.victim.round(LOAD).assert_untouched(LOAD);
    drop(bed.pair);
}

#[test]
fn egress_v4() {
    loses_what_it_selects(Direction::Egress, Ip::V4);
}

#[test]
fn egress_v6() {
    loses_what_it_selects(Direction::Egress, Ip::V6);
}

#[test]
fn ingress_v4() {
    loses_what_it_selects(Direction::Ingress, Ip::V4);
}

#[test]
fn ingress_v6() {
    loses_what_it_selects(Direction::Ingress, Ip::V6);
}

/// Segments wait each by itself: first they are split, then judged, then they wait.
#[test]
fn segments_are_late() {
    require!(NetDelay);
    for direction in [Direction::Egress, Direction::Ingress] {
        let bed = Bed::new(direction, Ip::V4);
        let late = [
            "net-delay",
            "--delay",
            "300ms",
            "--jitter",
            "1ms",
            "--reorder",
        ];
        let fault = [&late[..], &["--percent", PERCENT, "--unit", "segment"]].concat();
        let injection = bed.inject(&fault, direction);
        let arrived = bed.victim.round(LOAD.windowed(1 << 40));
        let rule = injection.stop().rule();
        let chosen = u64::try_from(expected(1).len()).expect("64 bits");
        assert_eq!((rule.matched, rule.injected), (LOAD.count, chosen));
        assert_eq!(arrived.missing(), 0, "{arrived:?}");
        assert_eq!(arrived.delays.at_least(Duration::from_millis(298)), chosen);
    }
}

/// The packets of the third judgement: a super-packet, or a segment.
fn third(unit: &str) -> RangeInclusive<u64> {
    match unit {
        "packet" => 2 * TOGETHER + 1..=3 * TOGETHER,
        _ => 3..=3,
    }
}

/// What the other kinds do to a packet, they do to a segment.
#[test]
fn other_kinds_hit_single_segments() {
    require!(Segments);
    let few = Load::of(10 * TOGETHER).sized(500);
    for (direction, ip) in [(Direction::Egress, Ip::V4), (Direction::Ingress, Ip::V6)] {
        let bed = Bed::new(direction, ip);
        for unit in ["packet", "segment"] {
            let round = |kind: &str| {
                let words: Vec<&str> = kind.split(' ').collect();
                let fault = [&words[..], &["--when", "3", "--unit", unit]].concat();
                let injection = bed.inject(&fault, direction);
                let arrived = bed.victim.round(few);
                bed.bystander.round(few).assert_untouched(few);
                let rule = injection.stop().rule();
                assert_eq!(rule.injected, 1, "{kind} {unit}: {rule:?}");
                let judged = if unit == "packet" { TOGETHER } else { 1 };
                assert_eq!(rule.matched, few.count / judged, "{kind} {unit}: {rule:?}");
                arrived
            };
            let third: Vec<u64> = third(unit).collect();
            let twice = round("net-duplicate");
            assert_eq!((twice.missing(), twice.duplicates), (0, third.len() as u64));
            let mut numbers: Vec<u64> = bed.victim.notes().iter().map(|&(n, _)| n + 1).collect();
            numbers.sort_unstable();
            let again = numbers.windows(2).filter(|pair| pair[0] == pair[1]);
            assert_eq!(
                again.map(|pair| pair[0]).collect::<Vec<_>>(),
                third,
                "{unit}"
            );
            // One of the segments is damaged; but a broken checksum is that of all.
            let damaged = round("net-corrupt");
            assert_eq!((damaged.damaged, damaged.lost.len()), (1, 1), "{unit}");
            assert!(third.contains(&damaged.lost[0]), "{unit}: {damaged:?}");
            assert_eq!(round("net-corrupt --checksum broken").lost, third, "{unit}");
            assert_eq!(round("net-reject").lost, third, "{unit}");
        }
        bed.victim.round(few).assert_untouched(few);
    }
}

/// A connection breaks by what its segments have carried.
#[test]
fn connections_break() {
    require!(Segments);
    const COUNT: u64 = 4;
    let options = ["--exchanges", "5", "--size", "20000"];
    let broken = libc::ECONNRESET.unsigned_abs();
    for (direction, ip) in [(Direction::Egress, Ip::V6), (Direction::Ingress, Ip::V4)] {
        let bed = DialBed::on_cable(ip, Direction::Egress, &options);
        let when = ["--after-bytes", "30000", "--unit", "segment"];
        let way = ["--direction", direction.word()];
        let injection = bed.inject("net-reset", &[&way[..], &when].concat());
        bed.bystander.begin(COUNT);
        let seen = bed.victim.round(COUNT);
        assert_eq!((seen.failures, seen.errno), (COUNT, broken), "{seen:?}");
        let answered = bed.victim.answered(COUNT);
        assert_eq!((answered.failures, answered.errno), (COUNT, broken));
        bed.assert_bystander_unharmed(COUNT);
        let rule = injection.stop().rule();
        assert!(rule.injected >= COUNT && rule.errors == 0, "{rule:?}");
        bed.assert_unharmed(COUNT);
    }
}

/// On a slow link a super-packet leaves as a whole, when its last byte would have; its
/// segments leave one by one.
#[test]
fn a_link_takes_segments_one_by_one() {
    require!(NetDelay);
    let few = Load::of(TOGETHER).sized(500);
    // With the headers of Ethernet, IP and UDP.
    let segment = Duration::from_micros((500 + 42) * 8);
    let all = segment * u32::try_from(TOGETHER).expect("few");
    for direction in [Direction::Egress, Direction::Ingress] {
        let bed = Bed::new(direction, Ip::V4);
        for (unit, first) in [("packet", all), ("segment", segment)] {
            let fault = ["net-rate", "--rate", "1mbit", "--unit", unit];
            let injection = bed.inject(&fault, direction);
            let delays = bed.victim.round(few).delays;
            let rule = injection.stop().rule();
            let judged = if unit == "packet" { TOGETHER } else { 1 };
            assert_eq!(rule.injected * judged, few.count, "{unit}: {rule:?}");
            assert!(delays.shortest >= first, "{unit}: {delays:?}");
            assert!(delays.longest >= all, "{unit}: {delays:?}");
            let prompt = delays.shortest < all - segment;
            assert_eq!(prompt, unit == "segment", "{unit}: {delays:?}");
        }
    }
}

/// A stream of TCP arrives whole, and each of its segments was judged.
#[test]
fn tcp() {
    require!(Segments);
    const BYTES: u64 = 2_000_000;
    /// Of an Ethernet frame, with time stamps.
    const SEGMENT: u64 = 1_448;
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let to = (Pair::far_address(Ip::V4), 7001).into();
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let flow = TcpFlow::start(near, Place::netns(&pair.far), to, 1, None);
    let target = cgroup.target();
    let least = BYTES.div_ceil(SEGMENT);
    for (unit, judged) in [("packet", 1..least / 2), ("segment", least..u64::MAX)] {
        let rule = ["net-loss", "--when", "7..7", "--unit", unit];
        let whom = ["--target", &target, "--proto", "tcp", "--for", "90s"];
        let injection = Injection::start(&[&rule[..], &whom].concat());
        let stream = flow.round(BYTES);
        let rule = injection.stop().rule();
        assert_eq!((stream.bytes, stream.bad_bytes), (BYTES, 0), "{unit}");
        assert!(judged.contains(&rule.matched), "{unit}: {rule:?}");
        assert_eq!(rule.injected, 1, "{unit}: {rule:?}");
    }
}

/// What cannot be split is refused, or left alone and said so.
#[test]
fn what_cannot_be_split() {
    require!(Segments);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let _member = Place::netns(&pair.near)
        .and_cgroup(&cgroup)
        .spawn("sleep", &["60"]);
    let target = cgroup.target();
    for (options, status, words) in [
        (
            &["--unit", "segment", "--interface", "lo"][..],
            3,
            "loopback",
        ),
        (&["--unit", "datagram"], 2, "packet or segment"),
        (&["--unit", "segment", "--visibility", "local"], 2, "unit"),
        (&["--unit", "segment"], 0, "leaves loopback packets alone"),
    ] {
        let line = ["plan", "net-loss", "--target", &target, "--for", "9s"];
        let finished = agent::run(&[&line[..], options].concat());
        assert_eq!(finished.code(), status, "{options:?}: {finished:?}");
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(said.contains(words), "{options:?}: {said}");
    }
}

/// A frame of IPv4 or IPv6 with one payload that has `protocol` and 8 bytes.
fn frame(ip: Ip, protocol: u8, payload: [u8; 8]) -> Vec<u8> {
    let (ether_type, mut header): (u16, Vec<u8>) = match ip {
        Ip::V4 => (0x0800, vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0]),
        Ip::V6 => (0x86dd, vec![0x60, 0, 0, 0, 0, 8, protocol, 255]),
    };
    // Addresses, which no socket has.
    header.resize(if ip == Ip::V4 { 20 } else { 40 }, 9);
    let mut frame = vec![0; 12];
    frame.extend(ether_type.to_be_bytes());
    frame.extend(header);
    frame.extend(payload);
    frame
}

/// Only the packets of rules on segments take that way, and never those that no rule hits.
#[test]
fn who_takes_the_way_through_the_splitter() {
    require!(NetLoss);
    /// `TC_ACT_REDIRECT` (linux/pkt_cls.h).
    const SENT_ON: u32 = 7;
    const UDP: u8 = 17;
    const ICMPV6: u8 = 58;
    let udp = [0x1f, 0x40, 0x1b, 0x59, 0, 8, 0, 0];
    let dhcp = [0, 68, 0, 67, 0, 8, 0, 0];
    let solicitation = [135, 0, 0, 0, 0, 0, 0, 0];
    for (splits, ip, protocol, payload, expected) in [
        (1, Ip::V4, UDP, udp, SENT_ON),
        (1, Ip::V6, UDP, udp, SENT_ON),
        // Another rule's, in a namespace where nothing splits, or without a unit.
        (0, Ip::V4, UDP, udp, NEXT),
        (0b10, Ip::V6, UDP, udp, NEXT),
        (1, Ip::V4, UDP, dhcp, NEXT),
        (1, Ip::V6, ICMPV6, solicitation, NEXT),
    ] {
        for name in [PROG_EGRESS, PROG_INGRESS] {
            let parts = Uses::kind(FaultKind::NetLoss).and(Uses::SEGMENTS);
            let mut ebpf = test_run::load_for(parts);
            let program = test_run::program(&mut ebpf, name);
            let devices = SiteEntry {
                splits,
                split: 1,
                split_return: 2,
                ..SiteEntry::default()
            };
            let mut rules = test_run::arm_at(&mut ebpf, devices);
            // One that leaves alone what it is asked about.
            let mut rule = test_run::loss(PacketFilter::ANY);
            rule.versions[0].trigger = Trigger {
                first: u64::MAX,
                ..Trigger::ALWAYS
            };
            rules.set(0, rule, 0).expect("write the rule");
            let mut frame = frame(ip, protocol, payload);
            let verdict = test_run::run(program.as_fd(), &mut frame, 0);
            let verdict = verdict.expect("a frame");
            assert_eq!(verdict, expected, "{name}, {splits}, {ip:?}, {payload:?}");
        }
    }
}
