//! `net-reset`: the packet becomes a reset, for its sender, its receiver or both.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_ANY, BPF_F_INGRESS},
    helpers::generated::bpf_clone_redirect,
};
use injector_common::{
    RuleEntry, SiteEntry,
    answer::{Ends, SYN, Segment, TCP_LEN},
    faults::net_reset::{self, StreamKey, StreamSeen},
    filter::EGRESS,
    packet::TCP_FLAGS_KNOWN,
};

use crate::{
    answer::{
        COMPLETE, Draft, Made, REFUSED, SPOILT, cut, segment, start_value, swap_link, turn_round,
        write_segment,
    },
    atomic::fetch_add,
    decide::Live,
    maps::STREAMS,
    skb::{NEXT, Skb, Stamp},
    workspace::Workspace,
};

/// Whether the packet belongs to a connection that is open, and has been for as
/// long as the rule at `index` says.
#[inline(always)]
pub(crate) fn is_due(
    skb: &Skb,
    space: &mut Workspace,
    rule: &Live<'_>,
    index: u32,
    direction: u32,
) -> bool {
    let (facts, params) = (&space.facts, rule.rule.params);
    // Only TCP has flags, and a later fragment's are not known.
    if facts.tcp_flags & TCP_FLAGS_KNOWN == 0 {
        return false;
    }
    let flags = facts.tcp_flags as u8;
    if !net_reset::counts(params) {
        return net_reset::is_open(flags);
    }
    let ends = if direction == EGRESS {
        Ends::of(facts)
    } else {
        Ends::of(facts).back()
    };
    let payload_len = facts.payload_len(skb.len());
    space.stream = StreamKey {
        local: ends.src,
        peer: ends.dst,
        local_port: ends.src_port,
        peer_port: ends.dst_port,
        rule: index,
    };
    // In any case: it counts what goes by.
    let due = lasted(space, rule.rule, rule.now, flags, payload_len);
    due && net_reset::is_open(flags)
}

/// Notes the packet, and tells whether its connection has lasted long enough. A
/// function of its own for the sake of the stack.
#[inline(never)]
fn lasted(space: &mut Workspace, rule: &RuleEntry, now: u64, flags: u8, payload_len: u32) -> bool {
    let known = STREAMS.get_ptr_mut(&space.stream);
    match known {
        // One that begins has the addresses of one that was.
        Some(known) if flags & SYN == 0 => {
            // SAFETY: the fields are aligned u64s of a map value.
            let seen = unsafe {
                StreamSeen {
                    first_ns: (*known).first_ns,
                    bytes: fetch_add(&raw mut (*known).bytes, payload_len.into()),
                }
            };
            net_reset::is_due(rule.params, seen, now)
        }
        _ => {
            let seen = StreamSeen {
                first_ns: now,
                bytes: payload_len.into(),
            };
            // A full table forgets the connection that was silent the longest.
            let _ = STREAMS.insert(&space.stream, seen, u64::from(BPF_ANY));
            false
        }
    }
}

/// Tells the ends of the connection, and returns the verdict on the packet,
/// [`REFUSED`] or [`SPOILT`].
///
/// A function of its own for the sake of the stack.
#[inline(never)]
pub(crate) fn apply(
    skb: *mut __sk_buff,
    space: &mut Workspace,
    rule: &RuleEntry,
    site: &SiteEntry,
    direction: u32,
) -> i32 {
    let (skb, params) = (&Skb(skb), rule.params);
    let (facts, draft) = (&space.facts, &mut space.draft);
    let Some(segment) = segment(skb, facts) else {
        return REFUSED;
    };
    let device_sums = start_value(skb.0, facts) != COMPLETE;
    let l2_len = site.l2_len;
    match cut(skb, facts, l2_len, TCP_LEN) {
        Made::Done => {}
        Made::Refused => return REFUSED,
        Made::Spoilt => return SPOILT,
    }
    draft.begin(facts, l2_len);
    let receiver = net_reset::tells_receiver(params, direction);
    if net_reset::tells_sender(params, direction) {
        draft.turn();
        // What it acknowledges is what its sender waits for.
        let answer = segment.refusal(0);
        if !write_segment(skb, draft, answer, device_sums) || !swap_link(skb, l2_len) {
            return SPOILT;
        }
        if !receiver {
            return turn_round(skb, direction, site);
        }
        if !send_copy(skb, direction, site) || !swap_link(skb, l2_len) {
            return SPOILT;
        }
        draft.turn();
    }
    tell_receiver(skb, draft, segment, device_sums, (site, direction))
}

/// Makes a packet that is cut down to its headers a reset in the place of this
/// segment, and returns the verdict on it.
#[inline(always)]
pub(super) fn tell_receiver(
    skb: &Skb,
    draft: &mut Draft,
    segment: Segment,
    device_sums: bool,
    (site, direction): (&SiteEntry, u32),
) -> i32 {
    if !write_segment(skb, draft, net_reset::in_place(segment), device_sums) {
        return SPOILT;
    }
    if direction == EGRESS && site.loopback != 0 {
        skb.set_stamp(Stamp::ANSWER);
    }
    NEXT
}

/// Sends a copy of an answer the other way. On the loopback it goes the same way,
/// by which it keeps its route.
#[inline(always)]
pub(super) fn send_copy(skb: &Skb, direction: u32, site: &SiteEntry) -> bool {
    skb.set_stamp(Stamp::ANSWER);
    let flags = if direction == EGRESS && site.loopback == 0 {
        u64::from(BPF_F_INGRESS)
    } else {
        0
    };
    // SAFETY: the context comes from the kernel.
    let sent = unsafe { bpf_clone_redirect(skb.0, skb.ifindex(), flags) } == 0;
    skb.set_stamp(Stamp::NONE);
    sent
}
