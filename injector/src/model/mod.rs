//! The validated experiment: pure data, without serde and without I/O.
//!
//! Everything here has passed `spec`'s checks. Nothing here says how a rule is
//! put in force: that is `plan`'s business.

mod call_filter;
mod calls;
mod calls32;
pub mod change;
pub mod conflict;
mod damage;
mod dns;
pub(crate) mod errors;
pub mod filter;
mod first_argument;
mod function;
mod link;
mod marks;
mod overlap;
mod resource;
mod rung;
pub mod sets;

use std::{path::PathBuf, sync::Arc, time::Duration};

use injector_common::{FaultKind, Trigger};

pub use call_filter::{
    Access, AddressFamily, Argument, ArgumentTest, CallFilter, ChainFunction, FileName, FileType,
    Unmet,
};
pub(crate) use calls::value_in_words;
pub use calls::{
    CallDelay, CallFault, Calls, MAX_SLEEP, MAX_SPIN, Manner, Moment, Syscall, Waits, Way,
};
pub use damage::{Checksum, Damage, Extent, Region};
pub use dns::{Dns, NamePattern, RecordType, Reply};
pub use errors::{Errno, ErrorChoice};
pub use filter::{
    Choice, Cidr, Direction, Dscp, HostName, Mark, NamedPeer, PacketFilter, Protocol, State,
    TcpFlags, Unit,
};
pub use first_argument::FirstArgument;
pub use function::{Function, FunctionValue};
pub use link::{Delay, DelayTable, Distribution, Link, LossModel, Per, QueueMemory, Visibility};
pub use resource::{
    ClockShift, Clocks, CpuQuota, Device, IoLimit, MemoryLimit, ResourceFault, Setting, Signals,
};
pub use rung::Rung;

/// Rules on one timeline, with a seed and an end.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    /// Short random hex name of this run; devices and cgroups of ours carry it.
    pub id: String,
    /// The user's name for it, from the spec file; equal to `id` without one.
    pub name: String,
    /// Seed of every decision. Drawn and reported when the user gave none.
    pub seed: u64,
    /// When everything ends, counted from the moment the rules are in force.
    pub duration: Duration,
    /// The rules, at least one.
    pub rules: Vec<Rule>,
    /// The victim to start, with its arguments, if any.
    pub command: Option<Vec<String>>,
    /// Whether the user allowed a target that is the whole host.
    pub whole_host: bool,
}

/// Targets × fault × trigger: the unit that the kernel evaluates.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Unique within the experiment.
    pub name: String,
    /// Whom it hits, at least one.
    pub targets: Vec<Target>,
    /// What it does.
    pub fault: Fault,
    /// Which matching operations suffer.
    pub trigger: Trigger,
    /// Whose operations are counted, and drawn for, together.
    pub per: Per,
    /// Whether it only counts what it would hit. None of one whose fault
    /// [acts on what is not hit](Fault::never_in_shadow) too.
    pub shadow: bool,
    /// When it starts, counted from the experiment's start.
    pub start: Duration,
    /// How long it lasts. `start + duration` never exceeds the experiment's.
    pub duration: Duration,
    /// Whether it was taken out while the experiment ran. Its place and its counts stay.
    pub removed: bool,
}

/// Whom a rule hits, as the user named it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A cgroup v2 with everything below it. Absolute below the mount point,
    /// or relative to it.
    Cgroup(PathBuf),
    /// A process with all its threads and descendants, also later ones.
    Process(u32),
    /// The command that the experiment starts.
    Command,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Something happens to the packets that the filter matches.
    Packet(PacketFilter, PacketFault),
    /// Something happens to system calls.
    Call(Calls, CallFault),
    /// `connect` fails.
    Refuse {
        /// To whom: a filter of the packets that the call would send, which says
        /// no more than their protocol and peer.
        filter: PacketFilter,
        /// The error.
        errno: Errno,
    },
    /// A function of a program or library does nothing, and returns.
    Function(Function),
    /// Something happens to what the target is given.
    Resource(ResourceFault),
}

/// What happens to packets.
#[derive(Clone, Debug, PartialEq)]
pub enum PacketFault {
    /// They vanish.
    Loss {
        /// Which of them.
        model: LossModel,
        /// Who is told.
        visibility: Visibility,
    },
    /// They arrive later.
    Delay(Delay),
    /// Some of their bits or bytes arrive changed.
    Corrupt(Damage),
    /// They arrive more than once.
    Duplicate {
        /// How many times more.
        copies: u32,
    },
    /// They go ahead of those before them, which wait.
    Reorder {
        /// How long those wait that do not go ahead.
        delay: Duration,
        /// Only every so manieth packet can go ahead; 1 for any.
        gap: u64,
        /// How many may wait.
        memory: QueueMemory,
    },
    /// They share a link of a given bandwidth.
    Rate(Link),
    /// None gets through.
    Partition,
    /// They are answered by an error, as by a firewall.
    Reject {
        /// By which protocol's means.
        by: Answer,
        /// What an ICMP error says.
        code: Unreachable,
    },
    /// TCP connections are torn down.
    Reset {
        /// Who is told.
        end: End,
        /// When in the life of a connection.
        after: After,
    },
    /// Queries of DNS get another answer, or none.
    Dns(Dns),
}

impl Fault {
    /// Why a rule can not only count what it would hit, if it cannot.
    #[must_use]
    pub const fn never_in_shadow(&self) -> Option<&'static str> {
        match self {
            Self::Packet(_, PacketFault::Rate(_) | PacketFault::Reorder { .. }) => {
                Some("every packet waits, also those that it does not hit")
            }
            Self::Resource(_) => Some("it decides on no operation"),
            Self::Packet(..) | Self::Call(..) | Self::Refuse { .. } | Self::Function(_) => None,
        }
    }

    /// The parameterless name of the fault.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Packet(_, fault) => fault.kind(),
            Self::Call(_, fault) => fault.kind(),
            Self::Refuse { .. } => FaultKind::NetRefuse,
            Self::Function(_) => FaultKind::UserReturn,
            Self::Resource(fault) => fault.kind(),
        }
    }

    /// The longest that it makes a packet wait.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        match self {
            Self::Packet(_, fault) => fault.longest_wait(),
            Self::Call(..) | Self::Refuse { .. } | Self::Function(_) | Self::Resource(_) => {
                Duration::ZERO
            }
        }
    }

    /// What it does to what the target is given, if it does.
    #[must_use]
    pub const fn resource(&self) -> Option<&ResourceFault> {
        match self {
            Self::Resource(fault) => Some(fault),
            Self::Packet(..) | Self::Call(..) | Self::Refuse { .. } | Self::Function(_) => None,
        }
    }

    /// How much memory the packets may take that wait, if it lets some wait.
    #[must_use]
    pub fn queue_memory(&self) -> Option<QueueMemory> {
        match self {
            Self::Packet(_, fault) => fault.queue_memory(),
            Self::Call(..) | Self::Refuse { .. } | Self::Function(_) | Self::Resource(_) => None,
        }
    }

    /// Whether each flow has a link of its own.
    #[must_use]
    pub const fn links_flows(&self) -> bool {
        matches!(
            self,
            Self::Packet(_, PacketFault::Rate(Link { per: Per::Flow, .. }))
        )
    }

    /// The table that delays are drawn from, if they are.
    #[must_use]
    pub const fn delay_table(&self) -> Option<&Arc<DelayTable>> {
        match self {
            Self::Packet(
                _,
                PacketFault::Delay(Delay {
                    distribution: Distribution::Table(table),
                    ..
                }),
            ) => Some(table),
            Self::Packet(..)
            | Self::Call(..)
            | Self::Refuse { .. }
            | Self::Function(_)
            | Self::Resource(_) => None,
        }
    }

    /// Whether TCP connections have to be remembered.
    #[must_use]
    pub fn counts_streams(&self) -> bool {
        matches!(
            self,
            Self::Packet(_, PacketFault::Reset { after, .. }) if *after != After::Nothing
        )
    }

    /// What it does to queries of DNS, if it does.
    #[must_use]
    pub const fn queries(&self) -> Option<&Dns> {
        match self {
            Self::Packet(_, PacketFault::Dns(dns)) => Some(dns),
            Self::Packet(..)
            | Self::Call(..)
            | Self::Refuse { .. }
            | Self::Function(_)
            | Self::Resource(_) => None,
        }
    }

    /// The filter, of packets or of what a call would lead to.
    pub fn conditions_mut(&mut self) -> Option<&mut PacketFilter> {
        match self {
            Self::Packet(filter, _) | Self::Refuse { filter, .. } => Some(filter),
            Self::Call(calls, _) => calls.filter.peers.as_deref_mut(),
            Self::Function(_) | Self::Resource(_) => None,
        }
    }

    /// The calls that it acts on, for kinds that act on calls.
    #[must_use]
    pub const fn calls(&self) -> Option<&Calls> {
        match self {
            Self::Call(calls, _) => Some(calls),
            Self::Packet(..) | Self::Refuse { .. } | Self::Function(_) | Self::Resource(_) => None,
        }
    }

    /// The function that it acts on, if it does on one.
    #[must_use]
    pub const fn function(&self) -> Option<&Function> {
        match self {
            Self::Function(function) => Some(function),
            Self::Packet(..) | Self::Call(..) | Self::Refuse { .. } | Self::Resource(_) => None,
        }
    }

    /// Whether calls fail with errors of their own manual pages.
    #[must_use]
    pub const fn is_plausible(&self) -> bool {
        matches!(self, Self::Call(_, CallFault::Plausible))
    }

    /// How these calls have to be met.
    #[must_use]
    pub fn call_way(&self) -> Option<Way> {
        match self {
            Self::Call(calls, fault) => Some(fault.way(calls)),
            Self::Packet(..) | Self::Refuse { .. } | Self::Function(_) | Self::Resource(_) => None,
        }
    }

    /// The packet filter, for kinds that act on packets.
    #[must_use]
    pub const fn filter(&self) -> Option<&PacketFilter> {
        match self {
            Self::Packet(filter, _) => Some(filter),
            Self::Call(..) | Self::Refuse { .. } | Self::Function(_) | Self::Resource(_) => None,
        }
    }

    /// The conditions on what it acts on: on packets, or on a call as on the
    /// packets that it would send.
    #[must_use]
    pub fn conditions(&self) -> Option<&PacketFilter> {
        match self {
            Self::Packet(filter, _) | Self::Refuse { filter, .. } => Some(filter),
            Self::Call(calls, _) => calls.filter.peers.as_deref(),
            Self::Function(_) | Self::Resource(_) => None,
        }
    }
}

impl PacketFault {
    /// The packets that the trigger selects vanish, and nobody is told.
    pub const LOSS: Self = Self::Loss {
        model: LossModel::Trigger,
        visibility: Visibility::Silent,
    };

    /// The parameterless name of the fault.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Loss { .. } => FaultKind::NetLoss,
            Self::Delay(_) => FaultKind::NetDelay,
            Self::Corrupt(_) => FaultKind::NetCorrupt,
            Self::Duplicate { .. } => FaultKind::NetDuplicate,
            Self::Reorder { .. } => FaultKind::NetReorder,
            Self::Rate(_) => FaultKind::NetRate,
            Self::Partition => FaultKind::NetPartition,
            Self::Reject { .. } => FaultKind::NetReject,
            Self::Reset { .. } => FaultKind::NetReset,
            Self::Dns(_) => FaultKind::Dns,
        }
    }

    /// Whether the call that sends a packet fails: such rules are asked where sockets
    /// send, before any rule at an interface.
    #[must_use]
    pub const fn fails_calls(&self) -> bool {
        matches!(
            self,
            Self::Loss {
                visibility: Visibility::Call,
                ..
            }
        )
    }

    /// The longest that it makes a packet wait, and how many may wait, if it makes
    /// any.
    fn waiting(&self) -> Option<(Duration, QueueMemory)> {
        match self {
            Self::Delay(delay) => Some((delay.longest(), delay.memory)),
            Self::Rate(link) => Some((link.queue, link.memory)),
            Self::Reorder { delay, memory, .. }
            | Self::Dns(Dns {
                reply: Reply::Delay { delay, memory },
                ..
            }) => Some((*delay, *memory)),
            Self::Loss { .. }
            | Self::Corrupt(_)
            | Self::Duplicate { .. }
            | Self::Partition
            | Self::Reject { .. }
            | Self::Reset { .. }
            | Self::Dns(_) => None,
        }
    }

    /// How much memory the packets may take that wait, if it lets some wait.
    #[must_use]
    pub fn queue_memory(&self) -> Option<QueueMemory> {
        self.waiting().map(|(_, memory)| memory)
    }

    /// Whether packets have to wait in a device of ours for a time.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.queue_memory().is_some()
    }

    /// Whether packets take a detour through devices of ours.
    #[must_use]
    pub fn detours(&self) -> bool {
        self.holds() || self.fills_checksums()
    }

    /// The longest that it makes a packet wait.
    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.waiting()
            .map_or(Duration::ZERO, |(longest, _)| longest)
    }

    /// Whether packets have to pass a device of ours that fills in checksums.
    #[must_use]
    pub const fn fills_checksums(&self) -> bool {
        matches!(
            self,
            Self::Corrupt(Damage {
                checksum: Checksum::Broken,
                ..
            })
        )
    }
}

/// How a rejected packet is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// TCP by a reset, all else by an ICMP error.
    Either,
    /// TCP by a reset; nothing else is rejected.
    Reset,
    /// Everything by an ICMP error.
    Icmp,
}

/// What is out of reach, as an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// The network.
    Net,
    /// The host.
    Host,
    /// The protocol.
    Proto,
    /// The port.
    Port,
    /// The network, as an administrator forbids it.
    NetProhibited,
    /// The host, as an administrator forbids it.
    HostProhibited,
    /// What an administrator forbids.
    Admin,
    /// What this source may not send to.
    PolicyFail,
    /// What a route rejects.
    RejectRoute,
}

/// Which end of a connection is told of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The target's.
    Local,
    /// The peer's.
    Peer,
    /// Both.
    Both,
}

/// When a connection is torn down, counted from the first packet seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// With its next packet.
    Nothing,
    /// Once so many bytes of payload have gone by, at least 1.
    Bytes(u64),
    /// Once it has lasted so long, above 0.
    Time(Duration),
}
