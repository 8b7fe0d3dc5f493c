//! What the host must have before any target is looked for.

use injector_common::kinds::Family;

use super::host::{CgroupMount, Host};
use crate::{
    error::{Error, PermissionError, Unsupported},
    model::{Experiment, Rule, Target},
};

/// Checks the host and returns its cgroup v2 mounts.
pub(super) fn check(experiment: &Experiment, host: &impl Host) -> Result<Vec<CgroupMount>, Error> {
    let missing = host.missing_capabilities();
    if !missing.is_empty() {
        return Err(PermissionError {
            capabilities: missing,
        }
        .into());
    }
    if !host.has_btf() {
        return Err(Unsupported {
            what: "BPF type information (BTF)".into(),
            needs: "/sys/kernel/btf/vmlinux, from a kernel built with CONFIG_DEBUG_INFO_BTF".into(),
            found: format!("none on kernel {}", host.kernel_release()).into(),
        }
        .into());
    }
    let mounts = host.cgroup_mounts()?;
    // Whose a socket is, is found out at the root of all cgroups.
    let by_sockets = |rule: &Rule| match rule.fault.kind().family() {
        Family::Packet | Family::Connect => true,
        Family::Syscall | Family::Function | Family::Resource => false,
    };
    let by_group = |target: &Target| !matches!(target, Target::Process(_));
    let needs_one = |rule: &&Rule| by_sockets(rule) || rule.targets.iter().any(by_group);
    if mounts.is_empty()
        && let Some(rule) = experiment.rules.iter().find(needs_one)
    {
        let what = if rule.targets.iter().any(by_group) {
            "a target cgroup".into()
        } else {
            format!("{} for a target pid:N", rule.fault.kind().name()).into()
        };
        return Err(Unsupported {
            what,
            needs: "cgroup v2, mounted for example by `mount -t cgroup2 none /sys/fs/cgroup`"
                .into(),
            found: "no cgroup2 mount".into(),
        }
        .into());
    }
    if !host.in_initial_pid_namespace() {
        check_foreign_ids(experiment)?;
    }
    Ok(mounts)
}

/// Refuses what needs the kernel's own process ids, which a container's pid
/// namespace hides: those of targets, and that of the injector, by which rules
/// on system calls spare it; and what has to outlive the namespace.
fn check_foreign_ids(experiment: &Experiment) -> Result<(), Unsupported> {
    let refuse = |what: &'static str, found: &'static str| Unsupported {
        what: what.into(),
        needs: "the host's pid namespace, such as `docker run --pid=host`".into(),
        found: found.into(),
    };
    for rule in &experiment.rules {
        // Who is in a cgroup could not be told, so neither who is to be spared; and a guardian
        // would end with the container, without putting anything back.
        if rule.fault.resource().is_some() {
            return Err(refuse(
                "a rule on resources or processes",
                "a pid namespace of a container, from which the host's processes have no ids, \
                 and with which the guardian would end",
            ));
        }
        if rule.targets.iter().any(|t| matches!(t, Target::Process(_))) {
            return Err(refuse(
                "a target pid:N",
                "a pid namespace of a container, whose ids are not the kernel's",
            ));
        }
        if matches!(
            rule.fault.kind().family(),
            Family::Syscall | Family::Connect | Family::Function
        ) {
            return Err(refuse(
                "a rule on system calls or functions",
                "a pid namespace of a container, where the injector cannot tell the kernel \
                 which process it is itself, to be spared",
            ));
        }
    }
    Ok(())
}
