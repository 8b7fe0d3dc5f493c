//! Faults other than losses on devices that stand on another interface: answers where there is no
//! link-layer header, and delays.

use std::time::Duration;

use injector_common::dns::NXDOMAIN;
use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    device::{self, Kind},
    dialer::Dialer,
    netns::{Netns, Pair},
    require,
    resolver::{Asker, NameServer},
    traffic::{Load, UdpFlow},
};

const COUNT: u64 = 5;
const TCP: &[&str] = &["--exchanges", "2"];
const UDP: &[&str] = &["--transport", "udp", "--exchanges", "1"];
/// The first of them.
const PORT: u16 = 7100;

/// What the checksums of arriving packets have kept from arriving.
fn checksum_errors(pair: &Pair) -> u64 {
    let counter = |netns: &Netns| {
        let protocols = ["Tcp", "Udp", "Icmp", "Icmp6"];
        let errors = protocols.map(|protocol| netns.counter(protocol, "InCsumErrors"));
        errors.iter().sum::<u64>()
    };
    counter(&pair.near) + counter(&pair.far)
}

/// Answers what passes a device, both ways and in every way that there is.
#[track_caller]
fn check_answers(kind: Kind) {
    require!(NetReject);
    require!(NetReset);
    require!(Dns);
    let pair = Pair::new();
    let Some(device) = kind.make(&pair, 1) else {
        return;
    };
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let far = Place::netns(&pair.far);
    let _resident = Place::netns(&pair.near).spawn("sleep", &["1000"]);
    for ip in kind.families {
        let [here, there] = device.addresses(*ip);
        // Each is told at a port of its own.
        let rejected = [
            Dialer::start(near, far, (there, PORT).into(), TCP),
            Dialer::start(far, near, (here, PORT + 1).into(), TCP),
            Dialer::start(near, far, (there, PORT + 2).into(), UDP),
            Dialer::start(far, near, (here, PORT + 3).into(), UDP),
        ];
        let broken = [
            Dialer::start(near, far, (there, PORT + 4).into(), TCP),
            Dialer::start(far, near, (here, PORT + 5).into(), TCP),
        ];
        let server = NameServer::start(far, (there, 53).into());
        let asker = Asker::start(near, (there, 53).into(), &[], &["nx.example.net/A"]);
        let target = cgroup.target();
        let rule = |kind, way, filter: String| {
            format!("{{kind: {kind}, target: '{target}', direction: {way}, {filter}}}")
        };
        let rules = [
            rule("net-reject", "egress", format!("peer-port: {PORT}")),
            rule("net-reject", "ingress", format!("local-port: {}", PORT + 1)),
            rule("net-reject", "egress", format!("peer-port: {}", PORT + 2)),
            rule("net-reject", "ingress", format!("local-port: {}", PORT + 3)),
            rule(
                "net-reset",
                "egress",
                format!("peer-port: {}, after-bytes: 1", PORT + 4),
            ),
            rule(
                "net-reset",
                "ingress",
                format!("local-port: {}, after-bytes: 1", PORT + 5),
            ),
            format!("{{kind: dns, target: '{target}', answer: nxdomain}}"),
        ];
        let errors = checksum_errors(&pair);
        let spec = format!("{{version: 1, for: 60s, rules: [{}]}}", rules.join(", "));
        let injection = Injection::of_spec(&spec);
        for dialer in &rejected {
            dialer.assert_all_fail(COUNT, libc::ECONNREFUSED);
        }
        for dialer in &broken {
            dialer.assert_all_fail(COUNT, libc::ECONNRESET);
            let answered = dialer.answered(COUNT);
            let told = libc::ECONNRESET.unsigned_abs();
            assert_eq!(
                (answered.failures, answered.errno),
                (COUNT, told),
                "{answered:?}"
            );
        }
        let answers = asker.seen(COUNT);
        let nxdomain = (COUNT, u32::from(NXDOMAIN));
        assert_eq!((answers[0].failures, answers[0].errno), nxdomain);
        assert_eq!(server.take_queries(), 0);
        let rules = injection.stop().report().rules;
        let counts: Vec<_> = rules
            .iter()
            .map(|rule| (rule.matched, rule.injected))
            .collect();
        for (number, counts) in counts.into_iter().enumerate() {
            // What was sent before a reset came is reset too.
            let most = if (4..6).contains(&number) {
                3 * COUNT
            } else {
                COUNT
            };
            assert!(
                (COUNT..=most).contains(&counts.0),
                "rule {number}: {counts:?}"
            );
            assert_eq!(counts.0, counts.1, "rule {number}");
        }
        assert_eq!(checksum_errors(&pair), errors, "damaged answers");
        for dialer in rejected.iter().chain(&broken) {
            dialer.assert_unharmed(COUNT);
        }
        assert_eq!(asker.round(1), [0]);
    }
}

#[test]
fn answers_at_a_tunnel_of_a_program() {
    check_answers(device::TUN);
}

#[test]
fn answers_at_a_tunnel_in_ip() {
    check_answers(device::IPIP);
}

#[test]
fn answers_at_wireguard() {
    check_answers(device::WIREGUARD);
}

/// Where all of a namespace is the target's, the answers are, too. No rule is asked for them, also
/// not where the tunnel's packets leave.
#[test]
fn answers_below_tunnels() {
    require!(NetReject);
    for kind in [device::IPIP, device::VXLAN, device::WIREGUARD] {
        let pair = Pair::new();
        let Some(device) = kind.make(&pair, 1) else {
            return;
        };
        let cgroup = Cgroup::new("victim");
        let near = Place::netns(&pair.near).and_cgroup(&cgroup);
        let far = Place::netns(&pair.far);
        let [here, there] = device.addresses(kind.families[0]);
        let dialers = [
            Dialer::start(near, far, (there, PORT).into(), UDP),
            Dialer::start(far, near, (here, PORT).into(), UDP),
        ];
        let target = cgroup.target();
        // What keeps a WireGuard tunnel open has this length.
        let words = [
            "net-reject",
            "--target",
            &target,
            "--size",
            "!60",
            "--for",
            "60s",
        ];
        let injection = Injection::start(&[&words[..], &["--direction", "both"]].concat());
        for dialer in &dialers {
            dialer.assert_all_fail(COUNT, libc::ECONNREFUSED);
        }
        let rule = injection.stop().rule();
        assert_eq!(
            (rule.matched, rule.injected),
            (2 * COUNT, 2 * COUNT),
            "{kind:?}"
        );
    }
}

/// What waits at a device comes out there, and passes the interface below at once.
#[test]
fn delays() {
    require!(NetDelay);
    const LOAD: Load = Load::of(30);
    const DELAY: Duration = Duration::from_millis(60);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let (near, far) = (Place::netns(&pair.near), Place::netns(&pair.far));
    let mut flows = Vec::new();
    for (number, kind) in (1..).zip([device::VLAN, device::VXLAN]) {
        let Some(device) = kind.make(&pair, number) else {
            return;
        };
        for ip in kind.families {
            let [here, there] = device.addresses(*ip);
            let near = near.and_cgroup(&cgroup);
            flows.push(UdpFlow::start(
                near,
                far,
                (here, 8001).into(),
                (there, 7001).into(),
            ));
            flows.push(UdpFlow::start(
                far,
                near,
                (there, 8002).into(),
                (here, 7002).into(),
            ));
        }
    }
    let target = cgroup.target();
    let rule = [
        "net-delay",
        "--delay",
        "60ms",
        "--target",
        &target,
        "--for",
        "60s",
    ];
    let filter = ["--direction", "both", "--proto", "udp"];
    for resident in [Some(near.spawn("sleep", &["1000"])), None] {
        let injection = Injection::start(&[&rule[..], &filter].concat());
        flows.iter().for_each(|flow| flow.begin(LOAD));
        for (number, flow) in flows.iter().enumerate() {
            let arrived = flow.finish();
            let late = arrived.delays.at_least(DELAY);
            assert_eq!(
                (arrived.intact, late),
                (LOAD.count, LOAD.count),
                "flow {number}"
            );
        }
        let rule = injection.stop().rule();
        let all = flows.len() as u64 * LOAD.count;
        let alone = resident.is_none();
        assert_eq!((rule.matched, rule.injected), (all, all), "alone: {alone}");
    }

    let Some(device) = device::IPIP.make(&pair, 3) else {
        return;
    };
    let refused = agent::run(&[&["plan"], &rule[..], &filter].concat());
    assert_eq!(refused.code(), 3, "{refused:?}");
    for word in [&device.name, "Ethernet header", "--interface"] {
        assert!(refused.stderr.contains(word), "{refused:?}");
    }
}
