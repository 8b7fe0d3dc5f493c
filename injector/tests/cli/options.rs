//! Options and their values.

use crate::support::{injector, refused};

/// A target that every command line may name: it is checked last.
const ANY: &[&str] = &["--target", "pid:1", "--for", "1s"];

/// `inject` with these words, a target and a time.
fn inject<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["inject"], words, ANY].concat()
}

#[test]
fn percentages() {
    for value in ["120", "0", "-5", "100.01", "abc", "", "nan", "1e1"] {
        refused(
            &inject(&["net-loss", "--percent", value]),
            2,
            &["--percent", "above 0 and at most 100"],
        );
    }
    let both = inject(&["net-loss", "--percent", "5", "--when", "3"]);
    refused(
        &both,
        2,
        &["error: --when: is given together with percent; allowed: one of the two"],
    );
}

#[test]
fn occurrences_and_budgets() {
    for value in ["0", "9..3", "3+0", "x", "-1", "", "3..x"] {
        refused(
            &inject(&["net-loss", "--when", value]),
            2,
            &["--when", "FIRST[..LAST][+STEP]"],
        );
    }
    for value in ["0", "-1", "x", "1.5"] {
        refused(
            &inject(&["net-loss", "--times", value]),
            2,
            &["--times", "at least 1"],
        );
    }
    for value in ["-1", "x", "18446744073709551616"] {
        refused(
            &inject(&["net-loss", "--seed", value]),
            2,
            &["--seed", "whole number"],
        );
    }
}

#[test]
fn names() {
    let long = "x".repeat(65);
    for value in ["", "two\nlines", "\u{1b}[31mred", &long] {
        let line = inject(&["net-loss", "--name", value]);
        refused(&line, 2, &["error: --name: `", "1 to 64 bytes"]);
        assert!(!injector(&line).stderr.contains('\u{1b}'));
    }
}

#[test]
fn durations() {
    for (value, problem) in [
        ("-5ms", "negative"),
        ("5", "no unit"),
        ("5 parsecs", "unit"),
    ] {
        let line = inject(&["net-delay", "--delay", value]);
        refused(&line, 2, &["--delay", problem, "us, ms, s"]);
        let line = inject(&["net-delay", "--delay", "5ms", "--jitter", value]);
        refused(&line, 2, &["--jitter", problem, "us, ms, s"]);
        let line = ["inject", "net-loss", "--target", "pid:1", "--for", value];
        refused(&line, 2, &["--for", problem, "us, ms, s"]);
    }
    let line = inject(&["net-delay", "--delay", "10ms", "--jitter", "11ms"]);
    refused(&line, 2, &["--jitter", "11ms", "at most the delay"]);
    refused(
        &inject(&["net-delay", "--delay", "61s"]),
        2,
        &["--delay", "at most 1m"],
    );
    refused(
        &inject(&["net-delay", "--delay", "0ms"]),
        2,
        &["--delay", "above 0"],
    );
    refused(
        &inject(&["net-delay"]),
        2,
        &["--delay", "DURATION", "at most 60s"],
    );
}

#[test]
fn the_time_is_mandatory() {
    let line = ["inject", "net-loss", "--target", "pid:1"];
    refused(&line, 2, &["--for", "such as 30s"]);
    let line = ["inject", "net-loss", "--target", "pid:1", "--for", "0s"];
    refused(&line, 2, &["--for", "above 0"]);
}

#[test]
fn exact_durations_are_accepted() {
    // Refused for its target only, so the duration was accepted.
    for value in ["0.5s", "500us", "1.5ms", "100ms", "1m"] {
        let output = injector(&inject(&["net-delay", "--delay", value]));
        assert!(
            !output.stderr.contains("--delay"),
            "{value}: {}",
            output.stderr
        );
    }
}

#[test]
fn who_is_told_of_a_loss() {
    let loss = |words: &[&'static str]| inject(&[&["net-loss", "--visibility"], words].concat());
    for errno in ["errno=EIO", "errno=ENOBUFS", "errno=110"] {
        refused(
            &loss(&[errno]),
            2,
            &[
                "--visibility",
                errno,
                "no error for a packet but EPERM",
                "sys-errno",
            ],
        );
    }
    for errno in ["errno=EBOGUS", "errno=", "errno=0"] {
        refused(&loss(&[errno]), 2, &["--visibility", "1 to 133"]);
    }
    refused(
        &loss(&["loud"]),
        2,
        &["--visibility", "silent, local or errno=EPERM"],
    );
    for way in ["ingress", "both"] {
        for who in ["local", "errno=EPERM"] {
            refused(
                &loss(&[who, "--direction", way]),
                2,
                &["--visibility", "not here for packets that arrive", "egress"],
            );
        }
    }
    // Refused for the target only.
    for accepted in ["errno=EPERM", "errno=1"] {
        let output = injector(&loss(&[accepted]));
        assert!(!output.stderr.contains("--visibility"), "{}", output.stderr);
    }
}

#[test]
fn calls_and_errors() {
    let calls = |call, errno| inject(&["sys-errno", "--call", call, "--errno", errno]);
    refused(
        &calls("opneat", "EIO"),
        2,
        &["--call", "`opneat`", "did you mean openat?"],
    );
    refused(
        &calls("openat,nope", "EIO"),
        2,
        &["--call", "`nope`", "syscalls(2)"],
    );
    refused(&calls("", "EIO"), 2, &["--call"]);
    for errno in [
        "EBOGUS",
        "0",
        "134",
        "4096",
        "-5",
        "99999999999999999999",
        "",
    ] {
        refused(&calls("openat", errno), 2, &["--errno", "1 to 133"]);
    }
    let rung = |rung| {
        inject(&[
            "sys-errno",
            "--call",
            "read",
            "--errno",
            "EIO",
            "--rung",
            rung,
        ])
    };
    for unknown in ["fmod-ret", "KPROBE", "tcx", ""] {
        refused(&rung(unknown), 2, &["--rung", "kprobe, fmod_ret, lsm"]);
    }
    refused(
        &inject(&["sys-errno", "--call", "openat"]),
        2,
        &["--errno", "1 to 133"],
    );
    refused(
        &inject(&["sys-errno", "--errno", "EIO"]),
        2,
        &["--call", "syscalls(2)"],
    );
}

#[test]
fn packet_filters() {
    for (option, value, allowed) in [
        ("--peer-port", "0", "1 to 65535"),
        ("--peer-port", "70000", "1 to 65535"),
        ("--peer-port", "9-3", "1 to 65535"),
        ("--local-port", "65536", "1 to 65535"),
        ("--local-port", "http", "1 to 65535"),
        ("--local-port", "-1", "1 to 65535"),
        ("--local", "10.0.0.0/33", "/32 for IPv4"),
        ("--local", "db.example.net", "10.0.0.0/8"),
        ("--peer", "10.0.0.0/33", "/32 for IPv4"),
        ("--peer", "300.1.1.1", "10.0.0.0/8"),
        ("--peer", "example.org/24", "the name of a host"),
        ("--peer", "2001:db8::/129", "/128 for IPv6"),
        ("--direction", "sideways", "egress, ingress or both"),
        ("--proto", "sctp", "tcp, udp, icmp, any"),
        ("--proto", "256", "0 to 255"),
        ("--interface", "no/such", "1 to 15 bytes"),
        ("--dscp", "64", "0 to 63"),
        ("--dscp", "af14", "af11 to af13"),
        ("--mark", "0x10/0x0f", "VALUE/MASK"),
        ("--mark", "4294967296", "0 to 4294967295"),
        ("--size", "19", "20 to 65575"),
        ("--size", "100-99", "20 to 65575"),
        ("--tcp-flags", "syn,!syn", "fin, syn, rst"),
        ("--tcp-flags", "sync", "fin, syn, rst"),
        ("--state", "related", "new or established"),
    ] {
        refused(
            &inject(&["net-loss", option, value]),
            2,
            &[option, value, allowed],
        );
    }
    let line = inject(&["net-corrupt", "--checksum", "maybe"]);
    refused(&line, 2, &["--checksum", "valid or broken"]);
    for value in ["!10.0.0.0/33", "!!10.0.0.0/8", "!"] {
        let line = inject(&["net-loss", "--peer", value]);
        refused(&line, 2, &["--peer", "10.0.0.0/8"]);
    }
}

#[test]
fn filters_that_contradict_themselves() {
    for (options, field, words) in [
        ("--proto icmp --peer-port 5", "peer-port", "no ports"),
        ("--proto icmp --state new", "state", "no conversations"),
        (
            "--proto udp --tcp-flags syn",
            "tcp-flags",
            "none of TCP's flags",
        ),
        ("--proto tcp --proto !tcp", "proto", "with and without `!`"),
        ("--proto any,udp", "proto", "any by itself"),
        (
            "--peer 10.0.0.0/8 --peer !10.0.0.0/8",
            "peer",
            "with and without `!`",
        ),
        ("--peer !0.0.0.0/0 --peer !::/0", "peer", "leaves nothing"),
        (
            "--peer-port 1,2,3,4 --peer-port 5,6,7,8,!9",
            "peer-port",
            "at most 8",
        ),
        ("--local-port !1-65535", "local-port", "leaves nothing"),
        (
            "--direction !egress,!ingress",
            "direction",
            "leaves nothing",
        ),
        ("--mark 1 --mark !1", "mark", "with and without `!`"),
        ("--mark 1,2,3,4,5", "mark", "at most 4"),
        ("--size 20-40,!10-50", "size", "20 to 65575"),
        ("--size 30-40,!20-50", "size", "leaves nothing"),
        ("--state new --state !new", "state", "with and without `!`"),
        (
            "--interface lo --interface !lo",
            "interface",
            "with and without `!`",
        ),
        (
            "--tcp-flags syn,!ack --state established",
            "state",
            "contradicts tcp-flags",
        ),
    ] {
        let words = ["error: --", field, words];
        let line: Vec<&str> = ["net-loss"].into_iter().chain(options.split(' ')).collect();
        refused(&inject(&line), 2, &words);
    }
}

#[test]
fn filters_that_repeat() {
    // Refused for the target only.
    for options in [
        "--direction egress --direction ingress",
        "--direction !egress",
        "--local 10.0.0.0/8,fd00::/8 --local !10.0.0.1",
        "--mark 1,0x10/0xf0 --mark !0x11",
        "--size 40-60,1500 --size !50",
        "--tcp-flags syn,!ack --tcp-flags rst --tcp-flags !ack",
        "--state new --state established",
        "--state !new",
    ] {
        let line: Vec<&str> = ["net-loss"].into_iter().chain(options.split(' ')).collect();
        refused(&inject(&line), 2, &["error: --target"]);
    }
}

#[test]
fn rules_that_can_never_hit() {
    for (line, words) in [
        (
            "net-corrupt --proto 47",
            ["--proto: protocol 47 packets", "tcp, udp, icmp or any"],
        ),
        (
            "net-corrupt --size 20-27",
            ["--size: leaves no packet", "29 to 65575 bytes"],
        ),
        (
            "net-reset --state new",
            ["--state: leaves only", "net-reject"],
        ),
        (
            "net-reset --tcp-flags syn,!ack",
            ["--tcp-flags: leaves only", "neither syn nor rst"],
        ),
        (
            "net-reject --tcp-flags rst",
            ["--tcp-flags: leaves only", "without rst"],
        ),
        (
            "net-reject --peer 224.0.0.0/4",
            ["--peer: leaves only", "single hosts"],
        ),
        (
            "net-reorder --delay 10ms",
            ["--percent: is not given", "a gap of at least 2"],
        ),
        (
            "net-reorder --delay 10ms --percent 100",
            ["--percent: has every packet", "below 100"],
        ),
        (
            "net-reorder --delay 10ms --when 1..5",
            ["--when: has no packet", "such as 2+2"],
        ),
        (
            "net-loss --proto udp --peer-port 67 --local-port 68",
            ["--peer-port: leaves nothing but DHCP", "not both"],
        ),
    ] {
        let line: Vec<&str> = line.split(' ').collect();
        refused(&inject(&line), 2, &words);
    }
}

#[test]
fn a_partition_leaves_nothing_out() {
    for (option, value) in [("--percent", "50"), ("--when", "3+"), ("--times", "7")] {
        let line = inject(&["net-partition", option, value]);
        refused(&line, 2, &[option, "lets none through", "net-loss"]);
    }
}

#[test]
fn answers() {
    let line = inject(&["net-reject", "--with", "silence"]);
    refused(&line, 2, &["--with", "rst or icmp"]);
    let line = inject(&["net-reject", "--code", "42"]);
    refused(
        &line,
        2,
        &["--code", "net, host, proto, port or admin", "policy-fail"],
    );
    let line = inject(&["net-reject", "--with", "rst", "--code", "net"]);
    refused(&line, 2, &["--code", "no code"]);
    let line = inject(&["net-reject", "--with", "rst", "--proto", "udp"]);
    refused(&line, 2, &["--with", "TCP alone"]);
    let line = inject(&["net-reset", "--end", "middle"]);
    refused(&line, 2, &["--end", "local, peer or both"]);
    let line = inject(&["net-reset", "--after-bytes", "0"]);
    refused(&line, 2, &["--after-bytes", "at least 1"]);
    let line = inject(&["net-reset", "--after-bytes", "5", "--after", "1s"]);
    refused(&line, 2, &["--after", "one of the two"]);
    let line = inject(&["net-reset", "--proto", "udp"]);
    refused(&line, 2, &["--proto", "tcp or any"]);
}

#[test]
fn options_of_another_kind() {
    refused(&inject(&["net-loss", "--delay", "5ms"]), 2, &["--delay"]);
    refused(
        &inject(&["net-delay", "--delay", "5ms", "--checksum", "valid"]),
        2,
        &["--checksum"],
    );
    refused(&inject(&["sys-errno", "--peer", "::1"]), 2, &["--peer"]);
    for option in ["--direction", "--interface", "--local", "--local-port"] {
        refused(&inject(&["net-refuse", option, "lo"]), 2, &[option]);
    }
    let line = inject(&["net-refuse", "--proto", "icmp"]);
    refused(&line, 2, &["--proto", "tcp, udp or any"]);
    let line = inject(&["net-refuse", "--errno", "ERESTARTSYS"]);
    refused(&line, 2, &["--errno", "1 to 133"]);
    refused(
        &inject(&["no-such-kind"]),
        2,
        &["no-such-kind", "injector inject"],
    );
    refused(
        &["faults", "no-such-kind"],
        2,
        &["no-such-kind", "net-loss, net-delay"],
    );
    refused(&["stop"], 2, &["--all"]);
    refused(&["completions", "tcsh"], 2, &["tcsh", "bash"]);
}
