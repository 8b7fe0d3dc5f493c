//! Laws of the kinds that model a link: loss with a memory, bandwidth, and
//! delays from tables.

use injector_common::{
    faults::{
        Params,
        net_delay::{self, TABLE_SCALE},
        net_loss::{self, CERTAIN, Gilbert, Markov, START},
        net_rate::{self, Link, MAX_RATE, MIN_RATE},
    },
    random::draw,
};
use proptest::prelude::*;

/// What becomes of `count` packets.
fn losses(params: Params, seed: u64, count: u64) -> Vec<bool> {
    let mut state = START;
    (1..=count)
        .map(|n| {
            let (next, lost) = net_loss::step(params, state, draw(seed, n));
            state = next;
            lost
        })
        .collect()
}

/// Lengths of the runs of lost packets.
fn bursts(lost: &[bool]) -> Vec<usize> {
    lost.split(|lost| !lost)
        .map(<[bool]>::len)
        .filter(|length| *length > 0)
        .collect()
}

fn share(part: usize, all: usize) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).expect("few"));
    number(part) / number(all)
}

const fn percent(percent: u32) -> u32 {
    CERTAIN / 100 * percent
}

#[test]
fn a_gilbert_link_has_its_rate_and_its_bursts() {
    // 1 % begin a burst, 25 % end it: 1/26 of the time bad, bursts of 4.
    let params = net_loss::gilbert(Gilbert {
        p: percent(1),
        r: percent(25),
        bad: CERTAIN,
        good: 0,
    });
    let lost = losses(params, 7, 1_000_000);
    let bursts = bursts(&lost);
    let rate = share(bursts.iter().sum(), lost.len());
    let length = share(bursts.iter().sum(), bursts.len());
    assert!((rate - 1.0 / 26.0).abs() < 0.002, "{rate}");
    assert!((length - 4.0).abs() < 0.1, "{length}");
}

/// Run lengths under a link that is wholly bad or wholly good are geometric:
/// chi-square over the first twelve lengths, and all longer ones together.
#[test]
fn bursts_are_as_long_as_the_model_has_them() {
    let end = 0.25;
    let params = net_loss::gilbert(Gilbert {
        p: percent(2),
        r: percent(25),
        bad: CERTAIN,
        good: 0,
    });
    let bursts = bursts(&losses(params, 11, 1_000_000));
    let count = share(bursts.len(), 1);
    let mut chi_square = 0.0;
    let mut rest = 1.0;
    for length in 1..=12 {
        let expected = count * rest * end;
        rest *= 1.0 - end;
        let found = share(bursts.iter().filter(|&&burst| burst == length).count(), 1);
        chi_square += (found - expected).powi(2) / expected;
    }
    let found = share(bursts.iter().filter(|&&burst| burst > 12).count(), 1);
    chi_square += (found - count * rest).powi(2) / (count * rest);
    // 99.9 % of the chi-square distribution with 12 degrees of freedom.
    assert!(chi_square < 32.9, "{chi_square}");
}

#[test]
fn an_elliott_link_also_loses_in_its_good_state() {
    let params = net_loss::gilbert(Gilbert {
        p: percent(10),
        r: percent(10),
        bad: percent(50),
        good: percent(10),
    });
    let lost = losses(params, 3, 1_000_000);
    let rate = share(lost.iter().filter(|lost| **lost).count(), lost.len());
    assert!((rate - 0.3).abs() < 0.003, "{rate}");
}

#[test]
fn a_chain_of_four_states_visits_each_as_it_should() {
    let (p13, p31, p32, p23, p14) = (0.02, 0.3, 0.2, 0.5, 0.01);
    let params = net_loss::markov(Markov {
        p13: percent(2),
        p31: percent(30),
        p32: percent(20),
        p23: percent(50),
        p14: percent(1),
    });
    let lost = losses(params, 5, 1_000_000);
    let rate = share(lost.iter().filter(|lost| **lost).count(), lost.len());
    // Stationary shares: 4 follows 1, and 2 and 3 balance each other.
    let (one, two, three, four) = (1.0, p13 / p31 * p32 / p23, p13 / p31, p14);
    let expected = (three + four) / (one + two + three + four);
    assert!((rate - expected).abs() < 0.003, "{rate} {expected}");
    // A loss in a gap is always alone.
    let only_gaps = net_loss::markov(Markov {
        p13: 0,
        p31: CERTAIN,
        p32: 0,
        p23: CERTAIN,
        p14: percent(40),
    });
    assert!(
        bursts(&losses(only_gaps, 9, 10_000))
            .iter()
            .all(|&length| length == 1)
    );
}

proptest! {
    #[test]
    fn any_chain_is_total(params in any::<Params>(), state in any::<u64>(), draw in any::<u64>()) {
        let (next, _) = net_loss::step(params, state, draw);
        prop_assert!(next < 4);
    }

    #[test]
    fn a_table_scales_by_the_jitter(
        (delay, jitter) in (0..60_000_000_000u64).prop_flat_map(|delay| (Just(delay), 0..=delay)),
        value in any::<i16>(),
    ) {
        let drawn = net_delay::table_delay_ns(net_delay::params(delay, jitter), value);
        let exact = delay as f64 + jitter as f64 * f64::from(value) / TABLE_SCALE as f64;
        prop_assert!((drawn as f64 - exact.max(0.0)).abs() <= 1.0 + exact.abs() * 1e-12);
    }

    #[test]
    fn a_draw_from_a_table_lies_in_it(amount in any::<u32>()) {
        prop_assert!((net_delay::table_slot(amount) as usize) < net_delay::TABLE_SIZE);
    }

    #[test]
    fn parameters_of_a_delay_do_not_touch_each_other(
        delay in any::<u64>(), jitter in any::<u64>(),
        index in 0..16u32, correlation in 0..=CERTAIN,
    ) {
        let params = net_delay::params(delay, jitter);
        let params = net_delay::correlated(net_delay::from_table(params, index), correlation);
        let params = net_delay::overtaking(params);
        prop_assert_eq!(net_delay::table(params), Some(index));
        prop_assert_eq!(net_delay::is_correlated(params), correlation != 0);
        prop_assert!(net_delay::may_overtake(params));
        prop_assert_eq!([params[0], params[1]], [delay, jitter]);
    }

    /// A busy link sends exactly its rate, whatever the packets' sizes.
    #[test]
    fn a_busy_link_keeps_its_rate(
        rate in MIN_RATE..=MAX_RATE,
        sizes in proptest::collection::vec(40..65_536u32, 1..50),
    ) {
        let params = net_rate::params(Link {
            rate, burst: 0, overhead: 0, queue_ns: u64::MAX >> 1, per_flow: false,
        });
        let mut done = 0;
        for &size in &sizes {
            done += net_rate::cost_ns(params, size, 1);
            prop_assert_eq!(net_rate::wait_ns(params, 0, done), Some(done));
        }
        let bits: u64 = sizes.iter().map(|&size| u64::from(size) * 8).sum();
        let exact = bits as f64 * 1e9 / rate as f64;
        prop_assert!((done as f64 - exact).abs() <= sizes.len() as f64 + exact * 1e-9);
    }
}

#[test]
fn a_link_has_room_for_its_queue_and_its_burst() {
    let link = Link {
        rate: 8_000_000,
        burst: 3_000,
        overhead: 0,
        queue_ns: 10_000_000,
        per_flow: true,
    };
    let params = net_rate::params(link);
    assert!(net_rate::is_per_flow(params));
    // A byte takes a microsecond; 3,000 pass at once.
    assert_eq!(net_rate::wait_ns(params, 0, 3_000_000), Some(0));
    assert_eq!(net_rate::wait_ns(params, 0, 4_000_000), Some(1_000_000));
    assert_eq!(net_rate::wait_ns(params, 0, 13_000_000), Some(10_000_000));
    assert_eq!(net_rate::wait_ns(params, 0, 13_000_001), None);
}

#[test]
fn a_correlated_delay_repeats_as_often_as_asked() {
    let params = net_delay::correlated(net_delay::params(1000, 500), percent(70));
    let repeats = (1..=100_000).filter(|&n| net_delay::repeats(params, draw(3, n)));
    let rate = share(repeats.count(), 100_000);
    assert!((rate - 0.7).abs() < 0.006, "{rate}");
}

#[test]
fn overhead_is_counted_for_each_segment() {
    let cost = |overhead, segments| {
        let link = Link {
            rate: 8_000_000,
            burst: 0,
            overhead,
            queue_ns: 1,
            per_flow: false,
        };
        net_rate::cost_ns(net_rate::params(link), 1_000, segments)
    };
    assert_eq!(cost(0, 1), 1_000_000);
    assert_eq!(cost(24, 1), 1_024_000);
    assert_eq!(cost(24, 10), 1_240_000);
    assert_eq!(cost(-20, 2), 960_000);
    assert_eq!(cost(-64, 100), 0);
}
