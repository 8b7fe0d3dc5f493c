//! `net-loss --visibility local`: the sender's stack is told of the loss, as by a full
//! queue of its own, and tells whom it tells of such.

use std::fs;

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    dialer::DialBed,
    netns::{Ip, Pair},
    require,
    stats::binomial_999,
    traffic::{Bed, Case, Direction, Form, Load, TcpFlow},
};

/// The fault of all tests here.
const FAULT: [&str; 3] = ["net-loss", "--visibility", "local"];

/// A UDP socket that asks to be told of errors gets one from the call that sends, on a
/// cable and on the loopback.
#[test]
fn a_socket_that_asks_is_told() {
    require!(NetLoss);
    const COUNT: u64 = 10;
    let options = ["--transport", "udp", "--exchanges", "1", "--told"];
    for ip in [Ip::V4, Ip::V6] {
        for bed in [DialBed::on_cable, DialBed::on_loopback] {
            let bed = bed(ip, Direction::Egress, &options);
            bed.assert_unharmed(COUNT);
            let injection = bed.inject(FAULT[0], &[&FAULT[1..], &["--proto", "udp"]].concat());
            bed.assert_all_fail(COUNT, libc::ENOBUFS);
            let rule = injection.stop().rule();
            assert_eq!((rule.matched, rule.injected), (COUNT, COUNT), "{ip:?}");
            bed.assert_unharmed(COUNT);
        }
    }
}

/// Any other is told nothing; the stack counts what it could not send, as it does not
/// where nobody is told.
#[test]
fn one_that_does_not_ask_is_not() {
    require!(NetLoss);
    let load = Load::of(1000);
    for (ip, family) in [(Ip::V4, "Udp"), (Ip::V6, "Udp6")] {
        let case = Case {
            form: Form::Cgroup,
            ip,
            direction: Direction::Egress,
        };
        let mut bed = Bed::new(case);
        for (visibility, counted) in [("local", true), ("silent", false)] {
            let before = bed.pair.near.counter(family, "SndbufErrors");
            let fault = ["net-loss", "--visibility", visibility, "--percent", "30"];
            let injection = bed.inject(&[&fault[..], &["--seed", "7"]].concat());
            let arrived = bed.round(load, load);
            let rule = bed.stop(injection).rule();
            let unsent = bed.pair.near.counter(family, "SndbufErrors") - before;
            assert_eq!((arrived.sent, arrived.send_errors.0), (load.count, 0));
            assert_eq!(arrived.missing(), rule.injected, "{rule:?} {arrived:?}");
            assert_eq!(rule.matched, load.count, "{rule:?}");
            let expected = binomial_999(load.count, 0.3);
            assert!(expected.contains(&rule.injected), "{rule:?} {expected:?}");
            let expected = if counted { rule.injected } else { 0 };
            assert_eq!(unsent, expected, "{ip:?} {visibility}");
        }
        bed.assert_untouched_after(load);
    }
}

/// TCP knows that a segment has not left: it sends it later, for the first time, and
/// sends less at once, as after congestion. Of a silent loss it learns from the other end.
#[test]
fn tcp_sends_later_and_slows_down() {
    require!(NetLoss);
    const BYTES: u64 = 2_000_000;
    let pair = Pair::new();
    // The default sets its threshold by the times of answers as well.
    pair.near.enter(|| {
        let control = "/proc/sys/net/ipv4/tcp_congestion_control";
        fs::write(control, "reno").expect("set a parameter");
    });
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let target = cgroup.target();
    for (port, visibility) in [(7000, "local"), (7001, "silent")] {
        let to = (Pair::far_address(Ip::V4), port).into();
        let flow = TcpFlow::start_kept(near, Place::netns(&pair.far), to);
        assert_eq!(flow.round(BYTES).bytes, BYTES);
        let port = port.to_string();
        let slowed = || {
            let socket = Place::netns(&pair.near).run("ss", &["-tinH", "dport", "=", &port]);
            assert!(socket.contains("cwnd:"), "{socket}");
            socket.contains(" ssthresh:")
        };
        assert!(!slowed(), "before any loss");
        let again = || pair.near.counter("Tcp", "RetransSegs");
        let before = again();
        let fault = ["net-loss", "--visibility", visibility, "--percent", "10"];
        let whom = ["--target", &target, "--proto", "tcp", "--seed", "3"];
        let line = [&fault[..], &whom, &["--for", "60s"]].concat();
        let injection = Injection::start(&line);
        let stream = flow.round(BYTES);
        let rule = injection.stop().rule();
        assert_eq!((stream.bytes, stream.bad_bytes), (BYTES, 0));
        assert!(rule.injected > 0, "{rule:?}");
        assert!(slowed(), "{visibility}: {rule:?}");
        let again = again() - before;
        if visibility == "local" {
            assert_eq!(again, 0, "{rule:?}");
        } else {
            assert!(again >= rule.injected, "{again} {rule:?}");
        }
    }
}
