//! `net-reorder`: selected packets go ahead, the others wait.

use std::time::Duration;

use injector_tests::{
    packet_matrix, require,
    stats::binomial_999,
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
