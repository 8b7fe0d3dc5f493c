//! Packets at the traffic-control hooks of an interface.

use core::hint::black_box;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_ANY, bpf_sock},
    helpers::generated::{bpf_fib_lookup, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release},
    macros::classifier,
    programs::TcContext,
};
use injector_common::{
    Control, FaultKind, SiteEntry,
    conversation::{AT_INTERFACES, STATE_NONE},
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
    maps::{ECHOES, count_unattributed, in_use, site},
    scope, segments,
    skb::{Linear, NEXT, Skb, Stamp},
    waiting,
    workspace::{NOBODY, ROUTE_WORDS, Receiver, SOCKET, UNKNOWN, Workspace},
};

/// The version of IP, as `struct bpf_fib_lookup` has it.
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
/// `BPF_FIB_LKUP_RET_NOT_FWDED`: the address is the host's own, or many hosts'.
const NOT_FORWARDED: i64 = 4;
/// `BPF_FIB_LKUP_RET_FWD_DISABLED`: the interface is none of a router's.
const FORWARDS_NOTHING: i64 = 5;

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
    let site = site(skb.ifindex())?;
    if skb.stamp() == Stamp::ANSWER {
        // On loopback it comes by again, as one that arrives.
        if direction == INGRESS || site.loopback == 0 {
            skb.set_stamp(Stamp::NONE);
        }
        // Nor is it asked for below a tunnel, where it may seem to be the owner's.
        note_asked(
            skb.0,
            asked(control, direction),
            note(control, site, direction),
        );
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
        || direction == EGRESS && skb.is_noted_in_hash(control.by_hash)
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
    let space = Workspace::get()?;
    let mask = aimed(skb, space, site, direction, control);
    // Most packets are nobody's that a rule is aimed at, and cost no more than this.
    if mask == 0 && noted == 0 {
        return None;
    }
    if in_use(Uses::SEGMENTS)
        && mask & site.splits != 0
        && !is_protected(space)
        && !segments::is_split(skb, site, direction)
    {
        return Some(segments::split(skb, direction, site.split));
    }
    let mut passing = Passing::new(skb, space, direction, control, now);
    let noted = passing.space().forget(noted);
    passing.mask = mask;
    if mask != 0 {
        judge_rules(&mut passing, control, note(control, site, direction));
    }
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

/// What is left in the packet's hash too. Of devices without a link-layer header, WireGuard is
/// one.
#[inline(always)]
fn note(control: &Control, site: &SiteEntry, direction: u32) -> u32 {
    if direction == EGRESS && site.l2_len == 0 {
        control.by_hash
    } else {
        0
    }
}

/// The rules aimed at the packet's owner, of those that act here. Then its headers are
/// read as well.
#[inline(always)]
fn aimed(
    skb: &Skb,
    space: *mut Workspace,
    site: &SiteEntry,
    direction: u32,
    control: &Control,
) -> u64 {
    if direction == INGRESS {
        return if is_bystanders(skb, space, site) {
            0
        } else {
            of_receiver(skb.0, space, site) & site.rules
        };
    }
    // The owner is cheaper to find than the headers are to read.
    let owned = scope::of_sender(control, skb.0, space, site.owner);
    // Where a target counts as the owner of all else, others who came later
    // and ask for an echo are noted too: its reply is not the target's.
    if owned & site.rules == 0 && site.owner == 0 {
        return 0;
    }
    if !read_facts(skb.0, space, site.l2_len) {
        // What is not IP passes untouched, also as a tunnel's packet.
        skb.note_asked(asked(control, direction));
        return 0;
    }
    // SAFETY: the pointer comes from a lookup that succeeded.
    if unsafe { (*space).facts.echo_id } != 0 {
        note_echo(space, owned);
    }
    owned & site.rules
}

/// Whether the packet is one that no rule ever hits. Its headers were read.
#[inline(always)]
fn is_protected(space: *mut Workspace) -> bool {
    // SAFETY: the pointer comes from a lookup that succeeded.
    unsafe { (*space).facts.protected != 0 }
}

/// Asks the rules aimed at the packet's owner.
#[inline(always)]
fn judge_rules(passing: &mut Passing, control: &Control, note: u32) {
    note_asked(passing.skb, asked(control, passing.direction), note);
    if passing.facts().protected != 0 {
        return;
    }
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

/// Leaves in a packet that rules were asked for it, with `note` in its hash unless it is 0.
///
/// A function of its own, so that both ways through it are one to what follows.
#[inline(never)]
fn note_asked(skb: *mut __sk_buff, mark: u16, note: u32) {
    let skb = Skb(skb);
    skb.note_asked(mark);
    if note != 0 {
        skb.note_in_hash(note);
    }
}

/// Reads the packet's headers into `space`.
///
/// A function of its own, and not inlined, for the sake of the stack: its
/// buffers do not add to those of the callbacks.
#[inline(never)]
fn read_facts(skb: *mut __sk_buff, space: *mut Workspace, l2_len: u32) -> bool {
    let skb = Skb(skb);
    // SAFETY: the pointer comes from a lookup that succeeded.
    let facts = unsafe { &mut (*space).facts };
    clear(facts);
    let parsed = packet::parse(&skb, skb.protocol(), l2_len, facts);
    facts.note_frame(l2_len, skb.len(), skb.gso_size(), skb.mark());
    parsed
}

/// Sets them to [`Facts::NONE`], which is all zero. A zero that the compiler knows becomes a
/// loop, byte by byte.
#[inline(always)]
fn clear(facts: &mut Facts) {
    const WORDS: usize = size_of::<Facts>() / 8;
    const { assert!(align_of::<Facts>() == 8 && STATE_NONE == 0) };
    // SAFETY: facts are made of integers, as long and as aligned as so many words.
    let words = unsafe { &mut *(&raw mut *facts).cast::<[u64; WORDS]>() };
    *words = [black_box(0); WORDS];
}

/// Remembers who asked for an echo: no socket lookup finds the receiver of the
/// reply.
#[inline(never)]
fn note_echo(space: *mut Workspace, owned: u64) {
    // SAFETY: the pointer comes from a lookup that succeeded.
    let facts = unsafe { &(*space).facts };
    let key = EchoKey {
        peer: facts.dst,
        id: facts.echo_id.into(),
    };
    // A full table forgets the oldest asker.
    let _ = ECHOES.insert(key, owned, u64::from(BPF_ANY));
}

/// The rules aimed at whoever asked for the echo that the packet brings.
#[inline(never)]
fn asked_by(facts: &Facts) -> Option<u64> {
    let key = EchoKey {
        peer: facts.src,
        id: facts.echo_id.into(),
    };
    // SAFETY: values are plain integers.
    unsafe { ECHOES.get(key) }.copied()
}

/// Whether a socket that no rule is aimed at will receive the packet, for all that a few
/// words of it say. Which is so for most packets, unless there is an owner: then most are
/// his, and this is not looked at.
#[inline(always)]
fn is_bystanders(skb: &Skb, space: *mut Workspace, site: &SiteEntry) -> bool {
    // SAFETY: the pointer comes from a lookup that succeeded.
    let receiver = unsafe { &mut (*space).receiver };
    receiver.found = UNKNOWN;
    if site.owner != 0 {
        return false;
    }
    let family = receiver
        .ends
        .read(&Linear(skb), skb.protocol(), site.l2_len);
    family != 0 && look_up(skb.0, receiver, family) == Some(0)
}

/// The rules aimed at the socket that will receive the packet, or else at the owner of
/// all that is nobody's. Unless there are none, the headers are read.
///
/// What [`is_bystanders`] found out lies in `space`, so that the verifier walks the reading
/// once.
#[inline(never)]
fn of_receiver(skb: *mut __sk_buff, space: *mut Workspace, site: &SiteEntry) -> u64 {
    let owner = site.owner;
    if !read_facts(skb, space, site.l2_len) {
        return 0;
    }
    // SAFETY: the pointer comes from a lookup that succeeded.
    let (facts, receiver) = unsafe { (&(*space).facts, &mut (*space).receiver) };
    if facts.is_fragment() {
        return of_nobodys(owner);
    }
    let is_tcp = facts.proto == PROTO_TCP;
    if receiver.found == UNKNOWN {
        if is_tcp && owner != 0 && site.rules & !owner == 0 {
            // His, whosever the socket is.
            return owner;
        }
        if !is_tcp && facts.proto != PROTO_UDP {
            return if packet::is_tunnel(facts.number) {
                0
            } else {
                asked_by(facts).unwrap_or_else(|| of_nobodys(owner))
            };
        }
        receiver.ends.write(facts);
        look_up(skb, receiver, facts.family.into());
    }
    if receiver.found == NOBODY {
        return of_nobodys(owner);
    }
    // A namespace's only owner has every packet in it, also those of sockets that no
    // process holds: TCP connections yet to be accepted, and closing ones. One of UDP
    // is a tunnel's, out of which comes the owner's packet.
    if is_tcp {
        receiver.mask | owner
    } else {
        receiver.mask
    }
}

/// The rules aimed at the owner of what is nobody's, which is counted where there is none.
#[inline(never)]
fn of_nobodys(owner: u64) -> u64 {
    if owner == 0 {
        count_unattributed(INGRESS);
    }
    owner
}

/// Looks the receiver up by its ends, of this version of IP; the rules aimed at it, if there
/// is one.
#[inline(always)]
fn look_up(skb: *mut __sk_buff, receiver: &mut Receiver, family: u32) -> Option<u64> {
    let is_tcp = receiver.ends.is_tcp();
    let key = receiver.ends.key(family);
    let (tuple, size) = (key.as_mut_ptr().cast(), size_of_val(key) as u32);
    receiver.found = NOBODY;
    // SAFETY: the key is complete, its size one of the two that the helper knows. A
    // lookup gives a full socket, which is given back right after.
    unsafe {
        let sk: *mut bpf_sock = if is_tcp {
            bpf_sk_lookup_tcp(skb.cast(), tuple, size, CURRENT_NETNS, 0)
        } else {
            bpf_sk_lookup_udp(skb.cast(), tuple, size, CURRENT_NETNS, 0)
        };
        if sk.is_null() {
            return None;
        }
        let mask = scope::stored(sk);
        // No address of its own (IPv4's: that is none for each of IPv6's either).
        let takes_any = (*sk).src_ip4 == 0;
        bpf_sk_release(sk.cast());
        // Such a socket is found for every address, also for one that is not this host's.
        if takes_any && mask != 0 && is_passed_on(skb, receiver, family) {
            return None;
        }
        receiver.found = SOCKET;
        receiver.mask = mask;
        Some(mask)
    }
}

/// Whether the host passes a packet with these ends on, to whom it belongs.
///
/// Where it forwards nothing, the kernel does not say whether the address is its own; a packet
/// for another host's comes to nobody then.
#[inline(never)]
fn is_passed_on(skb: *mut __sk_buff, receiver: &mut Receiver, family: u32) -> bool {
    let Receiver { ends, route, .. } = receiver;
    let key = ends.key(family);
    *route = [0; ROUTE_WORDS];
    // The sender's address begins at the fifth word, the receiver's at the ninth.
    if family == 4 {
        route[0] = AF_INET;
        if let [from, to, ..] = key {
            (route[4], route[8]) = (*from, *to);
        }
    } else {
        route[0] = AF_INET6;
        for (word, address) in route[4..12].iter_mut().zip(key.iter()) {
            *word = *address;
        }
    }
    let size = size_of_val(route) as i32;
    // SAFETY: the words are a complete `struct bpf_fib_lookup`, and the context comes from the
    // kernel.
    let fate = unsafe {
        route[2] = (*skb).ifindex;
        bpf_fib_lookup(skb.cast(), route.as_mut_ptr().cast(), size, 0)
    };
    fate != NOT_FORWARDED && fate != FORWARDS_NOTHING
}
