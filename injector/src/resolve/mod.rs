//! Targets, resolved on this host now. Read-only: `/proc`, cgroupfs, netlink.

mod cgroup;
pub mod chain;
mod checks;
mod elf;
pub mod files;
pub mod functions;
mod host;
mod interfaces;
mod linux;
mod mounts;
pub mod names;
pub mod netns;
pub mod peer_target;
mod process;
mod resources;
mod scopes;
pub(crate) mod services;

use std::path::PathBuf;

use injector_common::{CgroupId, IfIndex, NetnsInode, Tgid};

use crate::error::Error;
pub use cgroup::Cgroup;
pub use chain::{ChainError, ChainPlace};
pub use files::FilePlace;
pub use functions::{FileId, FunctionPlace};
pub use host::{CgroupMount, Directory, Filesystem, Host, Link, Process, ProcessStatus, RootId};
pub use linux::LinuxHost;
pub(crate) use linux::{has_ended, parse_stat};
pub(crate) use mounts::mounts_of;
pub use scopes::resolve;

/// The cgroup that this process is in.
///
/// # Errors
///
/// [`Error::Unsupported`] when it is in none that a mount shows.
pub fn own_cgroup(host: &impl Host) -> Result<Cgroup, Error> {
    cgroup::of_process(&host.own_cgroup()?, &host.cgroup_mounts()?, host)
}

/// A target resolved to what the kernel compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A cgroup with everything below it.
    Cgroup {
        /// Its id.
        id: CgroupId,
        /// How many levels below the root it lies; the root is 0.
        level: u32,
        /// Its directory.
        path: PathBuf,
    },
    /// Processes, each with all its threads; their later children follow.
    Processes {
        /// The process that the user named.
        root: Tgid,
        /// It and its present descendants.
        tgids: Vec<Tgid>,
    },
    /// The command's own cgroup, which does not exist yet.
    Command,
}

impl Scope {
    /// Whom it means, whatever has become of it since it was looked up.
    #[must_use]
    pub const fn whom(&self) -> Whom {
        match self {
            Self::Cgroup { id, .. } => Whom::Cgroup(*id),
            Self::Processes { root, .. } => Whom::Process(*root),
            Self::Command => Whom::Command,
        }
    }
}

/// What two scopes have in common that mean the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// A cgroup, by its id.
    Cgroup(CgroupId),
    /// A process, and those that it has forked, which are followed.
    Process(Tgid),
    /// The command.
    Command,
}

/// An interface that packets of a target pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name in its namespace.
    pub name: String,
    /// Its index in its namespace.
    pub index: IfIndex,
    /// Length of its link-layer header: 14, or 0 for a tunnel without one.
    pub l2_len: u32,
    /// Whether it is a WireGuard device, which wipes off a packet that rules were asked for it.
    pub wireguard: bool,
}

/// A network namespace that a target lives in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    /// Its inode number.
    pub inode: NetnsInode,
    /// A file that opens it, such as `/proc/PID/ns/net`.
    pub path: PathBuf,
    /// Whether it is the agent's own.
    pub own: bool,
    /// Whether every process in it belongs to the rule's targets, and it is
    /// not the agent's own: then every packet in it is the target's.
    pub exclusive: bool,
    /// The interfaces to act on, without ones enslaved to another of them.
    pub interfaces: Vec<Interface>,
}

/// A rule's targets on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleScope {
    /// Its scopes, in the order of its targets.
    pub scopes: Vec<Scope>,
    /// The namespaces its packets pass. Empty for kinds that act on calls.
    pub netns: Vec<Netns>,
    /// The files that it names, if it names some.
    pub files: Vec<FilePlace>,
    /// The functions that it names, if it names some.
    pub chain: Vec<ChainPlace>,
    /// The function that it names, if it names one.
    pub function: Option<FunctionPlace>,
    /// Whom of its targets the rule leaves out, if it is known now.
    pub left_out: Option<String>,
}
