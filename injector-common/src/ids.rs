//! Newtypes for the kernel's numbers, so that one cannot be taken for another.
//!
//! Two injectors in use today compare a thread id with a process id and miss
//! every thread but the first; a distinct type for each makes that a compile
//! error here.

use core::fmt;

macro_rules! newtype {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

newtype! {
    /// Id of a cgroup v2: the inode number of its directory, which is also what
    /// `bpf_get_current_cgroup_id` returns.
    CgroupId(u64)
}
newtype! {
    /// Thread-group id, in the initial pid namespace: what user space calls a
    /// process id. All threads of one process share it.
    Tgid(u32)
}
newtype! {
    /// Interface index, unique within one network namespace only.
    IfIndex(u32)
}
newtype! {
    /// Inode number of a network namespace (`stat -L /proc/PID/ns/net`).
    NetnsInode(u64)
}
newtype! {
    /// Position of a rule in the rule table, and its bit in every rule mask.
    RuleIndex(u32)
}

impl RuleIndex {
    /// The mask with only this rule's bit set.
    ///
    /// An index past the last bit gives an empty mask.
    #[must_use]
    pub const fn mask(self) -> u64 {
        if self.0 < u64::BITS { 1 << self.0 } else { 0 }
    }

    /// The first of the rules in a mask; that of rule 0 if there is none in it.
    ///
    /// BPF has no instruction that counts zeros.
    #[inline(always)]
    #[must_use]
    pub const fn first(mask: u64) -> Self {
        // A power of 2, times this, has another value in its upper six bits for each exponent (de Bruijn
        // sequence; Leiserson, Prokop and Randall, "Using de Bruijn Sequences to Index a 1 in a Computer
        // Word", 1998).
        const SEQUENCE: u64 = 0x03f7_9d71_b4cb_0a89;
        static PLACES: [u8; 64] = {
            let mut places = [0; 64];
            let mut place = 0u8;
            while place < 64 {
                places[(SEQUENCE << place >> 58) as usize] = place;
                place += 1;
            }
            places
        };
        let lowest = mask & mask.wrapping_neg();
        Self(PLACES[(lowest.wrapping_mul(SEQUENCE) >> 58) as usize] as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_of_a_mask_is_its_lowest_bit() {
        for place in 0..u64::BITS {
            let bit = RuleIndex(place).mask();
            for above in [0, u64::MAX << place, 0xa5a5_a5a5_a5a5_a5a5 << place] {
                assert_eq!(RuleIndex::first(bit | above), RuleIndex(place), "{above:x}");
            }
        }
        assert_eq!(RuleIndex::first(0), RuleIndex(0));
    }
}
