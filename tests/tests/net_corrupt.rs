//! `net-corrupt`: bits or bytes arrive changed, and either the application sees it
//! or the receiver's stack does.

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Netns, Pair},
    packet_matrix, require,
    stats::{assert_correlated, binomial_999},
    traffic::{Arrived, Bed, Case, Direction, Load, TcpFlow},
};

/// Large enough that the flipped byte seldom lies in a packet's own header.
const LOAD: Load = Load::of(2000).sized(512);

/// Enough where packets only have to be dropped.
const FEW: Load = Load::of(600).sized(512);

packet_matrix!(check_valid);

mod broken {
    injector_tests::packet_matrix!(super::check_broken);
}

/// Damages 30 % of a victim's packets so that its peer's application reads the
/// damage: exactly as many as the rule counts.
#[track_caller]
fn check_valid(case: Case) {
    require!(NetCorrupt);
    let mut bed = Bed::new(case);
    bed.assert_untouched_before(LOAD);
    let errors = checksum_errors(bed.receiver(), case.ip);
    let injection = bed.inject(&[
        "net-corrupt",
        "--checksum",
        "valid",
        "--percent",
        "30",
        "--seed",
        "5",
    ]);
    let arrived = bed.round(LOAD, LOAD);
    let rule = bed.stop(injection).rule();
    assert_eq!(
        (rule.matched, arrived.missing()),
        (LOAD.count, 0),
        "{rule:?} {arrived:?}"
    );
    assert_eq!(rule.injected, arrived.damaged, "{rule:?} {arrived:?}");
    let expected = binomial_999(LOAD.count, 0.3);
    assert!(
        expected.contains(&rule.injected),
        "{rule:?}, allowed: {expected:?}"
    );
    assert_one_byte_each(&arrived);
    assert_eq!(
        checksum_errors(bed.receiver(), case.ip),
        errors,
        "the stack noticed"
    );
    bed.assert_untouched_after(LOAD);
}

/// Checks that each damaged packet has one wrong byte, as far as can be seen:
/// one that lies in the packet's header is not counted.
#[track_caller]
fn assert_one_byte_each(arrived: &Arrived) {
    let bad = arrived.bad_bytes;
    let some = arrived.damaged * 9 / 10;
    assert!((some..=arrived.damaged).contains(&bad), "{arrived:?}");
}

/// Damages 30 % of a victim's packets so that its peer's stack notices: nothing
/// damaged reaches the application, and the stack counts as many errors as the
/// rule counts packets.
#[track_caller]
fn check_broken(case: Case) {
    require!(NetCorrupt);
    let ip = case.ip;
    let mut bed = Bed::new(case);
    bed.assert_untouched_before(FEW);
    let errors = checksum_errors(bed.receiver(), ip);
    let injection = bed.inject(&[
        "net-corrupt",
        "--checksum",
        "broken",
        "--percent",
        "30",
        "--seed",
        "6",
    ]);
    let arrived = bed.round(FEW, FEW);
    let rule = bed.stop(injection).rule();
    assert_eq!(
        (rule.matched, arrived.damaged),
        (FEW.count, 0),
        "{rule:?} {arrived:?}"
    );
    assert_eq!(rule.injected, arrived.missing(), "{rule:?} {arrived:?}");
    let expected = binomial_999(FEW.count, 0.3);
    assert!(
        expected.contains(&rule.injected),
        "{rule:?}, allowed: {expected:?}"
    );
    let counted = checksum_errors(bed.receiver(), ip) - errors;
    assert_eq!(
        counted, rule.injected,
        "errors counted by the receiver's stack"
    );
    bed.assert_untouched_after(FEW);
}

/// UDP packets that a namespace has dropped for their checksum.
fn checksum_errors(netns: &Netns, ip: Ip) -> u64 {
    match ip {
        Ip::V4 => netns.counter("Udp", "InCsumErrors"),
        Ip::V6 => netns.counter("Udp6", "InCsumErrors"),
    }
}

#[test]
fn times_damages_exactly_so_many() {
    require!(NetCorrupt);
    let mut bed = Bed::new(Case::plain(Direction::Egress));
    let injection = bed.inject(&["net-corrupt", "--checksum", "valid", "--times", "12"]);
    let (arrived, _) = bed.spend(LOAD, injection, 12);
    assert_eq!(arrived.damaged, 12, "{arrived:?}");
    assert_eq!(arrived.lost[..12], (1..=12).collect::<Vec<_>>());
}

/// A bed of TCP streams from the near to the far side, with a fault on either
/// end of them.
struct Streams {
    pair: Pair,
    cgroup: Cgroup,
    flow: TcpFlow,
}

impl Streams {
    fn new(ip: Ip, direction: Direction) -> Self {
        let pair = Pair::new();
        let cgroup = Cgroup::new("victim");
        let (near, far) = (
            Place::netns(&pair.near).and_cgroup(&cgroup),
            Place::netns(&pair.far),
        );
        let flow = match direction {
            Direction::Egress => {
                let to = (Pair::far_address(ip), 7000).into();
                TcpFlow::start(near, far, to, 2, None)
            }
            Direction::Ingress => {
                let to = (Pair::near_address(ip), 7000).into();
                TcpFlow::start(far, near, to, 2, None)
            }
        };
        Self { pair, cgroup, flow }
    }

    fn inject(&self, options: &str, direction: Direction) -> Injection {
        let target = self.cgroup.target();
        let mut args = vec!["net-corrupt", "--target", &target];
        args.extend(options.split_whitespace());
        args.extend(["--direction", direction.word(), "--proto", "tcp"]);
        args.extend(["--percent", "10", "--seed", "2", "--for", "60s"]);
        Injection::start(&args)
    }
}

const BYTES: u64 = 400_000;

#[track_caller]
fn check_tcp_valid(ip: Ip, direction: Direction, extents: [(&str, u64); 2]) {
    require!(NetCorrupt);
    let streams = Streams::new(ip, direction);
    assert_eq!(streams.flow.round(BYTES).bad_bytes, 0);
    let sender = match direction {
        Direction::Egress => &streams.pair.near,
        Direction::Ingress => &streams.pair.far,
    };
    let sent_again = || sender.counter("Tcp", "RetransSegs");
    for (options, each) in extents {
        let before = sent_again();
        let injection = streams.inject(options, direction);
        let stream = streams.flow.round(BYTES);
        let rule = injection.stop().rule();
        assert_eq!(stream.bytes, 2 * BYTES);
        // So many for each packet that was damaged; a packet without payload has
        // nothing to damage. Of a segment that was sent again, since an answer
        // came late on a busy machine, the receiver takes one alone.
        assert!(rule.injected > 0, "{rule:?}");
        let bad = if options.contains("bits") {
            stream.bad_bits
        } else {
            stream.bad_bytes
        };
        let unseen = (rule.injected * each).checked_sub(bad);
        let again = sent_again() - before;
        assert!(
            unseen.is_some_and(|unseen| unseen <= again * each),
            "{options}: {rule:?} {stream:?}, {again} segments sent again"
        );
        assert_eq!(streams.flow.round(BYTES).bad_bytes, 0);
    }
}

#[test]
fn tcp_valid_v4_egress() {
    let extents = [("--checksum valid", 1), ("--bytes 8", 8)];
    check_tcp_valid(Ip::V4, Direction::Egress, extents);
}

#[test]
fn tcp_valid_v6_ingress() {
    let extents = [("--bits 1", 1), ("--bits 8", 8)];
    check_tcp_valid(Ip::V6, Direction::Ingress, extents);
}

/// Lets the checksum of TCP packets break, and returns how many errors the
/// receiver's stack counted, and how many packets the rule did.
#[track_caller]
fn break_tcp(streams: &Streams, direction: Direction, options: &str) -> (u64, u64) {
    let receiver = match direction {
        Direction::Egress => &streams.pair.far,
        Direction::Ingress => &streams.pair.near,
    };
    let before = receiver.counter("Tcp", "InCsumErrors");
    let options = format!("--checksum broken {options}");
    let injection = streams.inject(&options, direction);
    let stream = streams.flow.round(BYTES);
    let rule = injection.stop().rule();
    // TCP repairs what its checksum catches.
    assert_eq!((stream.bytes, stream.bad_bytes), (2 * BYTES, 0));
    assert!(rule.injected > 0, "{rule:?}");
    (
        receiver.counter("Tcp", "InCsumErrors") - before,
        rule.injected,
    )
}

#[track_caller]
fn check_tcp_broken(ip: Ip, direction: Direction) {
    require!(NetCorrupt);
    let streams = Streams::new(ip, direction);
    // Without segmentation offload a packet is a segment, and counts as one.
    for (netns, link) in [(&streams.pair.near, "near0"), (&streams.pair.far, "far0")] {
        netns.ip(&["link", "set", link, "gso_max_segs", "1"]);
    }
    for options in ["", "--region headers --bits 1"] {
        let (counted, injected) = break_tcp(&streams, direction, options);
        assert_eq!(counted, injected, "errors counted by the receiver's stack");
    }
}

#[test]
fn tcp_broken_v4_egress() {
    check_tcp_broken(Ip::V4, Direction::Egress);
}

#[test]
fn tcp_broken_v6_ingress() {
    check_tcp_broken(Ip::V6, Direction::Ingress);
}

/// With segmentation offload, a packet of many segments breaks as a whole.
#[test]
fn tcp_broken_in_large_packets() {
    require!(NetCorrupt);
    let streams = Streams::new(Ip::V4, Direction::Egress);
    let (counted, injected) = break_tcp(&streams, Direction::Egress, "--bytes 4");
    assert!(
        counted >= injected,
        "{counted} errors for {injected} packets"
    );
}

/// With a correlation of 3/4, a packet that is damaged is followed by another one in
/// 0.2 + 0.75 × 0.8 = 80 % of cases, whoever notices.
#[test]
fn correlated_damage_keeps_its_rate() {
    require!(NetCorrupt);
    let load = Load::of(20_000);
    for (direction, checksum) in [(Direction::Egress, "valid"), (Direction::Ingress, "broken")] {
        let mut bed = Bed::new(Case::plain(direction));
        let options = "--percent 20 --correlation 75 --seed 5 --checksum";
        let fault = ["net-corrupt"].into_iter().chain(options.split(' '));
        let injection = bed.inject(&fault.chain([checksum]).collect::<Vec<_>>());
        let arrived = bed.round(load, load);
        let rule = bed.stop(injection).rule();
        assert_eq!(rule.matched, load.count, "{rule:?}");
        let hit = arrived.damaged + arrived.missing();
        assert_eq!(rule.injected, hit, "{rule:?} {arrived:?}");
        let mut damaged = vec![true; 20_000];
        for (number, _) in bed.victim.notes() {
            damaged[usize::try_from(number).expect("few")] = false;
        }
        assert_correlated(&damaged, 0.2, 0.75);
        bed.assert_untouched_after(LOAD);
    }
}
