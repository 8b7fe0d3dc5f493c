//! Packets that belong to no process are told of, and never hit.

use std::{
    fs,
    io::{ErrorKind, Read as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use injector_tests::{
    agent::{Injection, Unattributed},
    cgroup::Cgroup,
    command::Place,
    dialer::Dialer,
    netns::{Ip, Netns, Pair, address},
    require,
    traffic::{
        Direction, UdpFlow,
        ends::{FAR_PORT, LOAD, NEAR_PORT, PLAIN},
    },
    wait,
};

/// Loses whatever a group sends and receives.
#[track_caller]
fn lose_all(cgroup: &Cgroup) -> Injection {
    let target = cgroup.target();
    let line = ["net-loss", "--percent", "100", "--target", &target];
    Injection::start(&[&line[..], &["--direction", "both", "--for", "60s"]].concat())
}

/// A near side between the far one and a third, which forwards packets of both families.
fn router() -> (Pair, Netns) {
    let pair = Pair::new();
    let another = pair.join_another("near1", "far1", 1);
    for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        let file = format!("/proc/sys/net/{switch}");
        pair.near
            .enter(|| fs::write(&file, "1"))
            .expect("forward packets");
    }
    for (side, to, by) in [
        (&pair.far, "10.77.1.0/24", "10.77.0.1"),
        (&pair.far, "fd77:0:0:1::/64", "fd77::1"),
        (&another, "10.77.0.0/24", "10.77.1.1"),
        (&another, "fd77::/64", "fd77:0:0:1::1"),
    ] {
        side.ip(&["route", "add", to, "via", by]);
    }
    (pair, another)
}

#[test]
fn packets_that_are_only_forwarded() {
    require!(NetLoss);
    let (pair, another) = router();
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
    assert_counted(report.unattributed.expect("a count"), LOAD.count);
}

/// The target waits on every address of a host that forwards packets to the same port of another
/// host. These are nobody's, and the target's own are hit.
#[track_caller]
fn check_forwarded_to_a_port_in_use(ip: Ip) {
    require!(NetLoss);
    let (pair, another) = router();
    let cgroup = Cgroup::new("victim");
    let any: IpAddr = match ip {
        Ip::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Ip::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let _waiting = Dialer::prepare(near, (any, FAR_PORT).into(), &[]);
    // Somebody else's too, or all packets there were the victim's.
    let _bystander = Place::netns(&pair.near).spawn("sleep", &["600"]);
    let to = SocketAddr::new(address(ip, 1, 2), FAR_PORT);
    let over = |transport| {
        let options = ["--transport", transport, "--exchanges", "1"];
        let (far, another) = (Place::netns(&pair.far), Place::netns(&another));
        Dialer::start(far, another, to, &options)
    };
    let knock = || {
        let to = (address(ip, 0, 1), FAR_PORT).into();
        let patience = Duration::from_millis(500);
        let knocked = pair.far.enter(|| TcpStream::connect_timeout(&to, patience));
        knocked.map(drop).map_err(|error| error.kind())
    };
    let tcp = over("tcp");
    tcp.assert_unharmed(20);
    assert_eq!(knock(), Ok(()));
    let injection = lose_all(&cgroup);
    tcp.assert_unharmed(20);
    assert_eq!(knock(), Err(ErrorKind::TimedOut));
    drop(tcp);
    over("udp").assert_unharmed(20);
    let report = injection.stop().report();
    let knocks = report.only().injected;
    assert!((1..10).contains(&knocks), "{knocks} packets were hit");
    assert_eq!(knock(), Ok(()));
}

#[test]
fn packets_that_are_forwarded_to_a_port_in_use_v4() {
    check_forwarded_to_a_port_in_use(Ip::V4);
}

#[test]
fn packets_that_are_forwarded_to_a_port_in_use_v6() {
    check_forwarded_to_a_port_in_use(Ip::V6);
}

/// Checks that so many packets were counted both ways. The kernel may send a word of its
/// own beside them, such as about multicast groups.
#[track_caller]
fn assert_counted(found: Unattributed, count: u64) {
    let Unattributed { egress, ingress } = found;
    let expected = count..count + 20;
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

/// How often something happens that nobody's packets come of.
const COUNT: u64 = 40;

/// A namespace that a target shares with somebody else, who sends and answers too, from
/// the root of all groups.
struct Shared {
    pair: Pair,
    cgroup: Cgroup,
    victim: UdpFlow,
    bystander: UdpFlow,
}

impl Shared {
    fn new() -> Self {
        let pair = Pair::new();
        pair.join("near1", "far1", 1);
        let cgroup = Cgroup::new("victim");
        Self {
            victim: PLAIN.start(&pair, &cgroup, Direction::Egress),
            bystander: UdpFlow::start(
                Place::netns(&pair.near),
                Place::netns(&pair.far),
                SocketAddr::new(address(Ip::V4, 1, 1), NEAR_PORT),
                SocketAddr::new(address(Ip::V4, 1, 2), FAR_PORT),
            ),
            pair,
            cgroup,
        }
    }

    /// What belonged to nobody while the rule was in force and something happened; the
    /// bystander's packets are among what did.
    #[track_caller]
    fn unattributed(&self, happens: impl FnOnce()) -> Unattributed {
        let injection = lose_all(&self.cgroup);
        assert_eq!(self.victim.round(LOAD).missing(), LOAD.count);
        self.bystander.round(LOAD).assert_untouched(LOAD);
        happens();
        let report = injection.stop().report();
        assert_eq!(report.only().injected, LOAD.count);
        report.unattributed.expect("a count")
    }
}

/// What the kernel answers by itself, in a namespace that several share: nobody knows
/// whose it would be.
#[test]
fn answers_of_the_kernel() {
    require!(NetLoss);
    let shared = Shared::new();
    let near = Pair::near_address(Ip::V4);
    // Neither the limit per peer holds then, nor that of all, which draws how much each answer takes
    // of it, so that forty may be more than the fifty that it allows at once (ip-sysctl.rst).
    shared
        .pair
        .near
        .enter(|| fs::write("/proc/sys/net/ipv4/icmp_ratemask", "0"))
        .expect("answer as often as asked");
    let found = shared.unattributed(|| {
        shared.pair.far.enter(|| {
            for _ in 0..COUNT {
                let refused = TcpStream::connect((near, 9)).expect_err("nobody listens");
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                socket.connect((near, 9)).expect("connect a socket");
                socket
                    .set_read_timeout(Some(wait::DEADLINE))
                    .expect("wait no longer");
                socket.send(b"?").expect("send a packet");
                let refused = socket.recv(&mut [0]).expect_err("nobody listens");
                assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            }
        });
    });
    assert_counted(found, 2 * COUNT);
}

/// Whether a connection from this port has been ended by this side, and the other one knows
/// (`proc_net_tcp.rst`; states are those of `include/net/tcp_states.h`).
fn has_ended_here(port: u16) -> bool {
    const FIN_WAIT2: &str = "05";
    let port = format!(":{port:04X}");
    let connections = fs::read_to_string("/proc/thread-self/net/tcp").expect("read connections");
    connections.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let from_port = words.next().is_some_and(|local| local.ends_with(&port));
        from_port && words.nth(1) == Some(FIN_WAIT2)
    })
}

/// A connection whose near end was closed first has no socket there any more, once the
/// other end has said that it knows.
#[test]
fn the_last_of_a_connection() {
    require!(NetLoss);
    let shared = Shared::new();
    let far = (Pair::far_address(Ip::V4), FAR_PORT + 7);
    let (near_netns, far_netns) = (&shared.pair.near, &shared.pair.far);
    let listener = far_netns.enter(|| TcpListener::bind(far).expect("listen"));
    let found = shared.unattributed(|| {
        for _ in 0..COUNT {
            let near = near_netns.enter(|| TcpStream::connect(far).expect("connect"));
            let (mut accepted, _) = listener.accept().expect("a connection");
            let port = near.local_addr().expect("an address").port();
            drop(near);
            let end = accepted.read(&mut [0]).expect("the end of the connection");
            assert_eq!(end, 0);
            // The word that the end was seen may come with what is said next, or before: the
            // far side may hold it back for some time.
            wait::until("the end to be known", || {
                near_netns.enter(|| has_ended_here(port)).then_some(())
            });
        }
    });
    assert_counted(found, COUNT);
}
