//! Filters of packet rules: what they name is hit, what lies beside is not.

use std::{net::SocketAddr, process::Command};

use injector_tests::{
    agent::{Agent, Injection},
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Pair, address},
    require,
    traffic::{Direction, Load, UdpFlow},
};

/// No answer comes within a window, so few packets make a short test.
const LOAD: Load = Load::of(200);

/// The ports of a flow that no filter of these tests names.
const NEAR_PORT: u16 = 8100;
const FAR_PORT: u16 = 7100;

/// One end of a flow, as far as a filter can tell.
#[derive(Clone, Copy)]
struct Flow {
    ip: Ip,
    cable: u8,
    near_port: u16,
    far_port: u16,
}

const PLAIN: Flow = Flow {
    ip: Ip::V4,
    cable: 0,
    near_port: NEAR_PORT,
    far_port: FAR_PORT,
};

/// Two flows between the same addresses need ports of their own on both sides.
const OTHER_PORTS: Flow = Flow {
    near_port: NEAR_PORT + 1,
    far_port: FAR_PORT + 1,
    ..PLAIN
};

impl Flow {
    fn start(self, pair: &Pair, cgroup: &Cgroup, direction: Direction) -> UdpFlow {
        let near = SocketAddr::new(address(self.ip, self.cable, 1), self.near_port);
        let far = SocketAddr::new(address(self.ip, self.cable, 2), self.far_port);
        let near_place = Place::netns(&pair.near).and_cgroup(cgroup);
        let far_place = Place::netns(&pair.far);
        match direction {
            Direction::Egress => UdpFlow::start(near_place, far_place, near, far),
            Direction::Ingress => UdpFlow::start(far_place, near_place, far, near),
        }
    }
}

/// Loses all of one flow and nothing of another flow of the same victim, which
/// differs from it in one respect only.
#[track_caller]
fn check(filter: &[&str], hit: Flow, spared: Flow) {
    require!(NetLoss);
    for direction in [Direction::Egress, Direction::Ingress] {
        let pair = Pair::new();
        pair.join("near1", "far1", 1);
        let cgroup = Cgroup::new("victim");
        let hit = hit.start(&pair, &cgroup, direction);
        let spared = spared.start(&pair, &cgroup, direction);
        let target = cgroup.target();
        let mut args = vec!["net-loss", "--target", &target, "--for", "60s"];
        args.extend(["--direction", direction.word()]);
        // The namespace is the victim's alone, and so are the kernel's own
        // packets in it.
        args.extend(["--proto", "udp"]);
        args.extend(filter);
        let injection = Injection::start(&args);
        assert_eq!(hit.round(LOAD).missing(), LOAD.count, "{direction:?}");
        spared.round(LOAD).assert_untouched(LOAD);
        let rule = injection.stop().rule();
        assert_eq!(
            (rule.matched, rule.injected),
            (LOAD.count, LOAD.count),
            "{direction:?}"
        );
        hit.round(LOAD).assert_untouched(LOAD);
    }
}

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

/// A pair whose near namespace belongs to the victim alone: only there are
/// echo replies, which have no socket, the victim's.
struct Alone {
    pair: Pair,
    cgroup: Cgroup,
    flow: UdpFlow,
}

impl Alone {
    fn new() -> Self {
        let pair = Pair::new();
        let cgroup = Cgroup::new("victim");
        let flow = PLAIN.start(&pair, &cgroup, Direction::Egress);
        Self { pair, cgroup, flow }
    }

    fn lose(&self, proto: &str) -> Injection {
        let target = self.cgroup.target();
        Injection::start(&[
            "net-loss",
            "--target",
            &target,
            "--direction",
            "both",
            "--proto",
            proto,
            "--for",
            "60s",
        ])
    }

    /// Whether one echo is answered.
    fn ping(&self, ip: Ip) -> bool {
        let far = Pair::far_address(ip).to_string();
        let near = Place::netns(&self.pair.near).and_cgroup(&self.cgroup);
        near.output("ping", &["-n", "-c", "1", "-W", "1", &far])
            .status
            .success()
    }

    /// Whether a connection is answered, be it by a refusal.
    fn connect(&self) -> bool {
        let far = Pair::far_address(Ip::V4);
        let near = Place::netns(&self.pair.near).and_cgroup(&self.cgroup);
        let mut curl: Command = near.command("curl");
        let output = curl
            .args(["-s", "-m", "1", &format!("http://{far}:9/")])
            .output();
        // 7: refused; 28: nobody answers.
        let code = output.expect("run curl").status.code();
        assert!(matches!(code, Some(7 | 28)), "curl ended with {code:?}");
        code == Some(7)
    }
}

#[test]
fn udp_alone() {
    require!(NetLoss);
    let bed = Alone::new();
    let injection = bed.lose("udp");
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
    let injection = bed.lose("tcp");
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
    let injection = bed.lose("icmp");
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
    let injection = bed.lose("icmp");
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
    let file = tempfile::NamedTempFile::new().expect("make a file");
    std::fs::write(file.path(), spec).expect("write a file");
    let path = file.path().to_str().expect("a path in UTF-8");
    let injection = Injection::from_agent(Agent::start(
        Place::HERE,
        &["run", path, "--output", "json"],
        &[],
    ));
    assert_eq!(first.round(LOAD).missing(), LOAD.count);
    assert_eq!(second.round(LOAD).lost, [1, 5, 9]);
    third.round(LOAD).assert_untouched(LOAD);
    let report = injection.stop().report();
    let counts: Vec<_> = report
        .rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.matched, rule.injected))
        .collect();
    assert_eq!(
        counts,
        [("all", LOAD.count, LOAD.count), ("some", LOAD.count, 3)]
    );
}
