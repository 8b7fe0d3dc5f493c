//! The devices that packets wait in.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use aya::programs::tc::TcAttachType;
use injector_common::names;

use super::{Failure, KernelActuator, hop_devices};
use crate::{
    kernel::{
        journal::Leftover,
        netlink::{self, NewDevice},
        netns, queue,
    },
    plan::{Effect, Hop},
};

/// Indexes of the devices that packets wait in, the same in each namespace of a
/// run: a program sees an interface's index and not its namespace, and must
/// find the devices of the right one all the same. 0 for none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HopIndexes {
    pub(super) near: u32,
    pub(super) far: u32,
    pub(super) loopback: u32,
}

impl HopIndexes {
    /// Indexes for the experiment of this id, far above those that the kernel
    /// gives by itself. An id's hash spreads those of runs at the same time; the
    /// kernel refuses an index that is taken.
    pub(super) fn new(id: &str) -> Self {
        const LOWEST: u32 = 1 << 30;
        // Positive numbers all, and below the index that no interface has.
        const RUNS: u32 = (1 << 28) - 1;
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let run = u32::try_from(hasher.finish() % u64::from(RUNS)).unwrap_or(0);
        let near = LOWEST + run * 4;
        Self {
            near,
            far: near + 1,
            loopback: near + 2,
        }
    }

    /// Those of the devices that `hop` has.
    pub(super) const fn of(self, hop: &Hop) -> Self {
        let pair = hop.pair.is_some();
        Self {
            near: if pair { self.near } else { 0 },
            far: if pair { self.far } else { 0 },
            loopback: if hop.ifb.is_some() { self.loopback } else { 0 },
        }
    }
}

const fn device(name: &str, index: u32) -> NewDevice<'_> {
    NewDevice { name, index }
}

impl KernelActuator {
    pub(super) fn add_hop(&mut self, effect: &Effect, hop: &Hop) -> Result<(), Failure> {
        let file = self.namespace(&hop.netns)?;
        for name in hop_devices(hop) {
            self.journal.add(Leftover::Device {
                netns: hop.netns.inode.0,
                name,
            })?;
        }
        let indexes = self.hop_indexes.of(hop);
        netlink::run(&file, |mut handle| async move {
            if let Some((near, far)) = &hop.pair {
                let (near, far) = (device(near, indexes.near), device(far, indexes.far));
                netlink::add_pair(&handle, near, far).await?;
                if hop.holds {
                    queue::add_fair_queue(&mut handle, indexes.near).await?;
                }
            }
            if let Some(ifb) = &hop.ifb {
                netlink::add_ifb(&handle, device(ifb, indexes.loopback)).await?;
                if hop.holds {
                    queue::add_fair_queue(&mut handle, indexes.loopback).await?;
                }
            }
            Ok(())
        })?;
        let near = hop.pair.as_ref().map(|(near, _)| near.clone());
        let far = hop.pair.as_ref().map(|(_, far)| far.clone());
        if hop.fills_checksums {
            for name in near.iter().chain(&hop.ifb) {
                netns::inside(&file, || netlink::fill_checksums(name))??;
            }
        }
        self.hops.insert(hop.netns.inode, indexes);
        let egress = TcAttachType::Egress;
        for (index, name) in [(indexes.near, near), (indexes.loopback, hop.ifb.clone())] {
            if let Some(name) = &name {
                self.attach_packets(effect, &hop.netns, index, name, names::PROG_HOP, egress)?;
            }
        }
        if let Some(name) = far {
            let (index, ingress) = (indexes.far, TcAttachType::Ingress);
            self.attach_packets(
                effect,
                &hop.netns,
                index,
                &name,
                names::PROG_RETURN,
                ingress,
            )?;
        }
        Ok(())
    }
}
