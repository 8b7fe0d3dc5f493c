//! What rules on resources need of their targets' cgroups.

use std::path::Path;

use injector_common::Tgid;

use super::{
    Scope, cgroup,
    host::{CgroupMount, Host},
};
use crate::{
    error::{Error, SpecError, Unsupported},
    model::{Device, ResourceFault, Rule, Setting},
};

/// The process that all others need.
const INIT: Tgid = Tgid(1);

/// Refuses targets that must not be hit, and control files that are not there.
///
/// # Errors
///
/// With the reason, and what to do.
pub(super) fn check(
    rule: &Rule,
    scopes: &[Scope],
    mounts: &[CgroupMount],
    host: &impl Host,
) -> Result<(), Error> {
    let Some(fault) = rule.fault.resource() else {
        return Ok(());
    };
    for scope in scopes {
        match scope {
            Scope::Cgroup { path, level, .. } => {
                check_spared(fault, path, *level, mounts, host)?;
                check_file(fault, path, host)?;
            }
            Scope::Command => check_command(fault, mounts, host)?,
            // Those for whom a cgroup is needed were refused before anything was looked up.
            Scope::Processes { .. } => {}
        }
    }
    match fault.device() {
        Some(device) => check_disk(device, host),
        None => Ok(()),
    }
}

/// Refuses what holds every process, the first one or the injector.
fn check_spared(
    fault: &ResourceFault,
    path: &Path,
    level: u32,
    mounts: &[CgroupMount],
    host: &impl Host,
) -> Result<(), Error> {
    let kind = fault.kind().name();
    let refuse = |what: &str| -> Error {
        SpecError::new(
            "target",
            format!("cgroup:{} {what}", path.display()),
            format!("for {kind} a cgroup below the root, without PID 1 and the injector in it"),
        )
        .into()
    };
    if level == 0 {
        return Err(refuse("is the root cgroup, also with --whole-host"));
    }
    let inside = host.cgroup_processes(path)?;
    if inside.contains(&INIT) {
        return Err(refuse("holds PID 1"));
    }
    // A cgroup of another namespace, from which nothing here can be seen, is not its own.
    let own = cgroup::of_process(&host.own_cgroup()?, mounts, host).ok();
    if inside.contains(&host.own_tgid()) || own.is_some_and(|own| own.path.starts_with(path)) {
        return Err(refuse(
            "holds the injector itself, which could not put back what it has set",
        ));
    }
    Ok(())
}

/// Refuses a control file that is not there.
fn check_file(fault: &ResourceFault, path: &Path, host: &impl Host) -> Result<(), Error> {
    let Some(setting) = fault.setting() else {
        return Ok(());
    };
    if host.control_file(&path.join(setting.file)).is_ok() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(path);
    Err(missing(fault, &setting, path, parent, host).into())
}

/// The command's cgroup is made below the injector's own, and has the controllers that are
/// enabled for what is there.
fn check_command(
    fault: &ResourceFault,
    mounts: &[CgroupMount],
    host: &impl Host,
) -> Result<(), Error> {
    let Some(setting) = fault.setting() else {
        return Ok(());
    };
    let Some(controller) = setting.controller else {
        return Ok(());
    };
    let own = cgroup::of_process(&host.own_cgroup()?, mounts, host)?;
    let enabled = host.control_file(&own.path.join("cgroup.subtree_control"));
    if has_word(&enabled.unwrap_or_default(), controller) {
        return Ok(());
    }
    let cgroup = Path::new("the command's cgroup");
    Err(missing(fault, &setting, cgroup, &own.path, host).into())
}

/// Why a control file is missing in `cgroup`, which is or will be below `parent`.
fn missing(
    fault: &ResourceFault,
    setting: &Setting,
    cgroup: &Path,
    parent: &Path,
    host: &impl Host,
) -> Unsupported {
    let what = format!("{} of {}", fault.kind().name(), cgroup.display());
    let text = |name: &str| {
        let text = host.control_file(&parent.join(name));
        text.unwrap_or_default().trim().to_owned()
    };
    let Some(controller) = setting.controller else {
        return Unsupported {
            what: what.into(),
            needs: format!("{}, which is there since Linux 5.2", setting.file).into(),
            found: "none".into(),
        };
    };
    if has_word(&text("cgroup.subtree_control"), controller) {
        return Unsupported {
            what: what.into(),
            needs: format!("{} of the {controller} controller", setting.file).into(),
            found: format!("the {controller} controller, which this kernel built without it")
                .into(),
        };
    }
    let control = parent.join("cgroup.subtree_control");
    let needs = format!(
        "the {controller} controller of cgroup v2 there, which the injector does not enable by itself"
    );
    let found = if has_word(&text("cgroup.controllers"), controller) {
        format!(
            "that it is not enabled; to enable it: echo +{controller} >{}",
            control.display()
        )
    } else {
        format!(
            "none that {} could hand down: it is enabled in no cgroup above, belongs to cgroup v1 \
             on this host (cgroup_no_v1={controller} on the kernel's command line frees it), or was \
             not built",
            parent.display()
        )
    };
    Unsupported {
        what: what.into(),
        needs: needs.into(),
        found: found.into(),
    }
}

fn has_word(text: &str, word: &str) -> bool {
    text.split_whitespace().any(|one| one == word)
}

/// Limits are for whole disks.
fn check_disk(device: &Device, host: &impl Host) -> Result<(), Error> {
    let refuse = |what: String| -> Error {
        SpecError::new(
            "device",
            format!("{device} {what}"),
            "a whole disk that is there, as in /proc/partitions",
        )
        .into()
    };
    let (major, minor) = match device {
        Device::Numbers { major, minor } => (*major, *minor),
        Device::Node(path) => host
            .block_device(path)
            .map_err(|error| refuse(format!("cannot be limited: {error}")))?,
    };
    if host.is_disk(major, minor) {
        Ok(())
    } else {
        Err(refuse("is no whole disk".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use injector_common::{CgroupId, Trigger};

    use super::*;
    use crate::{
        model::{Fault, Per, Target},
        resolve::scopes::fake::FakeHost,
    };

    fn rule(fault: ResourceFault) -> Rule {
        Rule {
            name: "r".to_owned(),
            targets: vec![Target::Command],
            fault: Fault::Resource(fault),
            trigger: Trigger::ALWAYS,
            per: Per::Rule,
            start: Duration::ZERO,
            duration: Duration::from_secs(1),
            shadow: false,
            removed: false,
        }
    }

    fn scope(path: &str, level: u32) -> Scope {
        Scope::Cgroup {
            id: CgroupId(7),
            level,
            path: path.into(),
        }
    }

    #[track_caller]
    fn refused(fault: ResourceFault, scope: Scope, host: &FakeHost, why: &str) {
        let mounts = host.cgroup_mounts().expect("mounts");
        let error = check(&rule(fault), &[scope], &mounts, host).expect_err(why);
        assert!(error.to_string().contains(why), "{error}");
    }

    fn host() -> FakeHost {
        let mut host = FakeHost::new();
        for (path, text) in [
            ("/cg/db/cgroup.freeze", "0\n"),
            ("/cg/web/cgroup.freeze", "0\n"),
            ("/cg/web/php/cgroup.freeze", "0\n"),
            ("/cg/cgroup.controllers", "cpu pids\n"),
            ("/cg/cgroup.subtree_control", "pids\n"),
        ] {
            host.control_files.insert(path.into(), text.to_owned());
        }
        host
    }

    #[test]
    fn what_must_go_on_is_spared() {
        let host = host();
        let freeze = || ResourceFault::Freeze;
        refused(freeze(), scope("/cg", 0), &host, "root cgroup");
        // The agent is in /web/php.
        refused(freeze(), scope("/cg/web", 1), &host, "holds the injector");
        refused(
            freeze(),
            scope("/cg/web/php", 2),
            &host,
            "holds the injector",
        );
        let mut with_init = host.clone();
        with_init.cgroups.insert("/cg/db".into(), vec![1, 20]);
        refused(freeze(), scope("/cg/db", 1), &with_init, "holds PID 1");
        let mounts = host.cgroup_mounts().expect("mounts");
        let freeze = rule(freeze());
        check(
            &freeze,
            &[scope("/cg/db", 1), Scope::Command],
            &mounts,
            &host,
        )
        .expect("allowed");
    }

    #[test]
    fn a_missing_controller_is_named() {
        let host = host();
        let db = || scope("/cg/db", 1);
        let quota = crate::model::CpuQuota {
            quota_us: 1000,
            period_us: 1000,
        };
        let enable = "echo +cpu >/cg/cgroup.subtree_control";
        refused(ResourceFault::CpuQuota(quota), db(), &host, enable);
        refused(ResourceFault::PidsLimit(1), db(), &host, "built without it");
        let limit = crate::model::MemoryLimit {
            bytes: 4096,
            soft: false,
        };
        let v1 = "cgroup_no_v1=memory";
        refused(ResourceFault::MemoryLimit(limit), db(), &host, v1);
        refused(ResourceFault::MemoryLimit(limit), Scope::Command, &host, v1);
    }
}
