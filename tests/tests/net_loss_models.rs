//! `net-loss` with models that have a memory, and with a time of its own.

use std::time::Duration;

use injector_tests::{
    agent::{Injection, RuleReport},
    cgroup::Cgroup,
    ledger::Ledger,
    netns::Pair,
    require,
    traffic::{Arrived, Bed, Case, Direction, Load, ends::PLAIN},
};

fn bed(direction: Direction) -> Bed {
    Bed::new(Case::plain(direction))
}

/// Sends a round through a loss, which counts exactly what does not arrive.
#[track_caller]
fn lossy(direction: Direction, load: Load, options: &[&str]) -> (Arrived, RuleReport) {
    let mut bed = bed(direction);
    let injection = bed.inject(&[&["net-loss", "--seed", "5"], options].concat());
    let arrived = bed.round(load, load);
    let rule = bed.stop(injection).rule();
    assert_eq!(arrived.sent, load.count, "sending failed: {arrived:?}");
    assert_eq!(rule.injected, arrived.missing(), "{rule:?} {arrived:?}");
    bed.assert_untouched_after(Load::of(1000));
    (arrived, rule)
}

fn share(part: u64, all: u64) -> f64 {
    f64::from(u32::try_from(part).expect("few")) / f64::from(u32::try_from(all).expect("few"))
}

/// Bursts of lost packets among the first ones, whose numbers are kept.
fn bursts(lost: &[u64]) -> u64 {
    let begins = |pair: &&[u64]| pair[0] + 1 != pair[1];
    1 + u64::try_from(lost.windows(2).filter(begins).count()).expect("few")
}

/// A fifth of the packets, in bursts of five on average: both within what chance
/// allows 40,000 packets (the seed is fixed, and so are the decisions).
#[track_caller]
fn check_bursts(direction: Direction, options: &[&str]) {
    require!(NetLoss);
    let load = Load::of(40_000);
    let (arrived, rule) = lossy(direction, load, options);
    let rate = share(rule.injected, load.count);
    assert!((rate - 0.2).abs() < 0.015, "{rate}");
    let known = u64::try_from(arrived.lost.len()).expect("few");
    let length = share(known, bursts(&arrived.lost));
    assert!((length - 5.0).abs() < 0.6, "{length}");
}

#[test]
fn gilbert_bursts_that_are_sent() {
    check_bursts(Direction::Egress, &["--burst", "5,20"]);
}

#[test]
fn gilbert_bursts_that_are_received() {
    check_bursts(Direction::Ingress, &["--burst", "5,20"]);
}

/// With a correlation of 3/4, a loss is followed by another one in
/// 0.2 + 0.75 × 0.8 = 80 % of cases.
#[test]
fn correlated_losses_keep_their_rate() {
    check_bursts(
        Direction::Egress,
        &["--percent", "20", "--correlation", "75"],
    );
}

#[test]
fn a_chain_of_four_states() {
    // As a chain with bursts that nothing gets through: from 1 to 3 and back.
    check_bursts(Direction::Egress, &["--markov", "5,20"]);
}

#[test]
fn a_budget_holds_for_models_too() {
    require!(NetLoss);
    let mut bed = bed(Direction::Egress);
    let load = Load::of(3000);
    let injection = bed.inject(&["net-loss", "--burst", "50,50", "--times", "10"]);
    let (arrived, _) = bed.spend(load, injection, 10);
    assert!(arrived.lost[9] < 100, "{arrived:?}");
}

#[test]
fn one_seed_loses_the_same_packets_again() {
    require!(NetLoss);
    let load = Load::of(3000);
    let lost = || lossy(Direction::Egress, load, &["--burst", "2,30"]).0.lost;
    let first = lost();
    assert!(!first.is_empty());
    assert_eq!(first, lost());
}

/// A rule with a time of its own in a run that goes on: whatever is sent meanwhile is
/// lost, and nothing before or after it. Another rule sees what it leaves.
#[test]
fn a_window_of_time() {
    require!(NetLoss);
    let window = 2_000_000_000..3_000_000_000;
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let flow = PLAIN.start(&pair, &cgroup, Direction::Egress);
    let folder = tempfile::tempdir().expect("make a folder");
    let ledger = folder.path().join("hits.jsonl");
    let common = format!("target: '{}', proto: udp", cgroup.target());
    let spec = format!(
        "version: 1\nrules:\n\
         - {{name: gone, kind: net-loss, {common}, start: 2s, for: 1s}}\n\
         - {{name: seen, kind: net-duplicate, {common}, for: 60s}}\n"
    );
    let injection = Injection::of_spec_told(&spec, &ledger);
    let load = Load::of(4500)
        .spaced(Duration::from_millis(1))
        .windowed(1 << 40);
    let arrived = flow.round(load);
    let report = injection.stop().report();
    let told = Ledger::read(&ledger);
    let lost = arrived.missing();
    let seen = load.count - lost;
    assert_eq!(report.hits(), [("gone", lost, lost), ("seen", seen, seen)]);
    assert_eq!(arrived.duplicates, seen, "{arrived:?}");
    let [gone, others] = ["gone", "seen"].map(|rule| told.times(rule));
    assert_eq!((gone.len() as u64, others.len() as u64), (lost, seen));
    assert!(gone.iter().all(|time| window.contains(time)), "{gone:?}");
    assert!(!others.iter().any(|time| window.contains(time)));
    // In one piece, with packets before and behind it.
    let first = *arrived.lost.first().expect("a lost packet");
    assert!(first > 1 && first + lost <= load.count, "{first}, {lost}");
    let piece: Vec<u64> = (first..first + lost).collect();
    assert_eq!(arrived.lost, piece);
}
