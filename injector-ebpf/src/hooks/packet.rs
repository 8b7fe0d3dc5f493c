//! Packets at the traffic-control hooks of an interface.

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_tuple},
    helpers::generated::{
        bpf_redirect, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_set_tstamp,
    },
    macros::classifier,
    programs::TcContext,
};
use injector_common::{
    Control, FaultKind, SiteEntry, Verdict,
    faults::{net_corrupt as corrupt, net_delay as delay},
    filter::{EGRESS, INGRESS},
    names::MAX_RULES,
    packet::{self, Facts, PROTO_TCP, PROTO_UDP},
};

use crate::{
    decide::{armed, live},
    faults::{net_corrupt, net_delay, net_loss},
    maps::SITES,
    scope,
    skb::{NEXT, Skb},
};

/// `BPF_F_CURRENT_NETNS`: look for the socket where the packet is.
const CURRENT_NETNS: u64 = u64::MAX;
/// `BPF_SKB_TSTAMP_DELIVERY_MONO`: the time stamp says when to send.
const TSTAMP_DELIVERY: u32 = 1;

#[classifier]
fn inj_egress(ctx: TcContext) -> i32 {
    judge(&Skb(ctx.skb.skb), EGRESS).unwrap_or(NEXT)
}

#[classifier]
fn inj_ingress(ctx: TcContext) -> i32 {
    judge(&Skb(ctx.skb.skb), INGRESS).unwrap_or(NEXT)
}

/// A packet that enters a device of ours gets its departure time.
#[classifier]
fn inj_hop(ctx: TcContext) -> i32 {
    let skb = Skb(ctx.skb.skb);
    if let Some(due) = net_delay::take_note(&skb) {
        // SAFETY: the context comes from the kernel.
        unsafe { bpf_skb_set_tstamp(skb.0, due, TSTAMP_DELIVERY) };
    }
    NEXT
}

/// A packet that waited on its way out goes on to its interface.
#[classifier]
fn inj_return(ctx: TcContext) -> i32 {
    let cb = Skb(ctx.skb.skb).cb();
    // SAFETY: a context field, and a helper that only notes the index.
    unsafe { bpf_redirect((*cb)[net_delay::CB_ONWARD], 0) as i32 }
}

/// The verdict on a packet, or `None` to leave it alone.
#[inline(always)]
fn judge(skb: &Skb, direction: u32) -> Option<i32> {
    let (control, now) = armed()?;
    // SAFETY: values are plain integers that only user space replaces.
    let site = unsafe { SITES.get(skb.ifindex()) }?;
    if direction == EGRESS && site.egress_return != 0 && skb.arrived_at() == site.egress_return {
        return None; // judged before it waited
    }
    if skb.has_vlan_tag() {
        return None;
    }
    // On loopback, what a packet has to wait for as one that leaves is noted
    // in it, and it waits here, where it arrives.
    let noted = if direction == INGRESS && site.loopback != 0 {
        net_delay::take_note(skb)
    } else {
        None
    };
    let outcome = judge_rules(skb, direction, control, now, site).unwrap_or(Outcome::NONE);
    if outcome.lost {
        return Some(net_loss::apply());
    }
    if outcome.detour == 0 {
        return match noted {
            Some(due) => net_delay::apply(skb, site.ingress_hop, due),
            None => None,
        };
    }
    let mut due = net_delay::due(skb, direction, outcome.delay_ns);
    let verdict = if direction == EGRESS && site.loopback != 0 {
        net_delay::note(skb, due);
        Some(NEXT)
    } else {
        let hop = if direction == EGRESS { site.egress_hop } else { site.ingress_hop };
        if let Some(earlier) = noted {
            due = due.max(earlier + outcome.delay_ns);
        }
        net_delay::apply(skb, hop, due)
    };
    for index in 0..MAX_RULES {
        if index >= control.rule_count {
            break;
        }
        if outcome.detour & (1 << index) != 0
            && let Some(rule) = live(index, now)
        {
            rule.done(verdict.is_some());
        }
    }
    verdict
}

/// Finds the rules aimed at the packet's owner and asks them.
#[inline(always)]
fn judge_rules(
    skb: &Skb,
    direction: u32,
    control: &Control,
    now: u64,
    site: &SiteEntry,
) -> Option<Outcome> {
    let (facts, owned) = if direction == EGRESS {
        // The owner is cheaper to find than the headers are to read.
        let owned = site.owner | sent_by(control, site, skb);
        if owned & site.rules == 0 {
            return None;
        }
        (packet::parse(skb, skb.protocol(), site.l2_len)?, owned)
    } else {
        let facts = packet::parse(skb, skb.protocol(), site.l2_len)?;
        let owned = site.owner | received_by(control, site, skb, &facts);
        (facts, owned)
    };
    let mask = owned & site.rules;
    if mask == 0 || facts.protected {
        return None;
    }
    Some(ask(skb, direction, control, now, &facts, mask))
}

#[inline(always)]
fn sent_by(control: &Control, site: &SiteEntry, skb: &Skb) -> u64 {
    if site.owner == site.rules {
        return 0; // nothing left to find out
    }
    scope::of_sender(control, skb.0)
}

/// The rules aimed at the socket that will receive the packet.
#[inline(always)]
fn received_by(control: &Control, site: &SiteEntry, skb: &Skb, facts: &Facts) -> u64 {
    if site.owner == site.rules || facts.is_fragment() {
        return 0;
    }
    // SAFETY: all zero is a valid tuple.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let size = if facts.family == 4 {
        // SAFETY: writes one variant of a plain union.
        unsafe {
            tuple.__bindgen_anon_1.ipv4.saddr = facts.src[3];
            tuple.__bindgen_anon_1.ipv4.daddr = facts.dst[3];
            tuple.__bindgen_anon_1.ipv4.sport = facts.src_port.to_be();
            tuple.__bindgen_anon_1.ipv4.dport = facts.dst_port.to_be();
            size_of_val(&tuple.__bindgen_anon_1.ipv4)
        }
    } else {
        // SAFETY: as above.
        unsafe {
            tuple.__bindgen_anon_1.ipv6.saddr = facts.src;
            tuple.__bindgen_anon_1.ipv6.daddr = facts.dst;
            tuple.__bindgen_anon_1.ipv6.sport = facts.src_port.to_be();
            tuple.__bindgen_anon_1.ipv6.dport = facts.dst_port.to_be();
            size_of_val(&tuple.__bindgen_anon_1.ipv6)
        }
    };
    let tuple = &raw mut tuple;
    // SAFETY: the tuple is complete, its size one of the two that the helper
    // knows.
    let sk: *mut bpf_sock = unsafe {
        if facts.proto == PROTO_TCP {
            bpf_sk_lookup_tcp(skb.0.cast(), tuple, size as u32, CURRENT_NETNS, 0)
        } else if facts.proto == PROTO_UDP {
            bpf_sk_lookup_udp(skb.0.cast(), tuple, size as u32, CURRENT_NETNS, 0)
        } else {
            return 0;
        }
    };
    if sk.is_null() {
        return 0;
    }
    // SAFETY: a lookup gives a full socket, which is given back right after.
    unsafe {
        let mask = scope::of_socket(control, sk);
        bpf_sk_release(sk.cast());
        mask
    }
}

/// What the rules say of a packet.
struct Outcome {
    /// It is gone; the rules behind the one that lost it were not asked.
    lost: bool,
    /// How long it waits.
    delay_ns: u64,
    /// Rules that need it to pass a device of ours, and are not counted yet.
    detour: u64,
}

impl Outcome {
    const NONE: Self = Self { lost: false, delay_ns: 0, detour: 0 };
}

/// Asks the rules in their order. A loss ends the search; damage happens at
/// once; delays add up.
#[inline(always)]
fn ask(
    skb: &Skb,
    direction: u32,
    control: &Control,
    now: u64,
    facts: &Facts,
    mask: u64,
) -> Outcome {
    let mut outcome = Outcome::NONE;
    for index in 0..MAX_RULES {
        if index >= control.rule_count {
            break;
        }
        if mask & (1 << index) == 0 {
            continue;
        }
        let Some(rule) = live(index, now) else {
            continue;
        };
        if !rule.rule.filter.matches(facts, direction) {
            continue;
        }
        let kind = rule.rule.kind;
        let params = rule.rule.params;
        if kind == FaultKind::NetCorrupt as u32 && net_corrupt::payload_len(skb, facts) == 0 {
            continue;
        }
        let (verdict, amount) = rule.decide();
        if verdict != Verdict::Inject {
            continue;
        }
        if kind == FaultKind::NetLoss as u32 {
            rule.done(true);
            outcome.lost = true;
            return outcome;
        } else if kind == FaultKind::NetDelay as u32 {
            outcome.delay_ns += delay::delay_ns(params, amount);
            outcome.detour |= 1 << index;
        } else if kind == FaultKind::NetCorrupt as u32 {
            let damaged = net_corrupt::apply(skb, facts, params, amount);
            if damaged && corrupt::needs_detour(params) {
                outcome.detour |= 1 << index;
            } else {
                rule.done(damaged);
            }
        } else {
            rule.done(false);
        }
    }
    outcome
}
