//! Seeds and budgets.

use std::{num::NonZeroU64, str::FromStr};

use crate::spec::text::ValueError;

/// The seed of an experiment's decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl FromStr for Seed {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parsed = match text.strip_prefix("0x") {
            Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
            Some(_) => None,
            None => text.parse().ok().filter(|_| !text.starts_with('+')),
        };
        let allowed = "a whole number from 0 to 18446744073709551615, or as hexadecimal 0x…";
        parsed
            .map(Self)
            .ok_or_else(|| ValueError::new(text, "is not a seed", allowed))
    }
}

/// A whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

impl FromStr for Count {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parsed = text.parse().ok().filter(|_| !text.starts_with('+'));
        parsed
            .map(Self)
            .ok_or_else(|| ValueError::new(text, "is not a number", "a whole number"))
    }
}

/// How many injections a rule may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times(pub NonZeroU64);

impl FromStr for Times {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parsed = text.parse().ok().filter(|_| !text.starts_with('+'));
        let allowed = "a whole number, at least 1";
        parsed
            .map(Self)
            .ok_or_else(|| ValueError::new(text, "is not a budget", allowed))
    }
}

/// How many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub NonZeroU64);

impl FromStr for Bytes {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let parsed = text.parse().ok().filter(|_| !text.starts_with('+'));
        let allowed = "a whole number of bytes, at least 1";
        parsed
            .map(Self)
            .ok_or_else(|| ValueError::new(text, "is not a number of bytes", allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_and_budgets() {
        assert_eq!("0".parse(), Ok(Seed(0)));
        assert_eq!("0xff".parse(), Ok(Seed(255)));
        assert_eq!("18446744073709551615".parse(), Ok(Seed(u64::MAX)));
        for bad in ["", "-1", "+1", "0x", "0x+1", "1.5", "18446744073709551616"] {
            assert!(bad.parse::<Seed>().is_err(), "{bad}");
        }
        assert_eq!("7".parse::<Times>().map(|times| times.0.get()), Ok(7));
        for bad in ["", "0", "-1", "+1", "1.5"] {
            assert!(bad.parse::<Times>().is_err(), "{bad}");
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }
}
