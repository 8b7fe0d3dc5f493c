//! Spec files.

use std::time::Instant;

use crate::support::{refused, skip_unless_root, spec_file};

#[test]
fn spec_files() {
    let rule = "{kind: net-loss, target: pid:1";
    for (yaml, words) in [
        (String::new(), vec!["file: is empty"]),
        (format!("version: 1\nfor: 1s\nrules: [{rule}, percnt: 5}}]"), vec![":3:", "rules[0].percnt", "percent, when, times"]),
        (format!("version: 1\nfor: 1s\nrules: [{rule}, percent: [5]}}]"), vec![":3:", "rules[0].percent"]),
        (format!("version: 1\nfor: 1s\nrules: [{rule}, percent: 120}}]"), vec![":3:", "rules[0].percent", "above 0 and at most 100"]),
        (format!("version: 1\nfor: 0s\nrules: [{rule}}}]"), vec!["for", "above 0"]),
        (format!("version: 1\nrules: [{rule}}}]"), vec!["for: is missing"]),
        (format!("version: 1\nfor: 1s\nfor: 1s\nrules: [{rule}}}]"), vec![":3:", "for", "once"]),
        ("version: 1\nfor: 1s\nrules: [{kind: net-los}]".to_owned(), vec!["rules[0].kind", "net-loss"]),
        (
            "version: 1\nfor: 1s\nrules:\n- {name: one, kind: sys-errno, target: pid:1, call: openat, errno: EIO}\n\
             - {name: two, kind: sys-errno, target: pid:1, call: openat, errno: ENOENT}".to_owned(),
            vec![".tmp", ": rules: `one` and `two` contradict each other", "allowed:"],
        ),
    ] {
        let file = spec_file(yaml.as_bytes());
        let path = file.path().to_str().expect("a path");
        refused(&["run", path], 2, &words);
    }
    let file = spec_file(b"version: 1\nname: \xff\xfe");
    let path = file.path().to_str().expect("a path");
    refused(&["run", path], 2, &[path, ":2:", "UTF-8"]);
    refused(
        &["run", "/no/such/file.yaml"],
        2,
        &["/no/such/file.yaml", "file", "No such file"],
    );
    refused(&["run", "/"], 2, &["file", "is a directory"]);
}

#[test]
fn nesting_is_answered_quickly() {
    for size in [10_000_000, 1_000_000] {
        let file = spec_file("[".repeat(size).as_bytes());
        let path = file.path().to_str().expect("a path");
        let start = Instant::now();
        refused(&["run", path], 2, &[path, "file", "allowed:"]);
        assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    }
}

#[test]
fn targets_in_files() {
    skip_unless_root!();
    let file = spec_file(
        b"version: 1\nfor: 1s\nrules:\n- {kind: net-loss, percent: 5}\n- {kind: net-loss, percent: 6}\n\
          - {kind: sys-errno, target: pid:1, call: openat, errno: EIO}\ncommand: ['true']",
    );
    let path = file.path().to_str().expect("a path");
    let place = format!("error: {path}:6:29: rules[2].target: pid:1 is PID 1");
    refused(&["run", path], 2, &[&place, "allowed:"]);
}

#[test]
fn times_beside_a_file() {
    let file = spec_file(b"version: 1\nrules: [{kind: net-loss, target: pid:1}]");
    let path = file.path().to_str().expect("a path");
    let missing = format!("error: {path}: for: is missing");
    refused(&["run", path], 2, &[&missing, "such as 30s"]);
    refused(&["run", path, "--for", "0s"], 2, &["error: --for: is 0"]);
}

const HEADER: &str = r#"{"header":{"version":1,"experiment":"a","seed":7,"kernel":"6.1","spec":{"arguments":["inject","net-loss","--target","pid:1","--for","1s"]},"rules":[{"name":"net-loss","kind":"net-loss","per":"rule"}]}}"#;
const END: &str = r#"{"end":{"stopped_by":"signal","lost":0,"rules":[{"name":"net-loss","matched":0,"injected":0,"lost":0}]}}"#;

/// Whatever is given for a ledger is looked at before anything else, and told by its place.
#[test]
fn ledgers_that_cannot_be_replayed() {
    let whole = format!("{HEADER}\n{END}\n");
    let other = |from: &str, to: &str| {
        let text = whole.replacen(from, to, 1);
        assert_ne!(text, whole);
        text
    };
    for (ledger, words) in [
        (String::new(), vec!["--replay: is empty"]),
        (
            "version: 1\n".to_owned(),
            vec![":1:1: --replay: is no ledger"],
        ),
        (
            other("\"version\":1", "\"version\":2"),
            vec!["a ledger of version 2", "reads version 1"],
        ),
        (format!("{HEADER}\n"), vec!["has no last line"]),
        (
            other("\"net-loss\",\"--target\"", "\"net-los\",\"--target\""),
            vec!["its arguments cannot be read", "net-los"],
        ),
        (
            other(
                "[\"inject\",\"net-loss\",\"--target\",\"pid:1\",\"--for\",\"1s\"]",
                "[\"doctor\"]",
            ),
            vec!["its arguments are not those of a run"],
        ),
        (
            other("\"per\":\"rule\"", "\"per\":\"flow\""),
            vec!["its rules are not those of its arguments"],
        ),
    ] {
        let file = spec_file(ledger.as_bytes());
        let path = file.path().to_str().expect("a path");
        for command in ["run", "plan"] {
            refused(
                &[command, "--replay", path],
                2,
                &[&[path, "allowed:"], &*words].concat(),
            );
        }
    }
    refused(
        &["run", "--replay", "/no/such/ledger"],
        2,
        &["/no/such/ledger", "--replay: cannot be opened"],
    );
    refused(&["run", "--replay", "/"], 2, &["--replay: cannot be read"]);
    refused(
        &["run", "--replay", "/dev/zero"],
        2,
        &["--replay: is no ledger"],
    );
    let file = spec_file(whole.as_bytes());
    let path = file.path().to_str().expect("a path");
    for more in [
        &["spec.yaml"] as &[_],
        &["--seed", "8"],
        &["--for", "2s"],
        &["--watch"],
        &["--", "true"],
    ] {
        let line = [&["run", "--replay", path], more].concat();
        refused(&line, 2, &["--replay", "cannot be used with"]);
    }
    refused(&["run"], 2, &["FILE"]);
}

#[test]
fn files_that_a_ledger_is_not_written_to() {
    let spec = spec_file(b"version: 1\nfor: 1s\nrules: [{kind: net-loss, target: pid:1}]");
    let spec = spec.path().to_str().expect("a path");
    let full = spec_file(b"what was recorded before");
    let full = full.path().to_str().expect("a path");
    let inject = ["inject", "net-loss", "--target", "pid:1", "--for", "1s"];
    for line in [&inject as &[_], &["plan", spec], &["run", spec]] {
        let line = [line, &["--ledger", full]].concat();
        refused(&line, 2, &["--ledger", full, "is not empty", "allowed:"]);
    }
    let line = [&inject as &[_], &["--ledger", "/tmp"]].concat();
    refused(&line, 2, &["--ledger", "/tmp is a directory"]);
    let line = ["run", spec, "--watch", "--ledger", "/tmp/none"];
    refused(&line, 2, &["--ledger", "--watch lets change", "allowed:"]);
    assert!(!std::path::Path::new("/tmp/none").exists());
}
