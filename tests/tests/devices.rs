//! Devices that stand on another interface: a packet that passes both is hit once.

use std::io::Write as _;

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::{Where, test_name},
    netns::{Ip, Netns, Pair, address},
    require,
    traffic::{Load, UdpFlow},
};

/// Paced by its window: a tunnel's queue is short.
const LOAD: Load = Load::of(100).windowed(32);
/// Every second packet.
const HALF: u64 = 50;
/// Number of the network over the device.
const NET: u8 = 9;

/// A kind of device, and how it is made on both sides.
struct Kind<'a> {
    /// What `ip` does on the near side, and on the far side; `dev0` is the device.
    near: &'a str,
    far: &'a str,
    /// What it carries.
    families: &'a [Ip],
}

const BOTH: &[Ip] = &[Ip::V4, Ip::V6];

/// What `ip link` says of a device that the kernel does not have.
fn is_unknown(message: &str) -> bool {
    message.contains("Unknown device type") || message.contains("Operation not supported")
}

/// Does these lines of `ip`; whether the kernel has such a device. All kernels in virtual
/// machines have.
#[track_caller]
fn has_made(netns: &Netns, lines: &str) -> bool {
    for line in lines.split(';') {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = Place::netns(netns).output("ip", &words);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() && is_unknown(&message) {
            assert_eq!(Where::current(), Where::Host, "{line}: {message}");
            let skip = format!("\nSKIP {}: `ip {line}`: {message}", test_name());
            std::io::stdout()
                .write_all(skip.as_bytes())
                .expect("report a skip");
            return false;
        }
        assert!(output.status.success(), "{line}: {message}");
    }
    true
}

/// Sends packets both ways through a device, every second of which is lost: the
/// rule counts each once, and as many go missing.
#[track_caller]
fn check(kind: &Kind<'_>) {
    require!(NetLoss);
    let pair = Pair::new();
    for (netns, lines, side) in [(&pair.near, kind.near, 1), (&pair.far, kind.far, 2)] {
        if !has_made(netns, lines) {
            return;
        }
        netns.ip(&["link", "set", "dev0", "up"]);
        for ip in kind.families {
            let prefix = if *ip == Ip::V4 { 24 } else { 64 };
            let address = format!("{}/{prefix}", address(*ip, NET, side));
            netns.ip(&["address", "add", &address, "dev", "dev0", "nodad"]);
        }
    }
    let cgroup = Cgroup::new("victim");
    let (near, far) = (Place::netns(&pair.near), Place::netns(&pair.far));
    let mut flows = Vec::new();
    for (port, ip) in (1..).zip(kind.families) {
        let here = (address(*ip, NET, 1), 8000 + port).into();
        let there = (address(*ip, NET, 2), 7000 + port).into();
        let near = near.and_cgroup(&cgroup);
        flows.push(UdpFlow::start(near, far, here, there));
        let here = (address(*ip, NET, 1), 8100 + port).into();
        let there = (address(*ip, NET, 2), 7100 + port).into();
        flows.push(UdpFlow::start(far, near, there, here));
    }
    for flow in &flows {
        // The sides find each other.
        let _ = flow.round(LOAD);
        flow.round(LOAD).assert_untouched(LOAD);
    }
    // Beside a resident the victim is not the owner of what no process sends.
    for resident in [Some(near.spawn("sleep", &["1000"])), None] {
        let target = cgroup.target();
        let rule = ["net-loss", "--target", &target, "--when", "2+2"];
        // Nor are the kernel's own messages, about groups and neighbours, of interest.
        let rule = [&rule[..], &["--proto", "!icmp", "--proto", "!2"]].concat();
        let rule = [&rule[..], &["--direction", "both", "--for", "60s"]].concat();
        let injection = Injection::start(&rule);
        let missing: Vec<u64> = flows
            .iter()
            .map(|flow| flow.round(LOAD).missing())
            .collect();
        let rule = injection.stop().rule();
        let count = flows.len() as u64;
        let wanted = (vec![HALF; flows.len()], count * LOAD.count, count * HALF);
        let found = (missing, rule.matched, rule.injected);
        assert_eq!(found, wanted, "alone: {}", resident.is_none());
    }
}

macro_rules! devices {
    ($($test:ident: $families:expr, $near:expr, $far:expr;)+) => {
        $(
            #[test]
            fn $test() {
                let (near, far, families) = ($near, $far, $families);
                check(&Kind { near, far, families });
            }
        )+
    };
}

devices! {
    vlan: BOTH,
        "link add dev0 link near0 type vlan id 5",
        "link add dev0 link far0 type vlan id 5";
    vlan_in_a_vlan: BOTH,
        "link add outer0 link near0 type vlan proto 802.1ad id 6; link set outer0 up;
         link add dev0 link outer0 type vlan id 5",
        "link add outer0 link far0 type vlan proto 802.1ad id 6; link set outer0 up;
         link add dev0 link outer0 type vlan id 5";
    macvlan: BOTH,
        "link add dev0 link near0 type macvlan mode bridge",
        "link add dev0 link far0 type macvlan mode bridge";
    ipvlan: BOTH,
        "link add dev0 link near0 type ipvlan mode l2",
        "link add dev0 link far0 type ipvlan mode l2";
    bridge: BOTH,
        "link add dev0 type bridge; link set near0 master dev0",
        "link add dev0 type bridge; link set far0 master dev0";
    bond: BOTH,
        "link add dev0 type bond mode active-backup; link set near0 down;
         link set near0 master dev0",
        "link add dev0 type bond mode active-backup; link set far0 down;
         link set far0 master dev0";
    vxlan: BOTH,
        "link add dev0 type vxlan id 5 dstport 4789 local 10.77.0.1 remote 10.77.0.2",
        "link add dev0 type vxlan id 5 dstport 4789 local 10.77.0.2 remote 10.77.0.1";
    geneve: BOTH,
        "link add dev0 type geneve id 5 remote 10.77.0.2",
        "link add dev0 type geneve id 5 remote 10.77.0.1";
    ipip: &[Ip::V4],
        "link add dev0 type ipip local 10.77.0.1 remote 10.77.0.2",
        "link add dev0 type ipip local 10.77.0.2 remote 10.77.0.1";
    sit: &[Ip::V6],
        "link add dev0 type sit local 10.77.0.1 remote 10.77.0.2",
        "link add dev0 type sit local 10.77.0.2 remote 10.77.0.1";
    ip6tnl: BOTH,
        "link add dev0 type ip6tnl mode any local fd77::1 remote fd77::2",
        "link add dev0 type ip6tnl mode any local fd77::2 remote fd77::1";
    gretap: BOTH,
        "link add dev0 type gretap local 10.77.0.1 remote 10.77.0.2",
        "link add dev0 type gretap local 10.77.0.2 remote 10.77.0.1";
}

/// Packets of a VRF pass its member, and not the VRF device.
#[test]
fn a_member_of_a_vrf_is_acted_on() {
    require!(NetLoss);
    let pair = Pair::new();
    let lines = "link add vrf0 type vrf table 10; link set vrf0 up;
                 link set near0 master vrf0";
    if !has_made(&pair.near, lines) {
        return;
    }
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let _resident = near.spawn("sleep", &["1000"]);
    let far = Pair::far_address(Ip::V4).to_string();
    let answered = || {
        let words = ["-n", "-c", "1", "-W", "1", "-I", "vrf0", &far];
        near.output("ping", &words).status.success()
    };
    assert!(answered());
    let target = cgroup.target();
    let rule = ["net-loss", "--target", &target, "--for", "60s"];
    let filter = ["--direction", "egress", "--proto", "icmp", "--peer", &far];
    let injection = Injection::start(&[rule.as_slice(), &filter].concat());
    assert!(!answered());
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (1, 1));
    assert!(answered());
}

/// Packets that arrive at it come with the header of the tunnel before their own.
#[test]
fn a_gre_tunnel_without_ethernet_is_refused() {
    require!(NetLoss);
    let pair = Pair::new();
    let line = "link add dev0 type gre local 10.77.0.1 remote 10.77.0.2; link set dev0 up";
    if !has_made(&pair.near, line) {
        return;
    }
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let _resident = near.spawn("sleep", &["1000"]);
    let target = cgroup.target();
    let rule = ["plan", "net-loss", "--target", &target, "--for", "60s"];
    let refused = agent::run(&[rule.as_slice(), &["--interface", "dev0"]].concat());
    assert_eq!(refused.code(), 3, "{refused:?}");
    assert!(refused.stderr.contains("link of type 778"), "{refused:?}");
    let warned = agent::run(&rule);
    assert_eq!(warned.code(), 0, "{warned:?}");
    assert!(
        warned.stderr.contains("left out interface dev0"),
        "{warned:?}"
    );
}
