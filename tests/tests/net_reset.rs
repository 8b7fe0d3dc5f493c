//! `net-reset`: connections that are open break, for one end or both.

use std::time::{Duration, Instant};

use injector_tests::{
    agent::Injection, dialer::DialBed, netns::Ip, require, traffic::Direction, wait,
};

const COUNT: u64 = 8;
const BROKEN: u32 = libc::ECONNRESET.unsigned_abs();

/// A victim and a bystander that exchange bytes with somebody on the other side of
/// a cable. The victim's end is the one that calls.
#[track_caller]
fn on_cable(ip: Ip, options: &[&str]) -> DialBed {
    DialBed::on_cable(ip, Direction::Egress, options)
}

/// The same on one loopback.
#[track_caller]
fn on_loopback(ip: Ip, options: &[&str]) -> DialBed {
    DialBed::on_loopback(ip, Direction::Egress, options)
}

#[track_caller]
fn reset(bed: &DialBed, direction: Direction, options: &[&str]) -> Injection {
    let way = ["--direction", direction.word()];
    bed.inject("net-reset", &[&way[..], options].concat())
}

/// Resets that the kernels have sent by themselves.
fn kernel_resets(bed: &DialBed) -> u64 {
    bed.counter("Tcp", "OutRsts")
}

/// Few enough to be over soon, and enough to break in between.
const SOME: &[&str] = &["--exchanges", "5"];

/// Breaks each connection after its first bytes, and tells both ends.
#[track_caller]
fn check_both(bed: &DialBed, direction: Direction) {
    bed.assert_unharmed(COUNT);
    let injection = reset(bed, direction, &["--after-bytes", "1"]);
    let resets = kernel_resets(bed);
    bed.bystander.begin(COUNT);
    let seen = bed.victim.round(COUNT);
    assert_eq!((seen.failures, seen.errno), (COUNT, BROKEN), "{seen:?}");
    let answered = bed.victim.answered(COUNT);
    assert_eq!(
        (answered.failures, answered.errno),
        (COUNT, BROKEN),
        "{answered:?}"
    );
    bed.assert_bystander_unharmed(COUNT);
    if direction == Direction::Egress {
        assert_eq!(kernel_resets(bed), resets, "somebody else told an end");
    }
    let rule = injection.stop().rule();
    // What was sent before the reset came is reset too.
    assert!((COUNT..=3 * COUNT).contains(&rule.injected), "{rule:?}");
    assert_eq!((rule.matched, rule.errors), (rule.injected, 0), "{rule:?}");
    bed.assert_unharmed(COUNT);
}

macro_rules! both {
    ($($name:ident: $place:ident $ip:ident $direction:ident;)+) => {
        $(
            #[test]
            fn $name() {
                require!(NetReset);
                check_both(&$place(Ip::$ip, SOME), Direction::$direction);
            }
        )+
    };
}

both! {
    cable_v4_egress: on_cable V4 Egress;
    cable_v4_ingress: on_cable V4 Ingress;
    cable_v6_egress: on_cable V6 Egress;
    cable_v6_ingress: on_cable V6 Ingress;
    loopback_v4_egress: on_loopback V4 Egress;
    loopback_v4_ingress: on_loopback V4 Ingress;
    loopback_v6_egress: on_loopback V6 Egress;
    loopback_v6_ingress: on_loopback V6 Ingress;
}

/// Only the target is told. Its peer sends again what was not acknowledged, and
/// learns of the end from the target's kernel.
#[test]
fn the_local_end_alone() {
    require!(NetReset);
    for way in [Direction::Egress, Direction::Ingress] {
        for bed in [on_cable(Ip::V4, SOME), on_loopback(Ip::V6, SOME)] {
            let options = ["--after-bytes", "1", "--end", "local", "--times", "1"];
            let resets = kernel_resets(&bed);
            let injection = reset(&bed, way, &options);
            let seen = bed.victim.round(1);
            assert_eq!((seen.failures, seen.errno), (1, BROKEN), "{way:?} {seen:?}");
            assert_eq!(injection.wait().rule().injected, 1);
            let answered = bed.victim.answered(1);
            assert_eq!((answered.failures, answered.errno), (1, BROKEN), "{way:?}");
            assert!(kernel_resets(&bed) > resets, "{way:?}");
            bed.assert_unharmed(COUNT);
        }
    }
}

/// Only the peer is told; the target goes on waiting for what does not come.
#[test]
fn the_peers_end_alone() {
    require!(NetReset);
    for way in [Direction::Egress, Direction::Ingress] {
        for bed in [on_cable(Ip::V6, SOME), on_loopback(Ip::V4, SOME)] {
            let injection = reset(&bed, way, &["--after-bytes", "1", "--end", "peer"]);
            bed.victim.begin(1);
            let answered = bed.victim.answered(1);
            assert_eq!((answered.failures, answered.errno), (1, BROKEN), "{way:?}");
            let seen = bed.victim.finish();
            assert_eq!(seen.failures, 1, "{way:?} {seen:?}");
            assert!(injection.stop().rule().injected >= 1);
            bed.assert_unharmed(COUNT);
        }
    }
}

/// A connection that is open when the rule comes in force breaks at once, also
/// where its packets are of many segments.
#[test]
fn an_open_connection_breaks() {
    require!(NetReset);
    for (ip, size) in [(Ip::V4, "1000"), (Ip::V6, "60000")] {
        for way in [Direction::Egress, Direction::Ingress] {
            let options = ["--exchanges", "1000000000", "--size", size];
            let bed = on_cable(ip, &options);
            bed.victim.begin(1);
            bed.bystander.begin(1);
            wait::until("some bytes", || {
                (bed.victim.got_back() > 100_000).then_some(())
            });
            let injection = reset(&bed, way, &[]);
            let seen = bed.victim.finish();
            assert_eq!((seen.failures, seen.errno), (1, BROKEN), "{size} {way:?}");
            let answered = bed.victim.answered(1);
            assert_eq!(
                (answered.failures, answered.errno),
                (1, BROKEN),
                "{size} {way:?}"
            );
            let rule = injection.stop().rule();
            assert_eq!((rule.matched, rule.errors), (rule.injected, 0), "{rule:?}");
            let before = bed.bystander.got_back();
            wait::until("the bystander's bytes", || {
                (bed.bystander.got_back() > before).then_some(())
            });
        }
    }
}

#[test]
fn after_so_many_bytes() {
    require!(NetReset);
    const BYTES: u64 = 50_000;
    for way in [Direction::Egress, Direction::Ingress] {
        let bed = on_cable(Ip::V4, &["--exchanges", "1000000"]);
        let injection = reset(&bed, way, &["--after-bytes", &BYTES.to_string()]);
        let seen = bed.victim.round(1);
        assert_eq!((seen.failures, seen.errno), (1, BROKEN), "{way:?}");
        let passed = bed.victim.got_back();
        assert!((BYTES - 1000..=BYTES).contains(&passed), "{way:?} {passed}");
        assert!(injection.stop().rule().injected >= 1);
    }
}

/// Each connection has a time of its own, which begins with it.
#[test]
fn after_so_long() {
    require!(NetReset);
    const TIME: Duration = Duration::from_millis(400);
    let bed = on_cable(Ip::V6, &["--exchanges", "100000000"]);
    let injection = reset(&bed, Direction::Egress, &["--after", "400ms"]);
    for _ in 0..2 {
        let start = Instant::now();
        let seen = bed.victim.round(1);
        assert_eq!((seen.failures, seen.errno), (1, BROKEN));
        assert!(start.elapsed() >= TIME, "{:?}", start.elapsed());
        assert!(bed.victim.got_back() > 0);
    }
    assert!(injection.stop().rule().injected >= 2);
}

/// Which ones, as for all kinds. A connection that is not hit is whole.
#[test]
fn times_breaks_exactly_so_many() {
    require!(NetReset);
    let bed = on_cable(Ip::V4, SOME);
    let options = ["--after-bytes", "4000", "--times", "1"];
    let injection = reset(&bed, Direction::Egress, &options);
    assert_eq!(bed.victim.round(COUNT).failed_calls, [1]);
    let finished = injection.wait();
    assert_eq!(finished.report().stopped_by, "budget");
    assert_eq!(finished.rule().injected, 1);
}

/// What is not TCP is not even counted, nor is a connection that only opens.
#[test]
fn others_are_left_alone() {
    require!(NetReset);
    let udp = ["--transport", "udp", "--exchanges", "2"];
    let bed = on_cable(Ip::V4, &udp);
    let injection = reset(&bed, Direction::Egress, &[]);
    bed.assert_unharmed(COUNT);
    assert_eq!(injection.stop().rule().matched, 0);
}
