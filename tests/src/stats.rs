//! What chance allows.

mod chi_square;

use std::ops::RangeInclusive;

pub use chi_square::{Fit, fit, normal_tails, same_source};

/// Share of both tails together that the 99.9 % interval leaves out.
const OUTSIDE: f64 = 0.001;

/// The 99.9 % interval of a binomial count: the narrowest range that leaves at
/// most 0.05 % of the distribution of `trials` draws with `probability` on
/// either side.
///
/// Computed from the exact distribution, not from its normal approximation, so
/// it also holds for few trials and small probabilities.
#[must_use]
pub fn binomial_999(trials: u64, probability: f64) -> RangeInclusive<u64> {
    if probability <= 0.0 || trials == 0 {
        return 0..=0;
    }
    if probability >= 1.0 {
        return trials..=trials;
    }
    let tail = OUTSIDE / 2.0;
    let low = first_beyond(trials, probability, tail);
    // The upper tail is the lower one of the complementary count.
    let high = trials - first_beyond(trials, 1.0 - probability, tail);
    low..=high
}

/// Checks that this share of what was drawn for was hit, and that hits of neighbours have
/// this correlation.
///
/// # Panics
///
/// Where chance does not allow what was hit: in all, after a hit, or after a miss.
#[track_caller]
pub fn assert_correlated(hits: &[bool], share: f64, correlation: f64) {
    let count = |hits: &mut dyn Iterator<Item = bool>| hits.filter(|&hit| hit).count() as u64;
    for (what, before, share) in [
        ("after a hit", true, share + correlation * (1.0 - share)),
        ("after a miss", false, share - correlation * share),
    ] {
        let mut after = hits.windows(2).filter(|pair| pair[0] == before);
        let drawn = after.clone().count() as u64;
        let found = count(&mut after.by_ref().map(|pair| pair[1]));
        let allowed = binomial_999(drawn, share);
        assert!(
            allowed.contains(&found),
            "{found} of {drawn} {what}, allowed: {allowed:?}"
        );
    }
    // What some draws have in common decays by the correlation with each between them.
    let spread = (1.0 + correlation) / (1.0 - correlation);
    let drawn = hits.len() as u64;
    let found = float(count(&mut hits.iter().copied())) / float(drawn);
    let deviation = (share * (1.0 - share) * spread / float(drawn)).sqrt();
    assert!(
        normal_tails((found - share) / deviation) >= OUTSIDE,
        "{found} of all, not {share}"
    );
}

/// The smallest count `k` for which the chance of `k` or fewer exceeds `tail`.
fn first_beyond(trials: u64, probability: f64, tail: f64) -> u64 {
    let (ln_p, ln_q) = (probability.ln(), (-probability).ln_1p());
    let mut ln_term = float(trials) * ln_q;
    let mut below = 0.0;
    for k in 0..trials {
        below += ln_term.exp();
        if below > tail {
            return k;
        }
        ln_term += float(trials - k).ln() - float(k + 1).ln() + ln_p - ln_q;
    }
    trials
}

/// A count as a number to reckon with.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of packets stay far below 2^52"
)]
#[must_use]
pub const fn float(count: u64) -> f64 {
    count as f64
}

/// The value that this share of a sorted sample does not exceed.
///
/// # Panics
///
/// When the sample is empty.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    assert!(!sorted.is_empty(), "quantile of an empty sample");
    let len = float(sorted.len() as u64);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a length"
    )]
    let place = (share * len).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

/// The middle value of a sample; the lower one of two.
///
/// # Panics
///
/// When the sample is empty.
#[must_use]
pub fn median(sample: &[f64]) -> f64 {
    assert!(!sample.is_empty(), "median of an empty sample");
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(trials: u64, probability: f64, expected: RangeInclusive<u64>) {
        assert_eq!(binomial_999(trials, probability), expected);
    }

    #[test]
    fn tail_of_ten_coins_is_exact() {
        // P(0) = 1/1024 > 0.0005, so no count can be excluded.
        check(10, 0.5, 0..=10);
    }

    #[test]
    fn certainty_has_no_spread() {
        check(1000, 0.0, 0..=0);
        check(1000, 1.0, 1000..=1000);
    }

    #[test]
    fn large_counts_agree_with_the_normal_limit() {
        // mean 5000, deviation 68.92, 3.2905 deviations on either side
        let range = binomial_999(100_000, 0.05);
        assert!((4773..=4776).contains(range.start()), "{range:?}");
        assert!((5226..=5229).contains(range.end()), "{range:?}");
    }

    #[test]
    fn interval_holds_its_share() {
        let (n, p) = (40_u64, 0.2_f64);
        let range = binomial_999(n, p);
        let mut term = (1.0 - p).powi(40);
        let mut inside = 0.0;
        for k in 0..=n {
            if range.contains(&k) {
                inside += term;
            }
            #[expect(clippy::cast_precision_loss, reason = "numbers up to 40")]
            {
                term *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
            }
        }
        assert!(inside >= 0.999, "only {inside} lies in {range:?}");
    }

    #[test]
    fn quantiles_are_values_of_the_sample() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        let at = |share| quantile(&sorted, share).to_bits();
        assert_eq!(at(0.0), 1.0_f64.to_bits());
        assert_eq!(at(0.5), 2.0_f64.to_bits());
        assert_eq!(at(0.51), 3.0_f64.to_bits());
        assert_eq!(at(1.0), 4.0_f64.to_bits());
    }

    #[test]
    fn median_takes_the_lower_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).to_bits(), 2.0_f64.to_bits());
    }
}
