//! Packets in devices of ours, where they wait.

use aya_ebpf::{helpers::generated::bpf_skb_set_tstamp, macros::classifier, programs::TcContext};
use injector_common::{filter::INGRESS, uses::Uses};

use crate::{
    faults::net_delay,
    maps::{TRIAL, in_use},
    skb::{NEXT, Skb, Stamp, vanish},
    waiting,
};

/// `BPF_SKB_TSTAMP_DELIVERY_MONO`: the time stamp says when to send.
const TSTAMP_DELIVERY: u32 = 1;

/// A packet that enters a device of ours gets its departure time.
#[classifier]
fn inj_hop(ctx: TcContext) -> i32 {
    let skb = Skb(ctx.skb.skb);
    if let Some(due) = net_delay::take_note(&skb) {
        // SAFETY: the context comes from the kernel.
        unsafe { bpf_skb_set_tstamp(skb.0, due, TSTAMP_DELIVERY) };
        if in_use(Uses::QUEUES) {
            waiting::hold(skb.len(), due);
        }
        skb.keep_priority();
    }
    NEXT
}

/// A packet that has waited goes on to its interface.
#[classifier]
fn inj_return(ctx: TcContext) -> i32 {
    net_delay::go_on(&Skb(ctx.skb.skb), Stamp::JUDGED)
}

/// A packet that was split goes back to its interface, to be judged.
#[classifier]
fn inj_split(ctx: TcContext) -> i32 {
    net_delay::go_on(&Skb(ctx.skb.skb), Stamp::SPLIT)
}

/// Sends an arriving packet through the device whose index lies in the trial
/// map, to try whether it comes back.
#[classifier]
fn inj_trial_hop(ctx: TcContext) -> i32 {
    let skb = Skb(ctx.skb.skb);
    let hop = TRIAL.get(0).map_or(0, |index| *index as u32);
    if net_delay::send(&skb, INGRESS, hop, 0) == net_delay::TAKEN {
        vanish()
    } else {
        NEXT
    }
}
