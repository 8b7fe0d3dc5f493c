//! `net-duplicate`: a copy of the packet goes the same way.

use aya_ebpf::{bindings::BPF_F_INGRESS, helpers::generated::bpf_clone_redirect};
use injector_common::{faults::net_duplicate::MAX_COPIES, filter::EGRESS};

use crate::{
    skb::{Skb, Stamp},
    workspace::Workspace,
};

/// How copies of a packet are sent.
#[derive(Default)]
pub(crate) struct Copying {
    /// The stamp that they get, so that the hooks that they pass know them.
    mark: u32,
    /// The stamp that the packet gets afterwards.
    after: u32,
    /// The device; 0 for the packet's own interface.
    device: u32,
    /// 1 when they go up the stack.
    upward: u32,
}

impl Copying {
    /// On the packet's own way, in this direction.
    #[inline(always)]
    pub(crate) const fn around(direction: u32, loopback: bool) -> Self {
        let arrives = direction != EGRESS;
        Self {
            // On loopback, one that is sent up the stack has lost its route, and is
            // taken for a forgery of a local address. One that is sent around
            // keeps it, and passes this hook and the one before.
            mark: if arrives && loopback {
                Stamp::JUDGED_TWICE.0
            } else {
                Stamp::JUDGED.0
            },
            after: 0,
            device: 0,
            upward: (arrives && !loopback) as u32,
        }
    }

    /// On the loopback, where the time is noted in the packet when it is due.
    #[inline(always)]
    pub(crate) const fn noted() -> Self {
        Self {
            mark: Stamp::JUDGED_AND_NOTED.0,
            after: Stamp::NOTED.0,
            device: 0,
            upward: 0,
        }
    }

    /// Through a device of ours.
    #[inline(always)]
    pub(crate) const fn through(hop: u32) -> Self {
        Self {
            mark: Stamp::NOTED.0,
            after: Stamp::NOTED.0,
            device: hop,
            upward: 0,
        }
    }

    /// Hides from the verifier which of the ways it is, so that it walks what
    /// follows once.
    #[inline(always)]
    pub(crate) fn hide(&mut self, space: &mut Workspace) {
        for field in [
            &mut self.mark,
            &mut self.after,
            &mut self.device,
            &mut self.upward,
        ] {
            *field = space.forget((*field).into()) as u32;
        }
    }

    /// Sends so many copies of the packet; whether all went out.
    #[inline(always)]
    pub(crate) fn send(&self, skb: &Skb, copies: u32) -> bool {
        let device = if self.device == 0 {
            skb.ifindex()
        } else {
            self.device
        };
        let flags = u64::from(self.upward & BPF_F_INGRESS);
        skb.set_stamp(Stamp(self.mark));
        let mut refused = 0;
        for copy in 0..MAX_COPIES {
            if copy >= copies {
                break;
            }
            // SAFETY: the context comes from the kernel.
            refused |= unsafe { bpf_clone_redirect(skb.0, device, flags) };
        }
        skb.set_stamp(Stamp(self.after));
        refused == 0
    }
}
