//! `net-reorder`: selected packets go ahead, the others wait.

use std::time::Duration;

use injector_tests::{
    ledger::Ledger,
    packet_matrix, require,
    stats::{assert_correlated, binomial_999},
    traffic::{Bed, Case, Direction, Load},
};

const LOAD: Load = Load::of(120).spaced(Duration::from_millis(1));

packet_matrix!(check);

/// Lets a quarter of a victim's packets overtake those of the last 20 ms.
#[track_caller]
fn check(case: Case) {
    require!(NetDelay);
    let mut bed = Bed::new(case);
    bed.assert_untouched_before(LOAD);
    let injection = bed.inject(&[
        "net-reorder",
        "--delay",
        "20ms",
        "--percent",
        "25",
        "--seed",
        "3",
    ]);
    let arrived = bed.round(LOAD, LOAD);
    let rule = bed.stop(injection).rule();
    assert_eq!((arrived.intact, arrived.duplicates), (LOAD.count, 0));
    assert_eq!(rule.matched, LOAD.count, "{rule:?}");
    assert_eq!(rule.passed, LOAD.count - rule.injected, "{rule:?}");
    let expected = binomial_999(LOAD.count, 0.25);
    assert!(expected.contains(&rule.injected), "{rule:?}");
    // Those that wait are late, the others on time.
    let late = arrived.delays.at_least(Duration::from_millis(20));
    assert!(late >= rule.passed, "{rule:?} {arrived:?}");
    assert!(
        late < LOAD.count - rule.injected / 2,
        "{rule:?} {arrived:?}"
    );
    assert!(arrived.inversions > rule.injected, "{arrived:?}");
    bed.assert_untouched_after(LOAD);
}

#[test]
fn a_gap_lets_every_nth_ahead() {
    require!(NetDelay);
    let mut bed = Bed::new(Case::plain(Direction::Egress));
    let injection = bed.inject(&["net-reorder", "--delay", "20ms", "--gap", "5"]);
    let arrived = bed.round(LOAD, LOAD);
    let rule = bed.stop(injection).rule();
    assert_eq!(rule.injected, LOAD.count / 5, "{rule:?}");
    assert_eq!(arrived.intact, LOAD.count);
    let late = arrived.delays.at_least(Duration::from_millis(20));
    assert!(late >= rule.passed, "{arrived:?}");
}

/// With a correlation of 1/2, a packet that goes ahead is followed by another one in
/// 0.25 + 0.5 × 0.75 = 62.5 % of cases. All others wait.
#[test]
fn correlated_turns_keep_their_rate() {
    require!(NetDelay);
    let load = Load::of(20_000);
    let folder = tempfile::tempdir().expect("make a folder");
    let ledger = folder.path().join("hits.jsonl");
    let mut bed = Bed::new(Case::plain(Direction::Egress));
    let options = "--delay 20ms --percent 25 --correlation 50 --seed 5 --ledger";
    let fault = ["net-reorder"].into_iter().chain(options.split(' '));
    let ledger_path = ledger.to_str().expect("a plain path");
    let injection = bed.inject(&fault.chain([ledger_path]).collect::<Vec<_>>());
    let arrived = bed.round(load, load);
    let rule = bed.stop(injection).rule();
    assert_eq!((arrived.intact, arrived.duplicates), (load.count, 0));
    assert_eq!(rule.matched, load.count, "{rule:?}");
    assert_eq!(rule.passed, load.count - rule.injected, "{rule:?}");
    // Who went ahead: packet n is number n - 1 of its sender's.
    let mut ahead = vec![false; 20_000];
    for (_, n, _) in Ledger::read(&ledger).waits() {
        ahead[usize::try_from(n - 1).expect("few")] = true;
    }
    assert_correlated(&ahead, 0.25, 0.5);
    let mut in_time = 0;
    for (number, delay) in bed.victim.notes() {
        let waits = delay >= Duration::from_millis(20);
        if ahead[usize::try_from(number).expect("few")] {
            in_time += u64::from(!waits);
        } else {
            assert!(waits, "packet {number} was under way for {delay:?}");
        }
    }
    assert!(in_time > rule.injected / 2, "{in_time}, {rule:?}");
    bed.assert_untouched_after(LOAD);
}
