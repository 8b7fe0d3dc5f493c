//! Where calls are caught.

use injector_common::names::{
    MODIFIED_ENTRY, SEEN_ENTRY, SEEN_RETURN, SLEEPING_ENTRY, SLEEPING_HOOKS, SLEEPING_RETURN,
    SYSCALL_ENTRY, SecurityHook,
};

use crate::model::{Manner, Rung, Syscall};

/// Where a failing call is caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallHook {
    /// At its entry.
    Entry {
        /// Whether a program takes the place of the call, rather than overriding its result.
        modifies: bool,
    },
    /// At its entry, where it is only seen.
    Seen,
    /// Where it can wait asleep: at a security hook behind its entry, or else at its entry.
    Asleep(Option<SecurityHook>),
    /// Where it can wait before it returns, in this manner.
    Returning(Manner),
    /// At a security hook behind it.
    Security {
        /// The hook.
        hook: SecurityHook,
        /// Whether a program takes the place of the function that asks there.
        modifies: bool,
    },
}

impl CallHook {
    /// The hook's number in the call table.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Entry { modifies: false } => SYSCALL_ENTRY,
            Self::Seen => SEEN_ENTRY,
            Self::Entry { modifies: true } => MODIFIED_ENTRY,
            // One program serves both ways.
            Self::Security { hook, .. } => hook as u32,
            Self::Asleep(None) => SLEEPING_ENTRY,
            Self::Asleep(Some(hook)) => SLEEPING_HOOKS + hook as u32,
            Self::Returning(Manner::Asleep) => SLEEPING_RETURN,
            Self::Returning(Manner::Busy) => SEEN_RETURN,
        }
    }

    /// What programs there know a call by. 32-bit callers pass by another function at the entry, where
    /// nothing waits asleep, nor at the return; those without arguments are left alone with the others.
    pub fn known_as(self, call: Syscall) -> impl Iterator<Item = u32> {
        let by_both = match self {
            Self::Entry { .. } | Self::Seen | Self::Security { .. } | Self::Asleep(Some(_)) => true,
            Self::Asleep(None) | Self::Returning(_) => false,
        };
        call.known_as().take(if by_both { usize::MAX } else { 1 })
    }

    /// Whether it is behind the call's entry; `None` where a call is only seen or made to wait,
    /// beside whatever else becomes of it.
    #[must_use]
    pub const fn is_behind(self) -> Option<bool> {
        match self {
            Self::Entry { .. } => Some(false),
            Self::Security { .. } => Some(true),
            Self::Seen | Self::Asleep(_) | Self::Returning(_) => None,
        }
    }

    /// Whether of programs here and there on one call those that override its result are without
    /// effect: the kernel calls what is attached in the place of a function, or behind it, whatever a
    /// kprobe made of it (measured on Linux 6.12).
    #[must_use]
    pub const fn hides(self, other: Self) -> bool {
        const fn overrides(hook: CallHook) -> bool {
            matches!(hook, CallHook::Entry { modifies: false })
        }
        const fn replaces(hook: CallHook) -> bool {
            matches!(
                hook,
                CallHook::Entry { modifies: true }
                    | CallHook::Asleep(None)
                    | CallHook::Returning(_)
            )
        }
        overrides(self) && replaces(other) || replaces(self) && overrides(other)
    }

    /// Whether calls sleep there at their own function.
    #[must_use]
    pub const fn sleeps_at_call(self) -> bool {
        matches!(self, Self::Asleep(None) | Self::Returning(Manner::Asleep))
    }

    /// In which manner a call that is to wait does so there.
    #[must_use]
    pub const fn manner(self) -> Manner {
        match self {
            Self::Asleep(_) => Manner::Asleep,
            Self::Returning(manner) => manner,
            Self::Entry { .. } | Self::Seen | Self::Security { .. } => Manner::Busy,
        }
    }

    /// The way to fail the call that this is part of.
    #[must_use]
    pub const fn rung(self) -> Rung {
        match self {
            Self::Entry { modifies: false } | Self::Seen => Rung::Kprobe,
            // The kernel has both by the same means.
            Self::Entry { modifies: true } | Self::Asleep(None) | Self::Returning(_) => {
                Rung::FmodRet
            }
            Self::Asleep(Some(_))
            | Self::Security {
                modifies: false, ..
            } => Rung::Lsm,
            Self::Security { modifies: true, .. } => Rung::FmodRetSecurity,
        }
    }

    /// Which program is for 32-bit callers there, who enter by functions of their own.
    #[must_use]
    pub const fn twin(self) -> Option<TwinHook> {
        match self {
            Self::Entry { modifies: false } => Some(TwinHook::Overridden),
            Self::Entry { modifies: true } => Some(TwinHook::Modified),
            Self::Seen => Some(TwinHook::Seen),
            // They pass by the hook as others do, or are not met.
            Self::Security { .. } | Self::Asleep(_) | Self::Returning(_) => None,
        }
    }
}

/// Which program is attached where 32-bit callers enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TwinHook {
    /// The one that overrides the result.
    Overridden,
    /// The one that takes the place of the call.
    Modified,
    /// The one that only sees it.
    Seen,
}
