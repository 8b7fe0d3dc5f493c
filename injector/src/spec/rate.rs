//! The values of links: bandwidths and sizes, in the units of tc(8).

use std::str::FromStr;

use injector_common::faults::net_rate::{MAX_RATE, MIN_RATE};

use crate::spec::{decimal, text::ValueError};

/// A bandwidth in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate(pub u64);

const RATE_ALLOWED: &str = "8kbit to 1tbit: a number with a unit of tc(8) out of bit, kbit, mbit, gbit, tbit \
     (per second, times 1000), kibit, mibit, gibit (times 1024), or bps, kbps, mbps, gbps (bytes), \
     such as 10mbit";

/// A number with a decimal fraction times `factor`, if that is whole.
fn times(number: &str, factor: u64) -> Option<u64> {
    const MAX_DIGITS: usize = 15;
    if number.split('.').any(|part| part.len() > MAX_DIGITS) {
        return None;
    }
    decimal::times(number, factor).ok()
}

/// Splits a number from its unit.
fn split(text: &str) -> (&str, String) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.to_ascii_lowercase())
}

impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = split(text);
        let factor = match unit.as_str() {
            "bit" => 1,
            "kbit" => 1_000,
            "mbit" => 1_000_000,
            "gbit" => 1_000_000_000,
            "tbit" => 1_000_000_000_000,
            "kibit" => 1 << 10,
            "mibit" => 1 << 20,
            "gibit" => 1 << 30,
            "bps" => 8,
            "kbps" => 8_000,
            "mbps" => 8_000_000,
            "gbps" => 8_000_000_000,
            "" => return Err(ValueError::new(text, "has no unit", RATE_ALLOWED)),
            _ => return Err(ValueError::new(text, "is not a bandwidth", RATE_ALLOWED)),
        };
        let Some(rate) = times(number, factor) else {
            return Err(ValueError::new(text, "is not a bandwidth", RATE_ALLOWED));
        };
        if !(MIN_RATE..=MAX_RATE).contains(&rate) {
            return Err(ValueError::new(text, "is out of range", RATE_ALLOWED));
        }
        Ok(Self(rate))
    }
}

/// A bandwidth, in the largest unit that divides it.
#[must_use]
pub fn format(rate: u64) -> String {
    for (unit, factor) in [
        ("gbit", 1_000_000_000),
        ("mbit", 1_000_000),
        ("kbit", 1_000),
    ] {
        if rate.is_multiple_of(factor) {
            return format!("{}{unit}", rate / factor);
        }
    }
    format!("{rate}bit")
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u32);

const SIZE_ALLOWED: &str = "0 to 1gb: a number of bytes, or with a unit of tc(8) out of b, kb, mb, gb \
     (times 1024), such as 32kb";

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = split(text);
        let factor = match unit.as_str() {
            "" | "b" => 1,
            "k" | "kb" => 1 << 10,
            "m" | "mb" => 1 << 20,
            "g" | "gb" => 1 << 30,
            _ => return Err(ValueError::new(text, "is not a size", SIZE_ALLOWED)),
        };
        let Some(size) = times(number, factor) else {
            return Err(ValueError::new(text, "is not a size", SIZE_ALLOWED));
        };
        match u32::try_from(size) {
            Ok(size) if size <= 1 << 30 => Ok(Self(size)),
            _ => Err(ValueError::new(text, "is out of range", SIZE_ALLOWED)),
        }
    }
}

/// Bytes added to each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overhead(pub i32);

impl FromStr for Overhead {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let allowed = "a whole number of bytes from -64 to 256, such as 24";
        text.parse()
            .ok()
            .filter(|bytes| (-64..=256).contains(bytes))
            .map(Self)
            .ok_or_else(|| ValueError::new(text, "is not an overhead", allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_tcs_units() {
        for (text, rate) in [
            ("8kbit", 8_000),
            ("10mbit", 10_000_000),
            ("1.5Mbit", 1_500_000),
            ("1gbit", 1_000_000_000),
            ("1tbit", 1_000_000_000_000),
            ("1mbps", 8_000_000),
            ("1mibit", 1_048_576),
        ] {
            assert_eq!(text.parse(), Ok(Rate(rate)), "{text}");
        }
        for bad in [
            "10",
            "7999bit",
            "2tbit",
            "",
            "mbit",
            "-1mbit",
            "1.5.5mbit",
            "8001.5bit",
            "1m",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
        assert_eq!(format(1_500_000), "1500kbit");
        assert_eq!(format(8_001), "8001bit");
        assert_eq!(format(2_000_000_000), "2gbit");
    }

    #[test]
    fn sizes_and_overheads() {
        for (text, size) in [("0", 0), ("1500", 1500), ("32kb", 32_768), ("1gb", 1 << 30)] {
            assert_eq!(text.parse(), Ok(Size(size)), "{text}");
        }
        for bad in ["", "-1", "2gb", "1tb", "0.3b"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        assert_eq!("-20".parse(), Ok(Overhead(-20)));
        assert_eq!("24".parse(), Ok(Overhead(24)));
        for bad in ["", "-65", "257", "1.5", "24b"] {
            assert!(bad.parse::<Overhead>().is_err(), "{bad}");
        }
    }
}
