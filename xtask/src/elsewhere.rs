//! Systems without apt: what would install there what Debian's packages bring.
//!
//! Nothing is installed on such systems; they differ too much for that. A missing program is
//! named together with the command that should bring it.

use crate::apt::{Package, Probe};
use crate::exec::find;

/// A package manager that can be told what to install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    Dnf,
    Pacman,
    Zypper,
    Apk,
}

const ALL: [Manager; 4] = [Manager::Dnf, Manager::Pacman, Manager::Zypper, Manager::Apk];

/// Debian's name of a package, and its names for dnf, pacman and zypper. For apk none is needed:
/// its packages also go by the programs that they bring.
const NAMES: &[(&str, [&str; 3])] = &[
    ("bindfs", ["bindfs", "bindfs", "bindfs"]),
    ("bpftool", ["bpftool", "bpf", "bpftool"]),
    ("busybox-static", ["busybox", "busybox", "busybox-static"]),
    ("curl", ["curl", "curl", "curl"]),
    ("iperf3", ["iperf3", "iperf3", "iperf"]),
    ("iproute2", ["iproute-tc", "iproute2", "iproute2"]),
    ("iputils-ping", ["iputils", "iputils", "iputils"]),
    ("kmod", ["kmod", "kmod", "kmod"]),
    ("nftables", ["nftables", "nftables", "nftables"]),
    ("nginx-light", ["nginx", "nginx", "nginx"]),
    (
        "qemu-system-x86",
        ["qemu-system-x86-core", "qemu-system-x86", "qemu-x86"],
    ),
    (
        "postgresql",
        [
            "postgresql-server postgresql-contrib",
            "postgresql",
            "postgresql-server postgresql-contrib",
        ],
    ),
    ("redis-server", ["redis", "valkey", "redis"]),
    ("redis-tools", ["redis", "valkey", "redis"]),
    ("restic", ["restic", "restic", "restic"]),
    ("strace", ["strace", "strace", "strace"]),
    ("util-linux", ["util-linux", "util-linux", "util-linux"]),
    (
        "wireguard-tools",
        ["wireguard-tools", "wireguard-tools", "wireguard-tools"],
    ),
    ("xz-utils", ["xz", "xz", "xz"]),
    ("zstd", ["zstd", "zstd", "zstd"]),
];

impl Manager {
    /// The one of this system.
    pub(crate) fn find() -> Option<Self> {
        ALL.into_iter()
            .find(|manager| find(manager.program()).is_some())
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Dnf => "dnf",
            Self::Pacman => "pacman",
            Self::Zypper => "zypper",
            Self::Apk => "apk",
        }
    }

    /// The words that install packages, which follow.
    const fn install(self) -> &'static str {
        match self {
            Self::Dnf => "sudo dnf install",
            Self::Pacman => "sudo pacman -S --needed",
            Self::Zypper => "sudo zypper install",
            Self::Apk => "sudo apk add",
        }
    }

    /// The name of a package here.
    fn name(self, package: &Package) -> Option<String> {
        let column = match self {
            Self::Dnf => 0,
            Self::Pacman => 1,
            Self::Zypper => 2,
            Self::Apk => {
                return match package.probe {
                    Probe::Program(program) => Some(format!("cmd:{program}")),
                    Probe::File(_) => None,
                };
            }
        };
        let (_, names) = NAMES.iter().find(|(debian, _)| *debian == package.name)?;
        Some(names[column].to_owned())
    }
}

/// What to say where there is no apt and these packages are missing.
pub(crate) fn advice(manager: Option<Manager>, purpose: &str, missing: &[&Package]) -> String {
    let wanted: Vec<_> = missing
        .iter()
        .map(|package| match package.probe {
            Probe::Program(name) | Probe::File(name) => name,
        })
        .collect();
    let mut advice = format!(
        "for {purpose}, these are missing: {}. This system has no apt-get, so nothing is \
         installed for you",
        wanted.join(", ")
    );
    let names: Option<Vec<_>> = manager.and_then(|manager| {
        missing
            .iter()
            .map(|package| manager.name(package))
            .collect()
    });
    match (manager, names) {
        (Some(manager), Some(mut names)) => {
            names.dedup();
            advice.push_str(&format!(
                "; run this, then try again:\n  {} {}",
                manager.install(),
                names.join(" ")
            ));
        }
        _ => {
            let debian: Vec<_> = missing.iter().map(|package| package.name).collect();
            advice.push_str(&format!(
                "; Debian's packages that bring it are {}",
                debian.join(", ")
            ));
        }
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apt;

    const MISSING: [Package; 3] = [
        apt::program("iproute2", "tc"),
        apt::program("redis-server", "redis-server"),
        apt::program("redis-tools", "redis-benchmark"),
    ];

    #[track_caller]
    fn command(manager: Manager, expected: &str) {
        let missing: Vec<_> = MISSING.iter().collect();
        let advice = advice(Some(manager), "tests", &missing);
        assert_eq!(advice.lines().last(), Some(expected), "{advice}");
        assert!(advice.contains("tc, redis-server, redis-benchmark"));
    }

    #[test]
    fn each_manager_has_its_command() {
        command(Manager::Dnf, "  sudo dnf install iproute-tc redis");
        command(Manager::Pacman, "  sudo pacman -S --needed iproute2 valkey");
        command(Manager::Zypper, "  sudo zypper install iproute2 redis");
        command(
            Manager::Apk,
            "  sudo apk add cmd:tc cmd:redis-server cmd:redis-benchmark",
        );
    }

    #[test]
    fn without_a_known_manager_programs_are_named() {
        let missing: Vec<_> = MISSING.iter().collect();
        let advice = advice(None, "tests", &missing);
        assert!(
            advice.ends_with("iproute2, redis-server, redis-tools"),
            "{advice}"
        );
    }

    /// Whatever the subcommands may ask for off Debian can be named everywhere.
    #[test]
    fn every_package_has_its_names() {
        use crate::setup::{COMPARED, VICTIMS, VM};
        for package in VM.iter().chain(VICTIMS).chain(COMPARED) {
            for manager in ALL {
                assert!(
                    manager.name(package).is_some(),
                    "{} for {manager:?}",
                    package.name
                );
            }
        }
    }
}
