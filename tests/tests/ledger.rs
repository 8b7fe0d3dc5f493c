//! Millions of packets: what the report and the ledger say is what was seen outside.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use injector_common::{
    random::{draw, roll, rule_seed},
    trigger::{THRESHOLD_ALWAYS, Trigger},
};
use injector_tests::{
    agent::Injection,
    board::OUTCOMES,
    capture::Capture,
    cgroup::Cgroup,
    command::Process,
    kernel::Where,
    netns::{Ip, Pair},
    require,
    traffic::{Arrived, Load, ends::both_ways},
};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// How many packets are sent at a time. An emulated processor, on which this test runs only
/// by request (`--everywhere`), would need minutes for as many as the host sends.
fn count() -> u64 {
    if Where::current().is_virtual() {
        50_000
    } else {
        1_000_000
    }
}

/// An eighth: a share that the kernel's threshold stands for exactly.
const PERCENT: &str = "12.5";
const EIGHTH: Trigger = Trigger {
    threshold: THRESHOLD_ALWAYS / 8,
    ..Trigger::ALWAYS
};

const SEED: u64 = 7;

/// Whether the only rule selects its `n`th packet.
fn selected(n: u64) -> bool {
    EIGHTH.selects(n, roll(draw(rule_seed(SEED, 0), n)))
}

/// What the kernel's UDP counted in both namespaces: packets taken from senders,
/// handed to receivers, and dropped for want of room in a socket.
fn counted(pair: &Pair) -> [u64; 3] {
    let names = ["OutDatagrams", "InDatagrams", "RcvbufErrors"];
    names.map(|name| pair.near.counter("Udp", name) + pair.far.counter("Udp", name))
}

/// Holds what the ends and the kernel saw of some flows against what the rule must
/// have decided on its packets after the first `before`.
#[track_caller]
fn check(arrived: &[Arrived], counted: [u64; 3], before: u64) {
    let sent: u64 = arrived.iter().map(|flow| flow.sent).sum();
    let lost = (1..=sent).filter(|n| selected(before + n)).count();
    let lost = u64::try_from(lost).expect("64 bits");
    for flow in arrived {
        let strange = (flow.send_errors.0, flow.damaged, flow.duplicates);
        assert_eq!(strange, (0, 0, 0), "{arrived:?}");
    }
    assert_eq!(arrived.iter().map(Arrived::missing).sum::<u64>(), lost);
    assert_eq!(counted, [sent, sent - lost, 0]);
}

/// The numbers of all hits that a ledger tells of, and its last line.
#[track_caller]
fn told(ledger: &Path) -> (Vec<u64>, String) {
    let (mut numbers, mut last) = (Vec::new(), String::new());
    for line in BufReader::new(File::open(ledger).expect("a ledger")).lines() {
        last = line.expect("a line");
        if last.starts_with(r#"{"hit":"#) {
            let (_, number) = last.split_once(r#""n":"#).expect("a number");
            let digits = number.split([',', '}']).next().unwrap_or_default();
            numbers.push(digits.parse().expect("a number"));
        }
    }
    numbers.sort_unstable();
    (numbers, last)
}

/// Lets a process use one processor only.
fn keep_on(cpu: usize, process: &Process) {
    let mut only = CpuSet::new();
    only.set(cpu).expect("a processor");
    sched_setaffinity(Pid::from_raw(process.pid().cast_signed()), &only)
        .expect("choose a processor");
}

/// Each packet is numbered, and the receiver looks at every one. Which are lost is
/// known in advance, from the seed: of a flow by itself the very packets, of two that
/// meet in the rule on two processors how many. The ledger names each, and captures
/// behind the rule see the others.
#[test]
fn two_million_packets_are_counted_right() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let [out, back] = both_ways(&pair, &cgroup);
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the processors");
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let first = cpus.next().expect("a processor");
    keep_on(first, out.sender());
    keep_on(cpus.next().unwrap_or(first), back.sender());
    let target = cgroup.target();
    let folder = tempfile::tempdir().expect("make a folder");
    let ledger = folder.path().join("hits.jsonl");
    let line = format!(
        "net-loss --percent {PERCENT} --seed {SEED} --target {target} --direction both \
         --proto udp --for 10m --ledger {}",
        ledger.display()
    );
    // Of one protocol, such a socket sees what programs at the interface have let in.
    let captures = [(&pair.far, Pair::FAR_LINK), (&pair.near, Pair::NEAR_LINK)]
        .map(|(netns, link)| Capture::start(netns, link, Ip::V4));
    let injection = Injection::start(&line.split_whitespace().collect::<Vec<_>>());
    let counts = |work: &dyn Fn() -> Vec<Arrived>| {
        let before = counted(&pair);
        let arrived = work();
        let now = counted(&pair);
        (arrived, [0, 1, 2].map(|n| now[n] - before[n]))
    };

    let million = count();
    let (alone, of_one) = counts(&|| vec![out.round(Load::of(million))]);
    let (both, of_two) = counts(&|| {
        let half = Load::of(million / 2);
        out.begin(half);
        back.begin(half);
        vec![out.finish(), back.finish()]
    });
    let end = injection.stop();
    let rule = end.rule();
    // First of all that the rule was in force all the time.
    assert_eq!(rule.matched, 2 * million, "{end:?}");
    let missing: u64 = alone.iter().chain(&both).map(Arrived::missing).sum();
    assert_eq!(rule.injected, missing, "{rule:?}");
    assert_eq!(rule.passed, 2 * million - missing, "{rule:?}");
    assert_eq!((rule.exhausted, rule.errors), (0, 0), "{rule:?}");
    check(&alone, of_one, 0);
    let captured: u64 = captures.iter().map(Capture::count).sum();
    assert_eq!(captured, 2 * million - missing, "captured");
    let (numbers, last) = told(&ledger);
    let expected: Vec<u64> = (1..=2 * million).filter(|&n| selected(n)).collect();
    assert_eq!(numbers.len() as u64, rule.injected, "{last}");
    assert!(numbers == expected, "the ledger tells of others");
    assert!(last.contains(r#""lost":0"#), "{last}");
    let first: Vec<u64> = (1..=OUTCOMES).filter(|&n| selected(n)).collect();
    assert_eq!(alone[0].lost, first, "other packets than those selected");
    check(&both, of_two, million);
}
