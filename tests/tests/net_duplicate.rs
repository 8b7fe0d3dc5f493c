//! `net-duplicate`: packets arrive more than once, and are counted once.

use injector_tests::{
    packet_matrix, require,
    stats::{assert_correlated, binomial_999},
    traffic::{Bed, Case, Direction, Load},
};

const LOAD: Load = Load::of(3000);

packet_matrix!(check);

/// Doubles 30 % of a victim's packets beside a bystander's in the same namespace.
#[track_caller]
fn check(case: Case) {
    require!(NetLoss);
    let mut bed = Bed::new(case);
    bed.assert_untouched_before(LOAD);
    let injection = bed.inject(&["net-duplicate", "--percent", "30", "--seed", "7"]);
    let arrived = bed.round(LOAD, LOAD);
    let rule = bed.stop(injection).rule();
    assert_eq!((arrived.intact, arrived.missing()), (LOAD.count, 0));
    assert_eq!(rule.matched, LOAD.count, "{rule:?}");
    assert_eq!(rule.injected, arrived.duplicates, "{rule:?} {arrived:?}");
    let expected = binomial_999(LOAD.count, 0.3);
    assert!(expected.contains(&rule.injected), "{rule:?}");
    bed.assert_untouched_after(LOAD);
}

fn bed(direction: Direction) -> Bed {
    Bed::new(Case::plain(direction))
}

#[test]
fn several_copies_of_each() {
    require!(NetLoss);
    for direction in [Direction::Egress, Direction::Ingress] {
        let mut bed = bed(direction);
        let injection = bed.inject(&["net-duplicate", "--copies", "3"]);
        let arrived = bed.round(LOAD, LOAD);
        let rule = bed.stop(injection).rule();
        assert_eq!(rule.injected, LOAD.count, "{rule:?}");
        assert_eq!(arrived.duplicates, 3 * LOAD.count, "{arrived:?}");
    }
}

#[test]
fn when_names_the_very_packets() {
    require!(NetLoss);
    let mut bed = bed(Direction::Egress);
    let injection = bed.inject(&["net-duplicate", "--when", "3..9+2"]);
    let arrived = bed.round(LOAD, LOAD);
    assert_eq!(bed.stop(injection).rule().injected, 4);
    assert_eq!(arrived.duplicates, 4);
}

/// With a correlation of 3/4, a packet that is doubled is followed by another one in
/// 0.2 + 0.75 × 0.8 = 80 % of cases; each direction is a link of its own.
#[test]
fn correlated_copies_keep_their_rate() {
    require!(NetLoss);
    let load = Load::of(20_000);
    for direction in [Direction::Egress, Direction::Ingress] {
        let mut bed = bed(direction);
        let options = ["--percent", "20", "--correlation", "75", "--seed", "5"];
        let injection = bed.inject(&[&["net-duplicate"], &options[..]].concat());
        let arrived = bed.round(load, load);
        let rule = bed.stop(injection).rule();
        assert_eq!(rule.matched, load.count, "{rule:?}");
        assert_eq!(rule.injected, arrived.duplicates, "{rule:?} {arrived:?}");
        let mut times = vec![0; 20_000];
        for (number, _) in bed.victim.notes() {
            times[usize::try_from(number).expect("few")] += 1;
        }
        let doubled: Vec<bool> = times.iter().map(|&times| times == 2).collect();
        assert_correlated(&doubled, 0.2, 0.75);
        bed.assert_untouched_after(LOAD);
    }
}
