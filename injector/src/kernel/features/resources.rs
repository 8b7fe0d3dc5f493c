//! Whether control files of cgroups can be had.

use std::fs;

use injector_common::FaultKind;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::no;
use crate::{
    kernel::{
        cgroup,
        timens::{self, Offsets},
    },
    plan::Support,
    resolve,
};

/// Whether a kind on resources can be had for a cgroup for which its controller is enabled.
/// The control file of a cgroup that is made for it is what tells, where the cgroup that it is
/// made in hands the controller down; where not, whether the hierarchy has the controller.
pub(super) fn support(kind: FaultKind) -> Support {
    let (file, controller) = match kind {
        FaultKind::CgroupFreeze => ("cgroup.freeze", None),
        FaultKind::CpuQuota => ("cpu.max", Some("cpu")),
        FaultKind::MemoryLimit => ("memory.max", Some("memory")),
        FaultKind::PidsLimit => ("pids.max", Some("pids")),
        FaultKind::IoLimit => ("io.max", Some("io")),
        FaultKind::ProcSignal | FaultKind::ProcKill => return try_pidfd(),
        FaultKind::ClockOffset => return try_clocks(),
        // Any cgroup that processes may be moved to.
        FaultKind::CpuStress | FaultKind::MemoryPressure => ("cgroup.procs", None),
        FaultKind::NetLoss
        | FaultKind::NetDelay
        | FaultKind::NetCorrupt
        | FaultKind::NetDuplicate
        | FaultKind::NetReorder
        | FaultKind::NetRate
        | FaultKind::NetPartition
        | FaultKind::NetRefuse
        | FaultKind::NetReject
        | FaultKind::NetReset
        | FaultKind::Dns
        | FaultKind::SysErrno
        | FaultKind::SysDelay
        | FaultKind::SysReturn
        | FaultKind::SysSignal
        | FaultKind::UserReturn => return no("no kind on resources"),
    };
    let root = match cgroup::mount_point() {
        Ok(root) => root,
        Err(error) => return no(error.to_string()),
    };
    if let Some(controller) = controller {
        let has = |directory: &std::path::Path, list: &str| {
            let text = fs::read_to_string(directory.join(list)).unwrap_or_default();
            text.split_whitespace().any(|word| word == controller)
        };
        if !has(&root, "cgroup.controllers") {
            return no(format!(
                "cgroup v2 has no {controller} controller here: it belongs to cgroup v1 \
                 (cgroup_no_v1={controller} on the kernel's command line frees it), or was not built"
            ));
        }
        let own = resolve::LinuxHost::new().ok();
        let own = own.and_then(|host| resolve::own_cgroup(&host).ok());
        let hands_down = own.is_some_and(|own| has(&own.path, "cgroup.subtree_control"));
        if !hands_down {
            return Support::Supported;
        }
    }
    try_file(file)
}

/// Makes a cgroup below the injector's own, looks for a file in it, and removes it.
fn try_file(file: &str) -> Support {
    let inconclusive = |reason: String| Support::Inconclusive { reason };
    let name = format!("injector-probe-{}", std::process::id());
    let (path, level) = match cgroup::place_for(&name) {
        Ok(place) => place,
        Err(error) => return inconclusive(error.to_string()),
    };
    if let Err(error) = cgroup::create(path.clone(), level) {
        return inconclusive(format!("{}: {error}", path.display()));
    }
    // What is there is written to: the same value again changes nothing.
    let file_path = path.join(file);
    let tried = fs::read_to_string(&file_path).and_then(|value| {
        // A line for a disk has no value that changes nothing, and a list of processes none at all.
        if ["io.max", "cgroup.procs"].contains(&file) {
            return Ok(());
        }
        fs::write(&file_path, value.trim())
    });
    let removed = cgroup::remove(&path);
    match (tried, removed) {
        (Ok(()), Ok(())) => Support::Supported,
        (Err(error), _) => no(format!("{file}: {error}")),
        (Ok(()), Err(error)) => inconclusive(format!("{}: {error}", path.display())),
    }
}

/// Makes a namespace that nobody enters.
fn try_clocks() -> Support {
    match timens::try_out(Offsets::default()) {
        Ok(()) => Support::Supported,
        Err(error) => no(error.to_string()),
    }
}

/// Holds this process, and signals nothing.
fn try_pidfd() -> Support {
    match pidfd_open(getpid(), PidfdFlags::empty()) {
        Ok(_) => Support::Supported,
        Err(error) => no(format!("pidfd_open: {error}")),
    }
}
