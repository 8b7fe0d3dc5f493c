//! Rules on system calls: which hooks serve them.

use std::collections::{BTreeMap, BTreeSet};

use injector_common::faults::net_refuse::FIXED_ERRNO;

use super::{Parts, need};
use crate::{
    error::{Error, Unsupported},
    model::{Errno, Rule, Rung, Syscall},
    plan::{CallHook, Features, hooks::call_hooks},
};

impl Parts {
    /// Has these calls fail, and as many of the optional ones as can be. Those that cannot are
    /// told in a note.
    pub(super) fn calls(
        &mut self,
        rule: &Rule,
        (wanted, optional): (&[Syscall], &[Syscall]),
        rung: Option<Rung>,
        mask: u64,
        features: &Features,
    ) -> Result<&'static str, Error> {
        let refuse = |call, why: &str| refusal(rule, call, rung, features, why);
        let mut rungs = BTreeSet::new();
        for &call in wanted {
            let hooks = call_hooks(call, rung, features).map_err(|why| refuse(call, &why))?;
            rungs.extend(hooks.iter().map(|hook| hook.rung()));
            self.call(rule, call, hooks, mask)?;
        }
        let mut hits_any = !wanted.is_empty();
        let mut left_out: BTreeMap<String, Vec<Syscall>> = BTreeMap::new();
        for &call in optional {
            match call_hooks(call, rung, features) {
                Ok(hooks) => {
                    rungs.extend(hooks.iter().map(|hook| hook.rung()));
                    self.call(rule, call, hooks, mask)?;
                    hits_any = true;
                }
                Err(why) => left_out.entry(why).or_default().push(call),
            }
        }
        for (why, calls) in left_out {
            if let (false, Some(&call)) = (hits_any, calls.first()) {
                return Err(refuse(call, &why));
            }
            let names: Vec<&str> = calls.iter().map(|call| call.name).collect();
            let (rule, names) = (&rule.name, names.join(", "));
            self.notes
                .push(format!("rule {rule} does not fail {names}: {why}"));
        }
        Ok(backend(&rungs))
    }

    fn call(
        &mut self,
        rule: &Rule,
        call: Syscall,
        hooks: Vec<CallHook>,
        mask: u64,
    ) -> Result<(), Unsupported> {
        for hook in hooks {
            let number = hook.number();
            let mut known = self.calls.iter();
            if let Some((other, ..)) =
                known.find(|(known, ..)| known.number() == number && *known != hook)
            {
                return Err(Unsupported {
                    what: format!("rule {}: --call {}", rule.name, call.name).into(),
                    needs: "one rung for all rules on calls that share a security hook".into(),
                    found: format!("{} in a rule before it", other.rung().name()).into(),
                });
            }
            let mut known = self.calls.iter_mut();
            match known.find(|known| known.0 == hook && known.1 == call) {
                Some(known) => known.2 |= mask,
                None => self.calls.push((hook, call, mask)),
            }
        }
        Ok(())
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

/// What a rule is served by whose calls need these rungs.
fn backend(rungs: &BTreeSet<Rung>) -> &'static str {
    let with = |rung| rungs.contains(&rung);
    if with(Rung::Kprobe) {
        return Rung::Kprobe.name();
    }
    match [Rung::FmodRet, Rung::Lsm, Rung::FmodRetSecurity].map(with) {
        [true, false, false] => Rung::FmodRet.name(),
        [true, true, false] => "fmod_ret+lsm",
        [true, false, true] => "fmod_ret+fmod_ret-security",
        [true, true, true] => "fmod_ret+lsm+fmod_ret-security",
        [false, true, true] => "lsm+fmod_ret-security",
        [false, false, true] => Rung::FmodRetSecurity.name(),
        [false, _, false] => Rung::Lsm.name(),
    }
}

fn refusal(
    rule: &Rule,
    call: Syscall,
    rung: Option<Rung>,
    features: &Features,
    why: &str,
) -> Error {
    let needs = match rung {
        Some(rung) => format!("a kernel that lets it fail by {}", rung.name()).into(),
        None if features.override_return.is_supported() => "a kernel that has this call".into(),
        None => format!(
            "a kernel that lets programs override system calls (CONFIG_BPF_KPROBE_OVERRIDE): {}, \
             or take their place (CONFIG_FUNCTION_ERROR_INJECTION): {}",
            features.override_return.reason(),
            if features.modify_return.is_supported() {
                "not that of this one"
            } else {
                features.modify_return.reason()
            }
        )
        .into(),
    };
    Unsupported {
        what: format!("rule {}: --call {}", rule.name, call.name).into(),
        needs,
        found: why.to_owned().into(),
    }
    .into()
}
