//! The facts that resolving needs, and nothing that could change any.

use std::{
    io,
    net::IpAddr,
    ops::Range,
    path::{Path, PathBuf},
};

use injector_common::{CgroupId, IfIndex, NetnsInode, Tgid};

use super::{ChainError, functions::FunctionPlace};
use crate::{
    error::{HostError, SpecError},
    model::ChainFunction,
};

/// Read-only facts about this host: the real one, or a table in tests.
pub trait Host {
    /// The kernel's release, as `uname -r` prints it.
    fn kernel_release(&self) -> String;

    /// The capabilities that the injector needs and this process lacks. In a
    /// user namespace other than the initial one all of them are lacking,
    /// whatever the process's masks say: the kernel asks the initial one.
    fn missing_capabilities(&self) -> Vec<&'static str>;

    /// Whether the kernel describes its types (`/sys/kernel/btf/vmlinux`).
    fn has_btf(&self) -> bool;

    /// Whether process ids seen here are those that the kernel side sees.
    fn in_initial_pid_namespace(&self) -> bool;

    /// Whether paths of cgroups seen here start at the hierarchy's root.
    fn in_initial_cgroup_namespace(&self) -> bool;

    /// The id of this process.
    fn own_tgid(&self) -> Tgid;

    /// The text of this process's `/proc/PID/cgroup`.
    ///
    /// # Errors
    ///
    /// Where `/proc` cannot be read.
    fn own_cgroup(&self) -> Result<String, HostError>;

    /// The network namespace of this process.
    ///
    /// # Errors
    ///
    /// Where `/proc` cannot be read.
    fn own_netns(&self) -> Result<NetnsInode, HostError>;

    /// Where cgroup v2 is mounted; empty if nowhere.
    ///
    /// # Errors
    ///
    /// Where `/proc` cannot be read.
    fn cgroup_mounts(&self) -> Result<Vec<CgroupMount>, HostError>;

    /// What lies at a path.
    ///
    /// # Errors
    ///
    /// Where there is no directory.
    fn directory(&self, path: &Path) -> io::Result<Directory>;

    /// The text of a control file.
    ///
    /// # Errors
    ///
    /// Where there is none.
    fn control_file(&self, path: &Path) -> io::Result<String>;

    /// The numbers of a block device.
    ///
    /// # Errors
    ///
    /// Where there is none at this path.
    fn block_device(&self, path: &Path) -> io::Result<(u64, u64)>;

    /// Whether a block device of these numbers is a whole disk.
    fn is_disk(&self, major: u64, minor: u64) -> bool;

    /// The processes in a cgroup and in all below it.
    ///
    /// # Errors
    ///
    /// Where the cgroup cannot be read.
    fn cgroup_processes(&self, path: &Path) -> Result<Vec<Tgid>, HostError>;

    /// Every process of the host that has not ended. One that ends meanwhile
    /// may be missing.
    ///
    /// # Errors
    ///
    /// Where `/proc` cannot be read.
    fn processes(&self) -> Result<Vec<Process>, HostError>;

    /// The process or thread with this id, unless it has ended.
    fn process(&self, pid: u32) -> Option<ProcessStatus>;

    /// The name of the service that a process is, if it is one of the host's by which it is reached
    /// or runs containers.
    fn service(&self, tgid: Tgid) -> Option<&'static str>;

    /// The root directory of a process, or of this one; `None` if the process has ended.
    fn root(&self, process: Option<Tgid>) -> Option<RootId>;

    /// The path of a file without symbolic links, and then the mount points below it: all as a
    /// process sees them, or as this one does.
    ///
    /// # Errors
    ///
    /// Where there is no file.
    fn file(&self, process: Option<Tgid>, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Where in its file the code of a function is, as a process sees that file or as this one does:
    /// at least one part.
    ///
    /// # Errors
    ///
    /// Where there is no such function.
    fn chain_function(
        &self,
        process: Option<Tgid>,
        function: &ChainFunction,
    ) -> Result<Vec<Range<u64>>, ChainError>;

    /// A function of a program or library, as a process sees it, or as this one does.
    ///
    /// # Errors
    ///
    /// Where there is none, or none that can be had return. The field is the bare name of the option.
    fn function(
        &self,
        process: Option<Tgid>,
        path: &Path,
        name: &str,
    ) -> Result<FunctionPlace, SpecError>;

    /// The interfaces of the namespace that this file opens.
    ///
    /// # Errors
    ///
    /// Where the namespace cannot be entered or asked.
    fn interfaces(&self, netns: &Path) -> Result<Vec<Link>, HostError>;

    /// The addresses of the namespace that this file opens, but for those of the
    /// loopback.
    ///
    /// # Errors
    ///
    /// As for [`Host::interfaces`].
    fn addresses(&self, netns: &Path) -> Result<Vec<IpAddr>, HostError>;
}

/// A mount of cgroup v2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupMount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Which cgroup of the hierarchy is mounted there, seen from this process's
    /// cgroup namespace.
    pub root: PathBuf,
}

/// What tells one root directory, with what is mounted below it, from another: its device and
/// inode, and the mount namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootId(pub [u64; 3]);

/// The filesystem that a path lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filesystem {
    /// cgroup v2.
    CgroupV2,
    /// cgroup v1.
    CgroupV1,
    /// Any other.
    Other,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Its path without symbolic links.
    pub path: PathBuf,
    /// Its inode number, which for a cgroup is the cgroup's id.
    pub id: CgroupId,
    /// What it lies on.
    pub filesystem: Filesystem,
}

/// A process, among all of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub tgid: Tgid,
    /// Its parent's id.
    pub parent: Tgid,
    /// Its network namespace, where that may be read.
    pub netns: Option<NetnsInode>,
}

/// What an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessStatus {
    /// The process that it names or, if it names a thread, is part of.
    pub tgid: Tgid,
    /// Whether it is a thread of the kernel's own.
    pub kernel_thread: bool,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: IfIndex,
    /// Its type, one of the `ARPHRD_*` constants of `linux/if_arp.h`.
    pub link_type: u16,
    /// What its maker wrote beside it (`ip link set dev NAME alias TEXT`).
    pub alias: Option<String>,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it is enslaved to another that its packets pass too, as a bridge's port
    /// is, and not a VRF's member.
    pub enslaved: bool,
    /// Whether it is a WireGuard device.
    pub wireguard: bool,
}
