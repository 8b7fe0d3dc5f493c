//! The values of rules on functions.

use std::{path::PathBuf, str::FromStr};

use crate::{model::FunctionValue, spec::text::ValueError};

/// The path of a program or library, as the target sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryPath(pub PathBuf);

impl FromStr for BinaryPath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if !text.starts_with('/') || text.contains('\0') {
            let allowed = "the absolute path of a program or library, as the target sees it, such as \
                           /usr/lib/x86_64-linux-gnu/libc.so.6";
            return Err(ValueError::new(text, "is not absolute", allowed));
        }
        Ok(Self(text.into()))
    }
}

/// The name of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName(pub String);

impl FromStr for FunctionName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what| {
            let allowed = "a name as `nm` and `nm -D` print it, without a version, such as malloc";
            Err(ValueError::new(text, what, allowed))
        };
        if text.contains('@') {
            return refuse("has a version in it");
        }
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return refuse("is no name of a function");
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for FunctionValue {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (hex, digits) = match digits.strip_prefix("0x") {
            Some(rest) => (true, rest),
            None => (false, digits),
        };
        let radix = if hex { 16 } else { 10 };
        // The parser would take a sign of its own.
        let are_digits = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
        let number = i128::from_str_radix(digits, radix).ok();
        let number = number.map(|number| if negative { -number } else { number });
        let bits = number.filter(|_| are_digits).and_then(|number| {
            let signed = i64::try_from(number).map(i64::cast_unsigned);
            signed.or_else(|_| u64::try_from(number)).ok()
        });
        let allowed = "a whole number of 64 bits, such as 0, -1 or 0xffffffff: \
                       -9223372036854775808 to 18446744073709551615";
        bits.map(|bits| Self {
            bits,
            hex: !negative && (hex || bits > i64::MAX.cast_unsigned()),
        })
        .ok_or_else(|| ValueError::new(text, "is no value to return", allowed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_have_64_bits() {
        for (text, bits, told) in [
            ("0", 0, "0"),
            ("-1", u64::MAX, "-1"),
            ("0xff", 255, "0xff"),
            ("-0x1", u64::MAX, "-1"),
            ("0xFFFFFFFFFFFFFFFF", u64::MAX, "0xffffffffffffffff"),
            ("18446744073709551615", u64::MAX, "0xffffffffffffffff"),
            ("-9223372036854775808", 1 << 63, "-9223372036854775808"),
            ("007", 7, "7"),
        ] {
            let value: FunctionValue = text.parse().expect(text);
            assert_eq!((value.bits, value.to_string().as_str()), (bits, told));
        }
        for bad in [
            "",
            "-",
            "0x",
            "--1",
            "+1",
            "0x+1",
            "0x-1",
            "1.5",
            "0b1",
            "1e3",
            "NULL",
            "18446744073709551616",
            "-9223372036854775809",
            "0x1ffffffffffffffff",
        ] {
            let error = bad.parse::<FunctionValue>().expect_err(bad);
            assert!(error.allowed.contains("64 bits"), "{bad}: {error}");
        }
    }

    #[test]
    fn names_and_paths() {
        assert!("malloc".parse::<FunctionName>().is_ok());
        assert!("_ZN3foo3barEv".parse::<FunctionName>().is_ok());
        for bad in ["", "a b", "memcpy@GLIBC_2.14", "a\n"] {
            assert!(bad.parse::<FunctionName>().is_err(), "{bad}");
        }
        for bad in ["", "libc.so.6", "./a", "a/b", "/a\0b"] {
            assert!(bad.parse::<BinaryPath>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_number_comes_back(bits: u64) {
            for text in [bits.to_string(), bits.cast_signed().to_string(), format!("{bits:#x}")] {
                let value: FunctionValue = text.parse().unwrap();
                prop_assert_eq!(value.bits, bits);
                prop_assert_eq!(value.to_string().parse::<FunctionValue>().unwrap().bits, bits);
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<FunctionValue>();
            let _ = text.parse::<FunctionName>();
            let _ = text.parse::<BinaryPath>();
        }
    }
}
