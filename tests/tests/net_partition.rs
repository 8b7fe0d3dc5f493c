//! `net-partition`: the target and its peers are out of each other's reach, and
//! come together again.

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    netns::{Ip, Pair},
    packet_matrix, require,
    traffic::{
        Alone, Bed, Case, Direction, Load,
        ends::{Flow, OTHER_PORTS, PLAIN, check_kind},
    },
};

const LOAD: Load = Load::of(500);

packet_matrix!(check);

/// Cuts a victim off in one direction, beside a bystander in the same namespace.
#[track_caller]
fn check(case: Case) {
    require!(NetLoss);
    let mut bed = Bed::new(case);
    bed.assert_untouched_before(LOAD);
    let injection = bed.inject(&["net-partition"]);
    let arrived = bed.round(LOAD, LOAD);
    let rule = bed.stop(injection).rule();
    assert_eq!((arrived.sent, arrived.send_errors.0), (LOAD.count, 0));
    assert_eq!(arrived.missing(), LOAD.count, "{arrived:?}");
    assert_eq!((rule.matched, rule.injected), (LOAD.count, LOAD.count));
    bed.assert_untouched_after(LOAD);
}

/// Both ways are cut when nothing else is said, and no more than both: a flow
/// between others goes on.
#[test]
fn both_ways_by_default() {
    require!(NetLoss);
    let pair = Pair::new();
    let (victims, bystanders) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let there = PLAIN.start(&pair, &victims, Direction::Egress);
    let back = OTHER_PORTS.start(&pair, &victims, Direction::Ingress);
    let beside = Flow {
        near_port: PLAIN.near_port + 7,
        far_port: PLAIN.far_port + 7,
        ..PLAIN
    };
    let beside = beside.start(&pair, &bystanders, Direction::Egress);
    let target = victims.target();
    let line = ["net-partition", "--target", &target, "--proto", "udp"];
    let injection = Injection::start(&[&line[..], &["--for", "60s"]].concat());
    assert_eq!(there.round(LOAD).missing(), LOAD.count);
    assert_eq!(back.round(LOAD).missing(), LOAD.count);
    beside.round(LOAD).assert_untouched(LOAD);
    let rule = injection.stop().rule();
    assert_eq!(
        (rule.kind.as_str(), rule.injected, rule.passed),
        ("net-partition", 2 * LOAD.count, 0)
    );
    there.round(LOAD).assert_untouched(LOAD);
    back.round(LOAD).assert_untouched(LOAD);
}

#[test]
fn peers_and_exceptions() {
    let spared = Flow { cable: 1, ..PLAIN };
    let kind = &["net-partition", "--peer", "10.77.0.0/16,!10.77.1.0/24"];
    check_kind(kind, PLAIN, spared);
    let (hit, spared) = (
        Flow {
            ip: Ip::V6,
            ..PLAIN
        },
        Flow {
            ip: Ip::V6,
            ..spared
        },
    );
    check_kind(
        &["net-partition", "--peer", "fd77::/16,!fd77:0:0:1::/64"],
        hit,
        spared,
    );
}

#[test]
fn ports_and_exceptions() {
    let kind = &["net-partition", "--peer-port", "7000-7200,!7101"];
    check_kind(kind, PLAIN, OTHER_PORTS);
}

/// A connection that is open hangs, and goes on when the partition has ended.
#[test]
fn nothing_is_answered_and_nothing_forgotten() {
    require!(NetLoss);
    let bed = Alone::new();
    assert!(bed.ping(Ip::V4) && bed.ping(Ip::V6) && bed.connect());
    let target = bed.cgroup.target();
    let injection = Injection::start(&["net-partition", "--target", &target, "--for", "60s"]);
    assert!(!bed.ping(Ip::V4) && !bed.ping(Ip::V6) && !bed.connect());
    let finished = injection.stop();
    assert_eq!(finished.rule().errors, 0, "{finished:?}");
    assert!(bed.ping(Ip::V4) && bed.ping(Ip::V6) && bed.connect());
}
