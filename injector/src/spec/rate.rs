//! The values of links: bandwidths and sizes, in the units of tc(8).

use std::{fmt, str::FromStr};

use injector_common::{
    faults::net_rate::{MAX_RATE, MIN_RATE},
    waiting::MAX_MEMORY,
};

use crate::{
    model::QueueMemory,
    spec::{decimal, text::ValueError},
};

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
     (times 1024; kib, mib, gib mean the same), such as 32kb";

/// A number of bytes with a unit of tc(8), or none, if that is whole.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text);
    let factor = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    times(number, factor)
}

impl FromStr for Size {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Some(size) = bytes(text) else {
            return Err(ValueError::new(text, "is not a size", SIZE_ALLOWED));
        };
        match u32::try_from(size) {
            Ok(size) if size <= 1 << 30 => Ok(Self(size)),
            _ => Err(ValueError::new(text, "is out of range", SIZE_ALLOWED)),
        }
    }
}

const MEMORY_ALLOWED: &str = "1 to 64gb: a number of bytes, or with a unit of tc(8) out of b, kb, mb, gb \
     (times 1024; kib, mib, gib mean the same), such as 64mb";

impl FromStr for QueueMemory {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let Some(bytes) = bytes(text) else {
            return Err(ValueError::new(text, "is not a size", MEMORY_ALLOWED));
        };
        if bytes == 0 || bytes > MAX_MEMORY {
            return Err(ValueError::new(text, "is out of range", MEMORY_ALLOWED));
        }
        Ok(Self { bytes })
    }
}

impl fmt::Display for QueueMemory {
    /// In the largest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10)];
        let fits = |factor: u64| self.bytes.is_multiple_of(factor);
        match units.into_iter().find(|(_, factor)| fits(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.bytes / factor),
            None => write!(f, "{}b", self.bytes),
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
        for (text, size) in [
            ("0", 0),
            ("1500", 1500),
            ("32kb", 32_768),
            ("32KiB", 32_768),
            ("1gb", 1 << 30),
        ] {
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

    #[test]
    fn memory_is_a_size_above_none() {
        for (text, bytes, shown) in [
            ("1", 1, "1b"),
            ("65536", 65_536, "64kb"),
            ("64k", 65_536, "64kb"),
            ("64KiB", 65_536, "64kb"),
            ("1.5M", 1_572_864, "1536kb"),
            ("256MiB", 268_435_456, "256mb"),
            ("64gb", MAX_MEMORY, "64gb"),
        ] {
            let memory: QueueMemory = text.parse().expect(text);
            assert_eq!((memory.bytes, memory.to_string().as_str()), (bytes, shown));
        }
        for (bad, problem) in [
            ("0", "`0` is out of range"),
            ("0kb", "`0kb` is out of range"),
            ("65gb", "`65gb` is out of range"),
            ("-1mb", "`-1mb` is not a size"),
            ("0.3b", "`0.3b` is not a size"),
            ("64 mb", "`64 mb` is not a size"),
            ("64mbit", "`64mbit` is not a size"),
            ("lots", "`lots` is not a size"),
            ("", "`` is not a size"),
        ] {
            let error = bad.parse::<QueueMemory>().expect_err(bad);
            assert_eq!(error.problem, problem);
            assert!(error.allowed.starts_with("1 to 64gb"), "{error}");
        }
    }
}
