//! Rules on system calls: which hooks serve them.

use std::collections::BTreeMap;

use injector_common::faults::net_refuse::FIXED_ERRNO;

use super::{Parts, need};
use crate::{
    error::{Error, Unsupported},
    model::{Errno, Rule, Syscall},
    plan::{CallHook, Features, hooks::call_hooks},
};

impl Parts {
    /// Has these calls fail, and as many of the optional ones as can be. Those that cannot are
    /// told in a note.
    pub(super) fn calls(
        &mut self,
        rule: &Rule,
        (wanted, optional): (&[Syscall], &[Syscall]),
        mask: u64,
        features: &Features,
    ) -> Result<&'static str, Error> {
        for &call in wanted {
            let hooks =
                call_hooks(call, features).map_err(|why| refusal(rule, call, features, &why))?;
            self.call(call, hooks, mask);
        }
        let mut hits_any = !wanted.is_empty();
        let mut left_out: BTreeMap<String, Vec<Syscall>> = BTreeMap::new();
        for &call in optional {
            match call_hooks(call, features) {
                Ok(hooks) => {
                    self.call(call, hooks, mask);
                    hits_any = true;
                }
                Err(why) => left_out.entry(why).or_default().push(call),
            }
        }
        for (why, calls) in left_out {
            if let (false, Some(&call)) = (hits_any, calls.first()) {
                return Err(refusal(rule, call, features, &why));
            }
            let names: Vec<&str> = calls.iter().map(|call| call.name).collect();
            let (rule, names) = (&rule.name, names.join(", "));
            self.notes
                .push(format!("rule {rule} does not fail {names}: {why}"));
        }
        let by_entry = features.override_return.is_supported();
        Ok(if by_entry { "kprobe" } else { "lsm" })
    }

    fn call(&mut self, call: Syscall, hooks: Vec<CallHook>, mask: u64) {
        for hook in hooks {
            let mut known = self.calls.iter_mut();
            match known.find(|known| known.0 == hook && known.1 == call) {
                Some(known) => known.2 |= mask,
                None => self.calls.push((hook, call, mask)),
            }
        }
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

fn refusal(rule: &Rule, call: Syscall, features: &Features, why: &str) -> Error {
    let needs = if features.override_return.is_supported() {
        "a kernel that has this call".into()
    } else {
        let found = features.override_return.reason();
        format!(
            "a kernel that lets programs override system calls (CONFIG_BPF_KPROBE_OVERRIDE): {found}"
        )
        .into()
    };
    Unsupported {
        what: format!("rule {}: --call {}", rule.name, call.name).into(),
        needs,
        found: why.to_owned().into(),
    }
    .into()
}
