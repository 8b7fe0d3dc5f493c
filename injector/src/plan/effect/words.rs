//! Parts of effects in words.

use std::fmt;

use crate::plan::CallHook;
use crate::{model::Manner, resolve::Scope};

/// A scope as a plan prints it.
pub(super) struct ScopeText<'a>(pub(super) &'a Scope);

impl fmt::Display for ScopeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Scope::Cgroup { id, path, .. } => write!(f, "cgroup {} (id {id})", path.display()),
            Scope::Processes { root, tgids } if tgids.len() > 1 => {
                write!(f, "process {root} and {} descendants", tgids.len() - 1)
            }
            Scope::Processes { root, .. } => write!(f, "process {root}"),
            Scope::Command => f.write_str("the command's cgroup"),
        }
    }
}

/// A hook as a plan prints it.
pub(super) struct HookText(pub(super) CallHook);

impl fmt::Display for HookText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            CallHook::Entry { modifies } => write!(f, "its entry{}", By(modifies)),
            CallHook::Seen => f.write_str("its entry, to see it"),
            CallHook::Asleep(None) => f.write_str("its entry, to wait asleep"),
            CallHook::Asleep(Some(hook)) => {
                write!(f, "security hook {}, to wait asleep", hook.attach())
            }
            CallHook::Returning(manner) => write!(f, "its return, to wait {}", In(manner)),
            CallHook::Security { hook, modifies } => {
                write!(f, "security hook {}{}", hook.attach(), By(modifies))
            }
        }
    }
}

/// In which manner a call waits.
pub(super) struct In(pub(super) Manner);

impl fmt::Display for In {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Manner::Asleep => "asleep",
            Manner::Busy => "busy",
        })
    }
}

/// Whether a program takes the place of a function there.
pub(super) struct By(pub(super) bool);

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { " by fmod_ret" } else { "" })
    }
}

/// A rule mask as the rules' numbers, from 0.
pub(super) struct Mask(pub(super) u64);

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for index in (0..u64::BITS).filter(|index| self.0 & (1 << index) != 0) {
            write!(f, "{comma}{index}")?;
            comma = ",";
        }
        Ok(())
    }
}
