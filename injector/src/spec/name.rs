//! Names that the user gives to rules and experiments.

use std::str::FromStr;

use crate::spec::text::ValueError;

/// A name as reports, plans and the terminal show it: without control
/// characters, which could move the cursor or recolour what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(pub String);

const MAX_BYTES: usize = 64;

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() || text.len() > MAX_BYTES || text.chars().any(char::is_control) {
            let allowed = "1 to 64 bytes of printable text";
            return Err(ValueError::new(text, "cannot be a name", allowed));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_printable_text() {
        for good in ["a", "a bad day", "disk full – twice", &"x".repeat(64)] {
            assert_eq!(good.parse(), Ok(Name(good.to_owned())));
        }
        for bad in [
            "",
            "two\nlines",
            "\u{1b}[31mred",
            "\u{7f}",
            "\u{9b}2J",
            &"x".repeat(65),
        ] {
            let error = bad.parse::<Name>().expect_err(bad);
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
        }
    }
}
