//! Errors that calls fail with.

use injector_common::faults::sys_errno::MAX_ERRNO;

/// An error number with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno {
    /// Its name, such as `EIO`.
    pub name: &'static str,
    /// Its value, within `1..=133`.
    pub value: u32,
}

impl Errno {
    /// The error with this number, if there is one that calls may fail with.
    #[must_use]
    pub fn of(value: u32) -> Option<Self> {
        if !(1..=MAX_ERRNO).contains(&value) {
            return None;
        }
        let name = syscalls::Errno::new(i32::try_from(value).ok()?).name()?;
        Some(Self { name, value })
    }
}

/// An error that a call may fail with, among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorChoice {
    /// The error.
    pub errno: Errno,
    /// How often it is chosen, in relation to the others' weights; within
    /// `1..=`[`MAX_WEIGHT`](injector_common::faults::sys_errno::MAX_WEIGHT).
    pub weight: u32,
}

/// Which errors, with their shares if there are several.
#[must_use]
pub(crate) fn in_words(errors: &[ErrorChoice]) -> String {
    if let [only] = errors {
        return only.errno.name.to_owned();
    }
    let total: u64 = errors.iter().map(|choice| u64::from(choice.weight)).sum();
    let in_words = |choice: &ErrorChoice| {
        let name = choice.errno.name;
        if errors.iter().all(|other| other.weight == choice.weight) {
            name.to_owned()
        } else {
            format!("{name} ({} of {total})", choice.weight)
        }
    };
    let words: Vec<String> = errors.iter().map(in_words).collect();
    words.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_told_where_they_differ() {
        let choices = |words: &[&str]| {
            let choice = |word: &&str| word.parse().expect("an error");
            words.iter().map(choice).collect::<Vec<ErrorChoice>>()
        };
        for (words, told) in [
            (&["EIO=7"][..], "EIO"),
            (&["EIO", "ENOSPC"], "EIO or ENOSPC"),
            (&["EIO=9", "ENOSPC"], "EIO (9 of 10) or ENOSPC (1 of 10)"),
        ] {
            assert_eq!(in_words(&choices(words)), told);
        }
    }
}
