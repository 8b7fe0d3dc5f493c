//! Rules on system calls: which hooks serve them.

use std::collections::{BTreeMap, BTreeSet};

use injector_common::faults::net_refuse::FIXED_ERRNO;

use super::{Parts, need};
use crate::{
    error::{Error, Unsupported},
    faults::calls::never,
    model::{Calls, Errno, Manner, Rule, Rung, Syscall, Way},
    plan::{
        CallHook, Features, TwinHook,
        hooks::{call_hooks, takes_descriptor},
    },
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
        let way = rule.fault.call_way().unwrap_or_default();
        let refuse = |call, why: &str| refusal(rule, call, way, features, why);
        let mut rungs = BTreeSet::new();
        let mut manners = BTreeSet::new();
        for &call in &calls.wanted {
            let hooks = call_hooks(call, way, features).map_err(|why| refuse(call, &why))?;
            rungs.extend(hooks.iter().map(|hook| hook.rung()));
            manners.extend(hooks.iter().map(|hook| hook.manner()));
            self.call(rule, call, &hooks, mask, features)?;
        }
        let mut left_out: BTreeMap<String, Vec<Syscall>> = BTreeMap::new();
        let known = |call| never::lacks(&rule.fault, call).map_or(Ok(()), Err);
        for &call in &calls.optional {
            let met = known(call).and_then(|()| call_hooks(call, way, features));
            let met = met.and_then(|hooks| {
                let clash =
                    |error: Unsupported| format!("it needs {}; found {}", error.needs, error.found);
                self.call(rule, call, &hooks, mask, features)
                    .map_err(clash)?;
                Ok(hooks)
            });
            match met {
                Ok(hooks) => {
                    rungs.extend(hooks.iter().map(|hook| hook.rung()));
                    manners.extend(hooks.iter().map(|hook| hook.manner()));
                }
                Err(why) => left_out.entry(why).or_default().push(call),
            }
        }
        for (why, calls) in left_out {
            if let (true, Some(&call)) = (rungs.is_empty(), calls.first()) {
                return Err(refuse(call, &why));
            }
            let names: Vec<&str> = calls.iter().map(|call| call.name).collect();
            let (rule, names) = (&rule.name, names.join(", "));
            self.notes
                .push(format!("rule {rule} does not hit {names}: {why}"));
        }
        Ok(if way.waits.is_some() {
            let with = |manner| manners.contains(&manner);
            match (with(Manner::Asleep), with(Manner::Busy)) {
                (true, true) => "asleep+busy",
                (true, false) => "asleep",
                (false, _) => "busy",
            }
        } else {
            backend(&rungs)
        })
    }

    fn call(
        &mut self,
        rule: &Rule,
        call: Syscall,
        hooks: &[CallHook],
        mask: u64,
        features: &Features,
    ) -> Result<(), Unsupported> {
        for &hook in hooks {
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
            // Rules are asked in their order only where one program asks them all.
            let elsewhere = |known: &&(CallHook, Syscall, u64)| {
                known.1 == call
                    && known
                        .0
                        .is_behind()
                        .is_some_and(|behind| hook.is_behind().is_some_and(|here| here != behind))
            };
            if let Some((other, ..)) = self.calls.iter().find(elsewhere) {
                return Err(Unsupported {
                    what: format!("rule {}: --call {}", rule.name, call.name).into(),
                    needs:
                        "one place for all rules on a call, its entry or a security hook behind \
                            it; --rung of the rule without a condition on files may name it"
                            .into(),
                    found: format!("{} in a rule before it", other.rung().name()).into(),
                });
            }
            if let Some((other, ..)) = self
                .calls
                .iter()
                .find(|known| known.1 == call && known.0.hides(hook))
            {
                let (one, two) = (hook.rung().name(), other.rung().name());
                return Err(Unsupported {
                    what: format!("rule {}: --call {}", rule.name, call.name).into(),
                    needs: "no program in the place of a call whose result a kprobe overrides, \
                            which would be without effect; --rung fmod_ret of the rule that fails it, \
                            or has it return more than 0, goes with the other"
                        .into(),
                    found: format!("{one} here, and {two} in a rule before it").into(),
                });
            }
            self.check_twins(rule, call, hook, features)?;
        }
        for &hook in hooks {
            let mut known = self.calls.iter_mut();
            match known.find(|known| known.0 == hook && known.1 == call) {
                Some(known) => known.2 |= mask,
                None => self.calls.push((hook, call, mask)),
            }
            let Some(at) = hook.twin() else {
                continue;
            };
            let twins = features.twins(call);
            let support = features.takes_twin(at);
            if !support.is_supported() && !twins.is_empty() {
                // Said once, and not for each of the calls of a class.
                let note = format!(
                    "rule {} leaves 32-bit callers alone, who enter by functions of their own: {}",
                    rule.name,
                    support.reason()
                );
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
                continue;
            }
            for function in twins {
                let twin = (at, function.clone());
                if !self.twins.contains(&twin) {
                    self.twins.push(twin);
                }
            }
        }
        Ok(())
    }

    /// `socketcall` stands for many calls, whose rules may go by different rungs: the same as above,
    /// for 32-bit callers.
    fn check_twins(
        &self,
        rule: &Rule,
        call: Syscall,
        hook: CallHook,
        features: &Features,
    ) -> Result<(), Unsupported> {
        let other = match hook.twin() {
            Some(TwinHook::Overridden) => TwinHook::Modified,
            Some(TwinHook::Modified) => TwinHook::Overridden,
            Some(TwinHook::Seen) | None => return Ok(()),
        };
        let functions = features.twins(call).iter();
        let clash = functions
            .map(|function| (other, function.clone()))
            .find(|twin| self.twins.contains(twin));
        let Some((_, function)) = clash else {
            return Ok(());
        };
        Err(Unsupported {
            what: format!("rule {}: --call {}", rule.name, call.name).into(),
            needs: format!(
                "one rung for all rules on calls that 32-bit callers make by {function}"
            )
            .into(),
            found: format!(
                "{} here, and another one in a rule before it",
                hook.rung().name()
            )
            .into(),
        })
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

/// What a rule is served by whose calls need these rungs. A call's entry is had in one of two
/// ways.
fn backend(rungs: &BTreeSet<Rung>) -> &'static str {
    let with = |rung| rungs.contains(&rung);
    let at_hooks = (with(Rung::Lsm), with(Rung::FmodRetSecurity));
    match (with(Rung::Kprobe), with(Rung::FmodRet), at_hooks) {
        (true, _, (false, false)) => Rung::Kprobe.name(),
        (true, _, (true, false)) => "kprobe+lsm",
        (true, _, (false, true)) => "kprobe+fmod_ret-security",
        (true, _, (true, true)) => "kprobe+lsm+fmod_ret-security",
        (false, true, (false, false)) => Rung::FmodRet.name(),
        (false, true, (true, false)) => "fmod_ret+lsm",
        (false, true, (false, true)) => "fmod_ret+fmod_ret-security",
        (false, true, (true, true)) => "fmod_ret+lsm+fmod_ret-security",
        (false, false, (true, true)) => "lsm+fmod_ret-security",
        (false, false, (false, true)) => Rung::FmodRetSecurity.name(),
        (false, false, (_, false)) => Rung::Lsm.name(),
    }
}

fn refusal(rule: &Rule, call: Syscall, way: Way, features: &Features, why: &str) -> Error {
    let never = |calls: &Calls| calls.filter.never_met_by(call).is_some();
    let needs = match way.rung {
        _ if rule.fault.calls().is_some_and(never) => "a call that can meet the conditions".into(),
        _ if way.by_chain && !features.call_chain.is_supported() => {
            "a kernel in which programs find what is mapped in a process".into()
        }
        _ if call.as_request().is_some() => {
            "a kernel that knows the request, and a security hook that it passes".into()
        }
        _ if way.by_file && !takes_descriptor(call) => {
            "a call that a security hook tells the file of, or that takes a descriptor of it".into()
        }
        _ if way.waits.is_some() => "a place where the call can wait".into(),
        _ if way.seen => "a kprobe at the entry of the call".into(),
        Some(_) if way.returns.is_some() => {
            "a rung that can have it succeed: kprobe, or fmod_ret with a value above 0".into()
        }
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
