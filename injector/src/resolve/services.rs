//! Services of the host by which people and machines reach it and its containers. Rules on calls,
//! signals and resources spare them, whatever their targets: nobody could put right what they broke.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use injector_common::{Tgid, kinds::Family};

use super::{Scope, host::Host};
use crate::{
    error::SpecError,
    model::{Fault, ResourceFault, Rule, Target},
};

/// What such a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It serves the whole host.
    Daemon,
    /// It serves one session or one container, in whose cgroup it may be.
    Helper,
}

/// The executables, by the names of their files.
const EXECUTABLES: &[(&str, Part)] = &[
    ("sshd", Part::Daemon),
    ("sshd-session", Part::Helper),
    ("sshd-auth", Part::Helper),
    ("dropbear", Part::Daemon),
    ("containerd", Part::Daemon),
    ("containerd-shim", Part::Helper),
    ("containerd-shim-runc-v1", Part::Helper),
    ("containerd-shim-runc-v2", Part::Helper),
    ("dockerd", Part::Daemon),
    ("docker-proxy", Part::Helper),
    ("crio", Part::Daemon),
    ("conmon", Part::Helper),
    ("conmonrs", Part::Helper),
    ("podman", Part::Helper),
    ("runc", Part::Helper),
    ("crun", Part::Helper),
    ("kubelet", Part::Daemon),
    ("kubelite", Part::Daemon),
    ("k3s", Part::Daemon),
    ("k0s", Part::Daemon),
    ("rke2", Part::Daemon),
];

/// Where distributions and the makers of these put them.
const FOLDERS: &[&str] = &[
    "usr/sbin",
    "usr/bin",
    "usr/local/sbin",
    "usr/local/bin",
    "usr/lib/openssh",
    "usr/libexec/openssh",
    "usr/libexec/crio",
    "usr/libexec/podman",
    "opt/bin",
];

/// How many of those that a target holds are told by name.
const TOLD: usize = 5;

fn whom(scope: &Scope) -> String {
    match scope {
        Scope::Cgroup { path, .. } => format!("cgroup:{}", path.display()),
        Scope::Processes { root, .. } => format!("pid:{root}"),
        Scope::Command => "command".to_owned(),
    }
}

fn part(executable: &Path) -> Option<(&'static str, Part)> {
    let name = executable.file_name()?.as_bytes();
    // What the kernel tells of a file that was replaced since, by an upgrade say.
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    let known = EXECUTABLES.iter().find(|known| known.0.as_bytes() == name);
    known.copied()
}

/// The name of the service that a process is, if it is one of the host that this process sees: what
/// is in a pid namespace of its own, as in a container, is no service of the host.
pub(crate) fn of_process(tgid: Tgid) -> Option<&'static str> {
    let executable = fs::read_link(format!("/proc/{tgid}/exe")).ok()?;
    let (name, _) = part(&executable)?;
    let namespace = |whose: &str| fs::read_link(format!("/proc/{whose}/ns/pid")).ok();
    (namespace(&tgid.to_string())? == namespace("self")?).then_some(name)
}

/// Files of all that run on this host, and of those that are installed where they usually are, each
/// once: of shims there may be a thousand.
pub(crate) fn executables() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let running = pids
        .filter(|&pid| of_process(Tgid(pid)).is_some())
        .map(|pid| PathBuf::from(format!("/proc/{pid}/exe")));
    // Whoever runs in a container sees the host's files by its first process.
    let places = FOLDERS.iter().flat_map(|folder| {
        let folder = Path::new("/proc/1/root").join(folder);
        EXECUTABLES.iter().map(move |known| folder.join(known.0))
    });
    let installed = places.filter(|place| place.is_file());
    let mut known = BTreeSet::new();
    let mut is_new = |path: &PathBuf| {
        // A process may have ended meanwhile.
        fs::metadata(path).is_ok_and(|file| known.insert((file.dev(), file.ino())))
    };
    running
        .chain(installed)
        .filter(|path| is_new(path))
        .collect()
}

/// Whether a rule spares services: kinds that act on calls and processes do, but in a command that
/// the injector starts nothing serves the host.
pub(crate) fn spares(rule: &Rule) -> bool {
    rule.fault.kind().family() != Family::Packet
        && rule.targets.iter().any(|target| *target != Target::Command)
}

/// Refuses a rule that could hit nobody else, or could not leave them out; `Some` says whom the
/// rule leaves out. `members` are the processes of each scope.
pub(super) fn check(
    rule: &Rule,
    scopes: &[Scope],
    members: &[Vec<Tgid>],
    host: &impl Host,
) -> Result<Option<String>, SpecError> {
    let mut spared = BTreeSet::new();
    for (scope, members) in scopes.iter().zip(members) {
        let services: Vec<(Tgid, &str)> = members
            .iter()
            .filter_map(|&tgid| Some((tgid, host.service(tgid)?)))
            .collect();
        let refuse = |service: (Tgid, &str), what: &str| {
            let (tgid, name) = service;
            SpecError::new(
                "target",
                format!(
                    "{} {what} {name} (process {tgid}), which no such rule hits",
                    whom(scope)
                ),
                "a target that the host can do without; it is reached, and runs containers, by such services",
            )
        };
        match scope {
            Scope::Processes { root, .. } => {
                if let Some(&service) = services.iter().find(|service| service.0 == *root) {
                    return Err(refuse(service, "is"));
                }
            }
            Scope::Cgroup { .. } | Scope::Command => {}
        }
        let Some(&first) = services.first() else {
            continue;
        };
        if services.len() == members.len() {
            return Err(refuse(first, "holds nothing but services such as"));
        }
        let daemon = services.iter().find(|service| {
            part(Path::new(service.1)).is_some_and(|known| known.1 == Part::Daemon)
        });
        // What is set for a cgroup is set for all that is in it.
        if let (Fault::Resource(fault), Some(&daemon)) = (&rule.fault, daemon)
            && !matches!(fault, ResourceFault::Signal(_))
        {
            return Err(refuse(daemon, "holds"));
        }
        spared.extend(services);
    }
    if spared.is_empty() {
        return Ok(None);
    }
    let mut names: Vec<String> = spared
        .iter()
        .take(TOLD)
        .map(|(tgid, name)| format!("{name} ({tgid})"))
        .collect();
    if spared.len() > TOLD {
        names.push(format!("{} more", spared.len() - TOLD));
    }
    Ok(Some(format!(
        "rule {} does not hit services of the host that its target holds: {}",
        rule.name,
        names.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_known_by_their_names() {
        let name = |path: &str| part(Path::new(path)).map(|known| known.0);
        assert_eq!(name("/usr/sbin/sshd"), Some("sshd"));
        assert_eq!(name("/usr/bin/dockerd (deleted)"), Some("dockerd"));
        for other in ["/usr/bin/ssh", "/srv/sshd/web", "/usr/bin/my-sshd", "sshd2"] {
            assert_eq!(name(other), None, "{other}");
        }
    }
}
