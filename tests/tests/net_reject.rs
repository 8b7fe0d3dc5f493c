//! `net-reject`: the sender of a packet is told that it does not arrive.

use std::net::SocketAddr;

use injector_tests::{
    agent::Injection,
    capture::Capture,
    cgroup::Cgroup,
    command::Place,
    dialer::{DialBed, Dialer},
    netns::{Ip, Pair},
    require,
    traffic::{Direction, Form},
};

const COUNT: u64 = 10;
const PORT: u16 = DialBed::PORT;

/// Puts rejections in force on the victim's group.
#[track_caller]
fn reject(bed: &DialBed, direction: Direction, options: &[&str]) -> Injection {
    let way = ["--direction", direction.word()];
    bed.inject("net-reject", &[&way[..], options].concat())
}

/// What the checksums of arriving packets have kept from arriving.
fn checksum_errors(bed: &DialBed) -> u64 {
    let protocols = ["Tcp", "Icmp", "Icmp6"];
    protocols
        .map(|protocol| bed.counter(protocol, "InCsumErrors"))
        .iter()
        .sum()
}

/// Rejects all that a victim sends or receives. Each connection, and each
/// datagram, is rejected by one answer.
#[track_caller]
fn check(bed: &DialBed, direction: Direction, options: &[&str], errno: i32) {
    bed.assert_unharmed(COUNT);
    let errors = checksum_errors(bed);
    let injection = reject(bed, direction, options);
    bed.assert_all_fail(COUNT, errno);
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (COUNT, COUNT), "{rule:?}");
    assert_eq!(checksum_errors(bed), errors, "damaged answers");
    bed.assert_unharmed(COUNT);
}

const TCP: &[&str] = &["--exchanges", "2"];
const UDP: &[&str] = &["--transport", "udp", "--exchanges", "1"];

macro_rules! matrix {
    ($($name:ident: $what:ident $ip:ident $direction:ident;)+) => {
        mod cable {
            use super::*;
            $(
                #[test]
                fn $name() {
                    require!(NetReject);
                    let way = Direction::$direction;
                    let bed = DialBed::on_cable(Ip::$ip, way, $what);
                    check(&bed, way, &[], libc::ECONNREFUSED);
                }
            )+
        }
        /// On a cable whose near end fills in the checksums of what leaves it.
        mod checksums {
            use super::*;
            $(
                #[test]
                fn $name() {
                    require!(NetReject);
                    let way = Direction::$direction;
                    let pair = Pair::new();
                    pair.near.fill_in_checksums(Pair::NEAR_LINK);
                    let bed = DialBed::on_this_cable(pair, Ip::$ip, way, $what);
                    check(&bed, way, &[], libc::ECONNREFUSED);
                }
            )+
        }
        mod loopback {
            use super::*;
            $(
                #[test]
                fn $name() {
                    require!(NetReject);
                    let way = Direction::$direction;
                    let bed = DialBed::on_loopback(Ip::$ip, way, $what);
                    check(&bed, way, &[], libc::ECONNREFUSED);
                }
            )+
        }
    };
}

matrix! {
    tcp_v4_egress: TCP V4 Egress;
    tcp_v4_ingress: TCP V4 Ingress;
    tcp_v6_egress: TCP V6 Egress;
    tcp_v6_ingress: TCP V6 Ingress;
    udp_v4_egress: UDP V4 Egress;
    udp_v4_ingress: UDP V4 Ingress;
    udp_v6_egress: UDP V6 Egress;
    udp_v6_ingress: UDP V6 Ingress;
}

/// Each code means the same error as that of a router.
#[test]
fn codes_become_errors() {
    require!(NetReject);
    let codes = [
        ("net", libc::ENETUNREACH, libc::ENETUNREACH),
        ("host", libc::EHOSTUNREACH, libc::EHOSTUNREACH),
        ("proto", libc::ENOPROTOOPT, libc::EPROTO),
        ("port", libc::ECONNREFUSED, libc::ECONNREFUSED),
        ("net-prohibited", libc::ENETUNREACH, libc::EACCES),
        ("host-prohibited", libc::EHOSTUNREACH, libc::EACCES),
        ("admin", libc::EHOSTUNREACH, libc::EACCES),
        ("policy-fail", libc::EHOSTUNREACH, libc::EACCES),
        ("reject-route", libc::EHOSTUNREACH, libc::EACCES),
    ];
    for ip in [Ip::V4, Ip::V6] {
        for way in [Direction::Egress, Direction::Ingress] {
            let bed = DialBed::on_cable(ip, way, &[UDP, &["--told"]].concat());
            for (code, v4, v6) in codes {
                let errno = if ip == Ip::V4 { v4 } else { v6 };
                check(&bed, way, &["--code", code], errno);
            }
        }
    }
}

/// What stands on the wire: type and code of each family, and of a protocol that is
/// unknown in IPv6 where its number is.
#[test]
fn codes_are_those_of_the_standards() {
    require!(NetReject);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let _resident = near.spawn("sleep", &["1000"]);
    let captures = [Ip::V4, Ip::V6].map(|ip| Capture::start(&pair.near, Pair::NEAR_LINK, ip));
    for (code, v4, v6) in [
        ("net-unreachable", [3, 0], [1, 0]),
        ("addr-unreachable", [3, 1], [1, 3]),
        ("proto-unreachable", [3, 2], [4, 1]),
        ("port-unreachable", [3, 3], [1, 4]),
        ("net-prohibited", [3, 9], [1, 1]),
        ("host-prohibited", [3, 10], [1, 1]),
        ("admin-prohibited", [3, 13], [1, 1]),
        ("policy-fail", [3, 13], [1, 5]),
        ("reject-route", [3, 13], [1, 6]),
    ] {
        let rule = [
            "net-reject",
            "--target",
            &target,
            "--proto",
            "icmp",
            "--for",
            "60s",
        ];
        let injection = Injection::start(&[&rule[..], &["--code", code]].concat());
        for (ip, capture, expected) in [(Ip::V4, &captures[0], v4), (Ip::V6, &captures[1], v6)] {
            let _ = capture.take();
            let far = Pair::far_address(ip).to_string();
            let _ = near.output("ping", &["-c", "1", "-W", "1", &far]);
            let (protocol, start) = if ip == Ip::V4 { (9, 20) } else { (6, 40) };
            let is_error = |packet: &Vec<u8>| {
                let number = if ip == Ip::V4 { 1 } else { 58 };
                packet[protocol] == number && packet[start] < 128 && packet[start] != 0
            };
            let errors: Vec<Vec<u8>> = capture.take().into_iter().filter(is_error).collect();
            let [error] = &errors[..] else {
                panic!("{code} {ip:?}: {errors:?}");
            };
            assert_eq!(error[start..start + 2], expected, "{code} {ip:?}");
            let parameter = if expected == [4, 1] {
                [0, 0, 0, 6]
            } else {
                [0; 4]
            };
            assert_eq!(error[start + 4..start + 8], parameter, "{code} {ip:?}");
        }
        assert_eq!(injection.stop().rule().injected, 2, "{code}");
    }
}

/// A router that tells of what will not change is believed without being asked.
#[test]
fn udp_is_told_of_what_is_forbidden() {
    require!(NetReject);
    for (ip, code, errno) in [
        (Ip::V4, "net-prohibited", libc::ENETUNREACH),
        (Ip::V4, "proto-unreachable", libc::ENOPROTOOPT),
        (Ip::V6, "reject-route", libc::EACCES),
        (Ip::V6, "proto-unreachable", libc::EPROTO),
    ] {
        let bed = DialBed::on_cable(ip, Direction::Egress, UDP);
        check(&bed, Direction::Egress, &["--code", code], errno);
    }
}

/// A router that has no way may have one soon, so a UDP socket is told of that
/// only if it asks, as by a router.
#[test]
fn udp_is_not_told_of_what_may_pass() {
    require!(NetReject);
    let bed = DialBed::on_cable(Ip::V4, Direction::Egress, UDP);
    let injection = reject(&bed, Direction::Egress, &["--code", "net"]);
    bed.victim.assert_all_fail(1, libc::EAGAIN);
    assert_eq!(injection.stop().rule().injected, 1);
}

/// A connection that opens learns of an ICMP error at once where the peer sends
/// it, and with the next attempt, a second later, where its own kernel is still
/// busy with the first.
#[test]
fn tcp_by_icmp() {
    require!(NetReject);
    let (both, peer) = (
        &[Direction::Egress, Direction::Ingress][..],
        &[Direction::Ingress][..],
    );
    for (ip, ways, code, errno) in [
        (Ip::V4, both, "net", libc::ENETUNREACH),
        (Ip::V6, both, "net", libc::ENETUNREACH),
        (Ip::V4, peer, "proto", libc::ENOPROTOOPT),
        (Ip::V6, peer, "proto", libc::EPROTO),
        (Ip::V4, peer, "host-prohibited", libc::EHOSTUNREACH),
        (Ip::V6, peer, "policy-fail", libc::EACCES),
    ] {
        for &way in ways {
            let bed = DialBed::on_cable(ip, way, TCP);
            let injection = reject(&bed, way, &["--with", "icmp", "--code", code]);
            bed.victim.assert_all_fail(2, errno);
            bed.bystander.assert_unharmed(COUNT);
            let rule = injection.stop().rule();
            assert!((2..=4).contains(&rule.injected), "{rule:?}");
            assert_eq!(rule.matched, rule.injected);
            bed.assert_unharmed(COUNT);
        }
    }
}

/// The other forms of a target.
#[test]
fn processes_and_commands() {
    require!(NetReject);
    for form in [Form::Process, Form::Command] {
        for (ip, options) in [(Ip::V4, TCP), (Ip::V6, UDP)] {
            let pair = Pair::new();
            let (near, far) = (Place::netns(&pair.near), Place::netns(&pair.far));
            let to = SocketAddr::new(Pair::far_address(ip), PORT);
            let mut args = vec!["net-reject", "--for", "60s"];
            let (victim, target, command);
            if form == Form::Process {
                victim = Dialer::start(near, far, to, options);
                target = victim.target();
                args.extend(["--target", &target]);
            } else {
                victim = Dialer::prepare(far, to, options);
                command = victim.command();
                args.push("--");
                args.extend(command.iter().map(String::as_str));
            }
            let injection = Injection::start_in(near, &args, &[]);
            victim.assert_all_fail(COUNT, libc::ECONNREFUSED);
            let finished = if form == Form::Command {
                injection.wait()
            } else {
                injection.stop()
            };
            let rule = finished.rule();
            assert_eq!((rule.matched, rule.injected), (COUNT, COUNT), "{form:?}");
        }
    }
}

/// A connection that is open breaks, also where the packets that are rejected are
/// of many segments. A reset that crosses bytes of the other way is not the one
/// that is waited for, so several packets may have to be rejected.
#[test]
fn an_open_connection_breaks() {
    require!(NetReject);
    for (ip, size) in [
        (Ip::V4, "1000"),
        (Ip::V6, "1000"),
        (Ip::V4, "60000"),
        (Ip::V6, "60000"),
    ] {
        for way in [Direction::Egress, Direction::Ingress] {
            let options = ["--exchanges", "30", "--size", size];
            let bed = DialBed::on_cable(ip, way, &options);
            bed.assert_unharmed(COUNT);
            let injection = reject(&bed, way, &["--proto", "tcp", "--when", "9+"]);
            let seen = bed.victim.round(1);
            assert_eq!(
                (seen.failures, seen.errno),
                (1, libc::ECONNRESET as u32),
                "{size} {way:?}"
            );
            assert!(injection.stop().rule().injected >= 1);
            bed.assert_unharmed(COUNT);
        }
    }
}

/// Resets alone: what is not TCP passes, and is not counted.
#[test]
fn by_reset_alone() {
    require!(NetReject);
    let bed = DialBed::on_cable(Ip::V4, Direction::Egress, UDP);
    let injection = reject(&bed, Direction::Egress, &["--with", "rst"]);
    bed.victim.assert_unharmed(COUNT);
    assert_eq!(injection.stop().rule().matched, 0);
}

/// A share of packets, as for all kinds.
#[test]
fn a_share_is_rejected() {
    require!(NetReject);
    let bed = DialBed::on_cable(Ip::V4, Direction::Egress, UDP);
    let injection = reject(&bed, Direction::Egress, &["--when", "2..8+3"]);
    assert_eq!(bed.victim.round(COUNT).failed_calls, [2, 5, 8]);
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (COUNT, 3));
}

/// Pings, whose checksum no device fills in, of all lengths: each error quotes
/// as much as it may, and fits its checksum.
#[test]
fn pings_are_told() {
    require!(NetReject);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    // Where a target is when the run starts is where the rule acts.
    let _resident = near.spawn("sleep", &["1000"]);
    for ip in [Ip::V4, Ip::V6] {
        let far = Pair::far_address(ip).to_string();
        let words = [
            "net-reject",
            "--target",
            &target,
            "--code",
            "host",
            "--for",
            "60s",
        ];
        let injection = Injection::start(&words);
        let sizes = [
            "0", "1", "33", "56", "520", "521", "540", "1000", "1184", "1400",
        ];
        for size in sizes {
            let output = near.output("ping", &["-c", "1", "-W", "5", "-s", size, &far]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("nreachable"), "{size}: {text}");
            assert!(text.contains(&format!("From {far}")), "{size}: {text}");
        }
        let rule = injection.stop().rule();
        let count = sizes.len() as u64;
        assert_eq!((rule.matched, rule.injected), (count, count));
        near.run("ping", &["-c", "1", "-W", "5", &far]);
    }
}

/// No rule judges an answer of ours, here one that loses all ICMP that arrives in
/// a namespace that is the victim's alone.
#[test]
fn answers_are_not_judged() {
    require!(NetReject);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let to = (Pair::far_address(Ip::V4), PORT).into();
    let victim = Dialer::start(near, Place::netns(&pair.far), to, UDP);
    let target = cgroup.target();
    let spec = format!(
        "{{version: 1, for: 60s, rules: [\
         {{kind: net-reject, target: '{target}', proto: udp}}, \
         {{kind: net-loss, target: '{target}', proto: icmp, direction: ingress}}]}}"
    );
    let injection = Injection::of_spec(&spec);
    victim.assert_all_fail(COUNT, libc::ECONNREFUSED);
    let finished = injection.stop();
    let counts: Vec<u64> = finished
        .report()
        .rules
        .iter()
        .map(|rule| rule.matched)
        .collect();
    assert_eq!(counts, [COUNT, 0]);
}
