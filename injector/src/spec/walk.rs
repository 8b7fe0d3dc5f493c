//! Where in a document the reader is, so that an error can name the field.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use serde::{
    Deserialize,
    de::{DeserializeSeed, MapAccess},
};
use serde_saphyr::Spanned;

/// The path of keys and indices to the node being read.
///
/// Steps are taken back only on success: after an error the trail still leads
/// to the node that caused it.
#[derive(Debug, Default)]
pub(super) struct Trail {
    steps: RefCell<Vec<Step>>,
    marked: Cell<Option<(u64, u64)>>,
}

#[derive(Debug)]
enum Step {
    Key(String),
    Index(usize),
}

impl Trail {
    pub(super) fn enter_key(&self, key: &str) {
        self.steps.borrow_mut().push(Step::Key(key.to_owned()));
    }

    pub(super) fn enter_index(&self, index: usize) {
        self.steps.borrow_mut().push(Step::Index(index));
    }

    /// Notes line and column of an error that the parser knows no place of.
    pub(super) fn mark(&self, line: u64, column: u64) {
        self.marked.set(Some((line, column)));
    }

    /// The noted place.
    pub(super) fn marked(&self) -> Option<(u64, u64)> {
        self.marked.get()
    }

    pub(super) fn leave(&self) {
        self.steps.borrow_mut().pop();
    }

    /// Reads the value of `key`, at which `map` stands.
    pub(super) fn value<'de, A, T>(&self, map: &mut A, key: &str) -> Result<T, A::Error>
    where
        A: MapAccess<'de>,
        T: Deserialize<'de>,
    {
        self.value_seed(map, key, std::marker::PhantomData)
    }

    /// Reads the value of `key`, at which `map` stands, with a seed.
    pub(super) fn value_seed<'de, A, S>(
        &self,
        map: &mut A,
        key: &str,
        seed: S,
    ) -> Result<S::Value, A::Error>
    where
        A: MapAccess<'de>,
        S: DeserializeSeed<'de>,
    {
        self.enter_key(key);
        let value = map.next_value_seed(seed)?;
        self.leave();
        Ok(value)
    }
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps.borrow().iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    let dot = if position == 0 { "" } else { "." };
                    // A key may be anything; it must not fill the screen.
                    let short: String = key.chars().take(40).collect();
                    write!(f, "{dot}{}", short.escape_debug())?;
                }
            }
        }
        Ok(())
    }
}

/// An unknown key, as an error that `document::explain` takes apart again.
pub(super) fn unknown_key<E: serde::de::Error>(
    trail: &Trail,
    key: &Spanned<String>,
    allowed: &str,
) -> E {
    trail.enter_key(&key.value);
    trail.mark(key.referenced.line(), key.referenced.column());
    E::custom(format_args!("is not a known key; allowed: {allowed}"))
}
