//! What a spec file must not say, and the words of each refusal.

use std::path::Path;

use super::{experiment, parse};

/// A rule line for the tests below; errors are expected at line 4.
fn with_rule(rule: &str) -> String {
    format!("version: 1\nfor: 10s\nrules:\n  - {{{rule}}}\n")
}

#[track_caller]
fn refused(yaml: &str, words: &[&str]) {
    let error = experiment(yaml).expect_err(yaml);
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn values_are_refused_with_their_place() {
    let rule = "kind: net-loss, target: pid:7, ";
    for (keys, field, allowed) in [
        ("percent: 120", "rules[0].percent: `120`", "at most 100"),
        ("percent: 0", "rules[0].percent", "above 0"),
        (
            "when: 9..3",
            "rules[0].when: `9..3`",
            "FIRST[..LAST][+STEP]",
        ),
        ("times: 0", "rules[0].times", "at least 1"),
        ("name: ''", "rules[0].name: ``", "1 to 64"),
        (
            "name: \"\\e[2J\"",
            "rules[0].name: `\\u{1b}[2J`",
            "printable text",
        ),
        ("peer: 10.0.0.0/40", "rules[0].peer", "/32 for IPv4"),
        ("peer-port: 70000", "rules[0].peer-port", "1 to 65535"),
        ("peer-port: 0", "rules[0].peer-port", "1 to 65535"),
        ("start: 5", "rules[0].start: `5` has no unit", "ms, s"),
        ("start: -5ms", "rules[0].start: `-5ms` is negative", "ms, s"),
        (
            "direction: up",
            "rules[0].direction",
            "egress, ingress or both",
        ),
        ("interface: a/b", "rules[0].interface", "1 to 15 bytes"),
        (
            "unit: [packet]",
            "rules[0].unit: is of another type",
            "a single value",
        ),
        (
            "percent: {a: 1}",
            "rules[0].percent: is of another type",
            "a single value",
        ),
        (
            "percnt: 5",
            "rules[0].percnt: is not a known key",
            "percent, when, times, per, shadow, burst",
        ),
        (
            "delay: 5ms",
            "rules[0].delay: is not a known key",
            "peer-port",
        ),
        (
            "percent: 5, percent: 6",
            "percent: is given twice",
            "each key once",
        ),
    ] {
        refused(
            &with_rule(&format!("{rule}{keys}")),
            &["x.yaml:4:", field, "allowed: ", allowed],
        );
    }
    refused(
        &with_rule("kind: net-loss, target: [pid:7, pid:0]"),
        &["x.yaml:4:", "rules[0].target", "pid:N"],
    );
    refused(
        &with_rule("kind: sys-errno, target: pid:7, errno: EIO, call: [opneat]"),
        &["x.yaml:4:", "rules[0].call", "did you mean openat?"],
    );
    refused(
        &with_rule("kind: sys-errno, target: pid:7, errno: 200, call: open"),
        &["rules[0].errno", "1 to 133"],
    );
    refused(
        &with_rule("kind: sys-errno, target: pid:7, call: open"),
        &["x.yaml:4:", "rules[0].errno: is missing"],
    );
    refused(
        &with_rule("kind: net-los, target: pid:7"),
        &[
            "x.yaml:4:",
            "rules[0].kind: `net-los`",
            "net-loss, net-delay",
        ],
    );
    refused(
        &with_rule("target: pid:7"),
        &["x.yaml", "rules[0].kind: is missing", "net-loss"],
    );
}

#[test]
fn rules_must_make_sense_as_a_whole() {
    let rule = "target: pid:7, kind: ";
    for (keys, words) in [
        (
            "net-delay, delay: 5ms, jitter: 6ms",
            ["rules[0].jitter", "at most the delay"],
        ),
        ("net-delay, delay: 61s", ["rules[0].delay", "at most 1m"]),
        ("net-loss, start: 10s", ["rules[0].start", "less than 10s"]),
        (
            "net-loss, start: 5s, for: 6s",
            ["rules[0].for", "at most 5s"],
        ),
        ("net-loss, for: 0s", ["rules[0].for", "above 0"]),
        (
            "net-loss, percent: 5, when: 3",
            ["rules[0].when", "one of the two"],
        ),
        (
            "net-loss, proto: icmp, peer-port: 5",
            ["rules[0].peer-port", "no ports"],
        ),
    ] {
        refused(&with_rule(&format!("{rule}{keys}")), &words);
    }
    refused(
        &with_rule("kind: net-loss"),
        &["rules[0].target: is missing", "cgroup:PATH, pid:N"],
    );
    refused(
        &with_rule("kind: net-loss, target: command"),
        &["rules[0].target", "no command"],
    );
    refused(
        "version: 1\nfor: 1s\nrules: []\n",
        &["rules", "at least one"],
    );
    refused("version: 1\nfor: 1s\n", &["rules", "at least one"]);
    refused(
        "version: 1\nrules: [{kind: net-loss, target: pid:7}]",
        &["for", "is missing", "rules[0]"],
    );
    refused(
        "version: 1\nfor: 0s\nrules: [{kind: net-loss, target: pid:7}]",
        &["for", "above 0"],
    );
    let same = "{name: a, kind: net-loss, target: pid:7, percent: 5}";
    refused(
        &format!("version: 1\nfor: 1s\nrules: [{same}, {same}]"),
        &["rules[1].name", "`a`"],
    );
    let many = vec!["{kind: net-loss, target: pid:7, percent: 5}"; 65].join(", ");
    refused(
        &format!("version: 1\nfor: 1s\nrules: [{many}]"),
        &["rules: holds 65", "at most 64"],
    );
    let errno = |errno| format!("{{kind: sys-errno, target: pid:7, call: openat, errno: {errno}}}");
    refused(
        &format!(
            "version: 1\nfor: 1s\nrules: [{}, {}]",
            errno("EIO"),
            errno("ENOENT")
        ),
        &[
            "`sys-errno` and `sys-errno-2` contradict each other",
            "openat",
        ],
    );
}

#[test]
fn documents_are_read_strictly() {
    for (yaml, words) in [
        ("", ["x.yaml", "file: is empty"]),
        (" \n\n", ["x.yaml", "file: is empty"]),
        ("\u{feff}", ["x.yaml", "file: is empty"]),
        (
            "# only a comment\n",
            ["x.yaml", "allowed: YAML with the keys version"],
        ),
        ("5", ["x.yaml:1:1", "allowed: YAML with the keys version"]),
        ("[]", ["x.yaml:1:1", "allowed: YAML with the keys version"]),
        (
            "for: 1s\nrules: [{kind: net-loss, target: pid:7}]",
            ["version: is missing", "allowed: 1"],
        ),
        (
            "version: 2",
            ["x.yaml:1:10", "version: `2` is not a known version"],
        ),
        (
            "version: 1\nfor: 1s\nbogus: 1\nrules: []",
            ["x.yaml:3:", "bogus: is not a known key"],
        ),
        (
            "version: 1\nfor: 1s\nfor: 2s\nrules: []",
            ["x.yaml:3:", "for"],
        ),
        (
            "version: 1\nrules: 5",
            ["x.yaml:2:", "rules: is of another type; allowed: a list"],
        ),
        (
            "version: 1\nrules: [5]",
            ["x.yaml:2:", "allowed: YAML with the keys"],
        ),
        (
            "version: 1\nwhole-host: maybe\nrules: []",
            ["x.yaml:2:", "whole-host"],
        ),
        (
            "version: 1\ncommand: ./app\nrules: []",
            ["x.yaml:2:", "command"],
        ),
        (
            "version: 1\nseed: -1\nrules: []",
            ["x.yaml:2:", "seed: `-1` is not a seed"],
        ),
        (
            "version: 1\nname: \"red \\e[31m\"\nrules: []",
            ["x.yaml:2:", "name: `red \\u{1b}[31m` cannot be a name"],
        ),
        (
            "version: 1\nname: [a]\nrules: []",
            ["x.yaml:2:", "name: is of another type"],
        ),
        (
            "version: 1\n---\nversion: 1\n",
            ["x.yaml", "allowed: YAML with the keys"],
        ),
        (
            "version: 1\nrules: [\n",
            ["x.yaml", "allowed: YAML with the keys"],
        ),
        (
            "version: 1\n\tfor: 1s",
            ["x.yaml:1:", "allowed: YAML with the keys"],
        ),
        ("a: *b", ["x.yaml", "allowed: YAML with the keys"]),
    ] {
        refused(yaml, &words);
    }
    let error = parse(Path::new("x.yaml"), b"version: 1\nname: \xff").expect_err("no UTF-8");
    assert_eq!(
        error.to_string(),
        "x.yaml:2:7: file: is not UTF-8; allowed: YAML in UTF-8"
    );
}

#[test]
fn a_value_that_begins_with_a_mark_must_be_quoted() {
    for rule in [
        "{kind: net-loss, peer: !10.0.0.0/8}",
        "{kind: net-loss, peer: [!10.0.0.0/8, 10.0.0.1]}",
        "{kind: net-loss, mark: !7}",
    ] {
        let spec = format!("version: 1\nfor: 1s\nrules:\n- {rule}\n");
        let error = parse(Path::new("x.yaml"), spec.as_bytes()).expect_err(rule);
        let text = error.to_string();
        assert!(text.contains("in quotes"), "{rule}: {text}");
    }
}

/// A correlation is one of draws, which are there only with a share of some packets.
#[test]
fn a_correlation_needs_draws() {
    for kind in [
        "net-loss",
        "net-corrupt",
        "net-duplicate",
        "net-reorder, delay: 1ms",
    ] {
        for (keys, field, words) in [
            (
                "percent: 5, correlation: 101",
                "correlation",
                "from 0 to 100",
            ),
            (
                "percent: 5, correlation: -1",
                "correlation",
                "from 0 to 100",
            ),
            ("percent: 5, correlation: x", "correlation", "from 0 to 100"),
            (
                "when: 2+2, correlation: 5",
                "correlation",
                "a percent below 100",
            ),
            (
                "percent: 5, correlation: 5, per: flow",
                "per",
                "of whatever flow",
            ),
        ] {
            let rule = format!("kind: {kind}, target: pid:7, {keys}");
            refused(&with_rule(&rule), &[&format!("rules[0].{field}: "), words]);
        }
    }
    for keys in [
        "net-loss, correlation: 5",
        "net-corrupt, correlation: 5, percent: 100",
        "net-duplicate, correlation: 5, times: 3",
        "net-reorder, delay: 1ms, gap: 5, correlation: 5",
    ] {
        refused(
            &with_rule(&format!("target: pid:7, kind: {keys}")),
            &["rules[0].correlation", "nothing is correlated", "below 100"],
        );
    }
    for model in ["burst: '1,25'", "markov: 5"] {
        let rule = format!("target: pid:7, kind: net-loss, {model}, correlation: 5");
        refused(&with_rule(&rule), &["rules[0].burst", "one of the three"]);
    }
    for kind in [
        "net-reject",
        "net-reset",
        "net-partition",
        "dns, answer: timeout",
    ] {
        let rule = format!("target: pid:7, kind: {kind}, percent: 5, correlation: 5");
        refused(
            &with_rule(&rule),
            &["rules[0].correlation: is not a known key"],
        );
    }
}
