//! Devices that stand on another interface: a packet that passes both is hit once.

use std::{io::Write as _, thread};

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::{Where, test_name},
    netns::{Ip, Netns, Pair, address},
    require,
    traffic::{Arrived, Load, UdpFlow},
    vpn::Vpn,
};

/// Paced by its window: a tunnel's queue is short, and all flows share a cable.
const LOAD: Load = Load::of(100).windowed(8);
/// Every second packet.
const HALF: u64 = 50;
/// Number of the network over the first device.
const FIRST_NET: u8 = 20;

const BOTH: &[Ip] = &[Ip::V4, Ip::V6];

/// The private and the public key of each side of a WireGuard tunnel.
const KEYS: [(&str, &str); 2] = [
    (
        "qM2ESlLim8GBeVGfV8sgfPdoSyZvPUbz/qK6kQwnIXo=",
        "ibQRzjzOUORj5Cgq8+fyDk4XiMFYTd7w57t6R1nlpBI=",
    ),
    (
        "oPjuR8hGS0XAV9QMl2TaEW2gKnnmhArkouXYzl2YFHE=",
        "+WRreUq8FMo0/qPyCdKtKTejzgdaqnxaXb9LcLsqX04=",
    ),
];

/// A kind of device.
struct Kind {
    /// How `ip` makes it, on either side: `DEV` is the device, `LOWER` what it stands on,
    /// `LOCAL`, `REMOTE`, `LOCAL6` and `REMOTE6` the addresses of both sides below it.
    lines: &'static str,
    /// What it carries.
    families: &'static [Ip],
    /// Whether it takes the interface below for itself.
    alone: bool,
}

/// What `ip link` says of a device that the kernel does not have.
fn is_unknown(message: &str) -> bool {
    message.contains("Unknown device type") || message.contains("Operation not supported")
}

/// Does these lines of `ip`; whether the kernel has such a device. All kernels in virtual
/// machines have.
#[track_caller]
fn has_made(netns: &Netns, lines: &str) -> bool {
    let output = Place::netns(netns).output_with_input("ip", &["-batch", "-"], lines);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() && is_unknown(&message) {
        assert_eq!(Where::current(), Where::Host, "{lines}: {message}");
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let (line, message) = (first(lines), first(&message));
        let skip = format!("\nSKIP {}: `ip {line}`: {message}\n", test_name());
        std::io::stdout()
            .write_all(skip.as_bytes())
            .expect("report a skip");
        return false;
    }
    assert!(output.status.success(), "{lines}: {message}");
    true
}

/// Makes a device on one side of a pair, with addresses of its own.
#[track_caller]
fn has_made_kind(pair: &Pair, kind: &Kind, number: u8, side: u8) -> bool {
    let (netns, end) = [(&pair.near, "near"), (&pair.far, "far")][usize::from(side) - 1];
    let below = if kind.alone { number } else { 0 };
    let device = format!("dev{number}");
    let mut lines = kind.lines.replace("DEV", &device);
    lines = lines.replace("LOWER", &format!("{end}{below}"));
    for (word, ip, side) in [
        ("LOCAL6", Ip::V6, side),
        ("REMOTE6", Ip::V6, 3 - side),
        ("LOCAL", Ip::V4, side),
        ("REMOTE", Ip::V4, 3 - side),
    ] {
        lines = lines.replace(word, &address(ip, below, side).to_string());
    }
    lines += &format!("\nlink set {device} up");
    for ip in kind.families {
        let prefix = if *ip == Ip::V4 { 24 } else { 64 };
        let address = address(*ip, FIRST_NET + number, side);
        lines += &format!("\naddress add {address}/{prefix} dev {device} nodad");
    }
    if !has_made(netns, &lines) {
        return false;
    }
    if kind.lines.contains("type wireguard") {
        let peer = address(Ip::V4, below, 3 - side);
        let (_, public) = KEYS[usize::from(2 - side)];
        let (private, _) = KEYS[usize::from(side - 1)];
        let line = format!(
            "set {device} private-key /dev/stdin listen-port 51820 peer {public} \
             allowed-ips 0.0.0.0/0,::/0 endpoint {peer}:51820"
        );
        let words: Vec<&str> = line.split(' ').collect();
        Place::netns(netns).run_with_input("wg", &words, private);
    }
    true
}

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
    let (mut flows, mut vpns) = (Vec::new(), Vec::new());
    for (number, kind) in (1..).zip(kinds) {
        if kind.alone {
            pair.join(&format!("near{number}"), &format!("far{number}"), number);
        }
        let mut sides = [1, 2].into_iter();
        if !sides.all(|side| has_made_kind(&pair, kind, number, side)) {
            return;
        }
        if kind.lines.starts_with("tuntap") {
            vpns.push(Vpn::join(&pair, &format!("dev{number}")));
        }
        for ip in kind.families {
            let [here, there] = [1, 2].map(|side| address(*ip, FIRST_NET + number, side));
            pair.near.await_answer(there);
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
    let whole = |arrived: &Arrived| arrived.missing() == 0 && arrived.duplicates == 0;
    let before = round(&flows);
    assert!(before.iter().all(whole), "{before:?}");
    // Beside a resident the victim is not the owner of what no process sends. A VPN's program
    // is one itself.
    let residents = [Some(near.spawn("sleep", &["1000"])), None];
    let turns = if vpns.is_empty() { 2 } else { 1 };
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
    check(&[
        Kind {
            lines: "link add DEV link LOWER type macvlan mode bridge",
            families: BOTH,
            alone: false,
        },
        Kind {
            lines: "link add DEV type vxlan id 5 dstport 4789 local LOCAL remote REMOTE",
            families: BOTH,
            alone: false,
        },
        Kind {
            lines: "link add DEV type bridge\nlink set LOWER master DEV",
            families: BOTH,
            alone: true,
        },
    ]);
}

#[test]
fn vlans_and_bonds() {
    check(&[
        Kind {
            lines: "link add DEV link LOWER type vlan id 5",
            families: BOTH,
            alone: false,
        },
        Kind {
            lines: "link add outer0 link LOWER type vlan proto 802.1ad id 6\n\
                    link set outer0 up\nlink add DEV link outer0 type vlan id 5",
            families: BOTH,
            alone: false,
        },
        Kind {
            lines: "link add DEV link LOWER type ipvlan mode l2",
            families: BOTH,
            alone: true,
        },
        Kind {
            lines: "link add DEV type bond mode active-backup\nlink set LOWER down\n\
                    link set LOWER master DEV",
            families: BOTH,
            alone: true,
        },
    ]);
}

#[test]
fn tunnels() {
    check(&[
        Kind {
            lines: "link add DEV type geneve id 5 remote REMOTE",
            families: BOTH,
            alone: false,
        },
        Kind {
            lines: "link add DEV type ipip local LOCAL remote REMOTE",
            families: &[Ip::V4],
            alone: false,
        },
        Kind {
            lines: "link add DEV type sit local LOCAL remote REMOTE",
            families: &[Ip::V6],
            alone: false,
        },
        Kind {
            lines: "link add DEV type ip6tnl mode any local LOCAL6 remote REMOTE6",
            families: BOTH,
            alone: false,
        },
        Kind {
            lines: "link add DEV type gretap local LOCAL remote REMOTE",
            families: BOTH,
            alone: false,
        },
        // Nothing that programs have written outlives it, but for the packet's hash.
        Kind {
            lines: "link add DEV type wireguard",
            families: BOTH,
            alone: false,
        },
    ]);
}

/// Below it, packets are those of the program that carries them, and no target's.
#[test]
fn a_tunnel_of_a_program() {
    check(&[Kind {
        lines: "tuntap add DEV mode tun",
        families: BOTH,
        alone: false,
    }]);
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
