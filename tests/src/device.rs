//! Devices that stand on a cable between two namespaces: VLANs, tunnels, bridges and the like.

use std::{io::Write as _, net::IpAddr};

use crate::{
    command::Place,
    kernel::{Where, test_name},
    netns::{Ip, Netns, Pair, address},
    vpn::Vpn,
};

/// Number of the network over device number 0.
const FIRST_NET: u8 = 20;

const BOTH: &[Ip] = &[Ip::V4, Ip::V6];

/// A kind of device.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// How `ip` makes it, on either side: `DEV` is the device, `LOWER` what it stands on,
    /// `LOCAL`, `REMOTE`, `LOCAL6` and `REMOTE6` the addresses of both sides below it.
    lines: &'static str,
    /// What it carries.
    pub families: &'static [Ip],
    /// Whether it takes the interface below for itself.
    alone: bool,
}

/// A kind that leaves the interface below to others as well.
const fn beside(lines: &'static str, families: &'static [Ip]) -> Kind {
    Kind {
        lines,
        families,
        alone: false,
    }
}

/// A kind that takes the interface below for itself.
const fn alone(lines: &'static str) -> Kind {
    Kind {
        lines,
        families: BOTH,
        alone: true,
    }
}

/// One of the kinds of this name in Linux, as are those below.
pub const VLAN: Kind = beside("link add DEV link LOWER type vlan id 5", BOTH);
/// Two tags.
pub const VLAN_IN_A_VLAN: Kind = beside(
    "link add outer0 link LOWER type vlan proto 802.1ad id 6\nlink set outer0 up\n\
     link add DEV link outer0 type vlan id 5",
    BOTH,
);
/// Other hardware addresses on an interface.
pub const MACVLAN: Kind = beside("link add DEV link LOWER type macvlan mode bridge", BOTH);
/// Other addresses on an interface, with its hardware address.
pub const IPVLAN: Kind = alone("link add DEV link LOWER type ipvlan mode l2");
/// A bridge with one port.
pub const BRIDGE: Kind = alone("link add DEV type bridge\nlink set LOWER master DEV");
/// A bond of one interface.
pub const BOND: Kind = alone(
    "link add DEV type bond mode active-backup\nlink set LOWER down\n\
     link set LOWER master DEV",
);
/// Ethernet in UDP.
pub const VXLAN: Kind = beside(
    "link add DEV type vxlan id 5 dstport 4789 local LOCAL remote REMOTE",
    BOTH,
);
/// The same with options.
pub const GENEVE: Kind = beside("link add DEV type geneve id 5 remote REMOTE", BOTH);
/// Ethernet in GRE.
pub const GRETAP: Kind = beside("link add DEV type gretap local LOCAL remote REMOTE", BOTH);
/// IPv4 in IPv4, without a link-layer header.
pub const IPIP: Kind = beside(
    "link add DEV type ipip local LOCAL remote REMOTE",
    &[Ip::V4],
);
/// IPv6 in IPv4.
pub const SIT: Kind = beside("link add DEV type sit local LOCAL remote REMOTE", &[Ip::V6]);
/// Both in IPv6.
pub const IP6TNL: Kind = beside(
    "link add DEV type ip6tnl mode any local LOCAL6 remote REMOTE6",
    BOTH,
);
/// Encrypted, in UDP.
pub const WIREGUARD: Kind = beside("link add DEV type wireguard", BOTH);
/// Whose other half is a program.
pub const TUN: Kind = beside("tuntap add DEV mode tun", BOTH);

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

/// A device on both sides of a pair.
#[derive(Debug)]
pub struct Device {
    /// Its name on both sides.
    pub name: String,
    /// The program that it needs, if it does.
    pub vpn: Option<Vpn>,
    number: u8,
}

impl Device {
    /// Its addresses on the near side and on the far side.
    #[must_use]
    pub fn addresses(&self, ip: Ip) -> [IpAddr; 2] {
        [1, 2].map(|side| address(ip, FIRST_NET + self.number, side))
    }
}

impl Kind {
    /// Makes such a device on both sides of a pair, over which each reaches the other. Its
    /// number, from 1 on, is one that no other device of the pair has.
    ///
    /// `None` where the kernel has no such device, which the test has been told to be skipped
    /// for. All kernels in virtual machines have.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    #[must_use]
    #[track_caller]
    pub fn make(&self, pair: &Pair, number: u8) -> Option<Device> {
        if self.alone {
            pair.join(&format!("near{number}"), &format!("far{number}"), number);
        }
        let name = format!("dev{number}");
        for side in [1, 2] {
            if !self.has_side(pair, &name, number, side) {
                return None;
            }
        }
        let is_program = self.lines.starts_with("tuntap");
        let vpn = is_program.then(|| Vpn::join(pair, &name));
        let device = Device { name, vpn, number };
        for ip in self.families {
            pair.near.await_answer(device.addresses(*ip)[1]);
        }
        Some(device)
    }

    /// Makes one side.
    #[track_caller]
    fn has_side(&self, pair: &Pair, device: &str, number: u8, side: u8) -> bool {
        let (netns, end) = [(&pair.near, "near"), (&pair.far, "far")][usize::from(side) - 1];
        let below = if self.alone { number } else { 0 };
        let mut lines = self.lines.replace("DEV", device);
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
        for ip in self.families {
            let prefix = if *ip == Ip::V4 { 24 } else { 64 };
            let address = address(*ip, FIRST_NET + number, side);
            lines += &format!("\naddress add {address}/{prefix} dev {device} nodad");
        }
        if !has_made(netns, &lines) {
            return false;
        }
        if self.lines.contains("type wireguard") {
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
}

/// Does these lines of `ip`; whether the kernel has such a device. Where it has not, the test is
/// said to be skipped. All kernels in virtual machines have.
///
/// # Panics
///
/// When `ip` fails for another reason.
#[track_caller]
pub fn has_made(netns: &Netns, lines: &str) -> bool {
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

/// What `ip` says of a device that the kernel does not have.
fn is_unknown(message: &str) -> bool {
    // A tun device is made by its own driver's file.
    [
        "Unknown device type",
        "Operation not supported",
        "No such file",
    ]
    .iter()
    .any(|words| message.contains(words))
}
