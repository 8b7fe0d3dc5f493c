//! Conditions on calls that are about descriptors and sockets: their families and peers.

use std::fs;

use injector_tests::{
    actor::sockets::{DESCRIPTORS, NOBODY, Outcomes, Peers},
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    require,
    victim::BoardFile,
};
use tempfile::TempDir;

const EROFS: u32 = 30;

/// What the victim calls on each of its connected sockets, and with the name of a peer.
const TALK: &str = "write,read,recvfrom,sendto,sendmsg,sendmmsg,getsockopt,shutdown";
/// So many of these it makes on each connected socket of TCP or Unix, so many name one peer, and so
/// many are on a socket of UDP that is connected to it.
const CONNECTED: u64 = 7;
const NAMED: u64 = 3;
const DATAGRAMS: u64 = 1;
/// So many are about each peer of IPv4 or IPv6.
const EACH: u64 = CONNECTED + NAMED + DATAGRAMS;

/// Rules that match and never hit, so that none hides what the next one matches, and two that hit.
#[test]
fn calls_by_descriptor_family_and_peer() {
    require!(SysErrno);
    let folder = TempDir::new().expect("a folder");
    let peers = Peers::new(folder.path()).expect("peers");
    let [one, other, v6] = peers.addresses;
    let counted: &[(&str, String, u64)] = &[
        (TALK, "family: inet".into(), 2 * EACH),
        (TALK, "family: 10".into(), 2 * EACH),
        (TALK, "family: unix".into(), CONNECTED + 2),
        (TALK, "family: '!inet,!inet6'".into(), CONNECTED + 2),
        (TALK, "family: 'netlink,packet'".into(), 0),
        (TALK, format!("peer: {}", one.ip()), EACH),
        // Its IPv4 address within IPv6 is the same peer.
        (TALK, format!("peer: {}", other.ip()), 2 * EACH),
        (TALK, "peer: 127.0.0.0/8".into(), 3 * EACH),
        (TALK, "peer: '::/0'".into(), EACH),
        (TALK, "peer: '127.0.0.0/8,!127.0.0.2'".into(), EACH),
        (TALK, "peer: '127.0.0.2,::1'".into(), 3 * EACH),
        (TALK, "peer: '!127.0.0.1'".into(), 3 * EACH),
        (TALK, format!("peer-port: {}", other.port()), 2 * EACH),
        (TALK, format!("peer-port: '!{}'", other.port()), 2 * EACH),
        (
            TALK,
            format!("peer: {}, peer-port: {}", one.ip(), v6.port()),
            0,
        ),
        (TALK, format!("family: inet6, peer: {}", other.ip()), EACH),
        ("connect", format!("peer: {}", other.ip()), 4),
        // Nobody listens at its port of another address.
        ("connect", format!("peer-port: {}", one.port()), 3),
        ("connect", "family: inet".into(), 5),
        ("connect", "family: unix".into(), 1),
        ("socket", "family: inet6".into(), 4),
        ("socket", "family: '!inet6'".into(), 6),
        ("getsockopt", format!("fd: {}", DESCRIPTORS[0]), 1),
        ("getsockopt", "fd: '49,50,51'".into(), 2),
        ("getsockopt", format!("fd: '!{}'", DESCRIPTORS[0]), 10),
        ("getsockopt", "fd: '!50,!51'".into(), 9),
        ("getsockopt", "fd: 1000000".into(), 0),
    ];
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let rule = |kind: &str, calls: &str, condition: &str| {
        format!("- {{{kind}, call: '{calls}', target: '{target}', {condition}}}\n")
    };
    let never = "kind: sys-errno, errno: EIO, when: '100000'";
    let mut rules: String = counted
        .iter()
        .map(|(calls, condition, _)| rule(never, calls, condition))
        .collect();
    let errno = "kind: sys-errno, errno: EROFS";
    rules += &rule(errno, "connect", &format!("peer: {NOBODY}"));
    rules += &rule(errno, "write", &format!("peer-port: {}", other.port()));
    // Met at its entry, also where it cannot be failed.
    let signal = "kind: sys-signal, signal: SIGURG";
    rules += &rule(signal, "close", &format!("peer: {}", other.ip()));
    let injection = Injection::of_spec(&format!("version: 1\nfor: 60s\nrules:\n{rules}"));

    let written = folder.path().join("outcomes");
    let addresses = peers.addresses.map(|address| address.to_string());
    let path = |path: &std::path::Path| path.to_str().expect("a path in UTF-8").to_owned();
    let work = [
        "sockets",
        "--one",
        &addresses[0],
        "--other",
        &addresses[1],
        "--v6",
        &addresses[2],
        "--unix",
        &path(&peers.unix),
        "--outcomes",
        &path(&written),
    ];
    let board = BoardFile::new();
    let status = board.spawn(Place::cgroup(&cgroup), &work).wait();
    assert!(status.success(), "{status}");
    let report = injection.stop().report();
    let text = fs::read(&written).expect("the outcomes");
    let outcomes: Outcomes = serde_json::from_slice(&text).expect("JSON");

    for ((calls, condition, expected), rule) in counted.iter().zip(&report.rules) {
        let found = (rule.matched, rule.injected);
        assert_eq!(found, (*expected, 0), "{calls}: {condition}: {outcomes:?}");
    }
    let hit: Vec<(u64, u64)> = report.rules[counted.len()..]
        .iter()
        .map(|rule| (rule.matched, rule.injected))
        .collect();
    assert_eq!(hit, [(1, 1), (2, 2), (4, 4)]);
    let failed: Vec<(&str, u32)> = outcomes
        .iter()
        .filter(|(_, errno)| **errno != 0)
        .map(|(call, errno)| (call.as_str(), *errno))
        .collect();
    assert_eq!(
        failed,
        [
            ("connect nobody", EROFS),
            ("write other", EROFS),
            ("write other, mapped", EROFS),
        ]
    );
}

/// Also where no call can be failed: a rule is read before the kernel is asked.
#[test]
fn what_no_call_can_meet_is_refused() {
    for (line, reason) in [
        ("--call open --fd 3", "open, which has no descriptor"),
        ("--call mkdir --family inet", "mkdir, which is on no socket"),
        (
            "--call accept4 --peer 10.0.0.1",
            "accept4, which is on a socket that has no peer",
        ),
        (
            "--call connect --family unix --peer-port 80",
            "inet or inet6",
        ),
        ("--call read --fd 3,64", "several descriptors"),
    ] {
        let mut args = vec!["inject", "sys-errno", "--errno", "EIO", "--for", "1s"];
        args.extend(line.split(' '));
        args.extend(["--", "true"]);
        let finished = agent::run(&args);
        assert_eq!(finished.status.code(), Some(2), "{line}: {finished:?}");
        assert!(finished.stderr.contains(reason), "{line}: {finished:?}");
    }
}
