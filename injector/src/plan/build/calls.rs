//! Rules on system calls: which hooks serve them.

use std::collections::BTreeMap;

use injector_common::faults::net_refuse::FIXED_ERRNO;

use super::{Parts, need};
use crate::{
    error::{Error, Unsupported},
    model::{Calls, Errno, Rule, Syscall},
    plan::{CallHook, Features, hooks::call_hooks},
};

impl Parts {
    /// Has these calls hit, and as many of the optional ones as can be. Those that cannot are
    /// told in a note.
    pub(super) fn calls(
        &mut self,
        rule: &Rule,
        calls: &Calls,
        mask: u64,
        features: &Features,
    ) -> Result<&'static str, Error> {
        let hooks_of = |call| call_hooks(call, &calls.filter, features);
        let mut rungs = Rungs::default();
        for &call in &calls.wanted {
            let hooks = hooks_of(call).map_err(|why| refusal(rule, call, calls, features, &why))?;
            rungs.add(&hooks);
            self.call(call, hooks, mask);
        }
        let mut left_out: BTreeMap<String, Vec<Syscall>> = BTreeMap::new();
        for &call in &calls.optional {
            match hooks_of(call) {
                Ok(hooks) => {
                    rungs.add(&hooks);
                    self.call(call, hooks, mask);
                }
                Err(why) => left_out.entry(why).or_default().push(call),
            }
        }
        for (why, names) in left_out {
            if let (None, Some(&call)) = (rungs.name(), names.first()) {
                return Err(refusal(rule, call, calls, features, &why));
            }
            let names: Vec<&str> = names.iter().map(|call| call.name).collect();
            let (rule, names) = (&rule.name, names.join(", "));
            self.notes
                .push(format!("rule {rule} does not hit {names}: {why}"));
        }
        Ok(rungs.name().unwrap_or("none"))
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

/// Where a rule's calls are met.
#[derive(Default)]
struct Rungs {
    entry: bool,
    security: bool,
}

impl Rungs {
    fn add(&mut self, hooks: &[CallHook]) {
        for hook in hooks {
            match hook {
                CallHook::Entry => self.entry = true,
                CallHook::Security(_) => self.security = true,
            }
        }
    }

    /// What plans and reports call it; `None` for nowhere.
    const fn name(&self) -> Option<&'static str> {
        match (self.entry, self.security) {
            (true, false) => Some("kprobe"),
            (false, true) => Some("lsm"),
            (true, true) => Some("kprobe, lsm"),
            (false, false) => None,
        }
    }
}

fn refusal(rule: &Rule, call: Syscall, calls: &Calls, features: &Features, why: &str) -> Error {
    let needs = if calls.filter.asks_for_file() {
        "a security hook that is told which file the call is about, or an override of a call that \
         takes a descriptor"
            .into()
    } else if features.override_return.is_supported() {
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
