//! Names of system calls and errors.

use std::str::FromStr;

use injector_common::{
    faults::{
        sys_errno::{MAX_ERRNO, MAX_WEIGHT},
        sys_return::MAX_VALUE,
    },
    names::MAX_CALLS,
};
use syscalls::Sysno;

use crate::{
    model::{Errno, ErrorChoice, Manner, Moment, Rung, Syscall},
    spec::text::{ValueError, is_digits, word},
};

/// Calls whose failure the caller cannot see or survive, so that no rule may
/// name them: they do not return, or they return into a frame that only the
/// kernel can restore.
const NEVER: [&str; 3] = ["exit", "exit_group", "rt_sigreturn"];

/// Every call of this architecture.
///
/// `Sysno::iter` of syscalls 0.8.1 leaves out the last one.
pub(super) fn every_call() -> impl Iterator<Item = Sysno> {
    (0..MAX_CALLS).filter_map(|number| Sysno::new(usize::try_from(number).ok()?))
}

impl FromStr for Syscall {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.starts_with(Self::OF_IO_URING) {
            return request(text);
        }
        let allowed = "the name or number of a system call of this architecture as in syscalls(2), such as openat, read or connect";
        let known = if is_digits(text) {
            every_call().find(|call| text.parse() == Ok(call.id()))
        } else {
            Sysno::from_str(text).ok()
        };
        let Some(call) = known else {
            let near = every_call()
                .map(|call| call.name())
                .min_by_key(|name| distance(text, name))
                .filter(|name| distance(text, name) <= 2);
            return Err(match near {
                Some(name) => ValueError::new(
                    text,
                    "is not a system call",
                    format!("{allowed}; did you mean {name}?"),
                ),
                None => ValueError::new(text, "is not a system call", allowed),
            });
        };
        if NEVER.contains(&call.name()) {
            return Err(ValueError::new(
                text,
                "does not return, so it cannot fail",
                allowed,
            ));
        }
        match u32::try_from(call.id()) {
            Ok(number) if number < MAX_CALLS => Ok(Self {
                name: call.name(),
                number,
            }),
            Ok(_) | Err(_) => Err(ValueError::new(text, "has a number out of range", allowed)),
        }
    }
}

/// The request of io_uring of this name.
fn request(text: &str) -> Result<Syscall, ValueError> {
    let found = Syscall::requests().find(|request| request.name == text);
    found.ok_or_else(|| {
        let names: Vec<&str> = Syscall::requests().map(|request| request.name).collect();
        ValueError::new(
            text,
            "is no request of io_uring that a security hook sees",
            names.join(", "),
        )
    })
}

impl FromStr for Manner {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let manners = [("asleep", Self::Asleep), ("busy", Self::Busy)];
        word(text, &manners, "asleep, busy")
    }
}

impl FromStr for Moment {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let moments = [("enter", Self::Enter), ("exit", Self::Exit)];
        word(text, &moments, "enter, exit")
    }
}

impl FromStr for Rung {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let allowed = "kprobe, fmod_ret, lsm, fmod_ret-security";
        word(text, &Self::ALL.map(|rung| (rung.name(), rung)), allowed)
    }
}

/// How many letters differ, insert or are missing (Levenshtein), for names as
/// short as those of system calls.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = *cell;
            left = substituted.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Other names that `errno(3)` gives to a value.
const ERRNO_ALIASES: [(&str, &str); 3] = [
    ("EWOULDBLOCK", "EAGAIN"),
    ("EDEADLOCK", "EDEADLK"),
    ("ENOTSUP", "EOPNOTSUPP"),
];

impl FromStr for Errno {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what: &str| {
            let allowed = format!(
                "the name of an error as in errno(3), such as EIO, ENOSPC or ECONNREFUSED, or its number within 1 to {MAX_ERRNO}"
            );
            ValueError::new(text, what, allowed)
        };
        if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') && !text.is_empty() {
            return match text.parse::<u32>() {
                Ok(value @ 1..=MAX_ERRNO) => {
                    Errno::of(value).ok_or_else(|| refuse("is a number that no error has"))
                }
                Ok(_) | Err(_) => Err(refuse("is out of range")),
            };
        }
        let name = ERRNO_ALIASES
            .iter()
            .find(|(alias, _)| *alias == text)
            .map_or(text, |(_, name)| *name);
        (1..=MAX_ERRNO)
            .filter_map(Errno::of)
            .find(|errno| errno.name == name)
            .ok_or_else(|| refuse("is not an error"))
    }
}

/// What `--value` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnValue(pub u32);

impl FromStr for ReturnValue {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let allowed = format!("0 to {MAX_VALUE}, or length for all that a call was asked for");
        match (text, text.parse()) {
            ("length", _) => Ok(Self(MAX_VALUE)),
            (_, Ok(value @ 0..=MAX_VALUE)) if is_digits(text) => Ok(Self(value)),
            ("short", _) => Err(ValueError::new(
                text,
                "would have a call move fewer bytes, which takes a change of its caller's registers",
                allowed,
            )),
            _ => Err(ValueError::new(
                text,
                "is no value that a call can return",
                allowed,
            )),
        }
    }
}

/// One word of `--errno`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorWord {
    /// This error.
    Choice(ErrorChoice),
    /// One of those that the manual page of the call lists.
    Plausible,
}

impl FromStr for ErrorWord {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "plausible" => Ok(Self::Plausible),
            _ => text
                .parse()
                .map(Self::Choice)
                .map_err(|error: ValueError| ValueError {
                    allowed: format!("{}; or plausible", error.allowed).into(),
                    ..error
                }),
        }
    }
}

impl FromStr for ErrorChoice {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (errno, weight) = match text.split_once('=') {
            None => (text, 1),
            Some((errno, weight)) => match weight.parse() {
                Ok(number @ 1..=MAX_WEIGHT) if is_digits(weight) => (errno, number),
                Ok(_) | Err(_) => {
                    let allowed = format!(
                        "an error and its weight, a whole number within 1 to {MAX_WEIGHT}, as in EIO=3"
                    );
                    return Err(ValueError::new(text, "has no such weight", allowed));
                }
            },
        };
        let errno = errno.parse()?;
        Ok(Self { errno, weight })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calls_are_those_of_this_architecture() {
        let openat: Syscall = "openat".parse().expect("a call");
        assert_eq!(openat.name, "openat");
        #[cfg(target_arch = "x86_64")]
        assert_eq!(openat.number, 257);
        #[cfg(target_arch = "x86_64")]
        assert_eq!("257".parse(), Ok(openat));
        let exit = Sysno::exit.id().to_string();
        assert!(exit.parse::<Syscall>().is_err(), "{exit}");
        for bad in [
            "",
            "opneat",
            "OPENAT",
            "__x64_sys_openat",
            "0x101",
            "-1",
            "99999",
            "99999999999999999999",
            "exit_group",
            "open at",
        ] {
            let error = bad.parse::<Syscall>().expect_err(bad);
            assert!(error.allowed.contains("syscalls(2)"), "{bad}: {error}");
        }
        let error = "io_uring:fsync".parse::<Syscall>().expect_err("no hook");
        assert!(error.allowed.contains("io_uring:openat"), "{error}");
        let error = "opneat".parse::<Syscall>().expect_err("a typo");
        assert!(error.allowed.contains("did you mean openat?"), "{error}");
    }

    #[test]
    fn every_call_fits_the_call_table() {
        for call in every_call().filter(|call| !NEVER.contains(&call.name())) {
            // Numbers behind it are those of requests.
            assert!(
                call.id() < injector_common::requests::FIRST.cast_signed(),
                "{}",
                call.name()
            );
            assert!(call.name().parse::<Syscall>().is_ok(), "{}", call.name());
        }
    }

    #[test]
    fn errors_by_name_and_number() {
        let eio = Errno {
            name: "EIO",
            value: 5,
        };
        assert_eq!("EIO".parse(), Ok(eio));
        assert_eq!("5".parse(), Ok(eio));
        assert_eq!(
            "EWOULDBLOCK".parse(),
            Ok(Errno {
                name: "EAGAIN",
                value: 11
            })
        );
        assert_eq!(
            "EHWPOISON".parse(),
            Ok(Errno {
                name: "EHWPOISON",
                value: 133
            })
        );
        for bad in [
            "",
            "EBOGUS",
            "eio",
            "ERESTARTSYS",
            "0",
            "-5",
            "134",
            "4096",
            "41",
            "5x",
        ] {
            let error = bad.parse::<Errno>().expect_err(bad);
            assert!(error.allowed.contains("1 to 133"), "{bad}: {error}");
        }
    }

    #[test]
    fn errors_have_weights() {
        let weighted: ErrorChoice = "ENOSPC=30".parse().expect("a weight");
        assert_eq!((weighted.errno.name, weighted.weight), ("ENOSPC", 30));
        let plain: ErrorChoice = "28".parse().expect("an error");
        assert_eq!((plain.errno, plain.weight), (weighted.errno, 1));
        for (bad, allowed) in [
            ("EIO=", "as in EIO=3"),
            ("EIO=0", "1 to 1000000"),
            ("EIO=1000001", "1 to 1000000"),
            ("EIO=-1", "1 to 1000000"),
            ("EIO=+1", "1 to 1000000"),
            ("EIO=1.5", "1 to 1000000"),
            ("EIO=1=2", "1 to 1000000"),
            ("=3", "1 to 133"),
            ("EBOGUS=3", "1 to 133"),
        ] {
            let error = bad.parse::<ErrorChoice>().expect_err(bad);
            assert!(error.allowed.contains(allowed), "{bad}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<ErrorChoice>();
            let _ = text.parse::<Syscall>();
            let _ = text.parse::<Errno>();
        }
    }
}
