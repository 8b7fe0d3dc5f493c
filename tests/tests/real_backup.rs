//! restic, a program in Go, whose work any of many threads does: each file that it could not read is
//! one that was failed, and what it kept is whole.

use std::{collections::BTreeSet, fs, path::Path, process::Output};

use injector_tests::{
    agent::{Finished, Injection},
    command::Place,
    require,
};
use serde_json::Value;
use tempfile::TempDir;

/// How many files there are.
const FILES: usize = 300;

/// Runs restic, with its files in this folder.
fn restic(folder: &Path, words: &[&str]) -> Vec<String> {
    let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    let fixed = [
        "GOMAXPROCS=8".to_owned(),
        "restic".to_owned(),
        "--no-cache".to_owned(),
        "--repo".to_owned(),
        path("repository"),
        "--password-file".to_owned(),
        path("password"),
    ];
    let words = words
        .iter()
        .map(|word| word.replace("FILES", &path("files")));
    ["env".to_owned()]
        .into_iter()
        .chain(fixed)
        .chain(words)
        .collect()
}

#[track_caller]
fn succeeds(folder: &Path, words: &[&str]) -> String {
    let line = restic(folder, words);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let output: Output = Place::HERE.output(line[0], &line[1..]);
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn each_file_that_cannot_be_read_is_named() {
    require!(SysErrno);
    let place = TempDir::new().expect("a folder");
    let folder = place.path();
    fs::create_dir(folder.join("files")).expect("a folder");
    fs::write(folder.join("password"), "secret").expect("a file");
    for number in 0..FILES {
        let text = format!("{number} ").repeat(100);
        fs::write(folder.join(format!("files/{number}")), text).expect("a file");
    }
    succeeds(folder, &["init"]);

    let files = folder.join("files").to_str().expect("UTF-8").to_owned();
    let ledger = folder.join("ledger");
    let mut args = vec!["sys-errno", "--call", "openat", "--errno", "EIO"];
    args.extend([
        "--path",
        &files,
        "--file-type",
        "file",
        "--percent",
        "20",
        "--seed",
        "7",
    ]);
    args.extend([
        "--for",
        "100s",
        "--ledger",
        ledger.to_str().expect("UTF-8"),
        "--",
    ]);
    let backup = restic(folder, &["backup", "FILES"]);
    args.extend(backup.iter().map(String::as_str));
    let finished: Finished = Injection::start(&args).wait();
    let report = finished.report();
    let [rule] = &report.rules[..] else {
        panic!("{report:?}");
    };
    // What it ends with when some files could not be read.
    assert_eq!(finished.code(), 3, "{finished:?}");
    assert_eq!(rule.matched, FILES as u64, "{rule:?}");
    let named: BTreeSet<&str> = finished
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: open ") && line.ends_with("input/output error"))
        .collect();
    assert_eq!(named.len() as u64, rule.injected, "{finished:?}");
    assert!(rule.injected > 30, "{rule:?}");
    // They were failed in several threads.
    let hits = fs::read_to_string(&ledger).expect("a ledger");
    let hits = hits
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let threads: BTreeSet<u64> = hits.filter_map(|hit| hit["hit"]["tid"].as_u64()).collect();
    assert!(threads.len() > 1, "{threads:?}");

    // What it has is whole, and lacks nothing else; afterwards it has the rest.
    let below = format!("{files}/");
    let kept = || {
        let listing = succeeds(folder, &["ls", "latest"]);
        listing
            .lines()
            .filter(|line| line.starts_with(&below))
            .count()
    };
    assert_eq!(kept(), FILES - named.len());
    succeeds(folder, &["backup", "FILES"]);
    assert_eq!(kept(), FILES);
    let checked = succeeds(folder, &["check", "--read-data"]);
    assert!(checked.contains("no errors were found"), "{checked}");
}
