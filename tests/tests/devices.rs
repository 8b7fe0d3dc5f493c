//! Devices that stand on another interface: a packet that passes both is hit once.

use std::thread;

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    device::{self, Kind, has_made},
    netns::{Ip, Pair},
    require,
    traffic::{Arrived, Load, UdpFlow},
};

/// Paced by its window: a tunnel's queue is short, and all flows share a cable.
const LOAD: Load = Load::of(100).windowed(8);
/// Every second packet.
const HALF: u64 = 50;
/// A round of all flows at the same time.
#[track_caller]
fn round(flows: &[UdpFlow]) -> Vec<Arrived> {
    flows.iter().for_each(|flow| flow.begin(LOAD));
    // Where something is missing, each waits for it a while.
    thread::scope(|scope| {
        let finish = |flow| scope.spawn(move || UdpFlow::finish(flow));
        let rounds: Vec<_> = flows.iter().map(finish).collect();
        let rounds = rounds.into_iter().map(|round| round.join());
        rounds.map(|round| round.expect("a round")).collect()
    })
}

/// Sends packets both ways through each of these devices, every second of which is lost: the
/// rule counts each once, and as many go missing.
#[track_caller]
fn check(kinds: &[Kind]) {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let (near, far) = (Place::netns(&pair.near), Place::netns(&pair.far));
    let (mut flows, mut devices) = (Vec::new(), Vec::new());
    for (number, kind) in (1..).zip(kinds) {
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
        devices.push(device);
    }
    let whole = |arrived: &Arrived| arrived.missing() == 0 && arrived.duplicates == 0;
    let before = round(&flows);
    assert!(before.iter().all(whole), "{before:?}");
    // Beside a resident the victim is not the owner of what no process sends. A VPN's program
    // is one itself.
    let residents = [Some(near.spawn("sleep", &["1000"])), None];
    let turns = if devices.iter().any(|device| device.vpn.is_some()) {
        1
    } else {
        2
    };
    for resident in residents.into_iter().take(turns) {
        let target = cgroup.target();
        let rule = ["net-loss", "--target", &target, "--when", "2+2"];
        let rule = [&rule[..], &["--per", "flow"]].concat();
        // Nor are the kernel's own messages of interest: about groups and neighbours, and of
        // that length those that keep a WireGuard tunnel open.
        let rule = [&rule[..], &["--proto", "!icmp", "--proto", "!2"]].concat();
        let rule = [&rule[..], &["--size", "!60"]].concat();
        let rule = [&rule[..], &["--direction", "both", "--for", "60s"]].concat();
        let injection = Injection::start(&rule);
        let missing: Vec<u64> = round(&flows).iter().map(Arrived::missing).collect();
        let rule = injection.stop().rule();
        let count = flows.len() as u64;
        let wanted = (vec![HALF; flows.len()], count * LOAD.count, count * HALF);
        let found = (missing, rule.matched, rule.injected);
        assert_eq!(found, wanted, "alone: {}", resident.is_none());
    }
}

/// What container networks are made of, which every kernel has.
#[test]
fn lans() {
    check(&[device::MACVLAN, device::VXLAN, device::BRIDGE]);
}

#[test]
fn vlans_and_bonds() {
    check(&[
        device::VLAN,
        device::VLAN_IN_A_VLAN,
        device::IPVLAN,
        device::BOND,
    ]);
}

#[test]
fn tunnels() {
    check(&[
        device::GENEVE,
        device::IPIP,
        device::SIT,
        device::IP6TNL,
        device::GRETAP,
        // Nothing that programs have written outlives it, but for the packet's hash.
        device::WIREGUARD,
    ]);
}

/// Below it, packets are those of the program that carries them, and no target's.
#[test]
fn a_tunnel_of_a_program() {
    check(&[device::TUN]);
}

/// Packets of a VRF pass its member, and not the VRF device.
#[test]
fn a_member_of_a_vrf_is_acted_on() {
    require!(NetLoss);
    let pair = Pair::new();
    let lines = "link add vrf0 type vrf table 10\nlink set vrf0 up\n\
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
    let line = "link add dev0 type gre local 10.77.0.1 remote 10.77.0.2\nlink set dev0 up";
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
