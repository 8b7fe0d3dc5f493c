//! The devices that packets wait in.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    time::Duration,
};

use injector_common::names;

use super::{Failure, KernelActuator, packets::Site};
use crate::{
    kernel::{
        clsact::Side,
        journal::Leftover,
        netlink::{self, NewDevice},
        netns, queue,
    },
    model::QueueMemory,
    plan::{Effect, Hop, Plan},
    resolve::Netns,
};

/// Indexes of the devices that packets wait in, the same in each namespace of a
/// run: a program sees an interface's index and not its namespace, and must
/// find the devices of the right one all the same. 0 for none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HopIndexes {
    pub(super) near: u32,
    pub(super) far: u32,
    pub(super) loopback: u32,
    pub(super) split: u32,
    pub(super) split_return: u32,
}

impl HopIndexes {
    /// Indexes for the experiment of this id, far above those that the kernel
    /// gives by itself. An id's hash spreads those of runs at the same time; the
    /// kernel refuses an index that is taken.
    pub(super) fn new(id: &str) -> Self {
        const LOWEST: u32 = 1 << 30;
        // Positive numbers all, and below the index that no interface has.
        const RUNS: u32 = (1 << 27) - 1;
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let run = u32::try_from(hasher.finish() % u64::from(RUNS)).unwrap_or(0);
        let near = LOWEST + run * 8;
        Self {
            near,
            far: near + 1,
            loopback: near + 2,
            split: near + 3,
            split_return: near + 4,
        }
    }

    /// Those of the devices that `hop` has.
    pub(super) const fn of(self, hop: &Hop) -> Self {
        const fn only(is_there: bool, index: u32) -> u32 {
            if is_there { index } else { 0 }
        }
        let (pair, splitter) = (hop.pair.is_some(), hop.splitter.is_some());
        Self {
            near: only(pair, self.near),
            far: only(pair, self.far),
            loopback: only(hop.ifb.is_some(), self.loopback),
            split: only(splitter, self.split),
            split_return: only(splitter, self.split_return),
        }
    }
}

/// Devices that were made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Made {
    pub(super) indexes: HopIndexes,
    /// How many packets their queue has room for; `None` where they only pass.
    holds: Option<QueueMemory>,
}

/// Packets that were lost in devices of ours, of whichever rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undelivered {
    /// They had waited, or were split, and the cable behind the queue had no room.
    pub overrun: u64,
    /// They still waited when the run ended.
    pub cut_off: u64,
}

const fn device(name: &str, index: u32) -> NewDevice<'_> {
    NewDevice { name, index }
}

/// The longest time that packets under clean-up are waited for. A longer delay
/// loses what is under way when it ends, as removing netem does.
const MAX_DRAIN: Duration = Duration::from_secs(1);

/// For what leaves its queue on time to get to its interface.
const LAST_STEPS: Duration = Duration::from_millis(20);

/// How long it takes until packets under way have passed our devices.
pub(super) fn drain(plan: &Plan) -> Duration {
    let has_devices = |effect: &Effect| matches!(effect, Effect::AddHop(_));
    if plan.effects.iter().any(has_devices) {
        longest_wait(plan).min(MAX_DRAIN) + LAST_STEPS
    } else {
        Duration::ZERO
    }
}

/// The longest delay of any packet: those of all rules add up.
fn longest_wait(plan: &Plan) -> Duration {
    let rules = plan.experiment.rules.iter();
    rules.map(|rule| rule.fault.longest_wait()).sum()
}

fn devices(hop: &Hop) -> Vec<String> {
    let pairs = hop.pair.iter().chain(&hop.splitter);
    pairs
        .map(|(near, _)| near.clone())
        .chain(hop.ifb.clone())
        .collect()
}

impl KernelActuator {
    pub(super) fn add_hop(&mut self, effect: &Effect, hop: &Hop) -> Result<(), Failure> {
        let file = self.namespace(&hop.netns)?;
        let netns = netns::identity(&file)?;
        for name in devices(hop) {
            self.journal.add(Leftover::Device { netns, name })?;
            self.parts.done()?;
        }
        let indexes = self.hop_indexes.of(hop);
        let parts = &mut self.parts;
        netlink::run(&file, |mut handle| async move {
            if let Some((near, far)) = &hop.pair {
                let (near, far) = (device(near, indexes.near), device(far, indexes.far));
                netlink::add_pair(&handle, near, far).await?;
                parts.done()?;
                if let Some(memory) = hop.holds {
                    queue::add_fair_queue(&mut handle, indexes.near, memory).await?;
                    parts.done()?;
                }
            }
            if let Some(ifb) = &hop.ifb {
                netlink::add_ifb(&handle, device(ifb, indexes.loopback)).await?;
                parts.done()?;
                if let Some(memory) = hop.holds {
                    queue::add_fair_queue(&mut handle, indexes.loopback, memory).await?;
                    parts.done()?;
                }
            }
            if let Some((near, far)) = &hop.splitter {
                let near = device(near, indexes.split);
                netlink::add_pair(&handle, near, device(far, indexes.split_return)).await?;
                parts.done()?;
            }
            Ok(())
        })?;
        let near = hop.pair.as_ref().map(|(near, _)| near);
        let far = hop.pair.as_ref().map(|(_, far)| far);
        // Without checksum offload a device has no segmentation offload either.
        let splitter = hop.splitter.as_ref().map(|(near, _)| near);
        let filling = near.into_iter().chain(&hop.ifb);
        let filling = filling.filter(|_| hop.fills_checksums).chain(splitter);
        for name in filling {
            netns::inside(&file, || netlink::fill_checksums(name))??;
            self.parts.done()?;
        }
        let made = Made {
            indexes,
            holds: hop.holds,
        };
        self.hops.insert(hop.netns.inode, made);
        self.had_hops = true;
        for (ifindex, name, program, side) in [
            (indexes.near, near, names::PROG_HOP, Side::Egress),
            (
                indexes.loopback,
                hop.ifb.as_ref(),
                names::PROG_HOP,
                Side::Egress,
            ),
            (indexes.far, far, names::PROG_RETURN, Side::Ingress),
            (
                indexes.split_return,
                hop.splitter.as_ref().map(|(_, far)| far),
                names::PROG_SPLIT,
                Side::Ingress,
            ),
        ] {
            if let Some(interface) = name {
                let site = Site {
                    netns: &hop.netns,
                    ifindex,
                    interface,
                    side,
                };
                self.attach_packets(effect, site, program)?;
            }
        }
        Ok(())
    }

    /// Gives the queues that are there the room that the rules of another plan want.
    /// None gets less: it would drop what waits.
    pub(super) fn widen_queues(&mut self, plan: &Plan) -> io::Result<()> {
        for effect in &plan.effects {
            let Effect::AddHop(hop) = effect else {
                continue;
            };
            let Some(made) = self.hops.get(&hop.netns.inode).copied() else {
                continue;
            };
            let Some(memory) = hop.holds.filter(|_| made.holds < hop.holds) else {
                continue;
            };
            let file = self.namespace(&hop.netns)?;
            let HopIndexes { near, loopback, .. } = made.indexes;
            netlink::run(&file, |mut handle| async move {
                for index in [near, loopback].into_iter().filter(|&index| index != 0) {
                    queue::widen(&mut handle, index, memory).await?;
                }
                Ok(())
            })?;
            let holds = Some(memory);
            self.hops.insert(hop.netns.inode, Made { holds, ..made });
        }
        Ok(())
    }

    /// Ends all waiting, once what may still come out has had its time, and counts what
    /// does not.
    pub(super) fn end_waiting(&mut self) {
        for (inode, made) in &self.hops {
            let Some(file) = self.namespaces.get(inode) else {
                continue;
            };
            match end_waiting(file, made.indexes) {
                Ok(Undelivered { overrun, cut_off }) => {
                    if let Some(total) = &mut self.undelivered {
                        total.overrun += overrun;
                        total.cut_off += cut_off;
                    }
                }
                Err(error) => {
                    tracing::error!(
                        "what still waits is not reported, its devices do not tell: {error}"
                    );
                    self.undelivered = None;
                }
            }
        }
    }

    /// The packets that were lost in devices of ours until now; `None` where there are
    /// no devices, or where they did not tell. Those that wait are lost, and counted,
    /// when the rules are taken out of force.
    #[must_use]
    pub fn undelivered(&self) -> Option<Undelivered> {
        self.undelivered.filter(|_| self.had_hops)
    }

    /// Removes the devices, as far as they were made. Returns what is still
    /// there.
    pub(super) fn remove_hop(&mut self, hop: &Hop) -> Vec<(Leftover, io::Error)> {
        let mut left = Vec::new();
        // A change that failed is taken back while other rules go on: no packet may be
        // sent there any more.
        self.hops.remove(&hop.netns.inode);
        for name in devices(hop) {
            let Some(device) = self.journal.device(&name) else {
                continue;
            };
            let removed = self.remove_device(&hop.netns, &name);
            left.extend(self.struck(device, removed));
        }
        left
    }

    fn remove_device(&mut self, netns: &Netns, name: &str) -> io::Result<()> {
        let file = self.namespace(netns)?;
        netlink::run(&file, |handle| async move {
            netlink::remove(&handle, name).await
        })
    }
}

/// Ends the waiting in devices of one namespace. Returns what was lost there.
fn end_waiting(file: &File, indexes: HopIndexes) -> io::Result<Undelivered> {
    let HopIndexes {
        near,
        loopback,
        split,
        ..
    } = indexes;
    let mut lost = Undelivered::default();
    for index in [near, loopback] {
        if index != 0 {
            lost.cut_off += netns::inside(file, || queue::take_away(index))??;
        }
    }
    // An ifb lets its queue wait instead, where it has no room.
    for index in [near, split] {
        if index != 0 {
            lost.overrun += netlink::run(file, |handle| async move {
                netlink::lost_by(&handle, index).await
            })?;
        }
    }
    Ok(lost)
}
