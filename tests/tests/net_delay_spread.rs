//! `net-delay` with distributions, correlation and packets that overtake.

use std::time::Duration;

use injector_tests::{
    netns::Ip,
    require,
    traffic::{Arrived, Bed, Case, Direction, Form, Load},
};

/// Far enough apart that no packet is held up by the order of the flow.
const LOAD: Load = Load::of(400).spaced(Duration::from_millis(1));

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Sends a round through a delay of 40 ms that is spread by these options.
#[track_caller]
fn spread(direction: Direction, options: &[&str]) -> Arrived {
    let mut bed = Bed::new(Case {
        form: Form::Cgroup,
        ip: Ip::V4,
        direction,
    });
    let fault = ["net-delay", "--delay", "40ms", "--seed", "6", "--reorder"];
    let injection = bed.inject(&[&fault[..], options].concat());
    let arrived = bed.round(LOAD, LOAD);
    let rule = bed.stop(injection).rule();
    assert_eq!(rule.injected, LOAD.count, "{rule:?}");
    assert_eq!((arrived.intact, arrived.duplicates), (LOAD.count, 0));
    bed.assert_untouched_after(LOAD);
    arrived
}

/// Checks the share of packets that wait at most so long. Four standard
/// deviations of 400 draws are 10 %, and the machine adds up to 2 ms.
#[track_caller]
fn check_share(arrived: &Arrived, limit: Duration, share: f64) {
    let late = f64::from(u32::try_from(arrived.delays.at_least(limit)).expect("few"));
    let prompt = 1.0 - late / 400.0;
    assert!((prompt - share).abs() < 0.1, "{prompt} within {limit:?}");
}

/// 68 % of a normal distribution lie within one standard deviation.
#[track_caller]
fn check_normal(direction: Direction) {
    require!(NetDelay);
    let arrived = spread(direction, &["--jitter", "10ms", "--distribution", "normal"]);
    check_share(&arrived, ms(30), 0.16);
    check_share(&arrived, ms(40), 0.5);
    check_share(&arrived, ms(50), 0.84);
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
    // Its median of 1.26 lies (1.5 - 1.26) × 4/3 × 15 ms below the mean.
    check_share(&arrived, ms(35), 0.5);
    assert!(arrived.delays.shortest >= ms(30), "{arrived:?}");
    assert!(arrived.delays.longest >= ms(60), "{arrived:?}");
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
    check_share(&arrived, ms(25), 0.5);
    check_share(&arrived, ms(58), 0.5);
    assert!(arrived.delays.longest >= ms(60), "{arrived:?}");
}

/// A correlated delay is often the one before it, and keeps its spread.
#[test]
fn correlation_keeps_the_spread() {
    require!(NetDelay);
    let inversions = |correlation: &str| {
        let options = ["--jitter", "30ms", "--correlation", correlation];
        let arrived = spread(Direction::Egress, &options);
        assert!(arrived.delays.shortest <= ms(20), "{arrived:?}");
        assert!(arrived.delays.longest >= ms(60), "{arrived:?}");
        arrived.inversions
    };
    let (free, bound) = (inversions("0"), inversions("90"));
    assert!(bound * 2 < free, "{bound} of {free}");
}
