//! Rules on system calls: which hooks serve them.

use injector_common::{faults::net_refuse::FIXED_ERRNO, names::SecurityHook};

use super::{Parts, need};
use crate::{
    error::{Error, Unsupported},
    model::{Errno, Rule, Syscall},
    plan::{CallHook, Features, hooks},
};

impl Parts {
    /// Chooses the rung for a rule on calls: the entry where results can be
    /// overridden, since it reaches every call; security hooks otherwise.
    pub(super) fn calls(
        &mut self,
        rule: &Rule,
        calls: &[Syscall],
        mask: u64,
        features: &Features,
    ) -> Result<&'static str, Error> {
        let by_entry = features.override_return.is_supported();
        for call in calls {
            let call_hooks = if by_entry {
                vec![CallHook::Entry]
            } else {
                let hooks = usable_hooks(rule, call, features)?;
                hooks.into_iter().map(CallHook::Security).collect()
            };
            for hook in call_hooks {
                let mut known = self.calls.iter_mut();
                match known.find(|known| known.0 == hook && known.1 == *call) {
                    Some(known) => known.2 |= mask,
                    None => self.calls.push((hook, *call, mask)),
                }
            }
        }
        Ok(if by_entry { "kprobe" } else { "lsm" })
    }

    /// Programs that choose the error serve every rule; where there are none,
    /// the others serve those that ask for `EPERM`.
    pub(super) fn connects(
        &mut self,
        rule: &Rule,
        errno: Errno,
        features: &Features,
    ) -> Result<&'static str, Error> {
        let chooses = features.refuse.is_supported();
        if !chooses {
            if errno.value != FIXED_ERRNO {
                let needs = "programs that choose connect's error (Linux 6.1); \
                             only --errno EPERM can be had without";
                need(rule, needs, &features.refuse)?;
            }
            need(rule, "programs at connect", &features.deny)?;
        }
        self.connects = Some(chooses);
        Ok("cgroup")
    }
}

fn usable_hooks(
    rule: &Rule,
    call: &Syscall,
    features: &Features,
) -> Result<Vec<SecurityHook>, Error> {
    let unsupported = |needs: String, found: String| Unsupported {
        what: format!("rule {}: --call {}", rule.name, call.name).into(),
        needs: needs.into(),
        found: found.into(),
    };
    let entry = format!(
        "a kernel that lets programs override system calls (CONFIG_BPF_KPROBE_OVERRIDE): {}",
        features.override_return.reason()
    );
    hooks::usable_hooks(call.name, features).map_err(|found| unsupported(entry, found).into())
}
