//! Values that the command line and spec files write as text.
//!
//! A type has one grammar, its `FromStr`; [`Text`] lends it to clap and to
//! serde, so that both forms accept the same and refuse with the same words.

use std::{borrow::Cow, fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

/// Why a value was refused: what is wrong with it and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; allowed: {allowed}")]
pub struct ValueError {
    /// What is wrong, quoting the value.
    pub problem: Cow<'static, str>,
    /// What would have been right.
    pub allowed: Cow<'static, str>,
}

impl ValueError {
    /// An error about `value`, of which `what` is said, as in "`5` has no unit".
    pub fn new(value: &str, what: &str, allowed: impl Into<Cow<'static, str>>) -> Self {
        Self {
            problem: format!("`{}` {what}", shorten(value)).into(),
            allowed: allowed.into(),
        }
    }
}

/// At most the first 60 characters, without control characters: a value that
/// fills the screen or moves the cursor hides the message about it.
fn shorten(value: &str) -> String {
    let mut text: String = value
        .chars()
        .take(60)
        .flat_map(char::escape_debug)
        .collect();
    if value.chars().nth(60).is_some() {
        text.push('…');
    }
    text
}

/// Reads one of a few words.
pub(crate) fn word<T: Copy>(
    text: &str,
    words: &[(&str, T)],
    allowed: &'static str,
) -> Result<T, ValueError> {
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| ValueError::new(text, "is not one of the words", allowed))
}

/// Whether the text is one or more decimal digits.
pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits a leading `!` off: whether it is there, and the rest.
pub(super) fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    }
}

/// A value written as text, on the command line or in a spec file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<T: FromStr<Err = ValueError>> FromStr for Text<T> {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map(Self)
    }
}

impl<'de, T: FromStr<Err = ValueError>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As a string: the parser then hands over `12.5` or `080` as written,
        // not what a float or an octal number would have made of it.
        deserializer.deserialize_string(TextVisitor(PhantomData))
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: FromStr<Err = ValueError>> Visitor<'_> for TextVisitor<T> {
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a single value")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<T>, E> {
        text.parse().map_err(E::custom)
    }
}

/// Reads one value or a list of them; a single text may hold several,
/// separated by commas.
///
/// # Errors
///
/// Where a value is refused or the node is neither text nor a list.
pub fn comma_list<'de, D, T>(deserializer: D) -> Result<Vec<Text<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = ValueError>,
{
    deserializer.deserialize_any(ListVisitor {
        separator: Some(','),
        item: PhantomData,
    })
}

/// Reads one value or a list of them.
///
/// # Errors
///
/// Where a value is refused or the node is neither text nor a list.
pub fn list<'de, D, T>(deserializer: D) -> Result<Vec<Text<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = ValueError>,
{
    deserializer.deserialize_any(ListVisitor {
        separator: None,
        item: PhantomData,
    })
}

struct ListVisitor<T> {
    separator: Option<char>,
    item: PhantomData<T>,
}

impl<T: FromStr<Err = ValueError>> ListVisitor<T> {
    fn split<E: de::Error>(&self, text: &str) -> Result<Vec<Text<T>>, E> {
        match self.separator {
            Some(separator) => text
                .split(separator)
                .map(|item| item.trim().parse().map_err(E::custom))
                .collect(),
            None => Ok(vec![text.parse().map_err(E::custom)?]),
        }
    }
}

impl<'de, T: FromStr<Err = ValueError>> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<Text<T>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value or a list of values")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        self.split(text)
    }

    // A reader that must find out whether there is a list takes what looks like
    // a number for one.
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        self.split(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        self.split(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        self.split(&number.to_string())
    }

    fn visit_bool<E: de::Error>(self, word: bool) -> Result<Self::Value, E> {
        self.split(&word.to_string())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(all)
    }
}
