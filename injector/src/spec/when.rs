//! Which occurrences: the grammar of strace's `when=`.
//!
//! | text | means |
//! |---|---|
//! | `3` | the 3rd only |
//! | `3..9` | the 3rd to the 9th |
//! | `3..` or `3+` | the 3rd and every later one |
//! | `3+2` | the 3rd, 5th, 7th, … |
//! | `3..9+2` | the 3rd, 5th, 7th and 9th |
//!
//! All but `3..`, which strace does not have, mean what `strace(1)` says. What
//! is counted differs: strace counts per tracee, a rule counts the matching
//! operations of all its targets together, unless it counts per thread.

use std::{fmt, str::FromStr};

use crate::spec::text::{ValueError, is_digits};

/// A set of occurrences, counted from 1: `first`, `first + step`, … up to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    /// The first, at least 1.
    pub first: u64,
    /// None after this one; `u64::MAX` for no end.
    pub last: u64,
    /// The distance, at least 1.
    pub step: u64,
}

const ALLOWED: &str = "FIRST[..LAST][+STEP], such as 3, 3..9, 3+, 3+2 or 3..9+2, with FIRST and STEP at least 1 and LAST at least FIRST";

impl FromStr for When {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what: &str| ValueError::new(text, what, ALLOWED);
        let number = |digits: &str| -> Result<u64, ValueError> {
            if !is_digits(digits) {
                return Err(refuse("is not of the form"));
            }
            digits
                .parse()
                .map_err(|_| refuse("holds a number that is too large"))
        };
        let (range, step) = match text.split_once('+') {
            Some((range, step)) => (range, Some(step)),
            None => (text, None),
        };
        let (first, last) = match range.split_once("..") {
            Some((first, last)) => (number(first)?, Some(last)),
            None => (number(range)?, None),
        };
        let last = match (last, step) {
            (Some(""), _) | (None, Some(_)) => u64::MAX,
            (Some(last), _) => number(last)?,
            (None, None) => first,
        };
        let step = match step {
            Some("") | None => 1,
            Some(step) => number(step)?,
        };
        if first == 0 {
            return Err(refuse("starts at 0, but occurrences are counted from 1"));
        }
        if last < first {
            return Err(refuse("ends before it starts"));
        }
        if step == 0 {
            return Err(refuse("has a step of 0"));
        }
        Ok(Self { first, last, step })
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last, step } = *self;
        match (last, step) {
            (u64::MAX, 1) => write!(f, "{first}+"),
            (u64::MAX, _) => write!(f, "{first}+{step}"),
            (_, 1) if first == last => write!(f, "{first}"),
            (_, 1) => write!(f, "{first}..{last}"),
            (..) => write!(f, "{first}..{last}+{step}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, first: u64, last: u64, step: u64) {
        assert_eq!(text.parse(), Ok(When { first, last, step }), "{text}");
    }

    #[track_caller]
    fn refused(text: &str, why: &str) {
        let error = text.parse::<When>().expect_err(text);
        assert!(error.problem.contains(why), "{text}: {error}");
        assert!(
            error.allowed.contains("FIRST[..LAST][+STEP]"),
            "{text}: {error}"
        );
    }

    #[test]
    fn the_grammar_is_straces() {
        check("3", 3, 3, 1);
        check("3..9", 3, 9, 1);
        check("3..9+", 3, 9, 1);
        check("3..9+2", 3, 9, 2);
        check("3+", 3, u64::MAX, 1);
        check("3..", 3, u64::MAX, 1);
        check("3+2", 3, u64::MAX, 2);
        check("3..+2", 3, u64::MAX, 2);
        check("1..1", 1, 1, 1);
    }

    #[test]
    fn what_selects_nothing_is_refused() {
        refused("0", "counted from 1");
        refused("0..3", "counted from 1");
        refused("9..3", "ends before it starts");
        refused("3+0", "step of 0");
        refused("", "not of the form");
        refused("+2", "not of the form");
        refused("..9", "not of the form");
        refused("-1", "not of the form");
        refused("3...9", "not of the form");
        refused("3..9+2+2", "not of the form");
        refused("3-9", "not of the form");
        refused(" 3", "not of the form");
        refused("99999999999999999999", "too large");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(first in 1u64.., more in 0u64.., step in 1u64..) {
            let when = When { first, last: first.saturating_add(more), step };
            prop_assert_eq!(when.to_string().parse(), Ok(when));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<When>();
        }

        #[test]
        fn no_likely_text_panics(text in "[-+0-9. ]{0,24}") {
            let _ = text.parse::<When>();
        }
    }
}
