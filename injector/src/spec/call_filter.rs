//! The values of conditions on calls.

use std::{fmt, ops::RangeInclusive, path::PathBuf, str::FromStr};

use injector_common::call_filter::{COMMAND_BYTES, NAME_BYTES};
use nix::libc;

use crate::{
    model::{Access, Argument, ArgumentTest, ChainFunction, FileName, FileType},
    spec::text::{ValueError, is_digits, word},
};

/// The path of a file or directory, as the target sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePath(pub PathBuf);

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl FromStr for FilePath {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what| {
            let allowed = "the absolute path of a file or directory that is there, such as \
                           /var/lib/postgresql; patterns of names go into --file-name";
            Err(ValueError::new(text, what, allowed))
        };
        if !text.starts_with('/') {
            return refuse("is not absolute");
        }
        if text.contains(['*', '?', '[', '\0']) {
            return refuse("is a pattern");
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for FileName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what| {
            let allowed = format!(
                "the name of a file without its directory, with at most one * for anything, such \
                 as *.wal, base* or pg_control; at most {NAME_BYTES} bytes before and after the *"
            );
            Err(ValueError::new(text, what, allowed))
        };
        if text.is_empty() || text == "." || text == ".." {
            return refuse("is no name");
        }
        if text.contains(['/', '\0']) {
            return refuse("has a directory in it");
        }
        if text.contains(['?', '[']) {
            return refuse("has a wildcard other than *");
        }
        let name = match text.split_once('*') {
            None => Self {
                head: text.to_owned(),
                tail: None,
            },
            Some((_, tail)) if tail.contains('*') => return refuse("has more than one *"),
            Some((head, tail)) => Self {
                head: head.to_owned(),
                tail: Some(tail.to_owned()),
            },
        };
        let longest = name
            .head
            .len()
            .max(name.tail.as_ref().map_or(0, String::len));
        if longest > NAME_BYTES {
            return refuse("is too long");
        }
        if text == "*" {
            return refuse("is every name");
        }
        Ok(name)
    }
}

impl FromStr for FileType {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let words = Self::ALL.map(|kind| (kind.name(), kind));
        let allowed = "file, dir, symlink, block, char, pipe or socket";
        word(text, &words, allowed)
    }
}

impl FromStr for Access {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let words = [("read", Self::Read), ("write", Self::Write)];
        word(text, &words, "read or write")
    }
}

/// The name of a thread, as `/proc/PID/comm` shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Command(pub String);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Command {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // One byte of the kernel's is the zero at its end.
        if (1..COMMAND_BYTES).contains(&text.len()) && !text.contains('\0') {
            return Ok(Self(text.to_owned()));
        }
        let allowed = format!(
            "a name as in /proc/PID/comm, of 1 to {} bytes; the kernel cuts longer ones",
            COMMAND_BYTES - 1
        );
        Err(ValueError::new(text, "is no name of a thread", allowed))
    }
}

impl FromStr for ChainFunction {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what| {
            let allowed = "FUNCTION@PATH: a function's name among the symbols of a program or library, as \
                           nm(1) prints it, and that file's absolute path, such as \
                           flush_log@/usr/sbin/stored";
            Err(ValueError::new(text, what, allowed))
        };
        let Some(at) = text.find("@/") else {
            return refuse(if text.contains('@') {
                "names no absolute path behind the @"
            } else {
                "names no file"
            });
        };
        let (name, path) = (&text[..at], &text[at + 1..]);
        if name.is_empty() {
            return refuse("names no function");
        }
        if text.contains('\0') {
            return refuse("has a character that no name has");
        }
        Ok(Self {
            name: name.to_owned(),
            path: path.into(),
        })
    }
}

/// A range of user ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Users {
    first: u32,
    last: u32,
}

impl From<Users> for RangeInclusive<u32> {
    fn from(users: Users) -> Self {
        users.first..=users.last
    }
}

impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.first, self.last)
    }
}

impl FromStr for Users {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = |text: &str| is_digits(text).then(|| text.parse().ok()).flatten();
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => {
                let allowed = "a user's number or a range of them, such as 1000 or 100000..165535";
                Err(ValueError::new(text, "is no user", allowed))
            }
        }
    }
}

const ARGUMENT_ALLOWED: &str = "the argument's place from 0 to 5, one of == != < <= > >= & !& and a number (decimal, 0x… \
     or below 0) or constants of the kernel joined by |, such as 2&O_CREAT, 2>=4096 or 0==3; & holds if \
     some of the bits are set and !& if none is";

impl FromStr for Argument {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refuse = |what| ValueError::new(text, what, ARGUMENT_ALLOWED);
        let plain: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let index = plain
            .chars()
            .next()
            .and_then(|first| first.to_digit(6))
            .ok_or_else(|| refuse("names no argument"))?;
        let rest = plain.get(1..).unwrap_or_default();
        let find = |(sign, test): &(&str, Sign)| Some((*test, rest.strip_prefix(sign)?));
        let (sign, value) = SIGNS
            .iter()
            .find_map(find)
            .ok_or_else(|| refuse("has no comparison"))?;
        let (value, signed) = number(value).ok_or_else(|| refuse("has no such value"))?;
        if signed
            && matches!(
                sign,
                Sign::Is(ArgumentTest::SomeBits | ArgumentTest::NoBits)
            )
        {
            return Err(refuse("asks for bits of a number below 0"));
        }
        let never = || refuse("holds always or never");
        let (test, value) = match sign {
            Sign::Is(test) => (test, value),
            // One more or less, and the comparison without equality.
            Sign::AtMost if signed => (ArgumentTest::Less, value.wrapping_add(1)),
            Sign::AtMost => (ArgumentTest::Less, value.checked_add(1).ok_or_else(never)?),
            Sign::AtLeast if signed => (ArgumentTest::More, value.wrapping_sub(1)),
            Sign::AtLeast => (ArgumentTest::More, value.checked_sub(1).ok_or_else(never)?),
        };
        let pointless = match test {
            ArgumentTest::Less => value == 0,
            ArgumentTest::More => value == u64::MAX && !signed,
            ArgumentTest::SomeBits | ArgumentTest::NoBits => value == 0,
            ArgumentTest::Equal | ArgumentTest::Different => false,
        };
        if pointless && !signed {
            return Err(never());
        }
        Ok(Self {
            index,
            test,
            value,
            signed,
            text: plain,
        })
    }
}

/// A comparison as written.
#[derive(Clone, Copy)]
enum Sign {
    Is(ArgumentTest),
    AtMost,
    AtLeast,
}

/// Longer ones first.
const SIGNS: [(&str, Sign); 8] = [
    ("==", Sign::Is(ArgumentTest::Equal)),
    ("!=", Sign::Is(ArgumentTest::Different)),
    ("<=", Sign::AtMost),
    (">=", Sign::AtLeast),
    ("!&", Sign::Is(ArgumentTest::NoBits)),
    ("<", Sign::Is(ArgumentTest::Less)),
    (">", Sign::Is(ArgumentTest::More)),
    ("&", Sign::Is(ArgumentTest::SomeBits)),
];

/// A number, and whether it is below 0; then it fits a C `int`.
fn number(text: &str) -> Option<(u64, bool)> {
    if let Some(digits) = text.strip_prefix('-') {
        let number = format!("-{digits}").parse::<i32>().ok()?;
        return is_digits(digits).then_some((i64::from(number).cast_unsigned(), number < 0));
    }
    if let Some(digits) = text.strip_prefix("0x") {
        let plain = digits.chars().all(|digit| digit.is_ascii_hexdigit());
        return plain
            .then(|| u64::from_str_radix(digits, 16).ok())
            .flatten()
            .map(|n| (n, false));
    }
    if is_digits(text) {
        return text.parse().ok().map(|number| (number, false));
    }
    if let [one] = text.split('|').collect::<Vec<_>>()[..] {
        let value = constant(one)?;
        return Some((i64::from(value).cast_unsigned(), value < 0));
    }
    let mut all = 0;
    for name in text.split('|') {
        let bits = u32::try_from(constant(name)?).ok()?;
        all |= u64::from(bits);
    }
    Some((all, false))
}

macro_rules! constants {
    ($($name:ident)+) => {
        /// Constants of the kernel by which programs write the arguments of calls.
        const CONSTANTS: &[(&str, i32)] = &[$((stringify!($name), libc::$name as i32)),+];
    };
}

constants! {
    O_RDONLY O_WRONLY O_RDWR O_ACCMODE O_CREAT O_EXCL O_NOCTTY O_TRUNC O_APPEND O_NONBLOCK O_DSYNC
    O_SYNC O_DIRECT O_DIRECTORY O_NOFOLLOW O_NOATIME O_CLOEXEC O_PATH O_TMPFILE
    AT_FDCWD AT_REMOVEDIR AT_SYMLINK_NOFOLLOW AT_SYMLINK_FOLLOW AT_EMPTY_PATH
    AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_VSOCK
    SOCK_STREAM SOCK_DGRAM SOCK_RAW SOCK_SEQPACKET SOCK_NONBLOCK SOCK_CLOEXEC
    MSG_DONTWAIT MSG_PEEK MSG_NOSIGNAL MSG_WAITALL MSG_ZEROCOPY MSG_OOB MSG_TRUNC
    PROT_READ PROT_WRITE PROT_EXEC
    MAP_SHARED MAP_PRIVATE MAP_ANONYMOUS MAP_FIXED MAP_HUGETLB MAP_LOCKED MAP_POPULATE
    SEEK_SET SEEK_CUR SEEK_END
    CLONE_VM CLONE_FS CLONE_FILES CLONE_THREAD CLONE_VFORK CLONE_NEWNS CLONE_NEWNET CLONE_NEWUSER
    F_OK R_OK W_OK X_OK F_GETFL F_SETFL F_GETFD F_SETFD F_DUPFD F_SETLK F_SETLKW F_GETLK
    LOCK_SH LOCK_EX LOCK_NB LOCK_UN
}

fn constant(name: &str) -> Option<i32> {
    let found = CONSTANTS.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use injector_common::call_filter;
    use proptest::prelude::*;

    use super::*;

    fn argument(text: &str) -> Argument {
        text.parse().expect(text)
    }

    /// Whether a value passes the test as programs make it.
    fn passes(text: &str, value: u64) -> bool {
        let argument = argument(text);
        let sign = if argument.signed {
            call_filter::test::SIGNED
        } else {
            0
        };
        let test = call_filter::ArgumentTest {
            value: argument.value,
            index: argument.index,
            test: argument.test.number() | sign,
        };
        test.holds(value)
    }

    #[test]
    fn arguments_are_compared_as_written() {
        for (text, yes, no) in [
            ("0==3", 3, 4),
            ("1!=0x10", 15, 16),
            ("2>=4096", 4096, 4095),
            ("2 > 4096", 4097, 4096),
            ("5<=7", 7, 8),
            ("5<7", 6, 7),
            ("2&O_CREAT", 0o101, 0o1),
            ("2&O_WRONLY|O_RDWR", 0o2, 0o100),
            ("2!&O_CREAT", 0, 0o100),
            ("0==AT_FDCWD", 0xffff_ff9c, 5),
            ("0==-100", u64::MAX - 99, 0xffff_ffff),
            ("0>-100", 5, 0xffff_ff9c),
            ("0<=-100", 0xffff_ff9c, 0xffff_ff9d),
            ("0>=-1", 0xffff_ffff, 0xffff_fffe),
            ("0<=-1", 0xffff_ffff, 0),
        ] {
            assert!(passes(text, yes), "{text}: {yes}");
            assert!(!passes(text, no), "{text}: {no}");
        }
    }

    #[test]
    fn arguments_that_say_nothing() {
        for text in [
            "",
            "3",
            "6==1",
            "x==1",
            "1=1",
            "1==",
            "1==O_WHAT",
            "1&-1",
            "1&0",
            "1<0",
            "1>=0",
            "1<=18446744073709551615",
            "1>18446744073709551615",
            "1==0xg",
            "1==--1",
            "1==O_RDWR|7x",
            "1==-99999999999",
            "é==1",
        ] {
            let error = text.parse::<Argument>().expect_err(text);
            assert!(error.allowed.contains("2&O_CREAT"), "{text}: {error}");
        }
    }

    #[test]
    fn names_have_one_star_at_most() {
        let name = |text: &str| text.parse::<FileName>().expect(text);
        assert_eq!(name("*.wal").tail.as_deref(), Some(".wal"));
        assert_eq!(
            (name("base*").head, name("a").tail),
            ("base".to_owned(), None)
        );
        let long = "x".repeat(65);
        for bad in ["", "*", "a*b*", "a/b", "..", "a?", "[a]", &long] {
            let error = bad.parse::<FileName>().expect_err(bad);
            assert!(error.allowed.contains("*.wal"), "{bad}: {error}");
        }
    }

    #[test]
    fn paths_are_absolute_and_no_patterns() {
        assert!("/data".parse::<FilePath>().is_ok());
        for bad in ["", "data", "./data", "/data/*.wal", "/a\0b"] {
            let error = bad.parse::<FilePath>().expect_err(bad);
            assert!(error.allowed.contains("--file-name"), "{bad}: {error}");
        }
    }

    #[test]
    fn functions_are_named_with_their_file() {
        let function: ChainFunction = "main.(*T).f@/srv/a@b/app".parse().expect("a function");
        assert_eq!(function.name, "main.(*T).f");
        assert_eq!(function.path, PathBuf::from("/srv/a@b/app"));
        assert_eq!(function.to_string(), "main.(*T).f@/srv/a@b/app");
        for (bad, says) in [
            ("", "no file"),
            ("save", "no file"),
            ("save@app", "no absolute path"),
            ("@/srv/app", "no function"),
            ("sa\0ve@/srv/app", "no name has"),
        ] {
            let error = bad.parse::<ChainFunction>().expect_err(bad);
            assert!(error.problem.contains(says), "{bad}: {error}");
            assert!(error.allowed.contains("FUNCTION@PATH"), "{bad}: {error}");
        }
    }

    #[test]
    fn users_and_threads() {
        let users: RangeInclusive<u32> = "100..200".parse::<Users>().expect("a range").into();
        assert_eq!(users, 100..=200);
        for bad in ["", "-1", "2..1", "root", "1..", "4294967296"] {
            assert!(bad.parse::<Users>().is_err(), "{bad}");
        }
        assert!("postgres".parse::<Command>().is_ok());
        for bad in ["", "a name of 16 by "] {
            assert!(bad.parse::<Command>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<Argument>();
            let _ = text.parse::<FileName>();
            let _ = text.parse::<FilePath>();
            let _ = text.parse::<Users>();
            let _ = text.parse::<ChainFunction>();
        }
    }
}
