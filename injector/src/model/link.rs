//! What a link does to packets.

use std::{fmt, sync::Arc, time::Duration};

use injector_common::faults::{
    net_delay::{TABLE_SCALE, Table},
    net_loss::{Gilbert, Markov},
};

/// Which packets a loss takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossModel {
    /// Those that the rule's trigger selects.
    Trigger,
    /// Those that a link loses which is good or bad.
    Gilbert(Gilbert),
    /// Those that a chain of four states loses.
    Markov(Markov),
}

/// Who is told of a lost packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Nobody, as on a wire.
    #[default]
    Silent,
    /// The sender's stack, as by a full queue of its own.
    Local,
    /// The call that sends the packet: it fails with `EPERM`.
    Call,
}

/// How much memory may be taken by packets that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueMemory {
    /// In bytes, at least 1. Another packet waits as long as all that wait take less
    /// than that together.
    pub bytes: u64,
}

impl QueueMemory {
    /// A minute of 20 Mbit/s in full Ethernet packets, or a second of a gigabit.
    pub const DEFAULT: Self = Self { bytes: 256 << 20 };
}

/// How long packets wait.
#[derive(Clone, Debug, PartialEq)]
pub struct Delay {
    /// How long, on average.
    pub delay: Duration,
    /// Spread around `delay`, at most `delay`.
    pub jitter: Duration,
    /// How it is spread.
    pub distribution: Distribution,
    /// In what share of packets (out of 2^31) the wait of the packet before is
    /// taken again.
    pub correlation: u32,
    /// Whether packets may overtake each other.
    pub reorder: bool,
    /// How many may wait.
    pub memory: QueueMemory,
}

impl Delay {
    /// The same delay for every packet.
    #[must_use]
    pub const fn steady(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            distribution: Distribution::Uniform,
            correlation: 0,
            reorder: false,
            memory: QueueMemory::DEFAULT,
        }
    }

    /// The longest of the delays.
    #[must_use]
    pub fn longest(&self) -> Duration {
        match &self.distribution {
            Distribution::Uniform => self.delay + self.jitter,
            Distribution::Table(table) => {
                let widest = table.values.iter().copied().max().unwrap_or_default();
                #[expect(clippy::cast_precision_loss, reason = "it is 2^13")]
                let spread = f64::from(widest.max(0)) / TABLE_SCALE as f64;
                self.delay + self.jitter.mul_f64(spread)
            }
        }
    }
}

/// How delays are spread.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// Evenly.
    Uniform,
    /// As a table has it.
    Table(Arc<DelayTable>),
}

/// A distribution as netem keeps it: the inverse of its function at even steps,
/// in jitters × 8192.
#[derive(PartialEq, Eq)]
pub struct DelayTable {
    /// What the user called it.
    pub name: String,
    /// Its values.
    pub values: Box<Table>,
}

impl fmt::Debug for DelayTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DelayTable").field(&self.name).finish()
    }
}

/// A link of a given bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Bits per second.
    pub rate: u64,
    /// Bytes that pass at once after the link was idle.
    pub burst: u32,
    /// Bytes added to each packet; may be negative.
    pub overhead: i32,
    /// How long a packet may wait before it is dropped.
    pub queue: Duration,
    /// How many may wait.
    pub memory: QueueMemory,
    /// Whose packets share it.
    pub per: Per,
}

/// What a rule keeps one of each for: a count of its operations, or a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Per {
    /// For all of its operations together.
    #[default]
    Rule,
    /// For each flow.
    Flow,
    /// For each process, with all its threads.
    Process,
    /// For each thread.
    Thread,
    /// For each program that a process executes, with all its threads.
    Program,
}

impl Per {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Flow => "flow",
            Self::Process => "process",
            Self::Thread => "thread",
            Self::Program => "program",
        }
    }

    /// Whether calls are counted by who makes them.
    #[must_use]
    pub const fn is_caller(self) -> bool {
        matches!(self, Self::Process | Self::Thread | Self::Program)
    }
}
