//! From rules and scopes to ordered effects: a pure function.
//!
//! `plan` and `inject` share every line up to the actuator, so what a dry run
//! prints is what would be done.

mod build;
mod call_hook;
mod change;
pub mod effect;
pub mod entries;
pub mod features;
pub mod hooks;
mod limits;
mod sleepers;
pub mod text;

use std::fmt;

pub use build::build;
pub use call_hook::{CallHook, TwinHook};
pub use change::{change, merged};
pub use effect::{Effect, Hop};
pub use features::{Features, PacketAttach, Support};

use crate::{faults, model::Experiment, spec::duration};

/// What will be done, in this order; each effect knows its inverse.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The experiment that it puts in force.
    pub experiment: Experiment,
    /// The ordered effects.
    pub effects: Vec<Effect>,
    /// What the user should know: where less than what was asked for is done.
    pub notes: Vec<String>,
    /// For each rule the backend that serves it, such as `tcx` or `kprobe`; of calls that need
    /// several rungs, all of them, as `fmod_ret+lsm`.
    pub backends: Vec<&'static str>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let experiment = &self.experiment;
        writeln!(
            f,
            "experiment {} with seed {}, for {}",
            experiment.name,
            experiment.seed,
            duration::format(experiment.duration)
        )?;
        for (rule, backend) in experiment.rules.iter().zip(&self.backends) {
            writeln!(
                f,
                "rule {} ({}) through {backend}",
                rule.name,
                rule.fault.kind().name()
            )?;
            writeln!(f, "    {}", faults::explain(&rule.fault))?;
            writeln!(f, "    target: {}", text::targets(rule).join(", "))?;
            writeln!(f, "    trigger: {}", text::selection(rule))?;
            writeln!(f, "    time: {}", text::time(rule))?;
        }
        if let Some(command) = &experiment.command {
            writeln!(f, "command: {}", text::command(command))?;
        }
        for (number, effect) in self.effects.iter().enumerate() {
            writeln!(f, "{:3}. {effect}", number + 1)?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
