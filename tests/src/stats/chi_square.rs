//! How well what was counted fits what a model expects.

use super::float;

/// Fewest occurrences that a bin must be expected to have, by the usual rule.
const LEAST_EXPECTED: f64 = 5.0;

/// How well counts fit a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Pearson's sum.
    pub chi_square: f64,
    /// Degrees of freedom.
    pub freedom: usize,
    /// The chance that a sample from the model fits as badly or worse.
    pub chance: f64,
}

/// Compares counts with a model's shares, which add up to 1. Neighbouring bins
/// whose expectation is too small for the test are taken together; `None` when
/// fewer than two are left.
#[must_use]
pub fn fit(bins: impl IntoIterator<Item = (u64, f64)>) -> Option<Fit> {
    let bins: Vec<(u64, f64)> = bins.into_iter().collect();
    let total = float(bins.iter().map(|&(count, _)| count).sum());
    let mut merged: Vec<(f64, f64)> = Vec::new();
    let mut open = (0.0, 0.0);
    for (count, share) in bins {
        open.0 += float(count);
        open.1 += share * total;
        if open.1 >= LEAST_EXPECTED {
            merged.push(open);
            open = (0.0, 0.0);
        }
    }
    // What is left at the end is too little for a bin of its own.
    let last = merged.last_mut()?;
    last.0 += open.0;
    last.1 += open.1;
    if merged.len() < 2 {
        return None;
    }
    let terms = merged
        .iter()
        .map(|(count, expected)| (count - expected).powi(2) / expected);
    let chi_square = terms.sum();
    let freedom = merged.len() - 1;
    let chance = upper_gamma(float(freedom as u64) / 2.0, chi_square / 2.0);
    Some(Fit {
        chi_square,
        freedom,
        chance,
    })
}

/// The chance that a standard normal draw lies at least so far from 0 on either
/// side.
#[must_use]
pub fn normal_tails(deviations: f64) -> f64 {
    // The square of a normal draw has the chi-square distribution of one degree.
    upper_gamma(0.5, deviations * deviations / 2.0)
}

/// The chance that two samples from one source are at least so far apart, by the
/// test of Kolmogorov and Smirnov: `distance` is the largest difference of their
/// distribution functions.
#[must_use]
pub fn same_source(distance: f64, sizes: [f64; 2]) -> f64 {
    let [one, other] = sizes;
    let scaled = distance * (one * other / (one + other)).sqrt();
    // The series is of no use for small distances, which are always likely.
    if scaled < 0.3 {
        return 1.0;
    }
    let term = |n: i32| (-1.0_f64).powi(n - 1) * (-2.0 * f64::from(n * n) * scaled * scaled).exp();
    let sum: f64 = (1..=100).map(term).sum();
    (2.0 * sum).clamp(0.0, 1.0)
}

/// The regularised upper incomplete gamma function Q(a, x).
fn upper_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let factor = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        // The series of the lower one, which converges fast here.
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * 1e-15 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return (1.0 - factor * sum).max(0.0);
    }
    // The continued fraction, from its far end.
    let mut tail = 0.0;
    for n in (1..=300).rev() {
        let n = f64::from(n);
        tail = n * (n - a) / (x + 2.0 * n + 1.0 - a - tail);
    }
    factor / (x + 1.0 - a - tail)
}

/// The logarithm of the gamma function, by Stirling's series.
fn ln_gamma(x: f64) -> f64 {
    // The series is good for large arguments; those below are moved there.
    if x < 10.0 {
        return ln_gamma(x + 1.0) - x.ln();
    }
    let square = 1.0 / (x * x);
    let series = (1.0 / 12.0 - square * (1.0 / 360.0 - square / 1260.0)) / x;
    (x - 0.5) * x.ln() - x + std::f64::consts::TAU.ln() / 2.0 + series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_chance(chi_square: f64, freedom: f64, expected: f64) {
        let chance = upper_gamma(freedom / 2.0, chi_square / 2.0);
        assert!((chance - expected).abs() < 2e-6, "{chance}");
    }

    #[test]
    fn chances_agree_with_the_tables() {
        check_chance(3.841_459, 1.0, 0.05);
        check_chance(18.307_038, 10.0, 0.05);
        check_chance(29.588_298, 10.0, 0.001);
        check_chance(2.558_212, 10.0, 0.99);
        check_chance(124.342_113, 100.0, 0.05);
    }

    #[test]
    fn tails_agree_with_the_tables() {
        assert!((normal_tails(1.959_964) - 0.05).abs() < 1e-6);
        assert!((normal_tails(-3.290_527) - 0.001).abs() < 1e-6);
    }

    #[test]
    fn distances_agree_with_the_tables() {
        // The 5 % and 0.1 % points of Kolmogorov's distribution.
        assert!((same_source(1.3581 / 10.0, [200.0, 200.0]) - 0.05).abs() < 1e-4);
        assert!((same_source(1.9495 / 10.0, [200.0, 200.0]) - 0.001).abs() < 1e-5);
        assert!(same_source(0.0, [200.0, 200.0]) > 0.999);
    }

    #[test]
    fn a_loaded_die_is_found() {
        let fair = fit([95, 103, 99, 101, 98, 104].map(|count| (count, 1.0 / 6.0))).unwrap();
        assert_eq!(fair.freedom, 5);
        assert!(fair.chance > 0.9, "{fair:?}");
        let loaded = fit([80, 90, 100, 100, 90, 140].map(|count| (count, 1.0 / 6.0))).unwrap();
        assert!(loaded.chance < 0.001, "{loaded:?}");
    }

    #[test]
    fn thin_bins_are_taken_together() {
        let fit_of = |bins: &[(u64, f64)]| fit(bins.iter().copied());
        let found = fit_of(&[(50, 0.5), (2, 0.02), (4, 0.04), (44, 0.43), (0, 0.01)]).unwrap();
        assert_eq!(found.freedom, 2);
        assert_eq!(fit_of(&[(3, 0.5), (2, 0.5)]), None);
        assert_eq!(fit_of(&[]), None);
    }
}
