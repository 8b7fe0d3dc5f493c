//! A host that is a table.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    ops::Range,
    path::{Path, PathBuf},
};

use injector_common::{CgroupId, IfIndex, NetnsInode, Tgid, names::DEVICE_ALIAS};

use crate::{
    error::{HostError, SpecError},
    model::ChainFunction,
    resolve::{
        ChainError, FileId, FunctionPlace,
        host::{CgroupMount, Directory, Filesystem, Host, Link, Process, ProcessStatus, RootId},
    },
};

/// Network namespace of the agent and of most processes.
pub(super) const OWN_NETNS: NetnsInode = NetnsInode(100);
/// Another one.
pub(super) const OTHER_NETNS: NetnsInode = NetnsInode(200);
/// Process id of the agent.
pub(super) const AGENT: Tgid = Tgid(500);

#[derive(Clone, Debug)]
pub(in crate::resolve) struct FakeHost {
    pub(super) missing_capabilities: Vec<&'static str>,
    pub(super) btf: bool,
    pub(super) initial_pid_namespace: bool,
    pub(super) initial_cgroup_namespace: bool,
    pub(super) own_cgroup: String,
    pub(super) mounts: Vec<CgroupMount>,
    pub(super) directories: BTreeMap<PathBuf, (u64, Filesystem)>,
    pub(in crate::resolve) cgroups: BTreeMap<PathBuf, Vec<u32>>,
    pub(in crate::resolve) control_files: BTreeMap<PathBuf, String>,
    pub(super) processes: Vec<Process>,
    pub(super) threads: BTreeMap<u32, u32>,
    pub(super) kernel_threads: Vec<u32>,
    pub(super) services: BTreeMap<u32, &'static str>,
    pub(super) own_links: Vec<Link>,
    pub(super) other_links: Vec<Link>,
}

pub(in crate::resolve) fn link(name: &str, index: u32) -> Link {
    Link {
        name: name.to_owned(),
        index: IfIndex(index),
        link_type: 1,
        alias: None,
        up: true,
        enslaved: false,
        wireguard: false,
    }
}

pub(super) fn process(tgid: u32, parent: u32, netns: NetnsInode) -> Process {
    Process {
        tgid: Tgid(tgid),
        parent: Tgid(parent),
        netns: Some(netns),
    }
}

impl FakeHost {
    /// A healthy host: `/web` with `/web/php` below it, whose processes 11 to
    /// 13 live in the other namespace, and `/db` in the agent's.
    pub(in crate::resolve) fn new() -> Self {
        let v2 = |id| (id, Filesystem::CgroupV2);
        Self {
            missing_capabilities: Vec::new(),
            btf: true,
            initial_pid_namespace: true,
            initial_cgroup_namespace: true,
            own_cgroup: "1:name=x:/other\n0::/web/php\n".to_owned(),
            mounts: vec![CgroupMount {
                point: "/cg".into(),
                root: "/".into(),
            }],
            directories: [
                ("/", (2, Filesystem::Other)),
                ("/tmp", (3, Filesystem::Other)),
                ("/v1", (4, Filesystem::CgroupV1)),
                ("/cg", v2(1)),
                ("/cg/web", v2(40)),
                ("/cg/web/php", v2(41)),
                ("/cg/db", v2(50)),
                ("/cg/empty", v2(60)),
            ]
            .into_iter()
            .map(|(path, directory)| (path.into(), directory))
            .collect(),
            cgroups: [
                ("/cg", vec![1, 2, 10, 20, 21, 500, 11, 12, 13]),
                ("/cg/web", vec![11, 12, 13]),
                ("/cg/web/php", vec![12, 13]),
                ("/cg/db", vec![20, 21]),
                ("/cg/empty", vec![]),
            ]
            .into_iter()
            .map(|(path, processes)| (path.into(), processes))
            .collect(),
            control_files: BTreeMap::new(),
            processes: vec![
                process(1, 0, OWN_NETNS),
                process(10, 1, OWN_NETNS),
                process(11, 10, OTHER_NETNS),
                process(12, 11, OTHER_NETNS),
                process(13, 12, OTHER_NETNS),
                process(20, 1, OWN_NETNS),
                process(21, 20, OWN_NETNS),
                process(500, 1, OWN_NETNS),
            ],
            threads: [(14, 12)].into(),
            kernel_threads: vec![2],
            services: BTreeMap::new(),
            own_links: vec![
                Link {
                    link_type: 772,
                    ..link("lo", 1)
                },
                link("eth0", 2),
                Link {
                    enslaved: true,
                    ..link("port0", 3)
                },
                Link {
                    up: false,
                    ..link("eth1", 4)
                },
                link("inja0-0badcafe", 5),
                Link {
                    alias: Some(DEVICE_ALIAS.to_owned()),
                    ..link("renamed", 8)
                },
                Link {
                    alias: Some("uplink".to_owned()),
                    ..link("inj0", 9)
                },
                Link {
                    link_type: 0xfffe,
                    wireguard: true,
                    ..link("wg0", 6)
                },
                Link {
                    link_type: 778,
                    ..link("gre0", 7)
                },
            ],
            other_links: vec![
                Link {
                    link_type: 772,
                    ..link("lo", 1)
                },
                link("eth0", 9),
            ],
        }
    }
}

impl Host for FakeHost {
    fn kernel_release(&self) -> String {
        "6.12.0".to_owned()
    }

    fn missing_capabilities(&self) -> Vec<&'static str> {
        self.missing_capabilities.clone()
    }

    fn has_btf(&self) -> bool {
        self.btf
    }

    fn in_initial_pid_namespace(&self) -> bool {
        self.initial_pid_namespace
    }

    fn in_initial_cgroup_namespace(&self) -> bool {
        self.initial_cgroup_namespace
    }

    fn own_tgid(&self) -> Tgid {
        AGENT
    }

    fn own_cgroup(&self) -> Result<String, HostError> {
        Ok(self.own_cgroup.clone())
    }

    fn own_netns(&self) -> Result<NetnsInode, HostError> {
        Ok(OWN_NETNS)
    }

    fn cgroup_mounts(&self) -> Result<Vec<CgroupMount>, HostError> {
        Ok(self.mounts.clone())
    }

    fn control_file(&self, path: &Path) -> io::Result<String> {
        let found = self.control_files.get(path).cloned();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn block_device(&self, _: &Path) -> io::Result<(u64, u64)> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn is_disk(&self, major: u64, minor: u64) -> bool {
        (major, minor) == (8, 0)
    }

    fn directory(&self, path: &Path) -> io::Result<Directory> {
        let path: PathBuf = path.components().collect();
        let (id, filesystem) = *self
            .directories
            .get(&path)
            .ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Directory {
            path,
            id: CgroupId(id),
            filesystem,
        })
    }

    fn cgroup_processes(&self, path: &Path) -> Result<Vec<Tgid>, HostError> {
        let processes = self.cgroups.get(path).ok_or_else(|| HostError {
            path: path.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        Ok(processes.iter().copied().map(Tgid).collect())
    }

    fn processes(&self) -> Result<Vec<Process>, HostError> {
        Ok(self.processes.clone())
    }

    fn process(&self, pid: u32) -> Option<ProcessStatus> {
        if self.kernel_threads.contains(&pid) {
            return Some(ProcessStatus {
                tgid: Tgid(pid),
                kernel_thread: true,
            });
        }
        let tgid = self.threads.get(&pid).copied().unwrap_or(pid);
        let process = self
            .processes
            .iter()
            .find(|process| process.tgid == Tgid(tgid))?;
        Some(ProcessStatus {
            tgid: process.tgid,
            kernel_thread: false,
        })
    }

    fn addresses(&self, netns: &Path) -> Result<Vec<IpAddr>, HostError> {
        let own = netns == Path::new("/proc/self/ns/net");
        let text = if own { "192.0.2.1" } else { "10.0.0.9" };
        Ok(vec![text.parse().expect("an address")])
    }

    fn service(&self, tgid: Tgid) -> Option<&'static str> {
        self.services.get(&tgid.0).copied()
    }

    fn root(&self, process: Option<Tgid>) -> Option<RootId> {
        let other = |process: &Process| process.netns == Some(OTHER_NETNS);
        match process {
            None => Some(RootId([0; 3])),
            Some(tgid) => {
                let process = self.processes.iter().find(|process| process.tgid == tgid)?;
                // Whoever has a network namespace of its own has a root of its own.
                Some(RootId([u64::from(other(process)), 0, 0]))
            }
        }
    }

    fn file(&self, process: Option<Tgid>, path: &Path) -> io::Result<Vec<PathBuf>> {
        let inside = process.is_some_and(|_| path.starts_with("/inside"));
        match path.to_str() {
            Some("/data") => Ok(vec!["/data".into(), "/data/mounted".into()]),
            _ if inside => Ok(vec![path.to_owned()]),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn chain_function(
        &self,
        process: Option<Tgid>,
        function: &ChainFunction,
    ) -> Result<Vec<Range<u64>>, ChainError> {
        self.file(process, &function.path)?;
        match function.name.as_str() {
            "save" => Ok(vec![16..32, 64..80]),
            _ => Err(ChainError::NoSuch {
                like: vec!["save".to_owned()],
            }),
        }
    }

    fn function(
        &self,
        process: Option<Tgid>,
        path: &Path,
        name: &str,
    ) -> Result<FunctionPlace, SpecError> {
        let inode = match path.to_str() {
            // One that all share.
            Some("/lib/libc.so.6") => 1,
            // One of each root's own.
            Some("/app") => process.map_or(2, |process| u64::from(process.0)),
            _ => return Err(SpecError::new("file", "is nowhere", "a file")),
        };
        Ok(FunctionPlace {
            name: name.to_owned(),
            process,
            path: path.to_owned(),
            file: FileId([0, inode]),
            entry: 0x10,
            back: 0x20,
        })
    }

    fn interfaces(&self, netns: &Path) -> Result<Vec<Link>, HostError> {
        let own = netns == Path::new("/proc/self/ns/net");
        Ok(if own {
            self.own_links.clone()
        } else {
            self.other_links.clone()
        })
    }
}
