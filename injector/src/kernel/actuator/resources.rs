//! Rules on resources, which the guardian serves.

use injector_common::{RuleStats, random::rule_seed};

use super::{Failure, KernelActuator};
use crate::{
    error::CleanupError,
    kernel::{
        control_file::ControlFile,
        guardian::{Choice, Guardian, Load, Task, Work},
        wire::nanos,
    },
    model::{Device, Experiment, ResourceFault, Rule, Signals},
    plan::Plan,
    report::resource::ResourceReport,
    resolve::{Host as _, LinuxHost, Scope},
};

impl KernelActuator {
    pub(super) fn start_guardian(&mut self, plan: &Plan) -> Result<(), Failure> {
        let guardian = Guardian::start(&plan.experiment.id)?;
        self.settings.guardian_tgid = guardian.id();
        self.guardian = Some(guardian);
        Ok(())
    }

    /// Tells the guardian what it will have to do.
    pub(super) fn hand_over(
        &mut self,
        plan: &Plan,
        index: u32,
        scope: &Scope,
        fault: &ResourceFault,
    ) -> Result<(), Failure> {
        let whom = match scope {
            Scope::Cgroup { path, .. } => Ok(path.clone()),
            Scope::Command => Ok(self.command_cgroup().ok_or("it has no cgroup")?.to_owned()),
            Scope::Processes { root, .. } => Err(root.0),
        };
        let experiment = &plan.experiment;
        let rule = &experiment.rules[index as usize];
        let seed = rule_seed(experiment.seed, index);
        let work = match fault {
            ResourceFault::Signal(Signals { signal, every }) => Work::Signal {
                whom,
                signal: *signal as i32,
                every_ns: every.map(nanos),
                choice: Choice::new(&rule.trigger, seed),
                // Whatever a command of ours starts serves nobody else.
                spares: *scope != Scope::Command,
            },
            ResourceFault::CpuStress { workers, load_ppm } => Work::Run {
                cgroup: whom.map_err(homeless)?,
                load: Load::Cpu {
                    workers: *workers,
                    load_ppm: *load_ppm,
                },
            },
            ResourceFault::Clock(_) => Work::End {
                cgroup: whom.map_err(homeless)?,
            },
            ResourceFault::MemoryPressure { bytes } => Work::Run {
                cgroup: whom.map_err(homeless)?,
                load: Load::Memory { bytes: *bytes },
            },
            ResourceFault::Freeze
            | ResourceFault::CpuQuota(_)
            | ResourceFault::MemoryLimit(_)
            | ResourceFault::PidsLimit(_)
            | ResourceFault::IoLimit(_) => {
                let setting = fault.setting().ok_or("it sets nothing")?;
                let cgroup = whom.map_err(homeless)?;
                Work::Set {
                    file: ControlFile {
                        path: cgroup.join(setting.file),
                        device: fault.device().map(numbers).transpose()?,
                    },
                    value: setting.value,
                }
            }
        };
        let guardian = self.guardian.as_mut().ok_or("there is no guardian")?;
        guardian.add(Task {
            rule: index,
            after_ns: nanos(rule.start),
            duration_ns: nanos(rule.duration),
            work,
        })
    }

    /// Has the guardian undo all; what it could not undo.
    pub(super) fn end_guardian(&mut self) -> Vec<CleanupError> {
        let Some(guardian) = &mut self.guardian else {
            return Vec::new();
        };
        guardian.end();
        guardian.take_left()
    }

    /// Adds what the guardian's rules have done so far.
    pub(super) fn add_resources(&self, counters: &mut [RuleStats]) {
        for &(rule, has_started) in &self.clocked {
            if let Some(stats) = counters.get_mut(rule) {
                stats.matched += 1;
                stats.injected += u64::from(has_started);
                stats.errors += u64::from(!has_started);
            }
        }
        for status in self.guardian.iter().flat_map(Guardian::now) {
            if let Some(stats) = counters.get_mut(status.rule as usize) {
                stats.matched += status.matched;
                stats.injected += status.injected;
                stats.errors += status.errors;
                stats.passed += status.passed;
                stats.exhausted += status.exhausted;
                stats.spent += status.injected;
            }
        }
    }

    /// Counts that the command was started with shifted clocks, or could not be, for the rules
    /// that shift any.
    pub fn count_command(&mut self, experiment: &Experiment, has_started: bool) {
        let rules = experiment.rules.iter().enumerate();
        let shift = |(index, rule): (usize, &Rule)| {
            rule.fault.resource()?.clock()?;
            Some((index, has_started))
        };
        self.clocked = rules.filter_map(shift).collect();
    }

    /// What is known of the values that a rule sets.
    #[must_use]
    pub fn resources(&self, index: usize) -> ResourceReport {
        let mut report = ResourceReport::default();
        for status in self.guardian.iter().flat_map(Guardian::now) {
            if status.rule as usize == index {
                report.add(status.report.clone());
            }
        }
        report
    }
}

/// A disk, as control files name it.
fn numbers(device: &Device) -> Result<String, Failure> {
    let (major, minor) = match device {
        Device::Numbers { major, minor } => (*major, *minor),
        Device::Node(path) => LinuxHost::new()?.block_device(path)?,
    };
    Ok(format!("{major}:{minor}"))
}

/// Why a process will not do for a target, which is refused before.
fn homeless(pid: u32) -> String {
    format!("pid:{pid} has no cgroup to itself")
}
