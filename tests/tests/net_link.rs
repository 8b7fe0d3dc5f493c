//! `net-link`: a recipe for the rules of a link of a known kind.

use std::time::Duration;

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    netns::Pair,
    require,
    traffic::{
        Direction, Load,
        ends::{OTHER_PORTS, PLAIN},
    },
};

/// A packet of 1028 bytes takes 5.3 ms on 1600 kbit/s and 11 ms on 768 kbit/s, so
/// that none waits for another one.
const LOAD: Load = Load::of(50).sized(1000).spaced(Duration::from_millis(30));

#[test]
fn both_ways_of_a_phone() {
    require!(NetDelay);
    let pair = Pair::new();
    let (victims, bystanders) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let up = PLAIN.start(&pair, &victims, Direction::Egress);
    let down = OTHER_PORTS.start(&pair, &victims, Direction::Ingress);
    let beside = injector_tests::traffic::ends::Flow {
        near_port: PLAIN.near_port + 7,
        far_port: PLAIN.far_port + 7,
        ..PLAIN
    };
    let beside = beside.start(&pair, &bystanders, Direction::Egress);
    let target = victims.target();
    let injection = Injection::start(&[
        "net-link",
        "--profile",
        "3g",
        "--name",
        "phone",
        "--target",
        &target,
        "--proto",
        "udp",
        "--for",
        "60s",
    ]);
    beside.begin(LOAD);
    // Half of the round trip, and the packet's own length on the link.
    for (flow, own) in [(&up, 10), (&down, 5)] {
        let arrived = flow.round(LOAD);
        assert_eq!(arrived.missing(), 0, "{arrived:?}");
        let least = Duration::from_millis(150 + own);
        assert!(arrived.delays.shortest >= least, "{:?}", arrived.delays);
    }
    let beside = beside.finish();
    beside.assert_untouched(LOAD);
    assert!(beside.delays.shortest < Duration::from_millis(100));
    let report = injection.stop().report();
    let rules: Vec<_> = report
        .rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.kind.as_str(), rule.injected))
        .collect();
    assert_eq!(
        rules,
        [
            ("phone.up-rate", "net-rate", LOAD.count),
            ("phone.up-delay", "net-delay", LOAD.count),
            ("phone.down-rate", "net-rate", LOAD.count),
            ("phone.down-delay", "net-delay", LOAD.count),
        ]
    );
    up.round(LOAD).assert_untouched(LOAD);
}

#[test]
fn every_profile_is_told_with_its_source() {
    let manual = agent::run(&["faults", "net-link"]).stdout;
    for words in [
        "3g\n      round trip 300ms, 1600kbit down, 768kbit up; WebPageTest",
        "satellite\n      round trip 558ms; RFC 2488",
    ] {
        assert!(manual.contains(words), "{manual}");
    }
}
