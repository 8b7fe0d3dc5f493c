//! Which calls of a target a rule means.

use std::{fmt, ops::RangeInclusive, path::PathBuf};

use injector_common::call_filter::test;

use super::filter::Choice;

/// A conjunction of conditions on a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFilter {
    /// The file that it is about, or a directory above that: absolute paths, as the target sees
    /// them.
    pub paths: Choice<PathBuf>,
    /// What the file is called. Of several one is enough; at most one.
    pub file_names: Choice<FileName>,
    /// What the file is.
    pub file_types: Choice<FileType>,
    /// How the file is open.
    pub access: Option<Access>,
    /// What the arguments are; all must hold. At most
    /// [`MAX_ARGUMENT_TESTS`](injector_common::call_filter::MAX_ARGUMENT_TESTS).
    pub arguments: Vec<Argument>,
    /// Who calls, by effective user id; at most one range.
    pub users: Choice<RangeInclusive<u32>>,
    /// What the calling thread is called; at most one, of 1 to 15 bytes.
    pub commands: Choice<String>,
}

impl Default for CallFilter {
    fn default() -> Self {
        Self {
            paths: Choice::ANY,
            file_names: Choice::ANY,
            file_types: Choice::ANY,
            access: None,
            arguments: Vec::new(),
            users: Choice::ANY,
            commands: Choice::ANY,
        }
    }
}

impl CallFilter {
    /// Whether there is no condition.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// Whether some condition is on the file that a call is about: a call about none never meets
    /// it.
    #[must_use]
    pub const fn asks_for_file(&self) -> bool {
        !(self.paths.is_any()
            && self.file_names.is_any()
            && self.file_types.is_any()
            && self.access.is_none())
    }

    /// Whether every call that meets the other's conditions certainly meets these.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.is_any() || self == other
    }
}

/// What a file is called: a beginning and an end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// What the name begins with; all of it, if there is no `tail`.
    pub head: String,
    /// What it ends with, after anything; `None` for the one name.
    pub tail: Option<String>,
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tail {
            None => f.write_str(&self.head),
            Some(tail) => write!(f, "{}*{tail}", self.head),
        }
    }
}

/// What a file is (inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileType {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A block device.
    Block,
    /// A character device.
    Character,
    /// A pipe, named or not.
    Pipe,
    /// A socket.
    Socket,
}

impl FileType {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Regular,
        Self::Directory,
        Self::Symlink,
        Self::Block,
        Self::Character,
        Self::Pipe,
        Self::Socket,
    ];

    /// Its `S_IFMT` part, shifted to the lowest bits.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Pipe => 0o01,
            Self::Character => 0o02,
            Self::Directory => 0o04,
            Self::Block => 0o06,
            Self::Regular => 0o10,
            Self::Symlink => 0o12,
            Self::Socket => 0o14,
        }
    }

    /// Its name, as find(1) and test(1) spell them out.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regular => "file",
            Self::Directory => "dir",
            Self::Symlink => "symlink",
            Self::Block => "block",
            Self::Character => "char",
            Self::Pipe => "pipe",
            Self::Socket => "socket",
        }
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To be read, whether also to be written or not.
    Read,
    /// To be written, whether also to be read or not.
    Write,
}

/// A condition on an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// Which argument: 0 to 5.
    pub index: u32,
    /// How it is compared.
    pub test: ArgumentTest,
    /// What with, as 64 bits. Below 0 if `signed`.
    pub value: u64,
    /// Whether the lower half of the argument is compared as a signed number.
    pub signed: bool,
    /// The condition as it was written.
    pub text: String,
}

/// How an argument is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentTest {
    /// It is the value.
    Equal,
    /// It is not.
    Different,
    /// It is less.
    Less,
    /// It is more.
    More,
    /// It has some of the value's bits.
    SomeBits,
    /// It has none of them.
    NoBits,
}

impl ArgumentTest {
    /// Its number in the map.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Equal => test::EQUAL,
            Self::Different => test::DIFFERENT,
            Self::Less => test::LESS,
            Self::More => test::MORE,
            Self::SomeBits => test::SOME_BITS,
            Self::NoBits => test::NO_BITS,
        }
    }
}
