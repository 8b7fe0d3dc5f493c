//! `dns`: the target's queries get the chosen answer, and nobody else's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use injector_common::dns::{NXDOMAIN, REFUSED, SERVFAIL};
use injector_tests::{
    actor::dns::{CHOSEN_ADDRESSES, CHOSEN_ANSWER, CHOSEN_TTL, NO_ADDRESS, NO_ANSWER, TRUNCATED},
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Netns, Pair, address},
    require,
    resolver::{Asker, NameServer},
};

const PORT: u16 = 53;
/// The server's own answer.
const GENUINE: u32 = 0;

/// Questions with what is answered over UDP and over TCP under [`spec`].
const CASES: &[(&str, u32, u32)] = &[
    ("nx.example.net/A", NXDOMAIN as u32, NXDOMAIN as u32),
    ("nx.example.net/AAAA", GENUINE, GENUINE),
    ("sf.example.net/AAAA", SERVFAIL as u32, SERVFAIL as u32),
    ("rf.eXample.NET/15", REFUSED as u32, REFUSED as u32),
    ("ad.example.net/A", CHOSEN_ANSWER, CHOSEN_ANSWER),
    ("ad.example.net/AAAA", CHOSEN_ANSWER, CHOSEN_ANSWER),
    ("ad.example.net/15", GENUINE, GENUINE),
    ("v4.example.net/AAAA", NO_ADDRESS, NO_ADDRESS),
    ("tc.example.net/A", TRUNCATED, GENUINE),
    ("a.b.low.example.net/A", NXDOMAIN as u32, NXDOMAIN as u32),
    ("low.example.net/A", GENUINE, GENUINE),
    ("spared.low.example.net/A", GENUINE, GENUINE),
    ("xlow.example.net/A", GENUINE, GENUINE),
    ("to.example.net/A", NO_ANSWER, NO_ANSWER),
];

/// Rules that are in force together, each for names of its own. The last one is
/// that of the answer that never comes.
fn spec(target: &str) -> String {
    let rules = [
        "query: nx.example.net, type: A, answer: nxdomain".to_owned(),
        "query: SF.example.net, answer: servfail".to_owned(),
        "query: rf.example.net, type: [A, MX], answer: refused".to_owned(),
        format!("query: ad.example.net, answer: '{CHOSEN_ADDRESSES}', ttl: {CHOSEN_TTL}"),
        "query: v4.example.net, answer: 192.0.2.7".to_owned(),
        "query: tc.example.net, answer: truncated".to_owned(),
        "query: ['*.low.example.net', '!spared.low.example.net'], answer: nxdomain".to_owned(),
        "query: to.example.net, answer: timeout".to_owned(),
    ];
    let rules = rules.iter().enumerate().map(|(number, rule)| {
        format!("{{kind: dns, name: r{number}, target: '{target}', {rule}}}")
    });
    let rules: Vec<String> = rules.collect();
    format!("{{version: 1, for: 60s, rules: [{}]}}", rules.join(", "))
}

/// Victims that ask in every way, a bystander beside them, and a name server.
struct Bed<'a> {
    near: &'a Netns,
    far: &'a Netns,
    server: NameServer,
    to: SocketAddr,
    cgroup: Cgroup,
}

impl<'a> Bed<'a> {
    #[track_caller]
    fn new(near: &'a Netns, far: &'a Netns, address: IpAddr, port: u16) -> Self {
        let to = (address, port).into();
        Self {
            near,
            far,
            server: NameServer::start(Place::netns(far), to),
            to,
            cgroup: Cgroup::new("victim"),
        }
    }

    #[track_caller]
    fn on_cable(pair: &'a Pair, ip: Ip) -> Self {
        Self::new(&pair.near, &pair.far, Pair::far_address(ip), PORT)
    }

    #[track_caller]
    fn on_loopback(netns: &'a Netns, ip: Ip, port: u16) -> Self {
        let address = match ip {
            // As a local resolver has it.
            Ip::V4 => IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)),
            Ip::V6 => Ipv6Addr::LOCALHOST.into(),
        };
        Self::new(netns, netns, address, port)
    }

    #[track_caller]
    fn victim(&self, options: &[&str], questions: &[&str]) -> Asker {
        let place = Place::netns(self.near).and_cgroup(&self.cgroup);
        Asker::start(place, self.to, options, questions)
    }

    #[track_caller]
    fn inject(&self, options: &[&str]) -> Injection {
        let target = self.cgroup.target();
        Injection::start(&[&["dns", "--target", &target, "--for", "60s"], options].concat())
    }

    /// Looks names up as the C library does, from a victim whose list of name servers is replaced for
    /// it alone: the exit status, and the addresses found.
    fn resolver(&self) -> impl Fn(&str) -> (Option<i32>, Vec<String>) {
        let list = tempfile::NamedTempFile::new().expect("make a file");
        let text = format!("nameserver {}\noptions edns0 timeout:1\n", self.to.ip());
        std::fs::write(list.path(), text).expect("write a list of name servers");
        let place = Place::netns(self.near).and_cgroup(&self.cgroup);
        let resident = place.spawn("sleep", &["1000"]);
        move |name| {
            let path = list.path().to_str().expect("a path in UTF-8");
            let script = "mount --bind \"$1\" /etc/resolv.conf && exec getent -s dns ahosts \"$2\"";
            let words = ["-m", "sh", "-c", script, "sh", path, name];
            let _ = &resident;
            let output = place.output("unshare", &words);
            let mut found: Vec<String> = String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
                .collect();
            found.sort_unstable();
            found.dedup();
            (output.status.code(), found)
        }
    }

    fn checksum_errors(&self) -> u64 {
        let counter = |netns: &Netns| {
            ["Tcp", "Udp", "Udp6"]
                .map(|protocol| netns.counter(protocol, "InCsumErrors"))
                .iter()
                .sum::<u64>()
        };
        counter(self.near) + counter(self.far)
    }

    /// Asks everything in every way.
    #[track_caller]
    fn check(&self) {
        let questions: Vec<&str> = CASES.iter().map(|(question, ..)| *question).collect();
        let genuine = vec![GENUINE; questions.len()];
        let plain = self.victim(&[], &questions);
        let edns = self.victim(&["--edns"], &questions);
        let tcp = self.victim(&["--edns", "--tcp"], &questions);
        let bystander = Asker::start(Place::netns(self.near), self.to, &[], &questions);
        for asker in [&plain, &edns, &tcp] {
            assert_eq!(asker.round(1), genuine);
        }
        let errors = self.checksum_errors();
        let injection = Injection::of_spec(&spec(&self.cgroup.target()));
        let _ = self.server.take_queries();
        let (by_udp, by_tcp): (Vec<u32>, Vec<u32>) =
            CASES.iter().map(|(_, udp, tcp)| (udp, tcp)).unzip();
        for (asker, expected) in [(&plain, &by_udp), (&edns, &by_udp), (&tcp, &by_tcp)] {
            assert_eq!(&asker.round(1), expected);
            let own = expected.iter().filter(|answer| **answer == GENUINE);
            // What was answered elsewhere never came.
            assert_eq!(self.server.take_queries(), own.count() as u64);
        }
        assert_eq!(bystander.round(1), genuine);
        let finished = injection.stop();
        let rules = &finished.report().rules;
        let counts: Vec<u64> = rules.iter().map(|rule| rule.injected).collect();
        assert_eq!(counts[..7], [3, 3, 3, 6, 3, 2, 3], "{rules:?}");
        // TCP sends a query again that nobody acknowledges.
        assert!(counts[7] > 3, "{rules:?}");
        assert!(
            rules.iter().all(|rule| rule.matched == rule.injected),
            "{rules:?}"
        );
        assert_eq!(self.checksum_errors(), errors, "damaged answers");
        // That of the query that was lost, which is sent again.
        self.server.await_no_connection();
        for asker in [&plain, &edns, &tcp] {
            assert_eq!(asker.round(1), genuine);
        }
    }
}

#[test]
fn cable_v4() {
    require!(Dns);
    Bed::on_cable(&Pair::new(), Ip::V4).check();
}

/// On a cable whose near end has the kernel fill in checksums.
#[test]
fn cable_v6_without_offload() {
    require!(Dns);
    let pair = Pair::new();
    pair.near.fill_in_checksums(Pair::NEAR_LINK);
    Bed::on_cable(&pair, Ip::V6).check();
}

#[test]
fn loopback_v4() {
    require!(Dns);
    Bed::on_loopback(&Netns::new(), Ip::V4, PORT).check();
}

#[test]
fn loopback_v6() {
    require!(Dns);
    Bed::on_loopback(&Netns::new(), Ip::V6, PORT).check();
}

/// Two queries in one segment, as resolvers send them: both are answered, or both
/// go on. The longest name there is fits too.
#[test]
fn pairs_over_tcp() {
    require!(Dns);
    let pair = Pair::new();
    let bed = Bed::on_cable(&pair, Ip::V4);
    let label = "x".repeat(63);
    let long = [label.as_str(), &label, &label, &label[..61]].join(".");
    let question = format!("{long}/A");
    let victim = bed.victim(&["--pair", "--edns"], &[&question]);
    let answer = ["--answer", CHOSEN_ADDRESSES, "--ttl", "30"];
    let injection = bed.inject(&[&answer[..], &["--query", &long]].concat());
    assert_eq!(victim.round(3), [CHOSEN_ANSWER]);
    bed.server.await_no_connection();
    assert_eq!(injection.stop().rule().injected, 3);
    let below = format!("*.{}", &long[64..]);
    let others = ["--answer", "nxdomain", "--type", "A", "--query", &below];
    let injection = bed.inject(&others);
    assert_eq!(victim.round(3), [GENUINE]);
    assert_eq!(injection.stop().rule().matched, 0);
    bed.server.await_no_connection();
}

/// The other forms of a target, and another port.
#[test]
fn processes_and_commands() {
    require!(Dns);
    let netns = Netns::new();
    let bed = Bed::on_loopback(&netns, Ip::V6, 5300);
    let here = Place::netns(&netns);
    let questions = ["example.net/A"];
    let process = bed.victim(&[], &questions);
    let target = process.target();
    let words = ["dns", "--answer", "refused", "--for", "60s"];
    let aimed = ["--target", &target];
    // Nobody listens at the usual port for these.
    let injection = Injection::start(&[&words[..], &aimed].concat());
    assert_eq!(process.round(2), [GENUINE]);
    assert_eq!(injection.stop().rule().matched, 0);
    let port = ["--peer-port", "5300"];
    let injection = Injection::start(&[&words[..], &aimed, &port].concat());
    assert_eq!(process.round(2), [u32::from(REFUSED)]);
    assert_eq!(injection.stop().rule().injected, 2);
    let command = Asker::prepare(bed.to, &[], &questions);
    let line = command.command();
    let mut args = [&words[..], &port, &["--"]].concat();
    args.extend(line.iter().map(String::as_str));
    let injection = Injection::start_in(here, &args, &[]);
    assert_eq!(command.round(2), [u32::from(REFUSED)]);
    assert_eq!(injection.wait().rule().injected, 2);
}

#[test]
fn a_share_is_answered() {
    require!(Dns);
    let pair = Pair::new();
    let bed = Bed::on_cable(&pair, Ip::V4);
    let victim = bed.victim(&[], &["example.net/A"]);
    let injection = bed.inject(&["--answer", "servfail", "--when", "2..8+3"]);
    assert_eq!(victim.seen(10)[0].failed_calls, [2, 5, 8]);
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected, rule.passed), (10, 3, 7));
}

/// The server's own answer, later, over UDP and TCP.
#[track_caller]
fn check_delay(bed: &Bed<'_>) {
    const DELAY: Duration = Duration::from_millis(300);
    let questions = ["example.net/A"];
    let (udp, tcp) = (
        bed.victim(&[], &questions),
        bed.victim(&["--tcp"], &questions),
    );
    let injection = bed.inject(&["--answer", "delay", "--delay", "300ms"]);
    for victim in [&udp, &tcp] {
        assert_eq!(victim.round(2), [GENUINE]);
        assert!(victim.shortest() >= DELAY, "{:?}", victim.shortest());
    }
    assert!(injection.stop().rule().injected >= 4);
    assert_eq!(udp.round(1), [GENUINE]);
    assert!(udp.shortest() < DELAY, "{:?}", udp.shortest());
}

#[test]
fn a_delay() {
    require!(NetDelay);
    let pair = Pair::new();
    for ip in [Ip::V4, Ip::V6] {
        check_delay(&Bed::on_cable(&pair, ip));
    }
}

#[test]
fn a_delay_on_loopback() {
    require!(LoopbackDelay);
    check_delay(&Bed::on_loopback(&Netns::new(), Ip::V6, PORT));
}

/// Whom a query is sent to, how, and through what: filters of packets, for queries.
#[test]
fn filters() {
    require!(Dns);
    let pair = Pair::new();
    pair.join("near1", "far1", 1);
    let elsewhere = pair.join_another("near2", "far2", 2);
    let bed = Bed::on_cable(&pair, Ip::V4);
    // Its namespace is its group's alone, so that its group stands for its address.
    let peer = Cgroup::new("peer");
    let own = Place::netns(&elsewhere).and_cgroup(&peer);
    let far = Place::netns(&pair.far);
    let server = |place, ip, net| {
        let to = SocketAddr::new(address(ip, net, 2), PORT);
        (NameServer::start(place, to), to)
    };
    let (_v6, to_v6) = server(far, Ip::V6, 0);
    let (_other, to_other) = server(far, Ip::V4, 1);
    let (_peer, to_peer) = server(own, Ip::V4, 2);
    let near = Place::netns(&pair.near).and_cgroup(&bed.cgroup);
    let askers = [
        (bed.to, "--edns"),
        (bed.to, "--tcp"),
        (to_v6, "--edns"),
        (to_other, "--edns"),
        (to_peer, "--edns"),
    ]
    .map(|(to, how)| Asker::start(near, to, &[how], &["example.net/A"]));
    let group = peer.target();
    let not_group = format!("!{group}");
    for (filter, hit) in [
        (
            &["--peer", "10.77.0.0/24"][..],
            [true, true, false, false, false],
        ),
        (
            &["--peer", "!10.77.0.0/23"],
            [false, false, true, false, true],
        ),
        (
            &["--peer", "::/0,10.77.1.2"],
            [false, false, true, true, false],
        ),
        (&["--proto", "tcp"], [false, true, false, false, false]),
        (&["--proto", "udp"], [true, false, true, true, true]),
        (
            &["--interface", "near1"],
            [false, false, false, true, false],
        ),
        (
            &["--interface", "!near0"],
            [false, false, false, true, true],
        ),
        (
            &["--peer-target", &group],
            [false, false, false, false, true],
        ),
        (
            &["--peer-target", &not_group],
            [true, true, true, true, false],
        ),
    ] {
        let injection = bed.inject(&[&["--answer", "refused"], filter].concat());
        for (asker, hit) in askers.iter().zip(hit) {
            let answer = if hit { u32::from(REFUSED) } else { GENUINE };
            assert_eq!(asker.round(1), [answer], "{filter:?} {hit:?}");
        }
        let rule = injection.stop().rule();
        let hits = hit.into_iter().filter(|&hit| hit).count() as u64;
        assert_eq!((rule.matched, rule.injected), (hits, hits), "{filter:?}");
    }
}

/// What the C library makes of the answers, whose list of name servers is replaced
/// for the victim alone.
#[test]
fn a_real_resolver() {
    require!(Dns);
    let pair = Pair::new();
    let bed = Bed::on_cable(&pair, Ip::V4);
    let look_up = bed.resolver();
    let genuine = (Some(0), vec!["2001:db8::99".into(), "203.0.113.9".into()]);
    assert_eq!(look_up("nx.example.net"), genuine);
    let target = bed.cgroup.target();
    let rule = |name: &str, rest: &str| {
        format!(
            "{{kind: dns, name: {name}, query: {name}.example.net, target: '{target}', {rest}}}"
        )
    };
    let rules = [
        rule("nx", "answer: nxdomain"),
        rule("ad", &format!("answer: '{CHOSEN_ADDRESSES}'")),
        rule("tc", "answer: truncated"),
    ];
    let injection = Injection::of_spec(&format!(
        "{{version: 1, for: 60s, rules: [{}]}}",
        rules.join(", ")
    ));
    assert_eq!(look_up("nx.example.net"), (Some(2), Vec::new()));
    let chosen = vec!["192.0.2.7".into(), "2001:db8::7".into()];
    assert_eq!(look_up("ad.example.net"), (Some(0), chosen));
    // It asks again over TCP.
    assert_eq!(look_up("tc.example.net"), genuine);
    assert!(
        injection
            .stop()
            .report()
            .rules
            .iter()
            .all(|rule| rule.injected >= 1)
    );
    assert_eq!(look_up("nx.example.net"), genuine);
}

/// Each query gets an address of its own, of networks that nobody has, and those of one seed are
/// the same in each run.
#[test]
fn drawn_addresses() {
    require!(Dns);
    let pair = Pair::new();
    let bed = Bed::on_cable(&pair, Ip::V4);
    let look_up = bed.resolver();
    let drawn = |seed: &str| {
        let injection = bed.inject(&["--answer", "random", "--seed", seed]);
        let found: Vec<_> = (0..4).map(|_| look_up("any.example.net")).collect();
        assert_eq!(injection.stop().rule().injected, 8);
        for (status, addresses) in &found {
            let of_ours = |address: &String| {
                address.starts_with("192.0.2.") || address.starts_with("2001:db8::")
            };
            assert_eq!((*status, addresses.len()), (Some(0), 2), "{found:?}");
            assert!(addresses.iter().all(of_ours), "{found:?}");
        }
        found
    };
    let first = drawn("7");
    let mut different = first.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 4, "{first:?}");
    assert_eq!(drawn("7"), first);
    assert_ne!(drawn("8"), first);
}
