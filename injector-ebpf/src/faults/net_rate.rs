//! `net-rate`: the packet leaves when a link of the rule has sent it.

use aya_ebpf::bindings::BPF_ANY;
use injector_common::faults::{Params, net_rate};

use crate::{
    atomic::fetch_add,
    faults::net_delay,
    maps::{LINKS, done_ns},
    skb::Skb,
};

/// How long the packet waits, in ns, for a link that has all packets so far
/// before it; `None` if the queue is too short for it.
#[inline(always)]
pub(crate) fn wait_ns(
    skb: &Skb,
    params: Params,
    index: u32,
    direction: u32,
    header_len: u32,
) -> Option<u64> {
    let done = if net_rate::is_per_flow(params) {
        link_of_flow(net_delay::flow(skb, direction) ^ (u64::from(index) << 48))?
    } else {
        done_ns(index, direction)?
    };
    // A super-packet becomes several, each with headers of its own.
    let segments = skb.segments();
    let bytes = skb.len() + (segments - 1) * header_len;
    let cost = net_rate::cost_ns(params, bytes, segments);
    let now = net_delay::now();
    // SAFETY: an aligned u64 of a map value. The addition gives each CPU's
    // packet a time of its own. A link that was idle starts anew from now; two
    // CPUs that find it idle together send one packet too early.
    unsafe {
        let before = fetch_add(done, cost);
        let mut end = before.wrapping_add(cost);
        if before < now {
            end = now + cost;
            done.write_volatile(end);
        }
        let wait = net_rate::wait_ns(params, now, end);
        if wait.is_none() {
            fetch_add(done, cost.wrapping_neg());
        }
        wait
    }
}

/// The link of one flow.
#[inline(always)]
fn link_of_flow(flow: u64) -> Option<*mut u64> {
    if LINKS.get_ptr_mut(flow).is_none() {
        // A full table forgets the flow that was idle longest.
        let _ = LINKS.insert(flow, 0, u64::from(BPF_ANY));
    }
    LINKS.get_ptr_mut(flow)
}
