//! Keeping the names of peers resolved while rules are in force.

use std::{collections::BTreeSet, net::IpAddr, thread, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::{
    model::Experiment,
    resolve::names::{RulePeer, look_up, named_peers},
};

/// How long the last answer is good for, whatever its time to live: the resolver
/// does not tell.
const PERIOD: Duration = Duration::from_secs(5);

/// An address that a name has come to stand for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NewPeer {
    pub(super) rule: u32,
    pub(super) address: IpAddr,
    pub(super) left_out: bool,
}

/// The names of an experiment, and the addresses that its rules have.
pub(super) struct Names {
    peers: Vec<RulePeer>,
    known: BTreeSet<NewPeer>,
    next: Instant,
    /// What a thread is finding out. Not one of the runtime's: nobody waits for a
    /// resolver that does not answer when the experiment ends.
    answer: Option<oneshot::Receiver<BTreeSet<NewPeer>>>,
}

impl Names {
    /// Of an experiment whose names have been resolved just now.
    pub(super) fn new(experiment: &Experiment) -> Self {
        let mut known = BTreeSet::new();
        for (rule, one) in (0u32..).zip(&experiment.rules) {
            let Some(filter) = one.fault.conditions() else {
                continue;
            };
            known.extend(filter.peers.each().map(|(network, left_out)| NewPeer {
                rule,
                address: network.address,
                left_out,
            }));
        }
        Self {
            peers: named_peers(experiment),
            known,
            next: Instant::now() + PERIOD,
            answer: None,
        }
    }

    /// The next addresses that are new. Can be dropped and called again.
    pub(super) async fn news(&mut self) -> Vec<NewPeer> {
        if self.peers.is_empty() {
            return std::future::pending().await;
        }
        loop {
            if self.answer.is_none() {
                sleep_until(self.next).await;
                self.answer = Some(self.ask());
            }
            let Some(answer) = &mut self.answer else {
                continue;
            };
            let found = answer.await.unwrap_or_default();
            self.answer = None;
            self.next = Instant::now() + PERIOD;
            let new: Vec<NewPeer> = found.difference(&self.known).cloned().collect();
            if !new.is_empty() {
                self.known.extend(new.iter().cloned());
                return new;
            }
        }
    }

    /// Looks all names up on a thread of its own.
    fn ask(&self) -> oneshot::Receiver<BTreeSet<NewPeer>> {
        let (sender, receiver) = oneshot::channel();
        let peers = self.peers.clone();
        thread::spawn(move || {
            let mut found = BTreeSet::new();
            for RulePeer {
                rule,
                peer,
                left_out,
            } in peers
            {
                match look_up(&peer) {
                    Ok(addresses) => found.extend(addresses.into_iter().map(|address| NewPeer {
                        rule,
                        address,
                        left_out,
                    })),
                    // What it stood for stays hit.
                    Err(error) => tracing::warn!("{peer} cannot be resolved now: {error}"),
                }
            }
            // Nobody waits any more once the experiment has ended.
            drop(sender.send(found));
        });
        receiver
    }
}
