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
}
