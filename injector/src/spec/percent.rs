//! Percentages, read exactly into the threshold that the kernel compares.

use std::str::FromStr;

use injector_common::trigger::THRESHOLD_ALWAYS;

use crate::spec::text::{ValueError, is_digits};

/// A share above 0 and at most 100 %, as a [`injector_common::Trigger`]
/// threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent {
    /// The threshold, in `1..=2^32`.
    pub threshold: u64,
}

const ALLOWED: &str = "a number above 0 and at most 100, such as 5, 0.1 or 12.5%";

impl FromStr for Percent {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what: &str| ValueError::new(text, what, ALLOWED);
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        if number.starts_with('-') {
            return Err(refuse("is negative"));
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        if !is_digits(whole) || !is_digits(fraction) {
            return Err(refuse("is not a percentage"));
        }
        let fraction = fraction.trim_end_matches('0');
        let Some(whole) = whole.parse::<u128>().ok().filter(|whole| *whole <= 100) else {
            return Err(refuse("is more than 100"));
        };
        // 2^32 steps of 100 % are 2.3e-8 % apart.
        if fraction.len() > 20 {
            return Err(refuse(
                "has more decimals than the kernel side can tell apart",
            ));
        }
        let (mut numerator, mut denominator) = (whole, 100);
        for digit in fraction.bytes() {
            numerator = numerator * 10 + u128::from(digit - b'0');
            denominator *= 10;
        }
        if numerator > denominator {
            return Err(refuse("is more than 100"));
        }
        if numerator == 0 {
            return Err(refuse("would never happen"));
        }
        // Rounded to the nearest step, which is at most 1.2e-8 % off.
        let scaled = (numerator * u128::from(THRESHOLD_ALWAYS) + denominator / 2) / denominator;
        match u64::try_from(scaled) {
            Ok(0) | Err(_) => Err(refuse("is less than the kernel side can tell from never")),
            // Only 100 % itself is certain.
            Ok(THRESHOLD_ALWAYS) if numerator < denominator => Ok(Self {
                threshold: THRESHOLD_ALWAYS - 1,
            }),
            Ok(threshold) => Ok(Self { threshold }),
        }
    }
}

/// Two steps of the threshold differ in the eighth decimal.
const MAX_DECIMALS: usize = 8;

/// A threshold as a percentage, with as few decimals as [`Percent`] reads back
/// as the same.
#[must_use]
pub fn format(threshold: u64) -> String {
    shortest(threshold, |text| text.parse() == Ok(Percent { threshold }))
}

/// A threshold as a percentage, with as few decimals as are read back as the same.
pub(super) fn shortest(threshold: u64, is_same: impl Fn(&str) -> bool) -> String {
    // A float is exact enough to read, and used for nothing else.
    #[expect(
        clippy::cast_precision_loss,
        reason = "at most 2^32, which f64 holds exactly"
    )]
    let percent = threshold as f64 * 100.0 / THRESHOLD_ALWAYS as f64;
    let text = (0..MAX_DECIMALS)
        .map(|decimals| format!("{percent:.decimals$}"))
        .find(|text| is_same(text))
        .unwrap_or_else(|| format!("{percent:.MAX_DECIMALS$}"));
    format!("{text} %")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, threshold: u64) {
        assert_eq!(text.parse(), Ok(Percent { threshold }), "{text}");
    }

    #[track_caller]
    fn refused(text: &str, why: &str) {
        let error = text.parse::<Percent>().expect_err(text);
        assert!(error.problem.contains(why), "{text}: {error}");
        assert!(
            error.allowed.contains("above 0 and at most 100"),
            "{text}: {error}"
        );
    }

    #[test]
    fn percentages_are_thresholds() {
        check("100", 1 << 32);
        check("100%", 1 << 32);
        check("100.000", 1 << 32);
        check("50", 1 << 31);
        check("12.5%", 1 << 29);
        check("0.1", 4_294_967);
        check("0.00000003", 1);
        check("99.9999999999", (1 << 32) - 1);
    }

    #[test]
    fn what_is_not_a_share_is_refused() {
        refused("120", "more than 100");
        refused("100.0001", "more than 100");
        refused("0", "never");
        refused("0.0", "never");
        refused("0.00000000001", "tell from never");
        refused("-5", "negative");
        refused("", "not a percentage");
        refused("five", "not a percentage");
        refused("nan", "not a percentage");
        refused("inf", "not a percentage");
        refused("1e1", "not a percentage");
        refused(".5", "not a percentage");
        refused("5.", "not a percentage");
        refused("0.000000000000000000000000001", "more decimals");
        refused(
            "999999999999999999999999999999999999999999",
            "more than 100",
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Percent>();
        }

        #[test]
        fn more_percent_is_no_lower_threshold(a in 1u64..=100_000, b in 1u64..=100_000) {
            let threshold = |n: u64| -> u64 {
                format!("{}.{:03}", n / 1000, n % 1000).parse::<Percent>().expect("in range").threshold
            };
            prop_assert_eq!(a <= b, threshold(a) <= threshold(b));
            prop_assert!((1..=THRESHOLD_ALWAYS).contains(&threshold(a)));
        }
    }
}
