//! The registry of fault kinds: one line each.
//!
//! A number is written into maps and reports and is never used again for
//! another kind; a retired kind leaves a comment in its place.

/// Where a kind acts; it decides which hooks and options a rule may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Acts on packets, at the traffic-control hooks of an interface.
    Packet,
    /// Acts on system calls, at their entry or at a security hook behind it.
    Syscall,
    /// Acts on `connect`, at the hooks of the root cgroup.
    Connect,
    /// Acts on functions of programs and libraries, where they are entered.
    Function,
    /// Acts on what a target is given, by the control files of its cgroup or its namespaces, or
    /// on its processes. No program is involved.
    Resource,
}

macro_rules! fault_kinds {
    ($($(#[$meta:meta])* $number:literal => $variant:ident, $name:literal, $family:ident;)+) => {
        /// A fault kind: the parameterless name of an abnormal behaviour.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum FaultKind {
            $($(#[$meta])* $variant = $number,)+
        }

        impl FaultKind {
            /// Every kind, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name that the command line, spec files and reports use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Where the kind acts.
            #[must_use]
            pub const fn family(self) -> Family {
                match self { $(Self::$variant => Family::$family,)+ }
            }

            /// The kind with this number on the wire, if there is one.
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// The kind with this name, if there is one.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.name() == name)
            }
        }
    };
}

fault_kinds! {
    /// Packets vanish, as on a lossy wire: neither end is told.
    1 => NetLoss, "net-loss", Packet;
    /// Packets arrive later, in their order.
    2 => NetDelay, "net-delay", Packet;
    /// A byte of the packet arrives changed.
    3 => NetCorrupt, "net-corrupt", Packet;
    /// Packets arrive more than once.
    5 => NetDuplicate, "net-duplicate", Packet;
    /// Packets overtake those before them.
    6 => NetReorder, "net-reorder", Packet;
    /// Packets share a link of a given bandwidth.
    7 => NetRate, "net-rate", Packet;
    /// The target and its peers are out of each other's reach.
    8 => NetPartition, "net-partition", Packet;
    /// `connect` fails with a chosen error.
    10 => NetRefuse, "net-refuse", Connect;
    /// Packets are answered by an error, as by a firewall.
    11 => NetReject, "net-reject", Packet;
    /// TCP connections are torn down.
    12 => NetReset, "net-reset", Packet;
    /// Queries of DNS get another answer, or none.
    13 => Dns, "dns", Packet;
    /// System calls fail with a chosen error.
    4 => SysErrno, "sys-errno", Syscall;
    /// System calls bring a signal to the thread that makes them.
    14 => SysSignal, "sys-signal", Syscall;
    /// System calls take longer, for the thread that makes them.
    15 => SysDelay, "sys-delay", Syscall;
    /// System calls do nothing and return a chosen success.
    16 => SysReturn, "sys-return", Syscall;
    /// A function of a program or library does nothing and returns a chosen value.
    17 => UserReturn, "user-return", Function;
    /// Nothing in the target runs.
    20 => CgroupFreeze, "cgroup-freeze", Resource;
    /// The target gets so much processor time and no more.
    21 => CpuQuota, "cpu-quota", Resource;
    /// The target gets so much memory and no more.
    22 => MemoryLimit, "memory-limit", Resource;
    /// The target has so many processes and threads and no more.
    23 => PidsLimit, "pids-limit", Resource;
    /// The target reads and writes a disk so fast and no faster.
    24 => IoLimit, "io-limit", Resource;
    /// The target's processes get a signal.
    25 => ProcSignal, "proc-signal", Resource;
    /// The target's processes are killed.
    26 => ProcKill, "proc-kill", Resource;
    /// Busy processes beside those of the target take its processor time.
    27 => CpuStress, "cpu-stress", Resource;
    /// A process beside those of the target holds memory of its cgroup.
    28 => MemoryPressure, "memory-pressure", Resource;
    /// The target's clocks are ahead or behind.
    29 => ClockOffset, "clock-offset", Resource;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_their_kind() {
        for &kind in FaultKind::ALL {
            assert_eq!(FaultKind::from_number(kind as u32), Some(kind));
            assert_eq!(FaultKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(FaultKind::from_number(0), None, "0 marks an empty slot");
    }
}
