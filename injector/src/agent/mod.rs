//! One experiment from plan to report: applies, keeps the lease, watches for
//! the end, reverts.

mod clocks;
mod command;
pub mod ledger;
mod names;
mod reload;
mod sabotage;
mod watch;

use std::{process::ExitStatus, time::Duration};

use injector_common::{FaultKind, RuleStats};

use crate::{
    actuate,
    error::{CleanupErrors, Error, HostError, SpecError},
    kernel::{
        KernelActuator, Needs, Programs, check_room,
        features::{self, Trial},
    },
    model::{Experiment, Rule, Syscall, Way},
    plan::{self, Features, PacketAttach, Plan},
    report::{Report, RuleReport, Unattributed, Undelivered},
    resolve::RuleScope,
};
use command::Victim;
use ledger::{Ledger, Writer};
pub use reload::Source;
use sabotage::Sabotaged;

/// How the agent behaves towards its user.
#[derive(Debug, Default)]
pub struct Options {
    /// Whether to show counts and time left while it runs.
    pub live: bool,
    /// The file whose changes are put in force.
    pub source: Option<Source>,
    /// What becomes of each hit, if anything.
    pub ledger: Option<Ledger>,
}

/// For what all must be ready before the first change of the kernel's state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readiness {
    /// Rules that come later.
    pub changes: bool,
    /// Hits that are told one by one.
    pub hits: bool,
}

/// What came of an experiment.
#[derive(Debug)]
pub struct Outcome {
    /// What the rules did.
    pub report: Report,
    /// How the command ended, if there was one.
    pub command_status: Option<ExitStatus>,
    /// What is still there, if clean-up was incomplete.
    pub cleanup: Option<CleanupErrors>,
}

/// How long a command gets to end by itself after it was told to.
const COMMAND_PATIENCE: Duration = Duration::from_secs(2);

/// An experiment with nothing left to do but to change the kernel's state.
pub struct Prepared {
    plan: Plan,
    victim: Option<Victim>,
    programs: Programs,
    attach: PacketAttach,
}

impl Prepared {
    /// What [`run`] would do.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// Finds the command, tries what the kernel can do and plans. Changes nothing
/// else.
///
/// # Errors
///
/// When the experiment cannot be had here. The field of an error about the
/// input is the option's bare name, such as `command`.
pub fn prepare(
    experiment: &Experiment,
    scopes: &[RuleScope],
    ready: Readiness,
) -> Result<Prepared, Error> {
    check_told(experiment, ready)?;
    let victim = experiment
        .command
        .as_deref()
        .map(Victim::find)
        .transpose()?;
    let mut needs = if ready.changes {
        Needs::ANYTHING
    } else {
        Needs::of(experiment)
    };
    if ready.hits {
        needs = needs.with_ledger();
    }
    let mut programs = Programs::open(needs)?;
    clocks::check(experiment)?;
    let features = probe(&mut programs, experiment);
    let plan = plan::build(experiment, scopes, &features)?;
    // Without a rule on packets it does not matter.
    let attach = *features.packets.as_ref().unwrap_or(&PacketAttach::Tcx);
    check_room(&plan, attach)?;
    Ok(Prepared {
        plan,
        victim,
        programs,
        attach,
    })
}

/// Refuses a ledger for what has no hits one by one.
fn check_told(experiment: &Experiment, ready: Readiness) -> Result<(), SpecError> {
    let is_resource = |rule: &&Rule| rule.fault.resource().is_some();
    match experiment.rules.iter().find(is_resource) {
        Some(rule) if ready.hits => Err(SpecError::new(
            "ledger",
            format!(
                "cannot have rule `{}`: {} does not happen hit by hit",
                rule.name,
                rule.fault.kind().name()
            ),
            "no ledger for rules on resources",
        )),
        Some(_) | None => Ok(()),
    }
}

/// Puts the experiment in force until it ends, and reverts it.
///
/// # Errors
///
/// When the kernel refuses a step. Nothing is left then, unless the error is
/// [`Error::Cleanup`].
pub fn run(prepared: Prepared, mut options: Options) -> Result<Outcome, Error> {
    let Prepared {
        plan,
        victim,
        programs,
        attach,
    } = prepared;
    for note in &plan.notes {
        tracing::warn!("{note}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| HostError {
            path: "epoll(7)".into(),
            source,
        })?;
    runtime.block_on(async {
        // Signals are watched before anything is changed, so that one that
        // comes meanwhile leads to a clean end too.
        let mut watch = watch::Watch::new()?;
        let actuator = Sabotaged::new(KernelActuator::new(programs, &plan, attach)?);
        let mut injection = actuate::apply(plan, actuator)?;
        let experiment = injection.plan().experiment.clone();
        tracing::info!(
            experiment = experiment.name,
            seed = experiment.seed,
            rules = experiment.rules.len(),
            "in force for {:?}",
            experiment.duration
        );
        let kernel = injection.actuator().inner();
        let clocks = clocks::of(&experiment);
        let writer = start_ledger(options.ledger.take(), experiment, kernel);
        let mut victim = victim.map(|victim| victim.start(kernel.command_cgroup(), clocks));
        if let Some(victim) = &victim {
            let experiment = injection.plan().experiment.clone();
            let kernel = injection.actuator().inner();
            kernel.count_command(&experiment, victim.has_started());
        }
        let (stopped_by, signal) = watch
            .until_end(&mut injection, victim.as_mut(), options)
            .await;
        injection.actuator().inner().halt();
        let experiment = injection.plan().experiment.clone();
        let backends = injection.plan().backends.clone();
        let cleanup = injection.stop().err();
        // Only now is it known what did not come out in time, and no program is still
        // counting what it has told, or will tell, the ledger.
        let kernel = injection.actuator().inner();
        let stats = read_stats(&experiment, kernel);
        let rules = report_rules(&experiment, &backends, &stats, kernel);
        let unattributed = report_unattributed(&experiment, kernel);
        let undelivered = kernel.undelivered();
        let missed_calls = kernel.missed_calls().unwrap_or_else(|error| {
            tracing::error!("whether calls were missed is not known: {error}");
            None
        });
        drop(injection);
        let command_status = match victim {
            Some(mut victim) => {
                if let Some(signal) = signal {
                    victim.tell(signal, COMMAND_PATIENCE).await;
                }
                Some(victim.wait(&mut watch).await)
            }
            None => None,
        };
        // After everything is undone, since a file may take its time.
        let ended = writer.map(|writer| writer.end(stats, stopped_by));
        let report = Report {
            experiment: experiment.name.clone(),
            seed: experiment.seed,
            stopped_by,
            rules,
            unattributed,
            undelivered: undelivered.map(|lost| Undelivered {
                overrun: lost.overrun,
                cut_off: lost.cut_off,
            }),
            missed_calls,
            ledger_lost: ended.as_ref().map(|ended| ended.lost),
            ledger_error: ended.as_ref().and_then(|ended| ended.error.clone()),
            replayed: ended.and_then(|ended| ended.replayed),
        };
        Ok(Outcome {
            report,
            command_status,
            cleanup,
        })
    })
}

/// Begins to write the ledger, if there is one.
fn start_ledger(
    ledger: Option<Ledger>,
    experiment: Experiment,
    kernel: &mut KernelActuator,
) -> Option<Writer> {
    let ledger = ledger?;
    let Some(hits) = kernel.take_hits() else {
        tracing::error!("the programs tell of no hits, there will be no ledger");
        return None;
    };
    Some(Writer::start(ledger, experiment, hits, kernel.start_ns()))
}

/// What each rule of the experiment has counted.
fn read_stats(experiment: &Experiment, kernel: &KernelActuator) -> Vec<RuleStats> {
    let mut stats = kernel.counters().unwrap_or_else(|error| {
        tracing::error!("the counters cannot be read, the report shows zeros: {error}");
        Vec::new()
    });
    stats.resize(experiment.rules.len(), RuleStats::default());
    stats
}

fn report_rules(
    experiment: &Experiment,
    backends: &[&'static str],
    stats: &[RuleStats],
    kernel: &KernelActuator,
) -> Vec<RuleReport> {
    let rules = experiment.rules.iter().enumerate();
    rules
        .zip(backends)
        .zip(stats)
        .map(|(((index, rule), backend), stats)| RuleReport {
            name: rule.name.clone(),
            kind: rule.fault.kind(),
            backend,
            counts: (*stats).into(),
            dropped: (rule.fault.queue_memory())
                .filter(|_| !rule.shadow || stats.dropped > 0)
                .map(|_| stats.dropped),
            cut_short: (rule.fault.kind() == FaultKind::SysDelay).then_some(stats.cut_short),
            // What it hit before or after, if it was changed, is among the injected ones.
            shadowed: (rule.shadow || stats.shadowed > 0).then_some(stats.shadowed),
            resource: rule.fault.resource().map(|_| kernel.resources(index)),
        })
        .collect()
}

/// What no rule on packets at interfaces could hit, because it is nobody's.
fn report_unattributed(experiment: &Experiment, kernel: &KernelActuator) -> Option<Unattributed> {
    let at_interfaces = |rule: &Rule| Trial::of(&rule.fault) == Trial::Packets;
    if !experiment.rules.iter().any(at_interfaces) {
        return None;
    }
    match kernel.unattributed() {
        Ok([egress, ingress]) => Some(Unattributed { egress, ingress }),
        Err(error) => {
            tracing::error!("the packets that belong to nobody are not reported: {error}");
            None
        }
    }
}

/// Tries what the experiment's rules need.
fn probe(programs: &mut Programs, experiment: &Experiment) -> Features {
    let mut trials: Vec<Trial> = Vec::new();
    let mut calls: Vec<(Syscall, Way)> = Vec::new();
    for rule in experiment.rules.iter().filter(|rule| !rule.removed) {
        let trial = Trial::of(&rule.fault);
        if !trials.contains(&trial) {
            trials.push(trial);
        }
        if let (Some(named), Some(way)) = (rule.fault.calls(), rule.fault.call_way()) {
            calls.extend(named.all().map(|call| (call, way)));
        }
    }
    calls.sort_unstable();
    calls.dedup();
    features::probe(programs, &trials, &calls)
}
