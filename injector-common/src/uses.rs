//! Which parts of the programs the rules of an agent use.
//!
//! The agent writes them into a read-only global before it loads the programs. The
//! verifier knows its value, leaves out every branch that needs another part, and
//! the kernel removes it (dead code, Linux 5.1; values of frozen maps, Linux 5.5):
//! an agent with one rule is verified and run as if its kind were the only one.

use crate::{FaultKind, kinds::Family};

/// Name of the global.
pub const GLOBAL: &str = "INJ_USES";

/// A set of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Uses(u64);

impl Uses {
    /// No part at all.
    pub const NOTHING: Self = Self(0);
    /// Every part. The object has this value unless it is set.
    pub const EVERYTHING: Self = Self(u64::MAX);
    /// Packets take a detour through devices of ours.
    pub const DETOURS: Self = Self(1 << 32);
    /// Filters ask for ports.
    pub const PORTS: Self = Self(1 << 33);
    /// Packets wait in a queue of ours.
    pub const QUEUES: Self = Self(1 << 34);
    /// Packets are counted per flow.
    pub const FLOWS: Self = Self(1 << 35);
    /// Hits are told one by one.
    pub const LEDGER: Self = Self(1 << 36);
    /// Super-packets are split into the packets that they are on the wire.
    pub const SEGMENTS: Self = Self(1 << 37);
    /// Filters ask for what no header says: marks and sizes.
    pub const FRAMES: Self = Self(1 << 38);
    /// Filters ask for the target's own address.
    pub const LOCALS: Self = Self(1 << 39);
    /// Draws are correlated.
    pub const CORRELATION: Self = Self(1 << 40);
    /// Rules have conditions on calls.
    pub const CALL_FILTERS: Self = Self(1 << 41);
    /// Calls fail with errors of their own lists.
    pub const ERROR_LISTS: Self = Self(1 << 42);
    /// Calls are counted per process or per thread.
    pub const CALLERS: Self = Self(1 << 43);
    /// Conditions on calls are on sockets.
    pub const SOCKETS: Self = Self(1 << 44);
    /// Rules count what they would hit, and hit nothing.
    pub const SHADOW: Self = Self(1 << 45);
    /// The kernel can call a function so many times (`bpf_loop`, Linux 5.17): rules on calls that do not name
    /// the call at hand are then passed over at once.
    pub const LOOP: Self = Self(1 << 46);
    /// Conditions on calls are on the functions that they came through.
    pub const CHAINS: Self = Self(1 << 47);
    /// Packets are answered.
    pub const ANSWERS: Self = Self::kind(FaultKind::NetReject)
        .and(Self::kind(FaultKind::NetReset))
        .and(Self::kind(FaultKind::Dns));

    /// Calls fail, wait, return or are followed by a signal, or functions return.
    pub const CALLS: Self = {
        let mut calls = Self::NOTHING;
        let mut index = 0;
        while index < FaultKind::ALL.len() {
            let kind = FaultKind::ALL[index];
            calls = calls.and_if(
                matches!(kind.family(), Family::Syscall | Family::Function),
                Self::kind(kind),
            );
            index += 1;
        }
        calls
    };

    /// What rules of one kind use, whatever else they ask for.
    #[inline(always)]
    #[must_use]
    pub const fn kind(kind: FaultKind) -> Self {
        Self(1 << kind as u32)
    }

    /// The parts of both sets.
    #[inline(always)]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The parts without these.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The same, if it is so.
    #[must_use]
    pub const fn and_if(self, so: bool, other: Self) -> Self {
        if so { self.and(other) } else { self }
    }

    /// Whether a part of `parts` is in the set.
    #[inline(always)]
    #[must_use]
    pub const fn any(self, parts: Self) -> bool {
        self.0 & parts.0 != 0
    }

    /// The value of the global.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set that a value of the global stands for.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

// The bits of kinds lie below all others.
const _: () = {
    let mut index = 0;
    while index < FaultKind::ALL.len() {
        assert!((FaultKind::ALL[index] as u32) < 32);
        index += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        let loss = Uses::kind(FaultKind::NetLoss);
        let both = loss.and(Uses::DETOURS);
        assert!(both.any(loss) && both.any(Uses::DETOURS) && both.any(Uses::EVERYTHING));
        assert!(!both.any(Uses::PORTS) && !both.any(Uses::ANSWERS));
        assert!(Uses::kind(FaultKind::Dns).any(Uses::ANSWERS));
        assert_eq!(loss.and_if(true, Uses::PORTS), loss.and(Uses::PORTS));
        assert_eq!(loss.and_if(false, Uses::PORTS), loss);
        assert_eq!(Uses::from_bits(both.bits()), both);
        assert!(!Uses::NOTHING.any(Uses::EVERYTHING));
        assert_eq!(both.without(loss), Uses::DETOURS);
    }
}
