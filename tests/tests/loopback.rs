//! Faults on the loopback interface, in either IP version. There a packet that
//! leaves arrives at once, so what has to wait waits where it arrives.

use std::{net::IpAddr, time::Duration};

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Netns},
    require,
    traffic::{Arrived, Load, UdpFlow},
};

/// Paced, so that each packet's time is its own and not that of a queue.
const LOAD: Load = Load::of(200).sized(512).spaced(Duration::from_millis(1));

/// Half of [`LOAD`].
const HALF: u64 = 100;

/// Hits every second packet that a victim sends to itself, beside a bystander
/// in the same namespace; how many checksum errors the kernel counted there.
#[track_caller]
fn hit(fault: &str, ip: Ip) -> (Arrived, u64) {
    let netns = Netns::new();
    let cgroup = Cgroup::new("victim");
    let here = Place::netns(&netns);
    let address: IpAddr = match ip {
        Ip::V4 => [127, 0, 0, 1].into(),
        Ip::V6 => [0, 0, 0, 0, 0, 0, 0, 1].into(),
    };
    let flow = |place: Place<'_>, port: u16| {
        let (from, to) = ((address, port + 1000).into(), (address, port).into());
        UdpFlow::start(place, here, from, to)
    };
    let (victim, bystander) = (flow(here.and_cgroup(&cgroup), 7001), flow(here, 7002));
    victim.round(LOAD).assert_untouched(LOAD);
    let errors = || match ip {
        Ip::V4 => netns.counter("Udp", "InCsumErrors"),
        Ip::V6 => netns.counter("Udp6", "InCsumErrors"),
    };
    let before = errors();
    let words = format!("{fault} --target {} --when 2+2 --for 60s", cgroup.target());
    let injection = Injection::start_in(here, &words.split(' ').collect::<Vec<_>>(), &[]);
    bystander.begin(LOAD);
    let arrived = victim.round(LOAD);
    bystander.finish().assert_untouched(LOAD);
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (LOAD.count, HALF));
    victim.round(LOAD).assert_untouched(LOAD);
    (arrived, errors() - before)
}

#[test]
fn loss_v6() {
    require!(NetLoss);
    let (arrived, _) = hit("net-loss", Ip::V6);
    assert_eq!((arrived.sent, arrived.missing()), (LOAD.count, HALF));
}

#[test]
fn delay_v6() {
    require!(LoopbackDelay);
    let (arrived, _) = hit("net-delay --delay 40ms", Ip::V6);
    assert_eq!(arrived.intact, LOAD.count, "{arrived:?}");
    let late = arrived.delays.at_least(Duration::from_millis(40));
    // A busy machine may hold up others so long.
    assert!(late >= HALF, "{arrived:?}");
    let prompt = arrived.delays.quantile(0.25);
    assert!(prompt <= Duration::from_millis(10), "{arrived:?}");
}

#[track_caller]
fn check_valid(ip: Ip) {
    require!(NetCorrupt);
    let (arrived, errors) = hit("net-corrupt --checksum valid", ip);
    assert_eq!((arrived.damaged, arrived.missing()), (HALF, 0));
    assert_eq!(errors, 0, "the stack noticed");
}

#[test]
fn valid_corruption_v4() {
    check_valid(Ip::V4);
}

#[test]
fn valid_corruption_v6() {
    check_valid(Ip::V6);
}

/// The kernel vouches for a packet that never left the machine; it looks at the
/// checksum because the packet has passed a device of ours.
#[track_caller]
fn check_broken(ip: Ip) {
    require!(LoopbackDelay);
    let (arrived, errors) = hit("net-corrupt --checksum broken", ip);
    assert_eq!((arrived.damaged, arrived.missing()), (0, HALF));
    assert_eq!(errors, HALF, "counted by the receiver's stack");
}

#[test]
fn broken_corruption_v4() {
    check_broken(Ip::V4);
}

#[test]
fn broken_corruption_v6() {
    check_broken(Ip::V6);
}
