//! Durations such as `500us`, `0.5s` or `1m30s`, read exactly.
//!
//! Whole nanoseconds are computed without floating point, so that `0.3s` is
//! 300 000 000 ns and what cannot be that exact is refused.

use std::{fmt, str::FromStr, time::Duration};

use crate::spec::{
    decimal::{self, DecimalError},
    text::ValueError,
};

/// A span of time, at least 0 and at most [`Span::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

const ALLOWED: &str =
    "a duration with a unit out of ns, us, ms, s, m, h, such as 500us, 0.5s, 100ms or 1m30s";

impl Span {
    /// The longest span: 365 days. It keeps every boot time of a rule far from
    /// the end of 64 bits.
    pub const MAX: Duration = Duration::from_secs(365 * 24 * 3600);
}

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what: &str| ValueError::new(text, what, ALLOWED);
        if text.starts_with(['-', '−']) {
            return Err(refuse("is negative"));
        }
        let span = Duration::from_nanos(nanos(text).map_err(refuse)?);
        if span > Self::MAX {
            return Err(refuse("is longer than 365 days"));
        }
        Ok(Self(span))
    }
}

/// The whole nanoseconds of a duration without a sign.
///
/// # Errors
///
/// What is to be said of a text that is none, as in "`5` has no unit".
pub(super) fn nanos(text: &str) -> Result<u64, &'static str> {
    if text.is_empty() {
        return Err("is empty");
    }
    let mut total_ns: u64 = 0;
    let mut previous_unit = u64::MAX;
    let mut rest = text;
    while !rest.is_empty() {
        let number_len = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let unit_len = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        if number.is_empty() {
            return Err("is not a duration");
        }
        if unit.is_empty() {
            return Err("has no unit");
        }
        let Some(&(_, unit_ns)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err("has an unknown unit");
        };
        if unit_ns >= previous_unit {
            return Err("has its units out of order");
        }
        previous_unit = unit_ns;
        let ns = decimal::times(number, unit_ns).map_err(|error| what(&error))?;
        total_ns = total_ns.checked_add(ns).ok_or("is too long")?;
        rest = after;
    }
    Ok(total_ns)
}

const fn what(error: &DecimalError) -> &'static str {
    match error {
        DecimalError::NotANumber => "is not a duration",
        DecimalError::TooLong => "is too long",
        DecimalError::TooFine => "is finer than a nanosecond",
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format(self.0))
    }
}

/// A duration as [`Span`] reads it back, in the largest unit that divides it or
/// with at most three decimals.
#[must_use]
pub fn format(duration: Duration) -> String {
    let ns = duration.as_nanos();
    if ns == 0 {
        return "0s".to_owned();
    }
    for (name, unit_ns) in [("h", 3_600_000_000_000), ("m", 60_000_000_000)] {
        if ns.is_multiple_of(unit_ns) {
            return format!("{}{name}", ns / unit_ns);
        }
    }
    for (name, unit_ns) in [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)] {
        if ns >= unit_ns && ns.is_multiple_of(unit_ns / 1_000) {
            let (whole, milli) = (ns / unit_ns, ns % unit_ns / (unit_ns / 1_000));
            let fraction = format!("{milli:03}");
            let fraction = fraction.trim_end_matches('0');
            let dot = if fraction.is_empty() { "" } else { "." };
            return format!("{whole}{dot}{fraction}{name}");
        }
    }
    format!("{ns}ns")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, ns: u64) {
        assert_eq!(text.parse(), Ok(Span(Duration::from_nanos(ns))), "{text}");
    }

    #[track_caller]
    fn refused(text: &str, why: &str) {
        let error = text.parse::<Span>().expect_err(text);
        assert!(error.problem.contains(why), "{text}: {error}");
        assert!(error.allowed.contains("us, ms, s"), "{text}: {error}");
    }

    #[test]
    fn fractions_are_exact() {
        check("500us", 500_000);
        check("0.5s", 500_000_000);
        check("1.5ms", 1_500_000);
        check("0.3s", 300_000_000);
        check("100ms", 100_000_000);
        check("2m", 120_000_000_000);
        check("1m30s", 90_000_000_000);
        check("1h0.000000001s", 3_600_000_000_001);
        check("0.000001ms", 1);
        check("0s", 0);
        check("0.50000000000000000000s", 500_000_000);
        check("7ns", 7);
        check("3µs", 3_000);
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_a_reason() {
        refused("", "is empty");
        refused("5", "has no unit");
        refused("0", "has no unit");
        refused("-5ms", "is negative");
        refused("5 ms", "unknown unit");
        refused("5d", "unknown unit");
        refused("5s5s", "out of order");
        refused("5ms1s", "out of order");
        refused("1.2.3s", "not a duration");
        refused(".5s", "not a duration");
        refused("5.s", "not a duration");
        refused("ms", "not a duration");
        refused("1e3s", "unknown unit");
        refused("0.1ns", "finer than a nanosecond");
        refused("0.0000000001s", "finer than a nanosecond");
        refused("99999999999999999999s", "too long");
        refused("9000h", "365 days");
        refused("inf", "not a duration");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(ns in 0..Span::MAX.as_secs() * 1_000_000_000) {
            let span = Span(Duration::from_nanos(ns));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn round_values_are_read_back(n in 0u64..100_000, unit in 0usize..7) {
            let span = Span(Duration::from_nanos(n * UNITS[unit].1));
            prop_assume!(span.0 <= Span::MAX);
            prop_assert_eq!(span.to_string().parse(), Ok(span));
            prop_assert_eq!(format!("{n}{}", UNITS[unit].0).parse(), Ok(span));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Span>();
        }

        #[test]
        fn no_likely_text_panics(text in "[-+0-9.eE_nuµmsh ]{0,30}") {
            let _ = text.parse::<Span>();
        }
    }
}
