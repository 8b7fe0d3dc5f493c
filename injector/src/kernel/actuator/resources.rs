//! Rules on resources, which the guardian serves.

use injector_common::RuleStats;

use super::{Failure, KernelActuator};
use crate::{
    error::CleanupError,
    kernel::{
        control_file::ControlFile,
        guardian::{Guardian, Task, Work},
        wire::nanos,
    },
    model::{Device, ResourceFault},
    plan::Plan,
    report::resource::ResourceReport,
    resolve::{Host as _, LinuxHost, Scope},
};

impl KernelActuator {
    pub(super) fn start_guardian(&mut self, plan: &Plan) -> Result<(), Failure> {
        self.guardian = Some(Guardian::start(&plan.experiment.id)?);
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
        let cgroup = match scope {
            Scope::Cgroup { path, .. } => Some(path.as_path()),
            Scope::Command => self.command_cgroup(),
            Scope::Processes { .. } => None,
        };
        let cgroup = cgroup.ok_or("it has no cgroup")?;
        let setting = fault.setting();
        let device = match fault.device() {
            None => None,
            Some(Device::Numbers { major, minor }) => Some((*major, *minor)),
            Some(Device::Node(path)) => Some(LinuxHost::new()?.block_device(path)?),
        };
        let file = ControlFile {
            path: cgroup.join(setting.file),
            device: device.map(|(major, minor)| format!("{major}:{minor}")),
        };
        let rule = &plan.experiment.rules[index as usize];
        let guardian = self.guardian.as_mut().ok_or("there is no guardian")?;
        guardian.add(Task {
            rule: index,
            after_ns: nanos(rule.start),
            duration_ns: nanos(rule.duration),
            work: Work::Set {
                file,
                value: setting.value,
            },
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
        for status in self.guardian.iter().flat_map(Guardian::now) {
            if let Some(stats) = counters.get_mut(status.rule as usize) {
                stats.matched += status.matched;
                stats.injected += status.injected;
                stats.errors += status.errors;
                stats.passed += status.matched - status.injected - status.errors;
            }
        }
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
