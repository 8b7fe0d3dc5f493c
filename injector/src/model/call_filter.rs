//! Which calls of a target a rule means.

use std::{fmt, ops::RangeInclusive, path::PathBuf};

use injector_common::{
    call_filter::test,
    socket_calls::{address_argument, has_header},
};

use super::{FirstArgument, PacketFilter, Syscall, filter::Choice};

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
    /// What the arguments are; all must hold. With a condition on descriptors at most
    /// [`MAX_ARGUMENT_TESTS`](injector_common::call_filter::MAX_ARGUMENT_TESTS).
    pub arguments: Vec<Argument>,
    /// The descriptor that is its first argument. Of several all are below 64.
    pub descriptors: Choice<u32>,
    /// The family of the socket that it is on or makes.
    pub families: Choice<AddressFamily>,
    /// Who is at the other end of its socket, or whom it names: a filter of the packets that would
    /// go there, which says no more than their peer; `None` for anybody and nobody.
    pub peers: Option<Box<PacketFilter>>,
    /// Who calls, by effective user id; at most one range.
    pub users: Choice<RangeInclusive<u32>>,
    /// What the calling thread is called; at most one, of 1 to 15 bytes.
    pub commands: Choice<String>,
    /// The functions that it came through.
    pub functions: Choice<ChainFunction>,
}

impl Default for CallFilter {
    fn default() -> Self {
        Self {
            paths: Choice::ANY,
            file_names: Choice::ANY,
            file_types: Choice::ANY,
            access: None,
            arguments: Vec::new(),
            descriptors: Choice::ANY,
            families: Choice::ANY,
            peers: None,
            users: Choice::ANY,
            commands: Choice::ANY,
            functions: Choice::ANY,
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

    /// Whether some condition is on the socket that a call is on: a call on none never meets it.
    #[must_use]
    pub const fn asks_for_socket(&self) -> bool {
        !self.families.is_any() || self.peers.is_some()
    }

    /// Whether some condition is on the functions that a call came through.
    #[must_use]
    pub const fn asks_for_chain(&self) -> bool {
        !self.functions.is_any()
    }

    /// Whether peers are meant that one network does not tell from others.
    #[must_use]
    pub fn asks_table_of_peers(&self) -> bool {
        self.peers.as_deref().is_some_and(|peers| {
            let any = peers.peers.is_any() && peers.named_peers.is_any();
            !any && peers.single_peer().is_none()
        })
    }

    /// Why a call never meets these conditions, if that is certain by its arguments.
    #[must_use]
    pub fn never_met_by(&self, call: Syscall) -> Option<Unmet> {
        let by_argument = !self.arguments.is_empty() || !self.descriptors.is_any();
        if call.as_request().is_some() && (by_argument || self.asks_for_socket()) {
            return Some(Unmet::Request);
        }
        if call.as_request().is_some() && self.asks_for_chain() {
            return Some(Unmet::Served);
        }
        let first = FirstArgument::of(call);
        if !self.descriptors.is_any() && !first.is_descriptor() {
            return Some(Unmet::Descriptor);
        }
        if self.asks_for_socket() && !first.tells_socket() {
            return Some(Unmet::Socket);
        }
        if self.peers.is_some() && !first.tells_peer() {
            return Some(Unmet::Peer);
        }
        // An address that a call names goes by its own family, whatever the socket's.
        let names = address_argument(call.number) != 0 || has_header(call.number);
        (self.has_no_peer_of_inet() && !names).then_some(Unmet::Family)
    }

    /// Whether, of the sockets that have peers, only those are meant that have none but of IPv4, and
    /// none of these.
    fn has_no_peer_of_inet(&self) -> bool {
        let takes = |family| self.families.takes(&family);
        let none = |peers: &PacketFilter| {
            let [v4, _] = peers.peers.addresses();
            v4.is_empty() && peers.named_peers.is_any()
        };
        takes(AddressFamily::INET)
            && !takes(AddressFamily::INET6)
            && self.peers.as_deref().is_some_and(none)
    }

    /// Whether every call that meets the other's conditions certainly meets these.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.is_any() || self == other
    }
}

/// What a call lacks that a condition asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unmet {
    /// A descriptor as its first argument.
    Descriptor,
    /// A socket.
    Socket,
    /// A peer.
    Peer,
    /// One of the socket's family.
    Family,
    /// Registers that hold its arguments.
    Request,
    /// A caller whose stack is at hand.
    Served,
}

impl Unmet {
    /// The same as the rest of a sentence that begins with the call.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Descriptor => "has no descriptor as its first argument",
            Self::Request => "is a request of io_uring, whose arguments no program can read",
            Self::Served => {
                "is a request of io_uring, which other threads serve than those that made it"
            }
            Self::Socket => "is on no socket that its first argument tells of",
            Self::Peer => "is on a socket that has no peer",
            Self::Family => {
                "is on a socket of inet, whose peer is one of IPv4 and none of those that are meant"
            }
        }
    }
}

/// A function, by the file that holds its code.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainFunction {
    /// Its name among the file's symbols.
    pub name: String,
    /// The file: an absolute path, as the target sees it.
    pub path: PathBuf,
}

impl fmt::Display for ChainFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.path.display())
    }
}

/// The family of a socket's addresses: 0 to 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressFamily(u8);

impl AddressFamily {
    /// IPv4.
    pub const INET: Self = Self(2);
    /// IPv6.
    pub const INET6: Self = Self(10);

    /// The one with this number (`AF_*`, include/linux/socket.h), if it can be told apart.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        let number = u8::try_from(number).ok()?;
        (number < 64).then_some(Self(number))
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..64).map(Self)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0 as u32
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
