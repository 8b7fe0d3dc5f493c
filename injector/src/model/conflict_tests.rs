//! Which rules contradict each other: a table over command lines.

use clap::Parser;

use crate::{
    cli::rule_args::RuleArgs,
    spec::{
        ExperimentInput, RuleInput,
        build::{Entropy, build},
        kind::RuleCommand,
    },
};

#[path = "conflict_returns.rs"]
mod returns;
#[path = "conflict_shadow.rs"]
mod shadow;

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(subcommand)]
    kind: RuleCommand<RuleArgs>,
}

fn rule(index: usize, line: &str) -> RuleInput {
    // The rule arguments of the command line have no start; `@5s` gives one, and
    // `@5s+3s` a duration too.
    let (line, start) = line.split_once(" @").unwrap_or((line, "0s"));
    let (start, duration) = start.split_once('+').unwrap_or((start, "10s"));
    let words = format!("{line} --for {duration}");
    let parsed = Line::try_parse_from(words.split_whitespace()).expect(line);
    let (fault, args) = parsed.kind.split();
    let mut rule = args.into_rule(fault);
    rule.path = format!("rules[{index}]");
    rule.start = Some(start.parse().expect("a duration"));
    rule
}

#[track_caller]
fn conflict(first: &str, second: &str) -> Option<String> {
    let input = ExperimentInput {
        name: None,
        seed: None,
        duration: None,
        whole_host: false,
        rules: vec![rule(0, first), rule(1, second)],
        command: None,
    };
    match build(input, Entropy { id: 1, seed: 1 }) {
        Ok(_) => None,
        Err(crate::error::Error::Conflict(error)) => {
            assert!(!error.first.is_empty() && !error.second.is_empty());
            assert_ne!(error.first, error.second);
            Some(error.to_string())
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn rules_on_packets_have_one_unit() {
    let segments = "net-loss --target cgroup:/a --percent 5 --unit segment";
    for (second, refused) in [
        ("net-delay --target cgroup:/b --delay 5ms", true),
        (
            "net-delay --target cgroup:/b --delay 5ms --unit packet",
            true,
        ),
        // Also where their times do not meet: packets are split from first to last.
        ("net-delay --target cgroup:/b --delay 5ms @20s", true),
        (
            "net-delay --target cgroup:/a --delay 5ms --unit segment",
            false,
        ),
        ("dns --target cgroup:/a --answer nxdomain", false),
        (
            "sys-errno --target cgroup:/a --call openat --errno EIO",
            false,
        ),
        ("net-refuse --target cgroup:/a", false),
    ] {
        let found = conflict(segments, second);
        assert_eq!(found.is_some(), refused, "{second}: {found:?}");
        if let Some(text) = found {
            assert!(text.contains("the same unit"), "{text}");
        }
    }
}

/// What is lost or answered for a while leaves the rest of the time to others, such as an
/// outage of a slow link.
#[test]
fn a_rule_that_is_in_force_for_longer_is_not_hidden() {
    let slow = "net-delay --target cgroup:/a --delay 50ms @2s";
    for (outage, refused) in [
        ("net-loss --target cgroup:/a @4s+2s", false),
        ("net-loss --target cgroup:/a @0s+5s", false),
        ("net-loss --target cgroup:/a @2s+9s", false),
        ("net-loss --target cgroup:/a @3s", false),
        ("net-loss --target cgroup:/a @2s", true),
        ("net-partition --target cgroup:/a @0s+12s", true),
        ("net-partition --target cgroup:/a @0s+11s", false),
    ] {
        for (first, second) in [(slow, outage), (outage, slow)] {
            assert_eq!(conflict(first, second).is_some(), refused, "{outage}");
        }
    }
    let reject = "net-reject --target cgroup:/a";
    for (again, refused) in [("@9s+1s", true), ("@9s+2s", false)] {
        let again = format!("{reject} --with icmp {again}");
        assert_eq!(conflict(reject, &again).is_some(), refused, "{again}");
    }
    // These meet, if only for a moment.
    let [valid, broken] = ["valid", "broken @9s"]
        .map(|checksum| format!("net-corrupt --target cgroup:/a --checksum {checksum}"));
    assert!(conflict(&valid, &broken).is_some());
}

#[test]
fn an_unconditional_failure_hides_later_ones() {
    let eio = "sys-errno --target cgroup:/a --call openat,read --errno EIO";
    for (second, refused) in [
        (
            "sys-errno --target cgroup:/a --call openat --errno ENOENT",
            true,
        ),
        (
            "sys-errno --target cgroup:a/ --call read --errno ENOENT --percent 5",
            true,
        ),
        (
            "sys-errno --target cgroup:/a/b --call openat --errno ENOENT",
            true,
        ),
        (
            "sys-errno --target cgroup:/b --target cgroup:/a --call openat --errno EIO",
            true,
        ),
        (
            "sys-errno --target cgroup:/a --call openat --errno ENOENT @5s+5s",
            true,
        ),
        // It is left alone for a while.
        (
            "sys-errno --target cgroup:/a --call openat --errno ENOENT @5s",
            false,
        ),
        (
            "sys-errno --target cgroup:/a --call openat --errno ENOENT @10s",
            false,
        ),
        (
            "sys-errno --target cgroup:/ab --call openat --errno ENOENT",
            false,
        ),
        (
            "sys-errno --target cgroup:/a --call write --errno ENOENT",
            false,
        ),
        (
            "sys-errno --target pid:5 --call openat --errno ENOENT",
            false,
        ),
        // The wider one still reaches its other cgroups.
        (
            "sys-errno --target cgroup:/ --call openat --errno ENOENT",
            false,
        ),
    ] {
        assert_eq!(conflict(eio, second).is_some(), refused, "{second}");
    }
    for first in [
        "sys-errno --target cgroup:/a --call openat --errno EIO --percent 99",
        "sys-errno --target cgroup:/a --call openat --errno EIO --when 3",
        "sys-errno --target cgroup:/a --call openat --errno EIO --times 3",
    ] {
        let second = "sys-errno --target cgroup:/a --call openat --errno ENOENT";
        assert_eq!(conflict(first, second), None, "{first}");
    }
}

#[test]
fn one_packet_has_one_checksum() {
    let valid = "net-corrupt --target pid:5 --peer 10.0.0.0/8";
    for (second, refused) in [
        ("net-corrupt --target pid:5 --checksum broken", true),
        (
            "net-corrupt --target pid:5 --checksum broken --direction both --proto tcp",
            true,
        ),
        (
            "net-corrupt --target pid:5 --checksum broken --percent 50",
            false,
        ),
        (
            "net-corrupt --target pid:5 --checksum broken --direction ingress",
            false,
        ),
        (
            "net-corrupt --target pid:5 --checksum broken --peer 192.0.2.0/24",
            false,
        ),
        (
            "net-corrupt --target pid:5 --checksum broken --peer 2001:db8::/32",
            false,
        ),
        ("net-corrupt --target pid:6 --checksum broken", false),
        ("net-corrupt --target pid:5 --checksum valid", false),
    ] {
        assert_eq!(conflict(valid, second).is_some(), refused, "{second}");
        assert_eq!(
            conflict(second, valid).is_some(),
            refused,
            "{second}, first"
        );
    }
}

#[test]
fn a_certain_loss_leaves_nothing_to_others() {
    let loss = "net-loss --target cgroup:/a --proto tcp --peer 10.0.0.0/8 --peer-port 1-100";
    for (second, refused) in [
        (
            "net-delay --delay 5ms --target cgroup:/a --proto tcp --peer 10.1.0.0/16 --peer-port 80",
            true,
        ),
        (
            "net-corrupt --target cgroup:/a/b --proto tcp --peer 10.0.0.0/8 --peer-port 1-100",
            true,
        ),
        (
            "net-loss --target cgroup:/a --proto tcp --peer 10.0.0.1 --peer-port 9 --percent 5",
            true,
        ),
        (
            "net-delay --delay 5ms --target cgroup:/a --proto tcp --peer 10.1.0.0/16",
            false,
        ),
        (
            "net-delay --delay 5ms --target cgroup:/a --proto tcp --peer-port 80",
            false,
        ),
        (
            "net-delay --delay 5ms --target cgroup:/a --peer 10.1.0.0/16 --peer-port 80",
            false,
        ),
        (
            "net-delay --delay 5ms --target cgroup:/a --proto tcp --peer 10.1.0.0/16 --peer-port 80-101",
            false,
        ),
        (
            "net-delay --delay 5ms --target cgroup:/a --proto tcp --peer 10.1.0.0/16 --peer-port 80 --direction both",
            false,
        ),
        (
            "net-delay --delay 5ms --target cgroup:/ --proto tcp --peer 10.1.0.0/16 --peer-port 80",
            false,
        ),
    ] {
        assert_eq!(conflict(loss, second).is_some(), refused, "{second}");
        assert_eq!(conflict(second, loss).is_some(), refused, "{second}, first");
    }
    let second = "net-delay --delay 5ms --target cgroup:/a";
    assert_eq!(
        conflict("net-loss --target cgroup:/a --percent 99", second),
        None
    );
    assert_eq!(
        conflict("net-loss --target cgroup:/a --interface lo", second),
        None
    );
    assert_eq!(
        conflict(
            "net-loss --target cgroup:/a",
            "sys-errno --target cgroup:/a --call read --errno EIO"
        ),
        None
    );
}

#[test]
fn both_rules_are_named() {
    let text = conflict(
        "sys-errno --name disk --target pid:5 --call openat --errno EIO",
        "sys-errno --target pid:5 --call openat --errno ENOENT",
    )
    .expect("a conflict");
    assert!(
        text.contains("`disk`") && text.contains("`sys-errno`"),
        "{text}"
    );
}

/// Whether a certain loss with the first filter leaves nothing to a delay with
/// the second.
#[track_caller]
fn loss_covers(loss: &str, delay: &str, expected: bool) {
    let loss = format!("net-loss --target pid:5 {loss}");
    let delay = format!("net-delay --delay 5ms --target pid:5 {delay}");
    assert_eq!(
        conflict(&loss, &delay).is_some(),
        expected,
        "{loss}; {delay}"
    );
    assert_eq!(
        conflict(&delay, &loss).is_some(),
        expected,
        "{delay}; {loss}"
    );
}

#[test]
fn a_loss_covers_what_its_filter_takes_in() {
    for (loss, delay, expected) in [
        ("--peer 10.0.0.0/8,11.0.0.0/8", "--peer 10.0.0.0/7", true),
        ("--peer 10.0.0.0/8,!10.1.0.0/16", "--peer 10.2.0.0/16", true),
        ("--peer 10.0.0.0/8,!10.1.0.0/16", "--peer 10.1.2.3", false),
        (
            "--peer 10.0.0.0/8,!10.1.0.0/16,10.1.2.0/24",
            "--peer 10.1.2.3",
            true,
        ),
        (
            "--peer !10.1.0.0/16",
            "--peer 10.0.0.0/8,!10.1.0.0/16",
            true,
        ),
        ("--peer !10.1.0.0/16", "", false),
        ("--peer 0.0.0.0/0,::/0", "", true),
        ("--peer-port !22", "--peer-port 80,443", true),
        ("--peer-port !22", "--peer-port 20-30", false),
        ("--peer-port 1-65535", "--proto tcp", false),
        ("--peer-port 1-100,!50", "--peer-port 1-49,51-100", true),
        ("--proto tcp,udp", "--peer-port 80", true),
        ("--proto tcp", "--peer-port 80", false),
        ("--proto !icmp", "--state new", true),
        ("--proto icmp", "--proto 58", true),
        ("--proto 1", "--proto icmp", false),
        ("--proto tcp", "--tcp-flags syn", true),
        ("--state new --proto tcp", "--tcp-flags syn,!ack", true),
        ("--state new", "--tcp-flags syn", false),
        ("--tcp-flags !syn", "--state established --proto tcp", false),
        ("--state established", "--tcp-flags !syn", true),
        ("--dscp ef,cs1", "--dscp ef", true),
        ("--dscp !ef", "--dscp ef", false),
        ("--dscp !ef", "--dscp cs1", true),
        ("--mark 1/1", "--mark 3/3", true),
        ("--mark 1/1", "--mark 2/2", false),
        ("--mark !1/1", "--mark 2/3", true),
        ("--mark !3/3", "--mark !1/1", true),
        ("--mark !1/1", "--mark !3/3", false),
        ("--mark 0/1", "--mark !1/1", true),
        ("--mark 0/1", "", false),
        ("--size 100-200", "--size 150", true),
        ("--size !150", "--size 100-200", false),
        ("--size !150", "--size !100-200", true),
        ("--local 10.0.0.0/8", "--local 10.1.0.0/16", true),
        ("--local 10.0.0.0/8", "", false),
        ("--local 0.0.0.0/0", "--peer 192.0.2.0/24", true),
        ("--peer 0.0.0.0/0", "--local 10.0.0.1", true),
        ("--local !10.0.0.0/8", "--local 10.1.0.0/16", false),
        ("--size 100-200,300", "--size 300,150", true),
        ("--size 100-200,300", "--size 300-301", false),
        ("--mark 1 --mark 2", "--mark 2", true),
        ("--mark 1/1 --mark 0/1", "", true),
        ("--mark 1/1,!3/3", "--mark 1/3", true),
        ("--mark 1/1,!3/3", "--mark 1/1", false),
        ("--state new --state established", "--state !new", true),
        // A later fragment has neither flags nor a state.
        ("--state new --state established", "--proto tcp", false),
        ("--tcp-flags syn --tcp-flags !syn", "--proto tcp", false),
        ("--tcp-flags syn --tcp-flags !syn", "--tcp-flags rst", true),
        ("--direction egress,ingress", "--direction !egress", true),
        ("--interface lo --interface eth0", "--interface eth0", true),
        ("--interface !lo", "--interface eth0", true),
        ("--interface !lo", "--interface lo", false),
        ("--interface !lo", "--interface !lo --interface !eth0", true),
        (
            "--interface !lo --interface !eth0",
            "--interface !lo",
            false,
        ),
        ("--interface eth0", "--interface !lo", false),
    ] {
        loss_covers(loss, delay, expected);
    }
}

#[test]
fn checksums_contradict_only_where_packets_are_the_same() {
    for (valid, broken, expected) in [
        ("--peer-port 80", "--proto icmp", false),
        ("--peer-port 80", "--proto !tcp", true),
        ("--peer-port !80", "--peer-port 80", false),
        ("--peer !10.0.0.0/8", "--peer 10.1.0.0/16", false),
        ("--peer !10.0.0.0/8", "--peer !::/0", true),
        ("--state new", "--tcp-flags ack", false),
        ("--state new", "--state established", false),
        ("--state established", "--tcp-flags rst", true),
        ("--dscp ef", "--dscp !ef", false),
        ("--mark 1/1", "--mark 0/1", false),
        ("--mark 1/1", "--mark 2/2", true),
        ("--mark !1/1", "--mark 1/1", false),
        ("--mark !1/1", "--mark !2/2", true),
        ("--mark !1/1", "--mark !0/1", false),
        ("--size 100-200", "--size !50-300", false),
        ("--size 100-200", "--size 200-300", true),
        (
            "--local 10.0.0.0/8",
            "--local !10.0.0.0/8 --peer 192.0.2.1",
            false,
        ),
        ("--local 10.0.0.1", "--local 10.0.0.0/8", true),
        ("--local 10.0.0.1", "--peer ::/0", false),
        ("--size 100-200,400", "--size 300,500", false),
        ("--mark 1/1,2/2", "--mark 0/3", false),
        ("--mark 1/1,2/2", "--mark !1/1", true),
        (
            "--tcp-flags syn --tcp-flags rst",
            "--tcp-flags !syn,!rst",
            false,
        ),
        ("--state new", "--state !new", false),
        ("--interface lo", "--interface !lo", false),
        ("--interface lo", "--interface !eth0", true),
    ] {
        let valid = format!("net-corrupt --target pid:5 {valid}");
        let broken = format!("net-corrupt --target pid:5 --checksum broken {broken}");
        assert_eq!(
            conflict(&valid, &broken).is_some(),
            expected,
            "{valid}; {broken}"
        );
        assert_eq!(
            conflict(&broken, &valid).is_some(),
            expected,
            "{broken}; {valid}"
        );
    }
}

#[test]
fn an_unconditional_refusal_hides_later_ones() {
    let all = "net-refuse --target cgroup:/a";
    for (first, second, refused) in [
        (all, "net-refuse --target cgroup:/a --peer-port 80", true),
        (all, "net-refuse --target cgroup:/a/b --errno EPERM", true),
        (all, "net-refuse --target cgroup:/b", false),
        (
            "net-refuse --target cgroup:/a --percent 50",
            "net-refuse --target cgroup:/a",
            false,
        ),
        (
            "net-refuse --target cgroup:/a --proto udp --peer 10.0.0.0/8",
            "net-refuse --target cgroup:/a --proto udp --peer 10.1.0.0/16 --peer-port 53",
            true,
        ),
        (
            "net-refuse --target cgroup:/a --peer-port 80",
            "net-refuse --target cgroup:/a",
            false,
        ),
    ] {
        assert_eq!(conflict(first, second).is_some(), refused, "{second}");
    }
}

#[test]
fn a_connect_that_fails_at_its_entry_is_not_refused() {
    let refuse = "net-refuse --target cgroup:/a --peer-port 80";
    for (call, refused) in [
        (
            "sys-errno --target cgroup:/a --call connect --errno EIO",
            true,
        ),
        (
            "sys-errno --target cgroup:/a --call bind --errno EIO",
            false,
        ),
        (
            "sys-errno --target cgroup:/a --call connect --errno EIO --percent 5",
            false,
        ),
        (
            "sys-errno --target cgroup:/a/b --call connect --errno EIO",
            false,
        ),
    ] {
        for (first, second) in [(call, refuse), (refuse, call)] {
            assert_eq!(conflict(first, second).is_some(), refused, "{call}");
        }
    }
}

#[test]
fn an_unconditional_rejection_hides_later_ones() {
    for (first, second, refused) in [
        ("", "--with icmp --proto tcp", true),
        ("", "--with rst", true),
        ("--with rst", "--with icmp", false),
        ("--with rst", "--proto tcp --with icmp", true),
        ("--with icmp", "--proto udp", true),
        ("--proto udp", "", false),
        ("--percent 5", "", false),
        ("--direction both", "--direction ingress --peer ::/0", true),
    ] {
        let rule = |options: &str| format!("net-reject --target cgroup:/a {options}");
        let found = conflict(&rule(first), &rule(second)).is_some();
        assert_eq!(found, refused, "{first} / {second}");
    }
    let reset = "net-reset --target cgroup:/a";
    let late = "net-reset --target cgroup:/a --after 5s";
    for (first, second, refused) in [
        ("net-reject --target cgroup:/a --with rst", late, true),
        (reset, "net-reject --target cgroup:/a --proto tcp", false),
        (reset, late, true),
        (late, reset, false),
    ] {
        assert_eq!(conflict(first, second).is_some(), refused, "{second}");
    }
    let loss = "net-loss --target cgroup:/a";
    assert!(conflict(loss, "net-reject --target cgroup:/a").is_some());
    assert!(conflict("net-reject --target cgroup:/a", loss).is_some());
}

#[test]
fn an_unconditional_answer_hides_later_ones() {
    let refused = |first: &str, second: &str| {
        let rule = |rest: &str| format!("dns --target cgroup:/a {rest}");
        conflict(
            &rule(&format!("{first} --name a")),
            &rule(&format!("{second} --name b")),
        )
        .is_some()
    };
    for (first, second, expected) in [
        ("--answer nxdomain", "--answer timeout", true),
        ("--answer nxdomain --percent 50", "--answer timeout", false),
        ("--answer delay --delay 1s", "--answer timeout", false),
        ("--answer nxdomain --query a.b", "--answer timeout", false),
        (
            "--answer nxdomain --query a.b",
            "--answer timeout --query a.b",
            true,
        ),
        ("--answer nxdomain --type A", "--answer timeout", false),
        (
            "--answer nxdomain --type A,AAAA",
            "--answer 192.0.2.1",
            true,
        ),
        ("--answer 192.0.2.1", "--answer nxdomain --type MX", false),
        ("--answer truncated", "--answer timeout", false),
        ("--answer truncated", "--answer timeout --proto udp", true),
        (
            "--answer nxdomain --peer-port 5353",
            "--answer timeout",
            false,
        ),
    ] {
        assert_eq!(refused(first, second), expected, "{first} / {second}");
    }
    let reject = "net-reject --target cgroup:/a --name a";
    let dns = "dns --target cgroup:/a --answer nxdomain --name b";
    assert!(conflict(reject, dns).is_some());
    assert!(conflict(&format!("{reject} --with rst"), dns).is_none());
}

#[test]
fn a_loss_hides_what_is_asked_at_its_own_hook() {
    const WIRE: &str = "net-loss --target cgroup:/a";
    const CALL: &str = "net-loss --target cgroup:/a --visibility errno=EPERM";
    let some = |rule: &str| format!("{rule} --percent 5");
    for rule in [WIRE, CALL] {
        assert!(conflict(rule, &some(rule)).is_some(), "{rule}");
        assert!(conflict(&some(rule), rule).is_some(), "{rule}");
    }
    // What a call sends is asked for first, and the kernel's own packets are not.
    for (first, second) in [(WIRE, &*some(CALL)), (CALL, &*some(WIRE))] {
        assert_eq!(conflict(first, second), None, "{first}; {second}");
        assert_eq!(conflict(second, first), None, "{second}; {first}");
    }
}
