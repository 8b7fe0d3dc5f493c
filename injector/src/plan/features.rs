//! What this kernel can do, as found out by trying.

use std::collections::BTreeMap;

use injector_common::{FaultKind, names::SecurityHook};

use super::TwinHook;
use crate::model::{Manner, Syscall};

/// Whether something works here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It was tried and works.
    Supported,
    /// It was tried and the kernel said no.
    Unsupported {
        /// What the kernel said.
        reason: String,
    },
    /// The trial itself failed; nobody knows.
    Inconclusive {
        /// What went wrong.
        reason: String,
    },
}

impl Support {
    /// Whether it was tried and works.
    #[must_use]
    pub const fn is_supported(&self) -> bool {
        matches!(self, Self::Supported)
    }

    /// Why not; empty if it works.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Supported => "",
            Self::Unsupported { reason } | Self::Inconclusive { reason } => reason,
        }
    }
}

/// One way of serving a kind, tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The kind that it serves.
    pub kind: FaultKind,
    /// Its name, as plans and reports have it.
    pub rung: String,
    /// What of the kind this alone is needed for, such as `--unit segment`; `None` if it
    /// serves the kind by itself.
    pub only_for: Option<&'static str>,
    /// How the trial went.
    pub state: Support,
}

/// One way of failing a call, tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallProbe {
    /// The call.
    pub call: Syscall,
    /// Its name, as plans and reports have it.
    pub rung: &'static str,
    /// How the trial went.
    pub state: Support,
}

/// How programs are attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketAttach {
    /// By a TCX link (Linux 6.6), which is gone with its owner.
    Tcx,
    /// By a filter of the clsact qdisc, which must be removed.
    Clsact,
}

impl PacketAttach {
    /// Its name in plans and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// What was found out. What a plan does not need may be left out; it then
/// counts as not working.
#[derive(Clone, Debug)]
pub struct Features {
    /// How programs reach packets.
    pub packets: Result<PacketAttach, String>,
    /// Better ways to reach packets that the kernel refused, and why.
    pub packets_refused: Vec<(PacketAttach, String)>,
    /// Whether packets can wait: `sch_fq`.
    pub fair_queue: Support,
    /// Whether devices that packets wait in can be made: `veth`.
    pub hop_devices: Support,
    /// Whether packets on the loopback interface can wait: an `ifb` gives back
    /// what a program sent there since Linux 6.3.
    pub loopback_hop: Support,
    /// Whether a program may override a system call's result.
    pub override_return: Support,
    /// Whether a program may see a system call.
    pub seen_entry: Support,
    /// Where one of the two can be done: whether the kernel has a function at whose entry a call
    /// can be met, per call that was asked about.
    pub entries: BTreeMap<Syscall, Support>,
    /// The functions at which 32-bit callers enter what does the same, per call that was asked about.
    pub twins: BTreeMap<Syscall, Vec<String>>,
    /// Whether a program may take the place of such a function: of all of them, or of none.
    pub modified_twins: Support,
    /// Whether a program may take the place of a system call.
    pub modify_return: Support,
    /// Where it can, per call that was asked about.
    pub modified_entries: BTreeMap<Syscall, Support>,
    /// Whether a program can have a function return where it is entered.
    pub function_return: Support,
    /// Whether programs at `connect` choose its error.
    pub refuse: Support,
    /// Whether programs at `connect` can at least let it fail, with `EPERM`.
    pub deny: Support,
    /// Whether a program where sockets send can refuse a packet, and another one note
    /// what they receive.
    pub send: Support,
    /// Whether security programs run, per hook.
    pub security: BTreeMap<SecurityHook, Support>,
    /// Whether their programs can take the place of the function that asks at the hook, per hook.
    pub modified_security: BTreeMap<SecurityHook, Support>,
    /// Whether programs find out which functions a call came through.
    pub call_chain: Support,
    /// Whether the kernel knows a request of io_uring, per request that was asked about.
    pub requests: BTreeMap<Syscall, Support>,
    /// Whether somebody can wake calls that wait asleep.
    pub waker: Support,
    /// Where somebody can, whether a call can wait asleep there, per security hook.
    pub sleeping_hooks: BTreeMap<SecurityHook, Support>,
    /// The same at its entry, per call that was asked about.
    pub sleeping_entries: BTreeMap<Syscall, Support>,
    /// The same at its return, per call that was asked about.
    pub sleeping_returns: BTreeMap<Syscall, Support>,
    /// Whether it can wait busy there, per call that was asked about.
    pub busy_returns: BTreeMap<Syscall, Support>,
}

impl Features {
    /// What some kernel may be able to do to these calls: everything.
    pub(crate) fn of_any_kernel(calls: impl Iterator<Item = Syscall>) -> Self {
        let calls: BTreeMap<_, _> = calls.map(|call| (call, Support::Supported)).collect();
        let hooks = SecurityHook::ALL.iter();
        let hooks: BTreeMap<_, _> = hooks.map(|&hook| (hook, Support::Supported)).collect();
        Self {
            packets: Ok(PacketAttach::Tcx),
            packets_refused: Vec::new(),
            fair_queue: Support::Supported,
            hop_devices: Support::Supported,
            loopback_hop: Support::Supported,
            override_return: Support::Supported,
            seen_entry: Support::Supported,
            entries: calls.clone(),
            twins: BTreeMap::new(),
            modified_twins: Support::Supported,
            modify_return: Support::Supported,
            modified_entries: calls.clone(),
            function_return: Support::Supported,
            refuse: Support::Supported,
            deny: Support::Supported,
            send: Support::Supported,
            security: hooks.clone(),
            modified_security: hooks.clone(),
            call_chain: Support::Supported,
            requests: calls.clone(),
            waker: Support::Supported,
            sleeping_hooks: hooks,
            sleeping_entries: calls.clone(),
            sleeping_returns: calls.clone(),
            busy_returns: calls,
        }
    }

    /// Whether a call can be failed at its entry, by a program that overrides its result or by
    /// one that takes its place.
    #[must_use]
    pub fn entry(&self, call: Syscall, modifies: bool) -> Support {
        let (support, entries) = if modifies {
            (&self.modify_return, &self.modified_entries)
        } else {
            (&self.override_return, &self.entries)
        };
        entry_in(entries, support, call)
    }

    /// Whether the kernel knows a request of io_uring.
    #[must_use]
    pub fn request(&self, request: Syscall) -> Support {
        entry_in(&self.requests, &Support::Supported, request)
    }

    /// Whether a call can wait asleep at its entry.
    #[must_use]
    pub fn sleeping_entry(&self, call: Syscall) -> Support {
        entry_in(&self.sleeping_entries, &self.waker, call)
    }

    /// Whether a call can wait this way at its return.
    #[must_use]
    pub fn at_return(&self, call: Syscall, manner: Manner) -> Support {
        match manner {
            Manner::Asleep => entry_in(&self.sleeping_returns, &self.waker, call),
            Manner::Busy => entry_in(&self.busy_returns, &Support::Supported, call),
        }
    }

    /// The functions at which 32-bit callers enter what does the same as a call.
    #[must_use]
    pub fn twins(&self, call: Syscall) -> &[String] {
        self.twins.get(&call).map_or(&[], Vec::as_slice)
    }

    /// Whether a program can be attached to such functions.
    #[must_use]
    pub const fn takes_twin(&self, at: TwinHook) -> &Support {
        match at {
            // A kprobe goes to any of them, and may override the result of all calls or of none.
            TwinHook::Overridden | TwinHook::Seen => &Support::Supported,
            TwinHook::Modified => &self.modified_twins,
        }
    }

    /// Whether a call can be seen at its entry.
    #[must_use]
    pub fn seen(&self, call: Syscall) -> Support {
        entry_in(&self.entries, &self.seen_entry, call)
    }
}

fn entry_in(entries: &BTreeMap<Syscall, Support>, support: &Support, call: Syscall) -> Support {
    if !support.is_supported() {
        return support.clone();
    }
    let known = entries.get(&call).cloned();
    known.unwrap_or_else(|| Support::Inconclusive {
        reason: "it was not tried".to_owned(),
    })
}
