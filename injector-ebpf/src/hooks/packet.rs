//! Packets at the traffic-control hooks of an interface.

use aya_ebpf::{
    bindings::{BPF_ANY, bpf_sock, bpf_sock_tuple},
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release},
    macros::classifier,
    programs::TcContext,
};
use injector_common::{
    Control, FaultKind, SiteEntry,
    conversation::AT_INTERFACES,
    filter::{EGRESS, INGRESS},
    packet::{self, EchoKey, Facts, PROTO_TCP, PROTO_UDP},
    uses::Uses,
};

use super::passing::Passing;
use crate::{
    decide::armed,
    dns,
    faults::net_delay,
    filter,
    maps::{ECHOES, SITES, count_unattributed, in_use},
    scope,
    skb::{NEXT, Skb, Stamp},
    waiting,
};

/// `BPF_F_CURRENT_NETNS`: look for the socket where the packet is.
const CURRENT_NETNS: u64 = u64::MAX;

#[classifier]
fn inj_egress(ctx: TcContext) -> i32 {
    judge(&Skb(ctx.skb.skb), EGRESS).unwrap_or(NEXT)
}

#[classifier]
fn inj_ingress(ctx: TcContext) -> i32 {
    judge(&Skb(ctx.skb.skb), INGRESS).unwrap_or(NEXT)
}

/// The verdict on a packet, or `None` to leave it alone.
#[inline(always)]
fn judge(skb: &Skb, direction: u32) -> Option<i32> {
    let (control, now) = armed()?;
    // SAFETY: values are plain integers that only user space replaces.
    let site = unsafe { SITES.get(skb.ifindex()) }?;
    if skb.stamp() == Stamp::ANSWER {
        // On loopback it comes by again, as one that arrives.
        if direction == INGRESS || site.loopback == 0 {
            skb.set_stamp(Stamp::NONE);
        }
        return None;
    }
    // One that has waited was judged before, and carries a mark, as does a copy.
    // One that leaves may have lost it on the way, and is known by the device
    // that it comes back from.
    let comes_back =
        direction == EGRESS && site.hop_return != 0 && skb.arrived_at() == site.hop_return;
    if net_delay::was_judged(skb)
        || comes_back
        || skb.has_vlan_tag()
        || skb.was_asked(asked(control, direction))
    {
        return None;
    }
    // On loopback, what a packet has to wait for as one that leaves is noted
    // in it, and it waits here, where it arrives.
    let noted = if in_use(Uses::DETOURS) && direction == INGRESS && site.loopback != 0 {
        net_delay::take_note(skb).unwrap_or(0)
    } else {
        0
    };
    let mut passing = Passing::new(skb, direction, control, now)?;
    let noted = passing.space().forget(noted);
    judge_rules(&mut passing, site, control);
    let verdict = passing.settle(site, noted);
    passing.end();
    passing.tell();
    verdict
}

/// The mark of packets that go in `direction` and for which this agent's rules were
/// asked; never 0. Where a device stands on another, such as a tunnel or a macvlan, a
/// packet passes both.
#[inline(always)]
fn asked(control: &Control, direction: u32) -> u16 {
    (control.agent_tgid << 2 | direction) as u16
}

/// Finds the rules aimed at the packet's owner and asks them.
#[inline(always)]
fn judge_rules(passing: &mut Passing, site: &SiteEntry, control: &Control) -> Option<()> {
    let skb = Skb(passing.skb);
    let owned = if passing.direction == EGRESS {
        // The owner is cheaper to find than the headers are to read.
        let owned = scope::of_sender(control, skb.0, site.owner);
        // Where a target counts as the owner of all else, others who came later
        // and ask for an echo are noted too: its reply is not the target's.
        if owned & site.rules == 0 && site.owner == 0 {
            return None;
        }
        if !read_facts(passing, site.l2_len) {
            return None;
        }
        if passing.facts().echo_id != 0 {
            note_echo(passing, owned);
        }
        owned
    } else {
        if !read_facts(passing, site.l2_len) {
            return None;
        }
        received_by(passing, site.owner)
    };
    passing.mask = owned & site.rules;
    if passing.mask != 0 {
        skb.note_asked(asked(control, passing.direction));
    }
    if passing.mask != 0 && passing.facts().protected == 0 {
        let (mask, direction) = (passing.mask, passing.direction);
        let facts = &mut passing.space().facts;
        filter::follow_conversation(control, mask, facts, direction, AT_INTERFACES);
        if in_use(Uses::kind(FaultKind::Dns)) {
            passing.mask = dns::rule_out(control, mask, passing.skb, passing.space(), direction);
        }
        if in_use(Uses::QUEUES) {
            waiting::turn();
        }
        passing.ask();
    }
    Some(())
}

/// Reads the packet's headers into `passing`.
///
/// A function of its own, and not inlined, for the sake of the stack: its
/// buffers do not add to those of the callbacks.
#[inline(never)]
fn read_facts(passing: &mut Passing, l2_len: u32) -> bool {
    let skb = Skb(passing.skb);
    let facts = &mut passing.space().facts;
    *facts = Facts::NONE;
    let parsed = packet::parse(&skb, skb.protocol(), l2_len, facts);
    facts.note_frame(l2_len, skb.len(), skb.gso_size(), skb.mark());
    parsed
}

/// Remembers who asked for an echo: no socket lookup finds the receiver of the
/// reply.
#[inline(never)]
fn note_echo(passing: &Passing, owned: u64) {
    let key = EchoKey {
        peer: passing.facts().dst,
        id: passing.facts().echo_id.into(),
    };
    // A full table forgets the oldest asker.
    let _ = ECHOES.insert(key, owned, u64::from(BPF_ANY));
}

/// The rules aimed at whoever asked for the echo that the packet brings.
#[inline(never)]
fn asked_by(passing: &Passing) -> Option<u64> {
    let key = EchoKey {
        peer: passing.facts().src,
        id: passing.facts().echo_id.into(),
    };
    // SAFETY: values are plain integers.
    unsafe { ECHOES.get(key) }.copied()
}

/// The rules aimed at the socket that will receive the packet, or `owner` if
/// none will.
#[inline(never)]
fn received_by(passing: &Passing, owner: u64) -> u64 {
    let (skb, facts) = (Skb(passing.skb), passing.facts());
    let nobodys = || {
        if owner == 0 {
            count_unattributed(INGRESS);
        }
        owner
    };
    if facts.is_fragment() {
        return nobodys();
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
        } else if packet::is_tunnel(facts.number) {
            return 0;
        } else {
            return asked_by(passing).unwrap_or_else(nobodys);
        }
    };
    if sk.is_null() {
        return nobodys();
    }
    // SAFETY: a lookup gives a full socket, which is given back right after.
    let mask = unsafe {
        let mask = scope::stored(sk);
        bpf_sk_release(sk.cast());
        mask
    };
    // A namespace's only owner has every packet in it, also those of sockets that no
    // process holds: TCP connections yet to be accepted, and closing ones. One of UDP
    // is a tunnel's, out of which comes the owner's packet.
    if facts.proto == PROTO_UDP {
        mask
    } else {
        mask | owner
    }
}
