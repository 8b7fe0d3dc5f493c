//! `net-loss --visibility errno=EPERM`: the call fails that sends the lost packet.

use injector_tests::{
    agent::{Injection, RuleReport},
    bare::Denial,
    cgroup::Cgroup,
    command::Place,
    dialer::DialBed,
    netns::{Ip, Pair},
    require,
    stats::binomial_999,
    traffic::{Arrived, Bed, Case, Direction, Form, Load, TcpFlow},
};

/// The fault of all tests here.
const FAULT: [&str; 3] = ["net-loss", "--visibility", "errno=EPERM"];

const FEW: Load = Load::of(1000);

/// Checks that exactly those packets were refused to the sender that the rule
/// counted, and that all others arrived.
#[track_caller]
fn assert_told(arrived: &Arrived, rule: &RuleReport, load: Load) {
    assert_eq!(rule.matched, load.count, "{rule:?}");
    let errors = (rule.injected, libc::EPERM.unsigned_abs());
    assert_eq!(arrived.send_errors, errors, "{rule:?} {arrived:?}");
    assert_eq!(arrived.sent, load.count - rule.injected, "{arrived:?}");
    assert_eq!((arrived.missing(), arrived.damaged), (0, 0), "{arrived:?}");
}

/// Refuses 30 % of what a victim sends beside a bystander, by no filter at all.
#[track_caller]
fn check(bed: &mut Bed, load: Load) {
    bed.assert_untouched_before(FEW);
    let injection = bed.inject(&[&FAULT[..], &["--percent", "30", "--seed", "7"]].concat());
    let arrived = bed.round(load, FEW);
    let finished = bed.stop(injection);
    let rule = finished.rule();
    assert_told(&arrived, &rule, load);
    let expected = binomial_999(load.count, 0.3);
    assert!(expected.contains(&rule.injected), "{rule:?}, {expected:?}");
    assert_eq!(rule.backend, "cgroup");
    // Nothing looks at interfaces, so nothing is said of what passed there.
    assert_eq!(finished.report().unattributed, None);
    bed.assert_untouched_after(FEW);
}

fn case(form: Form, ip: Ip) -> Case {
    Case {
        form,
        ip,
        direction: Direction::Egress,
    }
}

#[test]
fn cgroup_v4() {
    require!(SendErrno);
    check(&mut Bed::new(case(Form::Cgroup, Ip::V4)), FEW);
}

#[test]
fn process_v6() {
    require!(SendErrno);
    check(&mut Bed::new(case(Form::Process, Ip::V6)), FEW);
}

#[test]
fn command_v4() {
    require!(SendErrno);
    check(&mut Bed::new(case(Form::Command, Ip::V4)), FEW);
}

/// In a namespace of the victim's own the kernel sends packets too, such as neighbour
/// discovery and multicast reports; no call of the victim's does. A datagram that goes
/// out in fragments is one packet to its sender.
#[test]
fn no_packet_but_the_victims_and_datagrams_as_a_whole() {
    require!(SendErrno);
    check(
        &mut Bed::alone(case(Form::Cgroup, Ip::V6)),
        FEW.sized(4000).windowed(16),
    );
}

/// Each model selects the same packets as where nobody is told: a decision depends on
/// the seed and the packet's number alone.
#[test]
fn models_lose_the_same_packets_whoever_is_told() {
    require!(SendErrno);
    let mut bed = Bed::new(case(Form::Cgroup, Ip::V4));
    for model in [
        "--percent 20",
        "--when 3..9+2",
        "--percent 20 --correlation 75",
        "--burst 5,20",
        "--markov 5,20,5,60",
    ] {
        let mut lost = |visibility: &str| {
            let mut fault = vec!["net-loss", "--seed", "11", "--visibility", visibility];
            fault.extend(model.split(' '));
            let injection = bed.inject(&fault);
            let arrived = bed.round(Load::of(500), Load::of(100));
            let rule = bed.stop(injection).rule();
            (arrived, rule)
        };
        let (arrived, rule) = lost("errno=EPERM");
        assert_told(&arrived, &rule, Load::of(500));
        assert!(rule.injected > 0, "{model}: {rule:?}");
        let (silent, of_silent) = lost("silent");
        assert_eq!((silent.lost, silent.sent), (arrived.lost, 500), "{model}");
        assert_eq!(of_silent.injected, rule.injected, "{model}");
    }
}

/// A connected socket's `send`, on the loopback of both families, and the filters.
#[test]
fn connected_sockets_and_filters() {
    require!(SendErrno);
    const COUNT: u64 = 10;
    let options = ["--transport", "udp", "--exchanges", "1"];
    for (ip, filters) in [
        (
            Ip::V4,
            &[
                ("--peer 127.0.0.0/8 --peer-port 7100 --proto udp", true),
                ("--peer-port 7101", false),
                // 1000 bytes behind the headers of IP and UDP.
                ("--size 1028 --interface lo", true),
                ("--size !1028", false),
                ("--mark 1", false),
            ][..],
        ),
        (Ip::V6, &[("--peer ::1 --dscp 0", true)]),
    ] {
        let bed = DialBed::on_loopback(ip, Direction::Egress, &options);
        for &(filter, hit) in filters {
            let words: Vec<&str> = filter.split(' ').collect();
            let injection = bed.inject(FAULT[0], &[&FAULT[1..], &words].concat());
            bed.bystander.begin(COUNT);
            if hit {
                bed.victim.assert_all_fail(COUNT, libc::EPERM);
            } else {
                bed.victim.assert_unharmed(COUNT);
            }
            bed.assert_bystander_unharmed(COUNT);
            let rule = injection.stop().rule();
            let expected = if hit { COUNT } else { 0 };
            assert_eq!(
                (rule.matched, rule.injected),
                (expected, expected),
                "{filter}"
            );
        }
        bed.assert_unharmed(COUNT);
    }
}

/// What begins a conversation is known from what was sent and what was received: an
/// answer begins none. A refused packet was seen.
#[test]
fn conversations_both_ways() {
    require!(SendErrno);
    const COUNT: u64 = 5;
    let eperm = libc::EPERM.unsigned_abs();
    let mut bed = Bed::new(case(Form::Cgroup, Ip::V4));
    for (state, hit) in [("new", 1), ("established", FEW.count - 1)] {
        let injection = bed.inject(&[&FAULT[..], &["--state", state]].concat());
        let arrived = bed.round(FEW, FEW);
        assert_eq!(bed.stop(injection).rule().injected, hit, "{state}");
        assert_eq!(arrived.send_errors, (hit, eperm), "{state}");
    }
    let options = ["--transport", "udp", "--exchanges", "1"];
    let answers = DialBed::on_cable(Ip::V6, Direction::Ingress, &options);
    let injection = answers.inject(FAULT[0], &[&FAULT[1..], &["--state", "new"]].concat());
    answers.assert_unharmed(COUNT);
    assert_eq!(injection.stop().rule().matched, 0);
}

/// A rule is asked at one hook alone: at the interface, a packet is asked for by the
/// other rule, and only if it got there, whatever the order in the file.
#[test]
fn beside_a_rule_at_the_interface() {
    require!(SendErrno);
    let bed = Bed::new(case(Form::Cgroup, Ip::V4));
    let spec = format!(
        "version: 1\nfor: 60s\nrules:\n\
         - {{name: wire, kind: net-loss, target: '{target}', when: 2+2}}\n\
         - {{name: call, kind: net-loss, target: '{target}', when: 2+2, visibility: errno=EPERM}}\n",
        target = bed.cgroup.target()
    );
    let injection = Injection::of_spec(&spec);
    let arrived = bed.round(FEW, FEW);
    let report = injection.stop().report();
    assert_eq!(report.hits(), [("wire", 500, 250), ("call", 1000, 500)]);
    let errors = (500, libc::EPERM.unsigned_abs());
    assert_eq!((arrived.sent, arrived.send_errors), (500, errors));
    assert_eq!(arrived.missing(), 250, "{arrived:?}");
}

/// TCP keeps the error to itself and sends again.
#[test]
fn tcp_goes_on() {
    require!(SendErrno);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let near = Place::netns(&pair.near).and_cgroup(&cgroup);
    let to = (Pair::far_address(Ip::V4), 7000).into();
    let flow = TcpFlow::start(near, Place::netns(&pair.far), to, 4, None);
    let target = cgroup.target();
    let options = ["--target", &target, "--percent", "10", "--seed", "3"];
    let line = [&FAULT[..], &options, &["--for", "60s"]].concat();
    let injection = Injection::start(&line);
    let stream = flow.round(100_000);
    let rule = injection.stop().rule();
    assert_eq!((stream.bytes, stream.bad_bytes), (400_000, 0));
    assert!(rule.injected > 0, "{rule:?}");
}

/// A program of somebody else's at the same hook is asked as well, whether it was
/// there before ours or came later.
#[test]
fn foreign_programs_still_run() {
    require!(SendErrno);
    let mut bed = Bed::new(case(Form::Cgroup, Ip::V4));
    let eperm = libc::EPERM.unsigned_abs();
    for later in [false, true] {
        let deny = |bed: &Bed| Denial::sends(bed.cgroup.path()).expect("a foreign program");
        let before = (!later).then(|| deny(&bed));
        let injection = bed.inject(&[&FAULT[..], &["--when", "2+2"]].concat());
        let after = later.then(|| deny(&bed));
        let load = Load::of(100);
        assert_eq!(bed.round(load, load).send_errors, (100, eperm), "{later}");
        let rule = bed.stop(injection).rule();
        assert_eq!((rule.matched, rule.injected), (100, 50), "{later}");
        assert_eq!(bed.round(load, load).send_errors, (100, eperm), "{later}");
        drop((before, after));
        bed.assert_untouched_after(load);
    }
}
