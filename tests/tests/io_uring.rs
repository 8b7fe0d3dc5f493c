//! Requests of io_uring, which enter by no system call of their own.

use std::{
    fs,
    sync::atomic::Ordering::{Acquire, Release},
};

use injector_tests::{
    actor::{
        paths::Outcomes,
        uring::{self, WAYS},
    },
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    require,
    victim::BoardFile,
    wait,
};
use tempfile::TempDir;

const EIO: u32 = 5;

/// What came of each request of a victim under this fault, in which `FOLDER` stands for the folder
/// that it works in, and how often each rule matched and hit.
#[track_caller]
fn outcomes_under(fault: &[&str]) -> (Outcomes, Vec<(u64, u64)>) {
    let (outcomes, counts, _) = told_under(fault);
    (outcomes, counts)
}

/// The same, with what the agent says meanwhile.
#[track_caller]
fn told_under(fault: &[&str]) -> (Outcomes, Vec<(u64, u64)>, String) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().to_str().expect("a path in UTF-8");
    let place = TempDir::new().expect("a folder");
    let written = place.path().join("outcomes");
    uring::prepare(folder.path()).expect("files");
    let file = BoardFile::new();
    let command = file.command(&[
        "uring",
        "--folder",
        path,
        "--outcomes",
        written.to_str().expect("a path in UTF-8"),
    ]);
    let fault: Vec<String> = fault
        .iter()
        .map(|word| word.replace("FOLDER", path))
        .collect();
    let mut args: Vec<&str> = fault.iter().map(String::as_str).collect();
    args.extend(["--for", "60s", "--"]);
    args.extend(command.iter().map(String::as_str));
    let finished = Injection::start(&args).wait();
    let text = fs::read(&written).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    let report = finished.report();
    let rules = report.rules.iter();
    let counts = rules.map(|rule| (rule.matched, rule.injected)).collect();
    let outcomes = serde_json::from_slice(&text).expect("JSON");
    (outcomes, counts, finished.stderr.clone())
}

/// Those that failed, all of them with `EIO`.
#[track_caller]
fn failed(outcomes: &Outcomes) -> Vec<&str> {
    let failed = outcomes.iter().filter(|(_, errno)| **errno != 0);
    let failed: Vec<_> = failed.collect();
    assert!(failed.iter().all(|(_, errno)| **errno == EIO), "{failed:?}");
    failed.into_iter().map(|(name, _)| name.as_str()).collect()
}

#[track_caller]
fn check_all(rung: &str) {
    let fault = [
        "sys-errno",
        "--call",
        "?%io_uring",
        "--errno",
        "EIO",
        "--rung",
        rung,
    ];
    let (outcomes, counts, told_by) = told_under(&fault);
    assert!(outcomes.len() >= 3 * (2 * 16 + 6), "{outcomes:?}");
    assert_eq!(failed(&outcomes).len(), outcomes.len(), "{outcomes:?}");
    // Each was counted, and once.
    let all = outcomes.len() as u64;
    assert_eq!(counts, [(all, all)]);
    // What is newer than some kernels is made, or was said to be left out.
    for name in ["bind", "listen", "ftruncate"] {
        let made = outcomes
            .keys()
            .any(|made| made.ends_with(&format!(": {name}")));
        let told = format!("the kernel knows no io_uring:{name}");
        assert_ne!(made, told_by.contains(&told), "{name}: {told_by}");
    }
}

#[test]
fn every_request_fails_at_security_hooks() {
    require!(Lsm);
    check_all("lsm");
}

#[test]
fn every_request_fails_in_the_place_of_security_functions() {
    require!(FmodRetSecurity);
    check_all("fmod_ret-security");
}

/// A path holds of requests as of calls, whoever serves them.
#[test]
fn no_request_escapes_a_path() {
    require!(Lsm);
    let fault = [
        "sys-errno",
        "--call",
        "?%io_uring",
        "--errno",
        "EIO",
        "--path",
        "FOLDER/in",
    ];
    let (outcomes, counts) = outcomes_under(&fault);
    let inside: Vec<&str> = outcomes.keys().map(String::as_str).collect();
    let inside: Vec<&str> = inside
        .into_iter()
        .filter(|name| name.contains(", in: "))
        .collect();
    assert!(inside.len() >= 3 * 16, "{outcomes:?}");
    assert_eq!(failed(&outcomes), inside);
    assert_eq!(counts, [(inside.len() as u64, inside.len() as u64)]);
}

#[test]
fn a_bad_disk_fails_requests_too() {
    require!(Lsm);
    let (outcomes, counts) = outcomes_under(&["io-errno", "--path", "FOLDER/in"]);
    let mut wanted = Vec::new();
    for way in WAYS {
        for name in ["fallocate", "read", "readv", "splice", "write", "writev"] {
            wanted.push(format!("{way}, in: {name}"));
        }
    }
    assert_eq!(failed(&outcomes), wanted);
    assert_eq!(counts, [(18, 18)]);
}

/// Nor is a call hit that does what the request does.
#[test]
fn a_request_is_not_the_call() {
    require!(Lsm);
    let calls = "mkdirat,renameat,renameat2,symlinkat,readv,writev,fallocate,setxattr";
    let (outcomes, counts) = outcomes_under(&[
        "sys-errno",
        "--call",
        calls,
        "--errno",
        "EIO",
        "--rung",
        "lsm",
    ]);
    assert_eq!(failed(&outcomes), [""; 0]);
    assert_eq!(counts, [(0, 0)]);
    // What the victim does by calls beside: it opens files, connects and writes its outcomes.
    let requests = "io_uring:mkdirat,io_uring:renameat";
    let (outcomes, counts) = outcomes_under(&["sys-errno", "--call", requests, "--errno", "EIO"]);
    assert_eq!(failed(&outcomes).len(), 12, "{outcomes:?}");
    assert_eq!(counts, [(12, 12)]);
}

/// What waited is served when some call returns, whose registers then tell of that call.
#[test]
fn a_request_that_waited_is_no_part_of_the_call_that_returns() {
    require!(Lsm);
    let place = TempDir::new().expect("a folder");
    let written = place.path().join("outcomes");
    let written_to = written.to_str().expect("a path in UTF-8");
    let cgroup = Cgroup::new("victim");
    let board = BoardFile::new();
    let work = [
        "uring",
        "--waits",
        "--folder",
        "/",
        "--outcomes",
        written_to,
    ];
    let mut victim = board.spawn(Place::cgroup(&cgroup), &work);
    wait::until("the victim", || {
        (board.board().actors[0].thread.load(Acquire) != 0).then_some(())
    });
    let target = cgroup.target();
    let injection = Injection::of_spec(&format!(
        "version: 1
for: 60s
rules:
- {{kind: sys-errno, target: '{target}', call: write, errno: EPERM, file-type: socket, when: '1000'}}
- {{kind: sys-errno, target: '{target}', call: 'io_uring:recv', errno: EIO}}
"
    ));
    board.board().round.fetch_add(1, Release);
    let status = victim.wait();
    assert!(status.success(), "{status}");
    let report = injection.stop().report();
    let rules = report.rules.iter();
    let counts: Vec<_> = rules.map(|rule| (rule.matched, rule.injected)).collect();
    let text = fs::read(&written).expect("the outcomes");
    let outcomes: Outcomes = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(failed(&outcomes), ["recv"]);
    assert_eq!(counts, [(1, 0), (1, 1)]);
}

#[test]
fn what_they_cannot_have_is_refused() {
    for (options, says) in [
        (
            &["sys-errno", "--call", "io_uring:fsync", "--errno", "EIO"][..],
            "io_uring:read, io_uring:write",
        ),
        (
            &[
                "sys-errno",
                "--call",
                "io_uring:read",
                "--errno",
                "EIO",
                "--rung",
                "kprobe",
            ],
            "requests of io_uring pass no system call's entry",
        ),
        (
            &[
                "sys-errno",
                "--call",
                "io_uring:read",
                "--errno",
                "EIO",
                "--fd",
                "3",
            ],
            "is a request of io_uring, whose arguments no program can read",
        ),
        (
            &["sys-delay", "--call", "io_uring:read", "--delay", "1ms"],
            "a request of io_uring can fail, and nothing else",
        ),
        (
            &["sys-signal", "--call", "io_uring:read", "--signal", "TERM"],
            "a request of io_uring can fail, and nothing else",
        ),
        (
            &["sys-return", "--call", "io_uring:read", "--value", "0"],
            "io_uring:read",
        ),
    ] {
        let tail = ["--for", "1s", "--", "true"];
        let refused = agent::run(&[&["inject"], options, &tail].concat());
        assert_eq!(refused.code(), 2, "{refused:?}");
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
}
