//! What an injection may leave behind: nothing.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::{
    maps::loaded_maps,
    programs::{loaded_links, loaded_programs},
};
use nix::{
    net::if_::if_nameindex,
    sched::{CloneFlags, setns},
};

use crate::{agent, cgroup, netns::Netns, wait};

/// How long the kernel may take to free what was closed: much of it is freed
/// after a grace period, by a worker.
const GRACE: Duration = Duration::from_secs(10);

/// What a line on a BPF object begins with.
const BPF: &str = "bpf ";

/// What a line on a namespace begins with.
const NAMESPACE: &str = "namespace ";

/// Everything on this machine that an injection makes or may change, as lines
/// of text: our BPF objects, devices, groups and processes wherever they are, all
/// network namespaces, and all interfaces, queueing disciplines and filters, options and all, of
/// the namespaces named.
#[derive(Debug)]
pub struct Snapshot<'a> {
    netns: Vec<&'a Netns>,
    lines: BTreeSet<String>,
}

impl<'a> Snapshot<'a> {
    /// Takes a snapshot.
    ///
    /// # Panics
    ///
    /// When something cannot be read.
    #[must_use]
    pub fn take(netns: &[&'a Netns]) -> Self {
        Self {
            netns: netns.to_vec(),
            lines: lines(netns),
        }
    }

    /// What was added or removed since the snapshot was taken, as text; `None`
    /// if nothing was.
    ///
    /// # Panics
    ///
    /// When something cannot be read.
    #[must_use]
    pub fn difference(&self) -> Option<String> {
        let now = lines(&self.netns);
        let added: Vec<_> = now.difference(&self.lines).collect();
        let gone = self.lines.difference(&now);
        // The kernel frees what an earlier run closed when it finds the time, and
        // other programs come to an end.
        let may_go = |line: &String| line.starts_with(BPF) || line.starts_with(NAMESPACE);
        let gone: Vec<_> = gone.filter(|line| !may_go(line)).collect();
        if added.is_empty() && gone.is_empty() {
            return None;
        }
        let list = |lines: Vec<&String>| -> String {
            lines
                .into_iter()
                .map(|line| format!("\n  {line}"))
                .collect()
        };
        Some(format!(
            "left behind:{}\ngone or changed:{}",
            list(added),
            list(gone)
        ))
    }

    /// Checks that everything is as it was when the snapshot was taken, or soon
    /// will be.
    ///
    /// # Panics
    ///
    /// When something was added, removed or changed.
    #[track_caller]
    pub fn assert_clean(&self) {
        if let Err(difference) = self.clean() {
            panic!("{difference}");
        }
    }

    /// Waits until everything is as it was when the snapshot was taken.
    ///
    /// # Errors
    ///
    /// What was added, removed or changed.
    ///
    /// # Panics
    ///
    /// When something cannot be read.
    pub fn clean(&self) -> Result<(), String> {
        let mut last = None;
        let clean = wait::poll(GRACE, || {
            last = self.difference();
            last.is_none().then_some(())
        });
        match (clean, last) {
            (None, Some(difference)) => Err(difference),
            _ => Ok(()),
        }
    }

    /// Checks that the programs, maps and links of an injection are gone, but
    /// for programs in filters, where a kernel has no links for packets, and the
    /// maps that they use. Other things may still be there.
    ///
    /// # Panics
    ///
    /// When something has been added since the snapshot was taken.
    #[track_caller]
    pub fn assert_bpf_gone(&self, uses_filters: bool) {
        let stays = |line: &String| {
            uses_filters
                && (line.starts_with("bpf map ")
                    || IN_FILTERS.iter().any(|program| line.contains(program)))
        };
        let left = || -> Vec<String> {
            let now = bpf_objects().into_iter();
            now.filter(|line| !self.lines.contains(line) && !stays(line))
                .collect()
        };
        if wait::poll(GRACE, || left().is_empty().then_some(())).is_none() {
            panic!("they outlive their owner: {:#?}", left());
        }
    }
}

/// Programs that act on packets of an interface.
const IN_FILTERS: [&str; 5] = [
    "inj_egress",
    "inj_ingress",
    "inj_hop",
    "inj_return",
    "inj_split",
];

fn lines(netns: &[&Netns]) -> BTreeSet<String> {
    let mut lines = bpf_objects();
    lines.extend(control_groups(&cgroup::mount_point()));
    lines.extend(journals());
    lines.extend(processes());
    lines.extend(namespaces());
    for (index, netns) in netns.iter().enumerate() {
        lines.extend(traffic_control(netns).map(|line| format!("netns {index}: {line}")));
    }
    lines
}

fn is_ours(name: &str) -> bool {
    name.starts_with("inj_")
}

/// Programs, maps and links of ours. An object that vanishes while it is looked
/// at was on its way out, and is not counted.
fn bpf_objects() -> BTreeSet<String> {
    let mut ours = BTreeSet::new();
    let mut programs = BTreeSet::new();
    for program in loaded_programs().flatten() {
        if let Some(name) = program.name_as_str().filter(|name| is_ours(name)) {
            programs.insert(program.id());
            ours.insert(format!("{BPF}program {name} {}", program.id()));
        }
    }
    for map in loaded_maps().flatten() {
        if let Some(name) = map.name_as_str().filter(|name| is_ours(name)) {
            ours.insert(format!("{BPF}map {name} {}", map.id()));
        }
    }
    for link in loaded_links().flatten() {
        if programs.contains(&link.program_id()) {
            ours.insert(format!("{BPF}link {}", link.id()));
        }
    }
    ours
}

/// Control groups of ours, at whatever depth.
fn control_groups(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(b"injector")
            {
                found.push(format!("control group {}", entry.path().display()));
            }
            found.extend(control_groups(&entry.path()));
        }
    }
    found
}

/// What agents have written down about themselves.
fn journals() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/run/injector")
        .into_iter()
        .flatten()
        .flatten();
    entries.map(|entry| format!("journal {}", entry.path().display()))
}

/// The folder in `/proc` of every process.
fn each_process() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.iter().all(u8::is_ascii_digit)
    })
}

/// Running processes of the injector.
fn processes() -> impl Iterator<Item = String> {
    let binary = agent::binary();
    each_process().filter_map(move |process| {
        let program = fs::read_link(process.join("exe")).ok()?;
        (program == binary).then(|| format!("process {}", process.display()))
    })
}

/// Every network namespace that a mount keeps, or that a process lives in or holds
/// open, and the devices of ours in it.
fn namespaces() -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mounted = Some(mounted_namespaces());
    let held = each_process().map(|process| {
        let mut paths = vec![process.join("ns/net")];
        for descriptor in fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let link = fs::read_link(descriptor.path()).unwrap_or_default();
            if link.as_os_str().as_encoded_bytes().starts_with(b"net:[") {
                paths.push(descriptor.path());
            }
        }
        paths
    });
    for paths in mounted.into_iter().chain(held) {
        for path in paths {
            let Ok(file) = fs::File::open(&path) else {
                continue;
            };
            let Ok(inode) = file.metadata().map(|data| data.ino()) else {
                continue;
            };
            if seen.insert(inode) {
                let names = std::thread::scope(|scope| scope.spawn(|| device_names(&file)).join());
                let names = names.unwrap_or_default().into_iter();
                found.push(format!("{NAMESPACE}{inode}"));
                found.extend(names.map(|name| format!("device {name} in namespace {inode}")));
            }
        }
    }
    found
}

/// Where namespaces are mounted, of whatever sort they are.
fn mounted_namespaces() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let of_namespaces = mounts.lines().filter(|line| line.contains(" - nsfs "));
    // The fifth field is the place (proc_pid_mountinfo(5)).
    let places = of_namespaces.filter_map(|line| line.split(' ').nth(4));
    places.map(PathBuf::from).collect()
}

/// Devices of ours in a network namespace, which the calling thread enters.
fn device_names(netns: &fs::File) -> Vec<String> {
    if setns(netns, CloneFlags::CLONE_NEWNET).is_err() {
        return Vec::new();
    }
    let interfaces = if_nameindex().expect("list the interfaces");
    let names = interfaces
        .iter()
        .map(|interface| interface.name().to_string_lossy());
    names
        .filter(|name| name.starts_with("inj"))
        .map(String::from)
        .collect()
}

/// Whether a line of `ip` is about an end of a cable that is up, of whose other end the kernel
/// notes only some time after it carries packets that it is up too. Until then it may say
/// `state UNKNOWN`, or `NO-CARRIER` and `state DOWN`.
fn is_unsettled(line: &str) -> bool {
    let up = [",UP,", ",UP>"].iter().any(|flag| line.contains(flag));
    up && line.contains(" veth ") && !line.contains(" state UP ")
}

/// Interfaces, queueing disciplines and filters of a namespace, without
/// counters. Starting a program takes long in a virtual machine, so that there
/// are two; the price is that what the second one says is one text.
fn traffic_control(netns: &Netns) -> impl Iterator<Item = String> + use<> {
    let links = wait::until("what the kernel makes of new cables", || {
        let links = netns.ip(&["-d", "-o", "link", "show"]);
        (!links.lines().any(is_unsettled)).then_some(links)
    });
    let mut commands = "qdisc show\n".to_owned();
    for line in links.lines() {
        // "2: near0@if2: <BROADCAST,…"
        let name = line.split([':', '@']).nth(1).unwrap_or_default().trim();
        commands.push_str(&format!("class show dev {name}\n"));
        for side in ["root", "ingress", "egress"] {
            commands.push_str(&format!("filter show dev {name} {side}\n"));
        }
    }
    let mut batch = tempfile::NamedTempFile::new().expect("a file for commands");
    batch
        .write_all(commands.as_bytes())
        .expect("write commands");
    let path = batch.path().to_str().expect("a path in UTF-8");
    let text = netns.tc(&["-d", "-batch", path]);
    let links = links.lines().map(String::from).collect::<Vec<_>>();
    links.into_iter().chain([text])
}
