//! What agent and guardian tell each other: lines of JSON, over pipes.

use std::path::PathBuf;

use injector_common::Trigger;
use serde::{Deserialize, Serialize};

use crate::{kernel::control_file::ControlFile, report::resource::ResourceReport};

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Something to do when its time comes.
    Add(Task),
    /// Time begins, at this boot time in ns.
    Go {
        /// Boot time in ns.
        start_ns: u64,
    },
    /// The agent lives.
    Beat,
    /// All is to be undone.
    End,
}

/// What is to be done for one target of a rule, and undone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::kernel) struct Task {
    /// The rule.
    pub(in crate::kernel) rule: u32,
    /// When, after the start.
    pub(in crate::kernel) after_ns: u64,
    /// For how long.
    pub(in crate::kernel) duration_ns: u64,
    /// What.
    pub(in crate::kernel) work: Work,
}

/// What is to be done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::kernel) enum Work {
    /// A value is set in a control file.
    Set {
        /// The file.
        file: ControlFile,
        /// The value; of a disk's limits only those that are to change.
        value: String,
    },
    /// Processes of ours run in a cgroup.
    Run {
        /// Its directory.
        cgroup: PathBuf,
        /// What they do.
        load: Load,
    },
    /// When the time is over, processes are ended.
    End {
        /// The directory of their cgroup.
        cgroup: PathBuf,
    },
    /// Processes get a signal.
    Signal {
        /// Those in a cgroup then, or the process of this id with all that it forks.
        whom: Result<PathBuf, u32>,
        /// Its number.
        signal: i32,
        /// How often; once without.
        every_ns: Option<u64>,
        /// Which of them.
        choice: Choice,
        /// Whether services of the host are left out.
        spares: bool,
    },
}

/// What processes of ours do in a target's cgroup.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::kernel) enum Load {
    /// They are busy.
    Cpu {
        /// So many of them.
        workers: u64,
        /// For so many millionths of the time.
        load_ppm: u64,
    },
    /// One holds memory.
    Memory {
        /// So much.
        bytes: u64,
    },
}

/// Which operations are selected: the rule's [`Trigger`], and its seed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::kernel) struct Choice {
    threshold: u64,
    first: u64,
    last: u64,
    step: u64,
    times: u64,
    pub(super) seed: u64,
}

impl Choice {
    /// What a rule of this trigger and seed selects.
    pub(in crate::kernel) const fn new(trigger: &Trigger, seed: u64) -> Self {
        Self {
            threshold: trigger.threshold,
            first: trigger.first,
            last: trigger.last,
            step: trigger.step,
            times: trigger.times,
            seed,
        }
    }

    /// The trigger.
    pub(super) const fn trigger(self) -> Trigger {
        Trigger {
            threshold: self.threshold,
            first: self.first,
            last: self.last,
            step: self.step,
            times: self.times,
            correlation: 0,
        }
    }
}

/// What has been done for one target of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::kernel) struct Status {
    /// The rule.
    pub(in crate::kernel) rule: u32,
    /// What it could happen to.
    pub(in crate::kernel) matched: u64,
    /// What it happened to.
    pub(in crate::kernel) injected: u64,
    /// What the trigger let through.
    #[serde(default)]
    pub(in crate::kernel) passed: u64,
    /// What was let through because the budget was spent.
    #[serde(default)]
    pub(in crate::kernel) exhausted: u64,
    /// What it should have happened to, and the kernel refused.
    pub(in crate::kernel) errors: u64,
    /// What else is known.
    pub(in crate::kernel) report: ResourceReport,
}

/// Something that could not be undone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Remaining {
    /// What.
    pub(super) what: String,
    /// Why.
    pub(super) why: String,
    /// A command that undoes it.
    pub(super) remedy: String,
}

/// From the guardian.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It stands by.
    Ready,
    /// What was asked for is done, or why not.
    Done(Result<(), String>),
    /// How the tasks stand, in their order.
    Now(Vec<Status>),
    /// All is undone, but for these.
    Ended(Vec<Remaining>),
}
