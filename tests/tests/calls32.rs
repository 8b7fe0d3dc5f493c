//! Calls of 32-bit callers, on which numbers mean other calls, and arguments lie elsewhere.

use std::{
    fs,
    net::UdpSocket,
    sync::atomic::Ordering::{Acquire, Release},
};

use injector_tests::{
    actor::{
        calls32::{FILE, MAPPED},
        sockets::Outcomes,
    },
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    require,
    victim::BoardFile,
    wait,
};
use tempfile::TempDir;

const EIO: u32 = 5;
const EROFS: u32 = 30;

/// What came of each call, and how often each rule matched and hit, with rules of these conditions.
#[track_caller]
fn counts(rules: &[(&str, &str)], rung: &str) -> (Outcomes, Vec<(u64, u64)>) {
    let folder = TempDir::new().expect("a folder");
    let path = |path: &std::path::Path| path.to_str().expect("a path in UTF-8").to_owned();
    fs::write(folder.path().join(FILE), "text").expect("a file");
    // Elsewhere, since it is opened and written by other calls.
    let results = TempDir::new().expect("a folder");
    let outcomes = results.path().join("outcomes");
    let peer = UdpSocket::bind("127.0.0.2:0").expect("a peer");
    let address = peer.local_addr().expect("an address");
    let cgroup = Cgroup::new("victim");
    let board = BoardFile::new();
    let work = [
        "calls32",
        "--folder",
        &path(folder.path()),
        "--peer",
        &address.to_string(),
        "--outcomes",
        &path(&outcomes),
    ];
    let mut victim = board.spawn(Place::cgroup(&cgroup), &work);
    wait::until("the victim", || {
        (board.board().actors[0].thread.load(Acquire) != 0).then_some(())
    });
    let lines = rules.iter().map(|(call, more)| {
        let more = more
            .replace("PEER", &address.ip().to_string())
            .replace("PORT", &address.port().to_string())
            .replace("FOLDER", &path(folder.path()));
        let target = cgroup.target();
        format!("- {{kind: sys-errno, target: '{target}', call: '{call}', {rung}{more}}}\n")
    });
    let lines: String = lines.collect();
    let injection = Injection::of_spec(&format!("version: 1\nfor: 60s\nrules:\n{lines}"));
    board.board().round.fetch_add(1, Release);
    let status = victim.wait();
    assert!(status.success(), "{status}");
    let report = injection.stop().report();
    let found = report.rules.iter();
    let found = found.map(|rule| (rule.matched, rule.injected)).collect();
    let text = fs::read(&outcomes).expect("the outcomes");
    (serde_json::from_slice(&text).expect("JSON"), found)
}

/// Rules that match and never hit, so that none hides what the next one matches.
#[test]
fn conditions_hold_of_32_bit_callers() {
    require!(Lsm);
    let mapped = format!("arg: '1=={MAPPED}'");
    let wanted: &[(&str, &str, u64)] = &[
        ("open", "path: FOLDER", 1),
        // Its number is that of `open` there.
        ("fstat", "path: FOLDER", 1),
        ("openat", "path: FOLDER", 2),
        ("openat", "path: FOLDER, access: write", 1),
        ("openat", "path: FOLDER, arg: '2&1'", 1),
        ("read", "path: FOLDER, arg: '2==0'", 1),
        ("read", "path: FOLDER, arg: '2>0'", 0),
        ("mkdir", "path: FOLDER", 1),
        ("mmap", &mapped, 1),
        ("socket", "family: inet", 1),
        ("socket", "family: inet6", 1),
        ("socket", "family: unix", 0),
        ("connect", "peer: PEER", 2),
        ("connect", "peer: PEER, peer-port: PORT", 2),
        ("connect", "peer: '!PEER'", 0),
        ("sendmsg", "peer: PEER, peer-port: PORT", 1),
        ("sendto", "peer: PEER, peer-port: PORT", 2),
        ("sendto", "peer: '!PEER'", 0),
        // What the number of `openat` there means to 64-bit callers.
        ("preadv", "path: FOLDER", 0),
    ];
    let never = |more: &str| format!("errno: EIO, when: '100000', {more}");
    let rules: Vec<_> = wanted.iter().map(|rule| (rule.0, never(rule.1))).collect();
    let rules: Vec<_> = rules
        .iter()
        .map(|(call, more)| (*call, more.as_str()))
        .collect();
    let (outcomes, found) = counts(&rules, "rung: lsm, ");
    for ((call, condition, matched), found) in wanted.iter().zip(found) {
        assert_eq!(found, (*matched, 0), "{call}: {condition}: {outcomes:?}");
    }
    // There is nothing to be unlinked.
    let failed: Vec<_> = outcomes.iter().filter(|(_, errno)| **errno != 0).collect();
    assert_eq!(failed, [(&"unlinkat".to_owned(), &2)]);
}

#[track_caller]
fn check_failures(rung: &str) {
    let errno = "errno: EIO";
    let rules = [
        ("open", errno),
        ("openat", "errno: EROFS, path: FOLDER, access: write"),
        ("connect,sendto", errno),
        ("fstat", "errno: plausible, path: FOLDER"),
    ];
    let (outcomes, found) = counts(&rules, rung);
    assert_eq!(found, [(1, 1), (1, 1), (4, 4), (1, 1)], "{outcomes:?}");
    let fstat = outcomes["fstat64"];
    assert!(fstat != 0, "{outcomes:?}");
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|(_, errno)| **errno != 0)
        .map(|(name, errno)| (name.as_str(), *errno))
        .collect();
    let expected = [
        ("connect", EIO),
        ("connect by socketcall", EIO),
        ("fstat64", fstat),
        ("open", EIO),
        ("openat for writing", EROFS),
        ("send by socketcall", EIO),
        ("sendto by socketcall", EIO),
        // There is nothing to be unlinked.
        ("unlinkat", 2),
    ];
    assert_eq!(failed, expected);
}

#[test]
fn calls_of_32_bit_callers_fail_at_security_hooks() {
    require!(Lsm);
    check_failures("rung: lsm, ");
}

#[test]
fn they_fail_in_the_place_of_security_functions() {
    require!(FmodRetSecurity);
    check_failures("rung: fmod_ret-security, ");
}

/// They enter by other functions, but for calls without arguments, of which the number of this one
/// means `writev` to 64-bit callers.
#[test]
fn at_their_entry_32_bit_callers_are_left_alone() {
    require!(Override);
    let (outcomes, found) = counts(&[("getpid,writev", "errno: EIO")], "rung: kprobe, ");
    assert_eq!(found, [(0, 0)], "{outcomes:?}");
    assert_eq!(outcomes["getpid"], 0);
}
