//! Filters of packet rules: what they name is hit, what lies beside is not.

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    netns::{Ip, Pair},
    require,
    traffic::{
        Alone, Direction,
        ends::{FAR_PORT, Flow, LOAD, NEAR_PORT, OTHER_PORTS, PLAIN, check},
    },
};

#[test]
fn peer_by_address() {
    let spared = Flow { cable: 1, ..PLAIN };
    check(&["--peer", "10.77.0.2"], PLAIN, spared);
}

#[test]
fn peer_by_network() {
    let spared = Flow { cable: 1, ..PLAIN };
    check(&["--peer", "10.77.0.0/24"], PLAIN, spared);
}

#[test]
fn peer_by_v6_network() {
    let hit = Flow {
        ip: Ip::V6,
        ..PLAIN
    };
    let spared = Flow { cable: 1, ..hit };
    check(&["--peer", "fd77::/64"], hit, spared);
}

#[test]
fn every_peer_of_one_family_spares_the_other() {
    let v6 = Flow {
        ip: Ip::V6,
        ..PLAIN
    };
    check(&["--peer", "0.0.0.0/0"], PLAIN, v6);
    check(&["--peer", "::/0"], v6, PLAIN);
}

#[test]
fn peer_port() {
    let spared = OTHER_PORTS;
    check(&["--peer-port", "7100"], PLAIN, spared);
}

#[test]
fn peer_ports_end_where_they_say() {
    let spared = OTHER_PORTS;
    check(&["--peer-port", "7000-7100"], PLAIN, spared);
}

#[test]
fn local_port() {
    let spared = OTHER_PORTS;
    check(&["--local-port", "8100"], PLAIN, spared);
}

#[test]
fn local_port_is_not_the_peers() {
    // The same number on the other side.
    let spared = Flow {
        near_port: FAR_PORT,
        far_port: NEAR_PORT,
        ..PLAIN
    };
    check(&["--local-port", "8100"], PLAIN, spared);
}

#[test]
fn interface() {
    let spared = Flow { cable: 1, ..PLAIN };
    check(&["--interface", "near0"], PLAIN, spared);
}

/// A device is the user's whatever its name begins with.
#[test]
fn an_interface_called_like_ours() {
    require!(NetLoss);
    let pair = Pair::new();
    pair.join("inj0", "far1", 1);
    let cgroup = Cgroup::new("victim");
    let flow = Flow { cable: 1, ..PLAIN }.start(&pair, &cgroup, Direction::Egress);
    let target = cgroup.target();
    let injection = Injection::start(&["net-loss", "--target", &target, "--for", "60s"]);
    assert_eq!(flow.round(LOAD).missing(), LOAD.count);
    drop(injection.stop());
    flow.round(LOAD).assert_untouched(LOAD);
}

#[test]
fn conditions_hold_together() {
    let spared = Flow { cable: 1, ..PLAIN };
    check(
        &["--peer-port", "7100", "--interface", "near0"],
        PLAIN,
        spared,
    );
}

#[test]
fn udp_alone() {
    require!(NetLoss);
    let bed = Alone::new();
    let injection = bed.lose(&["--proto", "udp"]);
    assert_eq!(bed.flow.round(LOAD).missing(), LOAD.count);
    assert!(bed.ping(Ip::V4) && bed.ping(Ip::V6) && bed.connect());
    assert_eq!(injection.stop().rule().injected, LOAD.count);
    bed.flow.round(LOAD).assert_untouched(LOAD);
}

#[test]
fn tcp_alone() {
    require!(NetLoss);
    let bed = Alone::new();
    assert!(bed.connect());
    let injection = bed.lose(&["--proto", "tcp"]);
    assert!(!bed.connect());
    assert!(bed.ping(Ip::V4) && bed.ping(Ip::V6));
    bed.flow.round(LOAD).assert_untouched(LOAD);
    assert!(injection.stop().rule().injected > 0);
    assert!(bed.connect());
}

#[test]
fn icmp_alone_in_both_families() {
    require!(NetLoss);
    let bed = Alone::new();
    assert!(bed.ping(Ip::V4) && bed.ping(Ip::V6));
    let injection = bed.lose(&["--proto", "icmp"]);
    assert!(!bed.ping(Ip::V4) && !bed.ping(Ip::V6));
    assert!(bed.connect());
    bed.flow.round(LOAD).assert_untouched(LOAD);
    assert!(injection.stop().rule().injected >= 2);
    assert!(bed.ping(Ip::V4) && bed.ping(Ip::V6));
}

#[test]
fn neighbour_discovery_is_never_lost() {
    require!(NetLoss);
    let bed = Alone::new();
    let injection = bed.lose(&["--proto", "icmp"]);
    for (netns, link) in [(&bed.pair.near, "near0"), (&bed.pair.far, "far0")] {
        netns.ip(&["neighbour", "flush", "dev", link]);
    }
    // Packets flow only once both sides have found each other again.
    let v6 = Flow {
        ip: Ip::V6,
        ..PLAIN
    }
    .start(&bed.pair, &bed.cgroup, Direction::Egress);
    bed.flow.round(LOAD).assert_untouched(LOAD);
    v6.round(LOAD).assert_untouched(LOAD);
    assert!(!bed.ping(Ip::V6), "the rule was in force");
    drop(injection.stop());
}

#[test]
fn two_rules_hit_each_its_own() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let [first, second, third] = [1, 2, 3].map(|number| {
        let flow = Flow {
            far_port: FAR_PORT + number,
            ..PLAIN
        };
        let flow = Flow {
            near_port: NEAR_PORT + number,
            ..flow
        };
        flow.start(&pair, &cgroup, Direction::Egress)
    });
    let spec = format!(
        "version: 1\nfor: 60s\nrules:\n\
         - {{name: all, kind: net-loss, target: '{target}', peer-port: 7101}}\n\
         - {{name: some, kind: net-loss, target: '{target}', peer-port: 7102, when: 1..9+4}}\n",
        target = cgroup.target()
    );
    let injection = Injection::of_spec(&spec);
    assert_eq!(first.round(LOAD).missing(), LOAD.count);
    assert_eq!(second.round(LOAD).lost, [1, 5, 9]);
    third.round(LOAD).assert_untouched(LOAD);
    let report = injection.stop().report();
    assert_eq!(
        report.hits(),
        [("all", LOAD.count, LOAD.count), ("some", LOAD.count, 3)]
    );
}
