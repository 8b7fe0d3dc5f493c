//! Waiting for the end of an experiment, and keeping its lease until then.

use std::{future, time::Duration};

use nix::sys::signal::Signal;
use tokio::{
    signal::unix::{Signal as SignalStream, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use super::{
    Options,
    command::Running,
    names::{Names, NewPeer},
    reload::{self, Reloads},
    sabotage::{self, Sabotaged},
};
use crate::{
    actuate::Injection,
    error::{Error, HostError},
    kernel::{KernelActuator, clock},
    model::Experiment,
    report::{RuleCounts, StoppedBy, live::LiveView},
};

/// How often the lease is renewed and the counters are looked at: often enough
/// that three missed turns do not end the lease.
const TURN: Duration = Duration::from_millis(400);

/// Signals that end an experiment.
pub(super) struct Watch {
    streams: [(Signal, SignalStream); 4],
}

impl Watch {
    /// Watches from now on.
    pub(super) fn new() -> Result<Self, Error> {
        let watch = |which: Signal| {
            signal(SignalKind::from_raw(which as i32))
                .map(|stream| (which, stream))
                .map_err(|source| HostError {
                    path: "sigaction(2)".into(),
                    source,
                })
        };
        Ok(Self {
            streams: [
                watch(Signal::SIGINT)?,
                watch(Signal::SIGTERM)?,
                watch(Signal::SIGHUP)?,
                watch(Signal::SIGQUIT)?,
            ],
        })
    }

    /// The next signal that asks for the end.
    pub(super) async fn signal(&mut self) -> Signal {
        let [a, b, c, d] = &mut self.streams;
        tokio::select! {
            Some(()) = a.1.recv() => a.0,
            Some(()) = b.1.recv() => b.0,
            Some(()) = c.1.recv() => c.0,
            Some(()) = d.1.recv() => d.0,
            else => future::pending().await,
        }
    }

    /// Keeps the lease until the experiment ends; why it ended, and by which
    /// signal if by one.
    pub(super) async fn until_end(
        &mut self,
        injection: &mut Injection<Sabotaged>,
        mut victim: Option<&mut Running>,
        options: Options,
    ) -> (StoppedBy, Option<Signal>) {
        if sabotage::panic_wanted("run") {
            panic!("INJECTOR_TEST_PANIC=run");
        }
        let mut experiment = injection.plan().experiment.clone();
        // The guardian and the programs count from there; some time has gone by since then.
        let begun_ns = injection.actuator().inner().start_ns();
        let since = || Duration::from_nanos(clock::boot_ns().saturating_sub(begun_ns));
        let start = Instant::now().checked_sub(since());
        let start = start.unwrap_or_else(Instant::now);
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut view = options.live.then(|| LiveView::new(&experiment.rules));
        let mut names = Names::new(&experiment);
        let mut reloads = Reloads::new(options.source);
        let outcome = loop {
            tokio::select! {
                news = names.news() => {
                    add_peers(injection.actuator().inner(), &experiment, news);
                    continue;
                }
                news = reloads.news(&experiment) => {
                    if let Err(error) = news.and_then(|changed| reload::apply(injection, &changed)) {
                        tracing::error!("the rules stay as they are: {error}");
                        continue;
                    }
                    experiment = injection.plan().experiment.clone();
                    names = Names::new(&experiment);
                    view = view.map(|view| {
                        view.finish();
                        LiveView::new(&experiment.rules)
                    });
                    continue;
                }
                signal = self.signal() => break (StoppedBy::Signal, Some(signal)),
                () = sleep_until(start + experiment.duration) => break (StoppedBy::Deadline, None),
                // At the deadline the guardian may have told it to end.
                () = ended(victim.as_deref_mut()) => if since() < experiment.duration {
                    break (StoppedBy::CommandExit, None)
                },
                _ = turns.tick() => {}
            }
            // Sleep of the machine does not stop that clock, but those of timers.
            if since() >= experiment.duration {
                break (StoppedBy::Deadline, None);
            }
            let kernel = injection.actuator().inner();
            match kernel.renew_lease() {
                Ok(()) => tracing::debug!("lease renewed"),
                Err(error) => {
                    tracing::error!("the lease cannot be renewed, the rules expire: {error}");
                }
            }
            let Ok(counters) = kernel.counters() else {
                continue;
            };
            if let Some(view) = &view {
                let counts: Vec<RuleCounts> =
                    counters.iter().copied().map(RuleCounts::from).collect();
                view.update(&counts, start.elapsed());
            }
            let rules = experiment.rules.iter().zip(&counters);
            let spent = rules
                .filter(|(rule, _)| !rule.removed)
                .all(|(rule, stats)| rule.trigger.times != 0 && stats.spent >= rule.trigger.times);
            if spent {
                break (StoppedBy::Budget, None);
            }
        };
        if let Some(view) = view {
            view.finish();
        }
        outcome
    }
}

/// Lets rules hit what their names have come to stand for.
fn add_peers(kernel: &mut KernelActuator, experiment: &Experiment, news: Vec<NewPeer>) {
    for NewPeer {
        rule,
        address,
        left_out,
    } in news
    {
        let name = experiment
            .rules
            .get(rule as usize)
            .map_or("", |rule| rule.name.as_str());
        match kernel.add_peer(rule, address, left_out) {
            Ok(()) => tracing::info!("{name}: a peer has the new address {address}"),
            Err(error) => {
                tracing::error!("{name}: the new address {address} of a peer is not hit: {error}");
            }
        }
    }
}

async fn ended(victim: Option<&mut Running>) {
    match victim {
        Some(victim) => victim.ended().await,
        None => future::pending().await,
    }
}
