//! Filters of packet rules that name several things, leave things out, or look
//! at the packet itself.

use std::fmt::Write as _;

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Pair, address},
    require,
    traffic::{
        Alone, Direction, TcpFlow, UdpFlow,
        ends::{FAR_PORT, Flow, LOAD, NEAR_PORT, OTHER_CABLE, OTHER_PORTS, PLAIN, check},
    },
};

const V6: Flow = Flow {
    ip: Ip::V6,
    ..PLAIN
};

#[test]
fn the_longest_network_decides() {
    let networks = ["--peer", "10.77.0.0/16", "--peer", "!10.77.1.0/24"];
    check(&networks, PLAIN, OTHER_CABLE);
    check(
        &[&networks[..], &["--peer", "!10.77.0.0/24,10.77.1.2"]].concat(),
        OTHER_CABLE,
        PLAIN,
    );
}

#[test]
fn every_peer_but_some() {
    check(&["--peer", "!10.77.1.0/24"], PLAIN, OTHER_CABLE);
    check(&["--peer", "!10.0.0.0/8"], V6, PLAIN);
    check(&["--peer", "!::/0"], PLAIN, V6);
}

#[test]
fn the_targets_own_address() {
    check(&["--local", "10.77.0.0/24"], PLAIN, OTHER_CABLE);
    check(&["--local", "!10.77.0.1"], OTHER_CABLE, PLAIN);
    check(&["--local", "fd77::/64,10.9.0.0/16"], V6, PLAIN);
    // Not the peer's.
    check(
        &["--local", "10.77.1.2,10.77.0.1", "--peer", "!10.77.1.1"],
        PLAIN,
        OTHER_CABLE,
    );
}

#[test]
fn networks_of_both_families() {
    let other = Flow { cable: 1, ..V6 };
    check(&["--peer", "10.77.1.0/24,fd77::/64"], V6, PLAIN);
    check(&["--peer", "10.77.0.0/24,fd77:0:0:1::/64"], other, V6);
}

/// Rules of a file, in force.
#[track_caller]
fn run(rules: &str) -> Injection {
    Injection::of_spec(&format!("version: 1\nfor: 60s\nrules:\n{rules}"))
}

#[test]
fn twelve_thousand_networks_and_two_rules() {
    require!(NetLoss);
    let pair = Pair::new();
    pair.join("near1", "far1", 1);
    let cgroup = Cgroup::new("victim");
    let hit = PLAIN.start(&pair, &cgroup, Direction::Egress);
    let spared = OTHER_CABLE.start(&pair, &cgroup, Direction::Egress);
    let mut networks = String::from("10.77.0.0/24");
    for number in 0..12_000 {
        write!(
            networks,
            ", 10.{}.{}.0/24",
            100 + number / 256,
            number % 256
        )
        .expect("a string");
    }
    let target = cgroup.target();
    // What one rule leaves out says nothing of the other.
    let injection = run(&format!(
        "- {{name: listed, kind: net-loss, target: '{target}', when: 1..2, peer: [{networks}]}}\n\
         - {{name: others, kind: net-loss, target: '{target}', when: 1..1000, peer: ['!10.77.1.0/24', '!fe80::/10']}}\n",
    ));
    assert_eq!(hit.round(LOAD).missing(), LOAD.count);
    spared.round(LOAD).assert_untouched(LOAD);
    let report = injection.stop().report();
    let counts: Vec<_> = report
        .rules
        .iter()
        .map(|rule| (rule.matched, rule.injected))
        .collect();
    assert_eq!(counts, [(LOAD.count, 2), (LOAD.count - 2, LOAD.count - 2)]);
}

#[test]
fn several_ports() {
    check(&["--peer-port", "1000-2000,7100"], PLAIN, OTHER_PORTS);
    check(
        &["--peer-port", "7000-7200", "--peer-port", "!7101"],
        PLAIN,
        OTHER_PORTS,
    );
    check(&["--local-port", "!8101"], PLAIN, OTHER_PORTS);
    let edges = ["--local-port", "1,3,5,7,9,11,8100,8102-65535"];
    check(&edges, PLAIN, OTHER_PORTS);
}

#[test]
fn several_interfaces() {
    check(
        &["--interface", "near0", "--interface", "lo"],
        PLAIN,
        OTHER_CABLE,
    );
    check(&["--interface", "!near1"], PLAIN, OTHER_CABLE);
}

#[test]
fn protocols_by_number_and_by_what_they_are_not() {
    require!(NetLoss);
    let bed = Alone::new();
    // Options, and whether UDP, TCP, ICMP and ICMPv6 get through.
    for (protocols, expected) in [
        (&["--proto", "17"][..], [false, true, true, true]),
        (&["--proto", "!icmp"], [false, false, true, true]),
        (
            &["--proto", "!tcp", "--proto", "!17"],
            [true, true, false, false],
        ),
        (&["--proto", "tcp,1"], [true, false, false, true]),
        (&["--proto", "58,132"], [true, true, true, false]),
    ] {
        let injection = bed.lose(protocols);
        let missing = bed.flow.round(LOAD).missing();
        assert!(
            missing == 0 || missing == LOAD.count,
            "{protocols:?}: {missing}"
        );
        let found = [
            missing == 0,
            bed.connect(),
            bed.ping(Ip::V4),
            bed.ping(Ip::V6),
        ];
        assert_eq!(found, expected, "{protocols:?}");
        assert!(injection.stop().rule().injected > 0, "{protocols:?}");
    }
}

/// Loses the echoes that one set of ping's options makes, and not those that
/// others make, in both families.
#[track_caller]
fn check_pings(filter: &[&str], hit: &[&str], spared: &[&[&str]]) {
    check_pings_going("egress", filter, hit, spared);
}

/// The same of the answers, which have the code point and the size of what they answer.
#[track_caller]
fn check_answers(filter: &[&str], hit: &[&str], spared: &[&[&str]]) {
    check_pings_going("ingress", filter, hit, spared);
}

#[track_caller]
fn check_pings_going(direction: &str, filter: &[&str], hit: &[&str], spared: &[&[&str]]) {
    require!(NetLoss);
    let bed = Alone::new();
    let injection = bed.lose_going(direction, filter);
    for ip in [Ip::V4, Ip::V6] {
        assert!(!bed.ping_with(ip, hit), "{filter:?} {hit:?} {ip:?}");
        for options in spared {
            assert!(bed.ping_with(ip, options), "{filter:?} {options:?} {ip:?}");
        }
    }
    assert_eq!(injection.stop().rule().injected, 2, "{filter:?}");
}

#[test]
fn code_points() {
    let (ef, cs1): (&[&str], &[&str]) = (&["-Q", "0xb8"], &["-Q", "0x20"]);
    // The two low bits tell of congestion.
    check_pings(
        &["--proto", "icmp", "--dscp", "ef,5"],
        &["-Q", "0xb9"],
        &[cs1, &[]],
    );
    check_pings(&["--proto", "icmp", "--dscp", "!cs1,!0"], ef, &[cs1, &[]]);
    check_answers(&["--proto", "icmp", "--dscp", "ef"], ef, &[cs1, &[]]);
}

#[test]
fn marks() {
    let (seven, five): (&[&str], &[&str]) = (&["-m", "7"], &["-m", "5"]);
    check_pings(&["--proto", "icmp", "--mark", "7"], seven, &[five, &[]]);
    check_pings(
        &["--proto", "icmp", "--mark", "0x2/0x2"],
        seven,
        &[five, &[]],
    );
    check_pings(
        &["--proto", "icmp", "--mark", "!0x0/0x2"],
        seven,
        &[five, &[]],
    );
    let several = ["--proto", "icmp", "--mark", "0x4/0x4,!5"];
    check_pings(&several, seven, &[five, &[]]);
    check_pings(&["--proto", "icmp", "--mark", "!5,!0"], seven, &[five, &[]]);
}

/// A mark does not leave the namespace, so what arrives has none but on the loopback.
#[test]
fn marks_of_what_arrives() {
    require!(NetLoss);
    let bed = Alone::new();
    let rule = ["--proto", "icmp", "--interface", "lo", "--mark", "7"];
    let injection = bed.lose_going("ingress", &rule);
    let near = Place::netns(&bed.pair.near).and_cgroup(&bed.cgroup);
    for to in ["127.0.0.1", "::1"] {
        for (mark, answered) in [("7", false), ("5", true)] {
            let words = ["-n", "-c", "1", "-W", "1", "-m", mark, to];
            let status = near.output("ping", &words).status;
            assert_eq!(status.success(), answered, "{to} {mark}");
        }
    }
    assert_eq!(injection.stop().rule().injected, 2);
}

#[test]
fn sizes() {
    // With 28 bytes of headers in IPv4, and 48 in IPv6.
    let sizes = ["--proto", "icmp", "--size", "300-320"];
    check_pings(
        &sizes,
        &["-s", "272"],
        &[&["-s", "251"], &["-s", "293"], &[]],
    );
    let others = ["--proto", "icmp", "--size", "!20-300"];
    check_pings(&others, &["-s", "273"], &[&["-s", "252"], &[]]);
    let several = ["--proto", "icmp", "--size", "300-400,1000-1100,!340-380"];
    check_pings(&several, &["-s", "1000"], &[&["-s", "320"], &["-s", "600"]]);
    check_pings(&several, &["-s", "276"], &[&["-s", "320"], &[]]);
    check_answers(&others, &["-s", "273"], &[&["-s", "252"], &[]]);
}

#[test]
fn a_super_packet_has_the_size_of_its_segments() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let to = (Pair::far_address(Ip::V4), FAR_PORT).into();
    let flow = TcpFlow::start(near, Place::netns(&pair.far), to, 1, None);
    let rule = format!("kind: net-loss, target: '{}', proto: tcp", cgroup.target());
    let injection = run(&format!(
        "- {{name: larger, {rule}, size: 1501-65575}}\n\
         - {{name: full, {rule}, size: 1500, when: '1000000'}}\n\
         - {{name: all, {rule}, when: '1000000'}}\n"
    ));
    let bytes = 4_000_000;
    assert_eq!(flow.round(bytes).bytes, bytes);
    let report = injection.stop().report();
    let matched: Vec<u64> = report.rules.iter().map(|rule| rule.matched).collect();
    let segments = bytes / 1448;
    assert_eq!(matched[0], 0, "{matched:?}");
    assert!(matched[1] > 0 && matched[1] < matched[2], "{matched:?}");
    assert!(
        matched[1] < segments,
        "there were super-packets: {matched:?}"
    );
}

#[test]
fn flags_of_tcp() {
    require!(NetLoss);
    let bed = Alone::new();
    // Whether a refused connection gets its refusal.
    for (direction, flags, refused) in [
        ("egress", "syn,!ack", false),
        ("egress", "!syn", true),
        ("egress", "fin", true),
        ("both", "rst", false),
        ("ingress", "ack,!rst", true),
        ("ingress", "syn", true),
        ("both", "fin rst", false),
        ("both", "fin urg,rst", true),
        ("ingress", "syn rst,ack", false),
    ] {
        let mut options = Vec::new();
        for flags in flags.split(' ') {
            options.extend(["--tcp-flags", flags]);
        }
        let injection = bed.lose_going(direction, &options);
        assert_eq!(bed.connect(), refused, "{direction} {flags}");
        let rule = injection.stop().rule();
        assert_eq!(rule.injected == 0, refused, "{direction} {flags}");
    }
}

#[test]
fn states_of_tcp() {
    require!(NetLoss);
    let bed = Alone::new();
    for (direction, state, refused) in [
        ("egress", "new", false),
        ("egress", "established", true),
        ("ingress", "new", true),
        ("ingress", "established", false),
        ("egress", "!established", false),
        ("egress", "!new", true),
        ("egress", "new,established", false),
        ("!egress", "!new", false),
        ("!ingress", "!new", true),
        ("egress,ingress", "!new", false),
    ] {
        let injection = bed.lose_going(direction, &["--state", state, "--proto", "tcp"]);
        assert_eq!(bed.connect(), refused, "{direction} {state}");
        bed.flow.round(LOAD).assert_untouched(LOAD);
        let _ = injection.stop();
    }
    // A connection that is there goes on, but no new one is made.
    let near = Place::netns(&bed.pair.near).and_cgroup(&bed.cgroup);
    let to = (Pair::far_address(Ip::V6), FAR_PORT).into();
    let kept = TcpFlow::start_kept(near, Place::netns(&bed.pair.far), to);
    assert_eq!(kept.round(1000).bytes, 1000);
    let injection = bed.lose(&["--state", "new", "--proto", "tcp"]);
    assert_eq!(kept.round(100_000).bytes, 100_000);
    assert!(!bed.connect());
    let _ = injection.stop();
}

#[test]
fn the_first_packet_of_udp_is_new() {
    require!(NetLoss);
    for direction in [Direction::Egress, Direction::Ingress] {
        for ip in [Ip::V4, Ip::V6] {
            let pair = Pair::new();
            let cgroup = Cgroup::new("victim");
            let first = Flow { ip, ..PLAIN }.start(&pair, &cgroup, direction);
            let second = Flow { ip, ..OTHER_PORTS }.start(&pair, &cgroup, direction);
            let target = cgroup.target();
            let rule = [
                "net-loss", "--target", &target, "--for", "60s", "--state", "new",
            ];
            let way = ["--direction", direction.word(), "--proto", "udp"];
            let injection = Injection::start(&[&rule[..], &way].concat());
            for flow in [&first, &second] {
                assert_eq!(flow.round(LOAD).lost, [1], "{direction:?} {ip:?}");
                flow.round(LOAD).assert_untouched(LOAD);
            }
            let rule = injection.stop().rule();
            assert_eq!(
                (rule.matched, rule.injected),
                (2, 2),
                "{direction:?} {ip:?}"
            );
        }
    }
}

#[test]
fn all_but_the_first_packet_of_udp_are_established() {
    require!(NetLoss);
    let bed = Alone::new();
    let injection = bed.lose(&["--state", "established", "--proto", "!tcp"]);
    assert_eq!(bed.flow.round(LOAD).intact, 1);
    assert_eq!(bed.flow.round(LOAD).intact, 0);
    assert!(bed.ping(Ip::V4) && bed.ping(Ip::V6) && bed.connect());
    assert_eq!(injection.stop().rule().injected, 2 * LOAD.count - 1);
}

#[test]
fn an_answer_is_not_new() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let asked = PLAIN.start(&pair, &cgroup, Direction::Ingress);
    let rule = [
        "net-loss", "--target", &target, "--for", "60s", "--state", "new",
    ];
    let injection = Injection::start(&rule);
    asked.round(LOAD).assert_untouched(LOAD);
    drop(asked);
    // From the same ports, the other way.
    let answer = PLAIN.start(&pair, &cgroup, Direction::Egress);
    answer.round(LOAD).assert_untouched(LOAD);
    let unasked = OTHER_PORTS.start(&pair, &cgroup, Direction::Egress);
    assert_eq!(unasked.round(LOAD).lost, [1]);
    assert_eq!(injection.stop().rule().injected, 1);
}

#[test]
fn a_packet_on_loopback_is_no_answer_to_itself() {
    require!(NetLoss);
    for direction in [Direction::Egress, Direction::Ingress] {
        let pair = Pair::new();
        let cgroup = Cgroup::new("victim");
        let place = Place::netns(&pair.near).and_cgroup(&cgroup);
        let own = |port| (address(Ip::V4, 0, 1), port).into();
        let flow = UdpFlow::start(place, place, own(NEAR_PORT), own(FAR_PORT));
        let target = cgroup.target();
        let rule = [
            "net-loss", "--target", &target, "--for", "60s", "--state", "new",
        ];
        let way = ["--direction", direction.word()];
        let injection = Injection::start(&[&rule[..], &way].concat());
        assert_eq!(flow.round(LOAD).lost, [1], "{direction:?}");
        flow.round(LOAD).assert_untouched(LOAD);
        let rule = injection.stop().rule();
        assert_eq!((rule.matched, rule.injected), (1, 1), "{direction:?}");
    }
}
