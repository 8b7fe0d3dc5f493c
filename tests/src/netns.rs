//! Network namespaces, and pairs of them joined by a cable.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    process, thread,
    time::Duration,
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::{command::Place, wait};

/// A network namespace of the test's own.
///
/// It has no name: it lives as long as this value or a process in it does, so
/// not even a killed test leaves it behind.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// Makes a namespace that has nothing but a loopback interface, which is up.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    #[must_use]
    pub fn new() -> Self {
        let netns = Self::bare();
        netns.ip(&["link", "set", "lo", "up"]);
        netns
    }

    /// Makes a namespace whose loopback interface is down.
    fn bare() -> Self {
        let file = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
            File::open("/proc/thread-self/ns/net").expect("open a network namespace")
        })
        .join()
        .expect("a thread with a network namespace");
        Self { file }
    }

    /// The namespace of the calling thread.
    ///
    /// # Panics
    ///
    /// When `/proc` is not mounted.
    #[must_use]
    pub fn current() -> Self {
        let file = File::open("/proc/thread-self/ns/net").expect("open a network namespace");
        Self { file }
    }

    /// Another descriptor of it.
    pub(crate) fn open(&self) -> OwnedFd {
        self.file
            .try_clone()
            .expect("copy a descriptor of a network namespace")
            .into()
    }

    /// A path that opens it, as long as this value lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs a closure on a thread inside the namespace.
    ///
    /// # Panics
    ///
    /// When the closure does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let result = thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&self.file, CloneFlags::CLONE_NEWNET).expect("enter a network namespace");
                    work()
                })
                .join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs `ip` in the namespace and returns what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    #[track_caller]
    pub fn ip(&self, args: &[&str]) -> String {
        Place::netns(self).run("ip", args)
    }

    /// Runs `ip` once for all these lines of arguments: under emulation, the
    /// start of a program takes far longer than its work.
    ///
    /// # Panics
    ///
    /// When a line fails; the lines before it have been carried out.
    #[track_caller]
    fn ip_batch(&self, lines: &str) {
        Place::netns(self).run_with_input("ip", &["-batch", "-"], lines);
    }

    /// Waits until the namespace has sent a packet to this address and got an
    /// answer: the refusal of a connection to a port that nobody listens on.
    ///
    /// # Panics
    ///
    /// When none comes.
    #[track_caller]
    pub fn await_answer(&self, address: IpAddr) {
        let discard = SocketAddr::new(address, 9);
        let timeout = Duration::from_secs(20);
        self.enter(|| {
            wait::until("an answer from the far side", || {
                let error = TcpStream::connect_timeout(&discard, timeout).err()?;
                (error.kind() == ErrorKind::ConnectionRefused).then_some(())
            });
        });
    }

    /// Runs `tc` in the namespace and returns what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    #[track_caller]
    pub fn tc(&self, args: &[&str]) -> String {
        Place::netns(self).run("tc", args)
    }

    /// Lets the kernel fill in the checksums of what leaves an interface, as where
    /// no device does. Between two namespaces packets travel without otherwise.
    ///
    /// # Panics
    ///
    /// When the interface does not allow it.
    #[track_caller]
    pub fn fill_in_checksums(&self, link: &str) {
        /// `ETHTOOL_STXCSUM`
        const SET_CHECKSUMS: u32 = 0x17;
        let off = [SET_CHECKSUMS, 0];
        // SAFETY: all zero is a valid request.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
            *to = from.cast_signed();
        }
        request.ifr_ifru.ifru_data = off.as_ptr().cast_mut().cast();
        let socket = self.enter(|| std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket"));
        // SAFETY: the request and what it points to outlive the call.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
        assert_eq!(done, 0, "{link}: {}", std::io::Error::last_os_error());
    }

    /// One of the namespace's protocol counters, such as `("Udp", "InErrors")`,
    /// from `/proc/net/snmp`, `/proc/net/snmp6` or `/proc/net/netstat`. Those of
    /// IPv6 are named with their protocol, such as `("Udp6", "InErrors")`.
    ///
    /// # Panics
    ///
    /// When the kernel has no such counter.
    #[must_use]
    #[track_caller]
    pub fn counter(&self, protocol: &str, name: &str) -> u64 {
        let [two_lines, more, one_line] = self.enter(|| {
            ["snmp", "netstat", "snmp6"].map(|file| {
                fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default()
            })
        });
        let found = find_counter(&two_lines, protocol, name)
            .or_else(|| find_counter(&more, protocol, name))
            .or_else(|| find_counter6(&one_line, &format!("{protocol}{name}")));
        match found {
            Some(value) => value,
            None => panic!("this kernel counts no {protocol} {name}"),
        }
    }
}

impl Default for Netns {
    fn default() -> Self {
        Self::new()
    }
}

/// Looks a counter up in the format of `/proc/net/snmp`: a line of names and a
/// line of values, both beginning with the protocol.
fn find_counter(table: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = table.lines().filter_map(|line| {
        let (head, rest) = line.split_once(": ")?;
        (head == protocol).then(|| rest.split(' '))
    });
    let position = lines.next()?.position(|field| field == name)?;
    lines.next()?.nth(position)?.parse().ok()
}

/// Looks a counter up in the format of `/proc/net/snmp6`: one name and value a
/// line.
fn find_counter6(table: &str, name: &str) -> Option<u64> {
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

/// IP version of a test's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Two namespaces joined by a virtual cable. The side that a fault's target is
/// on is the near one.
#[derive(Debug)]
pub struct Pair {
    /// The side of the target.
    pub near: Netns,
    /// The other side.
    pub far: Netns,
}

impl Pair {
    /// Name of the interface on the near side.
    pub const NEAR_LINK: &str = "near0";
    /// Name of the interface on the far side.
    pub const FAR_LINK: &str = "far0";

    /// Makes two namespaces and joins them.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    #[must_use]
    pub fn new() -> Self {
        let pair = Self {
            near: Netns::bare(),
            far: Netns::bare(),
        };
        cable(&pair.near, &pair.far, (Self::NEAR_LINK, Self::FAR_LINK), 0);
        pair
    }

    /// Joins the two namespaces by another cable, in network number `net`.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    pub fn join(&self, near_link: &str, far_link: &str, net: u8) {
        cable(&self.near, &self.far, (near_link, far_link), net);
    }

    /// Makes a third namespace and joins the near one to it, in network number `net`.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    #[must_use]
    pub fn join_another(&self, near_link: &str, far_link: &str, net: u8) -> Netns {
        let another = Netns::bare();
        cable(&self.near, &another, (near_link, far_link), net);
        another
    }

    /// The near side's address.
    #[must_use]
    pub fn near_address(ip: Ip) -> IpAddr {
        address(ip, 0, 1)
    }

    /// The far side's address.
    #[must_use]
    pub fn far_address(ip: Ip) -> IpAddr {
        address(ip, 0, 2)
    }
}

/// Joins two namespaces by a cable.
fn cable(near: &Netns, far: &Netns, (near_link, far_link): (&str, &str), net: u8) {
    near.ip_batch(&format!(
        "link set lo up\nlink add {near_link} type veth peer name {far_link} netns {}\n\
         link set {near_link} up\n",
        far.path().display()
    ));
    // Both ends are up before they get addresses: those that an interface has before its carrier
    // answer no neighbour solicitation for a second.
    far.ip_batch(&format!(
        "link set lo up\nlink set {far_link} up\n{}",
        addresses(far_link, net, 2)
    ));
    near.ip_batch(&addresses(near_link, net, 1));
    // What is sent before the sides have found each other waits in a short queue,
    // which a burst of a test's would overflow. The question for the other side is lost where
    // the kernel has not yet noticed the carrier, and repeated after a second.
    ask_again_after(near, near_link, Duration::from_millis(20));
    for ip in [Ip::V4, Ip::V6] {
        near.await_answer(address(ip, net, 2));
    }
    ask_again_after(near, near_link, Duration::from_secs(1));
}

/// How long an interface waits for an answer of a neighbour's before it asks again.
fn ask_again_after(netns: &Netns, link: &str, pause: Duration) {
    let millis = pause.as_millis().to_string();
    netns.enter(|| {
        for family in ["ipv4", "ipv6"] {
            let file = format!("/proc/sys/net/{family}/neigh/{link}/retrans_time_ms");
            fs::write(&file, &millis).expect(&file);
        }
    });
}

/// The lines for `ip` that give an interface its addresses.
fn addresses(link: &str, net: u8, side: u8) -> String {
    let mut lines = String::new();
    for ip in [Ip::V4, Ip::V6] {
        let (address, prefix) = (address(ip, net, side), prefix(ip));
        // Duplicate address detection would keep the address unusable for a second.
        let line = writeln!(lines, "address add {address}/{prefix} dev {link} nodad");
        line.expect("write to a string");
    }
    lines
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}

/// Address of one side of cable number `net`.
#[must_use]
pub fn address(ip: Ip, net: u8, side: u8) -> IpAddr {
    match ip {
        Ip::V4 => Ipv4Addr::new(10, 77, net, side).into(),
        Ip::V6 => Ipv6Addr::new(0xfd77, 0, 0, net.into(), 0, 0, 0, side.into()).into(),
    }
}

/// Address of every namespace's loopback.
#[must_use]
pub const fn loopback(ip: Ip) -> IpAddr {
    match ip {
        Ip::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Ip::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

/// Prefix length of a cable's network.
const fn prefix(ip: Ip) -> u8 {
    match ip {
        Ip::V4 => 24,
        Ip::V6 => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let snmp = "Udp: InDatagrams NoPorts InErrors\nUdp: 7 8 9\nUdpLite: InErrors\nUdpLite: 1\n";
        assert_eq!(find_counter(snmp, "Udp", "InErrors"), Some(9));
        assert_eq!(find_counter(snmp, "UdpLite", "InErrors"), Some(1));
        assert_eq!(find_counter(snmp, "Tcp", "InErrors"), None);
        assert_eq!(
            find_counter6("Ip6InReceives  \t3\nUdp6InErrors  \t4\n", "Udp6InErrors"),
            Some(4)
        );
    }

    #[test]
    fn a_pair_reaches_itself_in_both_families() {
        let pair = Pair::new();
        assert!(pair.far.counter("Ip", "InReceives") >= 1);
        assert!(pair.far.counter("Ip6", "InDelivers") >= 1);
        let near = Place::netns(&pair.near);
        for ip in [Ip::V4, Ip::V6] {
            near.run("ping", &["-c", "1", &Pair::far_address(ip).to_string()]);
        }
    }

    #[test]
    fn a_namespace_goes_with_its_guard() {
        let pair = Pair::new();
        let far = pair.far;
        drop(pair.near);
        // The other end of the cable goes with its namespace.
        wait::until("the end of the cable", || {
            let links = far.ip(&["-o", "link", "show"]);
            (!links.contains(Pair::FAR_LINK)).then_some(())
        });
    }
}
