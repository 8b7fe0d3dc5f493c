//! By how much clocks go wrong, and which.

use std::str::FromStr;

use crate::{
    model::Clocks,
    spec::{
        duration,
        text::{ValueError, word},
    },
};

/// By how many nanoseconds a clock is ahead; behind, if negative. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift(pub i64);

const SHIFT_ALLOWED: &str = "a duration with a unit out of ns, us, ms, s, m, h, such as 2h, +90m or -0.5s; above 0, and at \
     most 1281000h (146 years)";

/// Half of what the kernel keeps times in (`KTIME_SEC_MAX / 2`): the most that it lets a clock
/// show.
const MAX_NS: u64 = 4_611_686_018_000_000_000;

impl FromStr for Shift {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what: &str| ValueError::new(text, what, SHIFT_ALLOWED);
        let (behind, size) = match text.strip_prefix('-') {
            Some(size) => (true, size),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let ns = match duration::nanos(size).map_err(refuse)? {
            0 => return Err(refuse("shifts nothing")),
            ns @ 1..=MAX_NS => ns.cast_signed(),
            _ => return Err(refuse("is more than the kernel lets a clock show")),
        };
        Ok(Self(if behind { -ns } else { ns }))
    }
}

/// What a shift is as text, with its sign.
#[must_use]
pub fn format(by_ns: i64) -> String {
    let size = duration::format(std::time::Duration::from_nanos(by_ns.unsigned_abs()));
    let sign = if by_ns < 0 { '-' } else { '+' };
    format!("{sign}{size}")
}

const CLOCKS_ALLOWED: &str = "both, monotonic or boottime";

impl FromStr for Clocks {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if ["realtime", "CLOCK_REALTIME", "wall"].contains(&text) {
            let what = "is the same for all processes: the kernel has no namespace for the time \
                        of day";
            let allowed = format!(
                "{CLOCKS_ALLOWED}; for the time of day faketime(1), which preloads a library, or a \
                 virtual machine whose clock is set"
            );
            return Err(ValueError::new(text, what, allowed));
        }
        let words = [
            ("both", Self::Both),
            ("monotonic", Self::Monotonic),
            ("boottime", Self::Boottime),
        ];
        word(text, &words, CLOCKS_ALLOWED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_have_a_sign() {
        for (text, ns) in [
            ("2h", 7_200_000_000_000),
            ("+1m30s", 90_000_000_000),
            ("-0.5s", -500_000_000),
            ("1281023h", 4_611_682_800_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Shift(ns)), "{text}");
        }
        for (text, why) in [
            ("", "is empty"),
            ("-", "is empty"),
            ("2", "no unit"),
            ("--2h", "not a duration"),
            ("+-2h", "not a duration"),
            ("0s", "shifts nothing"),
            ("-0s", "shifts nothing"),
            ("1281024h", "more than the kernel"),
            ("-1281024h", "more than the kernel"),
            ("99999999h", "too long"),
        ] {
            let error = text.parse::<Shift>().expect_err(text);
            assert!(error.problem.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn shifts_are_printed_with_their_sign() {
        assert_eq!(format(7_200_000_000_000), "+2h");
        assert_eq!(format(-500_000_000), "-500ms");
    }

    #[test]
    fn the_time_of_day_is_refused_with_what_to_use() {
        assert_eq!("both".parse(), Ok(Clocks::Both));
        let error = "realtime".parse::<Clocks>().expect_err("no namespace");
        let text = error.to_string();
        assert!(
            text.contains("no namespace") && text.contains("faketime"),
            "{text}"
        );
    }
}
