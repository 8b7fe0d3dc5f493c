//! Packets that belong to no process are told of, and never hit.

use std::{fs, net::SocketAddr};

use injector_tests::{
    agent::{Injection, Unattributed},
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Pair, address},
    require,
    traffic::{
        Direction, UdpFlow,
        ends::{FAR_PORT, LOAD, NEAR_PORT, PLAIN},
    },
};

/// Loses whatever a group sends and receives.
#[track_caller]
fn lose_all(cgroup: &Cgroup) -> Injection {
    let target = cgroup.target();
    let line = ["net-loss", "--percent", "100", "--target", &target];
    Injection::start(&[&line[..], &["--direction", "both", "--for", "60s"]].concat())
}

#[test]
fn packets_that_are_only_forwarded() {
    require!(NetLoss);
    let pair = Pair::new();
    let another = pair.join_another("near1", "far1", 1);
    pair.near
        .enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))
        .expect("forward packets");
    pair.far
        .ip(&["route", "add", "10.77.1.0/24", "via", "10.77.0.1"]);
    another.ip(&["route", "add", "10.77.0.0/24", "via", "10.77.1.1"]);
    let cgroup = Cgroup::new("victim");
    let victim = PLAIN.start(&pair, &cgroup, Direction::Egress);
    // Somebody else's too, or all packets there were the victim's.
    let _bystander = Place::netns(&pair.near).spawn("sleep", &["600"]);
    let forwarded = UdpFlow::start(
        Place::netns(&pair.far),
        Place::netns(&another),
        SocketAddr::new(address(Ip::V4, 0, 2), NEAR_PORT + 1),
        SocketAddr::new(address(Ip::V4, 1, 2), FAR_PORT),
    );
    let injection = lose_all(&cgroup);
    assert_eq!(victim.round(LOAD).missing(), LOAD.count);
    forwarded.round(LOAD).assert_untouched(LOAD);
    let report = injection.stop().report();
    assert_eq!(report.only().injected, LOAD.count);
    let Unattributed { egress, ingress } = report.unattributed.expect("a count");
    // The kernel may send a word of its own, such as about multicast groups.
    let expected = LOAD.count..LOAD.count + 20;
    assert!(
        expected.contains(&egress) && expected.contains(&ingress),
        "{egress}, {ingress}"
    );
}

#[test]
fn where_everything_is_the_targets_nothing_is_nobodys() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let victim = PLAIN.start(&pair, &cgroup, Direction::Egress);
    let injection = lose_all(&cgroup);
    assert_eq!(victim.round(LOAD).missing(), LOAD.count);
    let report = injection.stop().report();
    let nothing = Unattributed {
        egress: 0,
        ingress: 0,
    };
    assert_eq!(report.unattributed, Some(nothing));
}
