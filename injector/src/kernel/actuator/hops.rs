//! The devices that packets wait in.

use aya::programs::tc::TcAttachType;
use injector_common::names;

use super::{Failure, HopIndexes, KernelActuator, hop_devices};
use crate::{
    kernel::{journal::Leftover, netlink, netns},
    plan::{Effect, Hop},
};

impl KernelActuator {
    pub(super) fn add_hop(&mut self, effect: &Effect, hop: &Hop) -> Result<(), Failure> {
        let file = self.namespace(&hop.netns)?;
        for name in hop_devices(hop) {
            self.journal.add(Leftover::Device {
                netns: hop.netns.inode.0,
                name,
            })?;
        }
        let indexes = netlink::run(&file, |mut handle| async move {
            let mut indexes = HopIndexes::default();
            if let Some((near, far)) = &hop.pair {
                (indexes.near, indexes.far) = netlink::add_pair(&handle, near, far).await?;
            }
            if let Some(ifb) = &hop.ifb {
                indexes.loopback = netlink::add_ifb(&handle, ifb).await?;
            }
            for index in [indexes.near, indexes.loopback] {
                if hop.holds && index != 0 {
                    netlink::add_fair_queue(&mut handle, index).await?;
                }
            }
            Ok(indexes)
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
