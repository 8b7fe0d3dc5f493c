//! The facts of the host that this process runs on.

use std::{
    fs,
    io::{self, Read as _},
    net::IpAddr,
    ops::Range,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use futures_util::{TryFutureExt as _, TryStreamExt as _};
use injector_common::{CgroupId, IfIndex, NetnsInode, Tgid};
use nix::sys::{
    stat::{major, minor},
    statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs},
};
use rtnetlink::packet_route::{
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

use super::{
    ChainError, chain, files, functions,
    functions::FunctionPlace,
    host::{CgroupMount, Directory, Filesystem, Host, Link, Process, ProcessStatus, RootId},
    mounts,
    netns::{ask_netlink, in_netns},
    services,
};
use crate::{
    error::{HostError, SpecError},
    model::ChainFunction,
};

/// Inode numbers of the initial namespaces (linux/proc_ns.h); they never change.
const INITIAL_USER_NS: u64 = 0xefff_fffd;
const INITIAL_PID_NS: u64 = 0xefff_fffc;
const INITIAL_CGROUP_NS: u64 = 0xefff_fffb;

/// The flag of a kernel thread in `/proc/PID/stat` (`PF_KTHREAD`, linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// The capabilities that the injector needs: name, number, and whether
/// CAP_SYS_ADMIN stands in for it (linux/capability.h).
const CAPABILITIES: [(&str, u32, bool); 5] = [
    // Network namespaces are entered and made: setns(2), unshare(2).
    ("CAP_SYS_ADMIN", CAP_SYS_ADMIN, false),
    ("CAP_BPF", 39, true),
    ("CAP_NET_ADMIN", 12, false),
    ("CAP_PERFMON", 38, true),
    // Sockets of other users' processes are looked at: pidfd_getfd(2).
    ("CAP_SYS_PTRACE", 19, false),
];
const CAP_SYS_ADMIN: u32 = 21;

/// Those of [`CAPABILITIES`] that a mask of effective ones lacks.
fn lacking(mask: u64) -> Vec<&'static str> {
    let has = |number: u32| mask & (1 << number) != 0;
    CAPABILITIES
        .iter()
        .filter(|(_, number, admin)| !(has(*number) || *admin && has(CAP_SYS_ADMIN)))
        .map(|(name, ..)| *name)
        .collect()
}

/// This host.
#[derive(Debug)]
pub struct LinuxHost {
    status: String,
}

impl LinuxHost {
    /// Opens the host.
    ///
    /// # Errors
    ///
    /// Where `/proc` is not mounted.
    pub fn new() -> Result<Self, HostError> {
        Ok(Self {
            status: read("/proc/self/status")?,
        })
    }
}

fn read(path: impl AsRef<Path>) -> Result<String, HostError> {
    let path = path.as_ref();
    fs::read_to_string(path).map_err(|source| HostError {
        path: path.to_owned(),
        source,
    })
}

fn inode(path: &str) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

/// The value of a line `Key:\tvalue`.
fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .map(str::trim)
}

/// State, parent and flags from the text of `/proc/PID/stat`.
///
/// The name before them is in parentheses and may hold any character, so the
/// last one is looked for.
pub(crate) fn parse_stat(stat: &str) -> Option<(char, Tgid, u64)> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let flags = fields.nth(4)?.parse().ok()?;
    Some((state, Tgid(parent), flags))
}

/// A zombie or a dead process: it will do nothing any more.
pub(crate) const fn has_ended(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

impl Host for LinuxHost {
    fn kernel_release(&self) -> String {
        fs::read_to_string("/proc/sys/kernel/osrelease").map_or_else(
            |_| "unknown".to_owned(),
            |release| release.trim().to_owned(),
        )
    }

    fn missing_capabilities(&self) -> Vec<&'static str> {
        let mask = field(&self.status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let initial = inode("/proc/self/ns/user") == Some(INITIAL_USER_NS);
        lacking(if initial { mask.unwrap_or(0) } else { 0 })
    }

    fn has_btf(&self) -> bool {
        fs::metadata("/sys/kernel/btf/vmlinux").is_ok_and(|metadata| metadata.is_file())
    }

    fn in_initial_pid_namespace(&self) -> bool {
        inode("/proc/self/ns/pid") == Some(INITIAL_PID_NS)
    }

    fn in_initial_cgroup_namespace(&self) -> bool {
        inode("/proc/self/ns/cgroup") == Some(INITIAL_CGROUP_NS)
    }

    fn own_tgid(&self) -> Tgid {
        Tgid(std::process::id())
    }

    fn own_cgroup(&self) -> Result<String, HostError> {
        read("/proc/self/cgroup")
    }

    fn own_netns(&self) -> Result<NetnsInode, HostError> {
        let path = Path::new("/proc/self/ns/net");
        fs::metadata(path)
            .map(|metadata| NetnsInode(metadata.ino()))
            .map_err(|source| HostError {
                path: path.to_owned(),
                source,
            })
    }

    fn cgroup_mounts(&self) -> Result<Vec<CgroupMount>, HostError> {
        let mut mounts = mounts::cgroup_mounts(&read("/proc/self/mountinfo")?);
        // A mount may lie under another one and be out of reach.
        mounts.retain(|mount| {
            statfs(&mount.point).is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC)
        });
        Ok(mounts)
    }

    fn control_file(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }

    fn block_device(&self, path: &Path) -> io::Result<(u64, u64)> {
        let metadata = fs::metadata(path)?;
        if !metadata.file_type().is_block_device() {
            return Err(io::Error::other("not a block device"));
        }
        let device = metadata.rdev();
        Ok((major(device), minor(device)))
    }

    fn is_disk(&self, major: u64, minor: u64) -> bool {
        let directory = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        directory.exists() && !directory.join("partition").exists()
    }

    fn directory(&self, path: &Path) -> io::Result<Directory> {
        let path = fs::canonicalize(path)?;
        let metadata = fs::metadata(&path)?;
        if !metadata.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let magic = statfs(&path)?.filesystem_type();
        let filesystem = if magic == CGROUP2_SUPER_MAGIC {
            Filesystem::CgroupV2
        } else if magic == CGROUP_SUPER_MAGIC {
            Filesystem::CgroupV1
        } else {
            Filesystem::Other
        };
        Ok(Directory {
            path,
            id: CgroupId(metadata.ino()),
            filesystem,
        })
    }

    fn cgroup_processes(&self, path: &Path) -> Result<Vec<Tgid>, HostError> {
        let host = |path: &Path, source| HostError {
            path: path.to_owned(),
            source,
        };
        let mut processes = Vec::new();
        let mut pending = vec![path.to_owned()];
        while let Some(directory) = pending.pop() {
            let file = directory.join("cgroup.procs");
            match fs::read_to_string(&file) {
                Ok(text) => {
                    processes.extend(text.lines().filter_map(|line| line.parse().ok()).map(Tgid));
                }
                // A threaded cgroup lists its processes at its domain's root,
                // which is above it; one that was removed has none.
                Err(error)
                    if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP)
                        || directory.as_path() != path => {}
                Err(error) => return Err(host(&file, error)),
            }
            let Ok(entries) = fs::read_dir(&directory) else {
                continue;
            };
            let below = entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
            pending.extend(below.map(|entry| entry.path()));
        }
        Ok(processes)
    }

    fn processes(&self) -> Result<Vec<Process>, HostError> {
        let proc = PathBuf::from("/proc");
        let entries = fs::read_dir(&proc).map_err(|source| HostError {
            path: proc.clone(),
            source,
        })?;
        let processes = entries.flatten().filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let (state, parent, _) = parse_stat(&stat)?;
            if has_ended(state) {
                return None;
            }
            let netns = fs::metadata(entry.path().join("ns/net")).ok();
            Some(Process {
                tgid: Tgid(pid),
                parent,
                netns: netns.map(|metadata| NetnsInode(metadata.ino())),
            })
        });
        Ok(processes.collect())
    }

    fn process(&self, pid: u32) -> Option<ProcessStatus> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, _, flags) = parse_stat(&stat)?;
        if has_ended(state) {
            return None;
        }
        let tgid = field(&status, "Tgid")?.parse().ok()?;
        Some(ProcessStatus {
            tgid: Tgid(tgid),
            kernel_thread: flags & PF_KTHREAD != 0,
        })
    }

    fn service(&self, tgid: Tgid) -> Option<&'static str> {
        services::of_process(tgid)
    }

    fn root(&self, process: Option<Tgid>) -> Option<RootId> {
        let directory = match process {
            Some(process) => format!("/proc/{process}"),
            None => "/proc/self".to_owned(),
        };
        let root = fs::metadata(format!("{directory}/root/.")).ok()?;
        let mounts = inode(&format!("{directory}/ns/mnt"))?;
        Some(RootId([root.dev(), root.ino(), mounts]))
    }

    fn file(&self, process: Option<Tgid>, path: &Path) -> io::Result<Vec<PathBuf>> {
        let found = files::open(process, path)?;
        files::check_known(&found)?;
        let path = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
        // What a process sees below its own root, if that is not its mount namespace's.
        let root = fs::read_link(files::root_of(process)).unwrap_or_else(|_| "/".into());
        let path = match path.strip_prefix(&root) {
            Ok(below) => Path::new("/").join(below),
            Err(_) => path,
        };
        let mountinfo = match process {
            Some(process) => format!("/proc/{process}/mountinfo"),
            None => "/proc/self/mountinfo".to_owned(),
        };
        let mounts = fs::read(mountinfo)?;
        let mounts = String::from_utf8_lossy(&mounts);
        let below = mounts::points(&mounts)
            .filter(|point| *point != path && point.starts_with(&path))
            // One that lies below another mount cannot be reached, by the target neither.
            .filter(|point| {
                let point = files::open(process, point);
                point.is_ok_and(|point| files::check_known(&point).is_ok())
            });
        let mut below: Vec<PathBuf> = below.collect();
        below.sort_unstable();
        below.dedup();
        Ok([vec![path.clone()], below].concat())
    }

    fn chain_function(
        &self,
        process: Option<Tgid>,
        function: &ChainFunction,
    ) -> Result<Vec<Range<u64>>, ChainError> {
        let found = files::open(process, &function.path)?;
        files::check_known(&found)?;
        let mut bytes = Vec::new();
        files::readable(&found)?
            .take(chain::MAX_BYTES)
            .read_to_end(&mut bytes)?;
        chain::parts_of(&bytes, &function.name)
    }

    fn function(
        &self,
        process: Option<Tgid>,
        path: &Path,
        name: &str,
    ) -> Result<FunctionPlace, SpecError> {
        functions::look_up(process, path, name)
    }

    fn interfaces(&self, netns: &Path) -> Result<Vec<Link>, HostError> {
        let messages: Vec<LinkMessage> = ask(netns, |handle| async move {
            handle.link().get().execute().try_collect().await
        })?;
        let routers: Vec<u32> = messages
            .iter()
            .filter(|link| is_of_kind(link, &InfoKind::Vrf))
            .map(index)
            .collect();
        Ok(messages
            .iter()
            .filter_map(|message| link(message, &routers))
            .collect())
    }

    fn addresses(&self, netns: &Path) -> Result<Vec<IpAddr>, HostError> {
        let messages: Vec<AddressMessage> = ask(netns, |handle| async move {
            handle.address().get().execute().try_collect().await
        })?;
        let found = messages.iter().filter_map(address);
        Ok(found.filter(|address| !address.is_loopback()).collect())
    }
}

/// Asks netlink in the network namespace that a file opens.
fn ask<T: Send, F: Future<Output = Result<T, rtnetlink::Error>>>(
    netns: &Path,
    question: impl FnOnce(rtnetlink::Handle) -> F + Send,
) -> Result<T, HostError> {
    let work = || ask_netlink(|handle| question(handle).map_err(io::Error::other));
    in_netns(netns, work)
        .and_then(|answer| answer)
        .map_err(|source| HostError {
            path: netns.to_owned(),
            source,
        })
}

/// The interface's own address: on a link between two, `Address` is the peer's.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    use AddressAttribute::{Address, Local};
    let attributes = || message.attributes.iter();
    let own = attributes().find_map(|one| {
        if let Local(own) = one {
            Some(*own)
        } else {
            None
        }
    });
    own.or_else(|| {
        attributes().find_map(|one| {
            if let Address(it) = one {
                Some(*it)
            } else {
                None
            }
        })
    })
}

fn index(message: &LinkMessage) -> u32 {
    message.header.index
}

/// Whether it is a device of this kind.
fn is_of_kind(message: &LinkMessage, kind: &InfoKind) -> bool {
    let mut infos = message.attributes.iter().filter_map(|attribute| {
        if let LinkAttribute::LinkInfo(infos) = attribute {
            Some(infos)
        } else {
            None
        }
    });
    infos.any(|infos| infos.contains(&LinkInfo::Kind(kind.clone())))
}

/// A message about an interface, where those with the indices of `routers` are VRF
/// devices: packets of their members do not pass them, except those that stay on the
/// host (`vrf_ip_out_direct` and `vrf_ip_rcv`, drivers/net/vrf.c).
fn link(message: &LinkMessage, routers: &[u32]) -> Option<Link> {
    let name = message.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfName(name) = attribute {
            Some(name.clone())
        } else {
            None
        }
    })?;
    let alias = message.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::IfAlias(alias) = attribute {
            Some(alias.clone())
        } else {
            None
        }
    });
    let enslaved = message.attributes.iter().any(|attribute| {
        matches!(attribute, LinkAttribute::Controller(index)
                if *index != 0 && !routers.contains(index))
    });
    Some(Link {
        name,
        index: IfIndex(message.header.index),
        link_type: message.header.link_layer_type.into(),
        alias,
        up: message.header.flags.contains(LinkFlags::Up),
        enslaved,
        wireguard: is_of_kind(message, &InfoKind::Wireguard),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_parentheses() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3";
        assert_eq!(parse_stat(stat), Some(('S', Tgid(7), 4_194_560)));
        assert_eq!(parse_stat("42 (x) S"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_is_found() {
        let host = LinuxHost::new().expect("/proc");
        let own = host.own_tgid();
        let status = host.process(own.0).expect("this process");
        assert_eq!(
            status,
            ProcessStatus {
                tgid: own,
                kernel_thread: false
            }
        );
        assert!(
            host.processes()
                .expect("/proc")
                .iter()
                .any(|process| process.tgid == own)
        );
        assert!(host.process(4_194_304).is_none());
    }

    #[test]
    fn one_capability_may_stand_for_others() {
        let mask = |numbers: &[u32]| numbers.iter().map(|number| 1 << number).sum();
        let (net_admin, ptrace, admin, perfmon, bpf) = (12, 19, CAP_SYS_ADMIN, 38, 39);
        assert_eq!(
            lacking(0),
            [
                "CAP_SYS_ADMIN",
                "CAP_BPF",
                "CAP_NET_ADMIN",
                "CAP_PERFMON",
                "CAP_SYS_PTRACE"
            ]
        );
        assert_eq!(lacking(u64::MAX), [""; 0]);
        assert_eq!(lacking(mask(&[admin, net_admin, ptrace])), [""; 0]);
        assert_eq!(
            lacking(mask(&[bpf, perfmon, net_admin])),
            ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]
        );
    }

    #[test]
    fn status_fields() {
        assert_eq!(field("Name:\tx\nTgid:\t5\n", "Tgid"), Some("5"));
        assert_eq!(field("Name:\tx\n", "Tgid"), None);
    }
}
