//! `net-delay` with distributions, correlation and packets that overtake.

use std::time::Duration;

use injector_tests::{
    require,
    traffic::{Arrived, Bed, Case, Direction, Load},
};

/// Far enough apart that no packet is held up by the order of the flow.
const LOAD: Load = Load::of(400).spaced(Duration::from_millis(1));

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Sends a round through a delay of 40 ms that is spread by these options.
#[track_caller]
fn spread(direction: Direction, options: &[&str]) -> Arrived {
    let mut bed = Bed::new(Case::plain(direction));
    let fault = ["net-delay", "--delay", "40ms", "--seed", "6", "--reorder"];
    let injection = bed.inject(&[&fault[..], options].concat());
    let arrived = bed.round(LOAD, LOAD);
    let rule = bed.stop(injection).rule();
    assert_eq!(rule.injected, LOAD.count, "{rule:?}");
    assert_eq!((arrived.intact, arrived.duplicates), (LOAD.count, 0));
    bed.assert_untouched_after(LOAD);
    arrived
}

/// How far apart the times of two shares of the packets are. A busy machine makes
/// all of them late alike.
fn between(arrived: &Arrived, low: f64, high: f64) -> Duration {
    arrived.delays.quantile(high) - arrived.delays.quantile(low)
}

/// 68 % of a normal distribution lie within one standard deviation; of an even
/// one of this width, they would lie within 13.6 ms.
#[track_caller]
fn check_normal(direction: Direction) {
    require!(NetDelay);
    let arrived = spread(direction, &["--jitter", "10ms", "--distribution", "normal"]);
    let width = between(&arrived, 0.16, 0.84);
    assert!(width >= ms(16) && width <= ms(25), "{width:?}");
    assert!(arrived.inversions > 50, "{arrived:?}");
}

#[test]
fn normal_egress() {
    check_normal(Direction::Egress);
}

#[test]
fn normal_ingress() {
    check_normal(Direction::Ingress);
}

/// Most packets of a Pareto distribution are early, a few very late.
#[test]
fn pareto_has_a_long_tail() {
    require!(NetDelay);
    let arrived = spread(
        Direction::Egress,
        &["--jitter", "15ms", "--distribution", "pareto"],
    );
    let (head, tail) = (between(&arrived, 0.05, 0.5), between(&arrived, 0.5, 0.95));
    assert!(tail > 3 * head, "{head:?} {tail:?}");
    assert!(arrived.delays.shortest >= ms(30), "{arrived:?}");
}

#[test]
fn a_table_of_the_users_own() {
    require!(NetDelay);
    let folder = tempfile::tempdir().expect("a folder");
    let table = folder.path().join("two.dist");
    std::fs::write(&table, "# early or late, nothing between\n-8192 8192\n").expect("a file");
    let table = format!("file:{}", table.display());
    let arrived = spread(
        Direction::Egress,
        &["--jitter", "20ms", "--distribution", &table],
    );
    assert!(arrived.delays.quantile(0.4) <= ms(35), "{arrived:?}");
    assert!(arrived.delays.quantile(0.6) >= ms(60), "{arrived:?}");
}

/// Where every packet takes the jitter of the one before it, all take the first
/// one's; with none that does, they spread over 60 ms.
#[test]
fn a_full_correlation_repeats_the_first_jitter() {
    require!(NetDelay);
    let width = |correlation: &str| {
        let options = ["--jitter", "30ms", "--correlation", correlation];
        let arrived = spread(Direction::Egress, &options);
        between(&arrived, 0.1, 0.9)
    };
    let (free, bound) = (width("0"), width("100"));
    assert!(bound * 3 < free, "{bound:?} of {free:?}");
}
