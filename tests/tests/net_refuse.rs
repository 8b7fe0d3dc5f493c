//! `net-refuse`: `connect` fails with the chosen error, for whoever is targeted.

use std::net::Ipv4Addr;

use injector_tests::{
    agent::Injection,
    bare::Denial,
    cgroup::{self, Cgroup},
    command::Place,
    dialer::{DialBed, Dialer},
    netns::{Ip, Netns, Pair, loopback},
    require,
    stats::binomial_999,
    traffic::{Direction, Form, Load, UdpFlow},
};

const COUNT: u64 = 20;
const PORT: u16 = DialBed::PORT;

/// A victim that makes connections and a bystander that does the same, on the
/// loopback of a namespace of their own.
#[track_caller]
fn bed(ip: Ip, options: &[&str]) -> DialBed {
    DialBed::on_loopback(ip, Direction::Egress, options)
}

/// Puts refusals in force on the victim's group.
#[track_caller]
fn refuse(bed: &DialBed, options: &[&str]) -> Injection {
    bed.inject("net-refuse", options)
}

/// Refuses every `connect` of a victim with `errno`, in each form of target, and
/// none of a bystander's.
#[track_caller]
fn check(form: Form, ip: Ip, transport: &str, errno: Option<(&str, i32)>) {
    require!(NetRefuse);
    let options = ["--transport", transport, "--exchanges", "1"];
    let bed = bed(ip, &options);
    bed.assert_unharmed(COUNT);
    let mut args = vec!["net-refuse", "--for", "60s"];
    let (name, errno) = errno.unwrap_or(("ECONNREFUSED", libc::ECONNREFUSED));
    if errno != libc::ECONNREFUSED {
        args.extend(["--errno", name]);
    }
    let here = Place::netns(&bed.netns[0]);
    let started = Dialer::prepare(here, (loopback(ip), PORT + 2).into(), &options);
    let (target, command) = match form {
        Form::Cgroup => (Some(bed.cgroup.target()), Vec::new()),
        Form::Process => (Some(bed.victim.target()), Vec::new()),
        Form::Command => (None, started.command()),
    };
    if let Some(target) = &target {
        args.extend(["--target", target]);
    } else {
        args.push("--");
        args.extend(command.iter().map(String::as_str));
    }
    let injection = Injection::start_in(here, &args, &[]);
    let victim = if form == Form::Command {
        &started
    } else {
        &bed.victim
    };
    bed.bystander.begin(COUNT);
    victim.assert_all_fail(COUNT, errno);
    bed.assert_bystander_unharmed(COUNT);
    let finished = if form == Form::Command {
        injection.wait()
    } else {
        injection.stop()
    };
    let rule = finished.rule();
    assert_eq!((rule.matched, rule.injected), (COUNT, COUNT), "{rule:?}");
    assert_eq!(rule.backend, "cgroup");
    bed.assert_unharmed(COUNT);
}

macro_rules! matrix {
    ($($name:ident: $form:ident $ip:ident $transport:literal $errno:expr;)+) => {
        $(
            #[test]
            fn $name() {
                check(Form::$form, Ip::$ip, $transport, $errno);
            }
        )+
    };
}

matrix! {
    cgroup_v4_tcp: Cgroup V4 "tcp" None;
    cgroup_v6_tcp: Cgroup V6 "tcp" Some(("ETIMEDOUT", libc::ETIMEDOUT));
    cgroup_v4_udp: Cgroup V4 "udp" Some(("ENETUNREACH", libc::ENETUNREACH));
    cgroup_v6_udp: Cgroup V6 "udp" None;
    process_v4_tcp: Process V4 "tcp" Some(("EHOSTUNREACH", libc::EHOSTUNREACH));
    process_v6_udp: Process V6 "udp" Some(("EPERM", libc::EPERM));
    command_v4_udp: Command V4 "udp" None;
    command_v6_tcp: Command V6 "tcp" Some(("EADDRNOTAVAIL", libc::EADDRNOTAVAIL));
    fast_open_v4: Cgroup V4 "tcp-fast" None;
    fast_open_v6: Cgroup V6 "tcp-fast" Some(("ENETDOWN", libc::ENETDOWN));
}

/// Every error arrives as it was asked for, the largest and the strange ones
/// too.
#[test]
fn errors_arrive_unchanged() {
    require!(NetRefuse);
    let bed = bed(Ip::V4, &[]);
    for errno in [
        libc::EPERM,
        libc::EINTR,
        libc::EAGAIN,
        libc::EACCES,
        libc::EINVAL,
        libc::EPROTOTYPE,
        libc::EADDRINUSE,
        libc::ECONNABORTED,
        libc::EISCONN,
        libc::EINPROGRESS,
        libc::EHWPOISON,
    ] {
        let injection = refuse(&bed, &["--errno", &errno.to_string()]);
        bed.victim.assert_all_fail(COUNT, errno);
        assert_eq!(injection.stop().rule().injected, COUNT, "{errno}");
    }
    bed.victim.assert_unharmed(COUNT);
}

/// Threads and descendants of a process are hit, whoever calls.
#[test]
fn workers_of_a_process() {
    require!(NetRefuse);
    for worker in ["main", "thread", "child", "grandchild"] {
        let bed = bed(Ip::V4, &["--worker", worker]);
        let target = bed.victim.target();
        let injection = Injection::start(&["net-refuse", "--target", &target, "--for", "60s"]);
        bed.victim.assert_all_fail(COUNT, libc::ECONNREFUSED);
        bed.bystander.assert_unharmed(COUNT);
        assert_eq!(injection.stop().rule().injected, COUNT, "{worker}");
        bed.victim.assert_unharmed(COUNT);
    }
}

#[test]
fn a_share_is_refused() {
    require!(NetRefuse);
    let count = 2000;
    let bed = bed(Ip::V6, &["--transport", "udp"]);
    let injection = refuse(&bed, &["--percent", "20", "--seed", "9"]);
    let seen = bed.victim.round(count);
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (count, seen.failures));
    let expected = binomial_999(count, 0.2);
    assert!(expected.contains(&rule.injected), "{rule:?}, {expected:?}");
    assert_eq!(rule.passed, count - rule.injected);
}

#[test]
fn when_and_times_name_the_very_connects() {
    require!(NetRefuse);
    let bed = bed(Ip::V4, &[]);
    let injection = refuse(&bed, &["--when", "3..9+2"]);
    assert_eq!(bed.victim.round(COUNT).failed_calls, [3, 5, 7, 9]);
    assert_eq!(injection.stop().rule().injected, 4);
    let injection = refuse(&bed, &["--times", "2"]);
    assert_eq!(bed.victim.round(COUNT).failed_calls, [1, 2]);
    let finished = injection.wait();
    assert_eq!(finished.report().stopped_by, "budget");
    assert_eq!(finished.rule().injected, 2);
}

/// Filters by transport, network and port, each of which spares what it does not
/// name.
#[test]
fn filters() {
    require!(NetRefuse);
    for (ip, transport, options, hit) in [
        (Ip::V4, "tcp", "--proto tcp", true),
        (Ip::V4, "tcp", "--proto udp", false),
        (Ip::V6, "udp", "--proto udp", true),
        (Ip::V6, "udp", "--proto tcp", false),
        (Ip::V4, "tcp", "--peer 127.0.0.0/8 --peer-port 7100", true),
        (Ip::V4, "tcp", "--peer 10.0.0.0/8", false),
        (Ip::V4, "tcp", "--peer ::/0", false),
        (Ip::V6, "tcp", "--peer ::1", true),
        (Ip::V6, "tcp", "--peer 0.0.0.0/0", false),
        (Ip::V4, "udp", "--peer-port 7000-7200", true),
        (Ip::V4, "udp", "--peer-port 7101-65535", false),
    ] {
        let bed = bed(ip, &["--transport", transport]);
        let words: Vec<&str> = options.split(' ').collect();
        let injection = refuse(&bed, &words);
        let seen = bed.victim.round(COUNT);
        let expected = if hit { COUNT } else { 0 };
        assert_eq!(seen.failures, expected, "{transport} {options}");
        assert_eq!(injection.stop().rule().matched, expected, "{options}");
    }
}

/// An IPv4 peer of an IPv6 socket is an IPv4 peer.
#[test]
fn a_mapped_peer_is_an_ipv4_peer() {
    require!(NetRefuse);
    let netns = Netns::new();
    let cgroup = Cgroup::new("victim");
    let here = Place::netns(&netns);
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let to = (mapped, PORT).into();
    for transport in ["tcp", "udp"] {
        let options = ["--transport", transport];
        let victim = Dialer::start(here.and_cgroup(&cgroup), here, to, &options);
        for (peer, hit) in [("127.0.0.0/8", true), ("::/0", false)] {
            let target = cgroup.target();
            let words = ["net-refuse", "--target", &target, "--peer", peer];
            let injection = Injection::start(&[&words[..], &["--for", "60s"]].concat());
            let failures = victim.round(COUNT).failures;
            assert_eq!(failures, if hit { COUNT } else { 0 }, "{transport} {peer}");
            assert_eq!(injection.stop().rule().matched, failures);
        }
    }
}

/// A connection that exists goes on, and so do datagrams without one.
#[test]
fn nothing_but_connect_is_refused() {
    require!(NetRefuse);
    const LOAD: Load = Load::of(50);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let far = Pair::far_address(Ip::V4);
    let flow = UdpFlow::start(
        near,
        Place::netns(&pair.far),
        (Pair::near_address(Ip::V4), 8001).into(),
        (far, 7001).into(),
    );
    let target = cgroup.target();
    let injection = Injection::start(&["net-refuse", "--target", &target, "--for", "60s"]);
    flow.round(LOAD).assert_untouched(LOAD);
    assert_eq!(injection.stop().rule().matched, 0);
}

/// Programs of others at the same hook run as before, ours beside them: one in
/// the victim's own group, which is asked before ours, and one at the root, which
/// is asked after it.
#[test]
fn foreign_programs_still_run() {
    require!(NetRefuse);
    let bed = bed(Ip::V4, &[]);
    let here = Place::netns(&bed.netns[0]);
    let denied = Dialer::start(
        here.and_cgroup(&bed.cgroup),
        here,
        (loopback(Ip::V4), PORT + 3).into(),
        &[],
    );
    let root = cgroup::mount_point();
    for (place, later) in [(bed.cgroup.path(), false), (&root, true), (&root, false)] {
        let deny = || Denial::connect4(place, PORT + 3).expect("a foreign program");
        let before = (!later).then(deny);
        let injection = refuse(&bed, &[]);
        let after = later.then(deny);
        bed.victim.assert_all_fail(COUNT, libc::ECONNREFUSED);
        // Whoever is asked first has its error told; ours then does not count.
        let (errno, counted) = if later {
            (libc::ECONNREFUSED, COUNT)
        } else {
            (libc::EPERM, 0)
        };
        denied.assert_all_fail(COUNT, errno);
        bed.bystander.assert_unharmed(COUNT);
        let rule = injection.stop().rule();
        assert_eq!(rule.matched, COUNT + counted, "{place:?} {later}");
        denied.assert_all_fail(COUNT, libc::EPERM);
        drop((before, after));
        denied.assert_unharmed(COUNT);
    }
}
