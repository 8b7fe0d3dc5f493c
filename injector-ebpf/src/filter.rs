//! Whether a packet is one that a rule means: what `injector-common` decides
//! from its headers, and what only tables can tell.

use aya_ebpf::{bindings::BPF_ANY, btf_maps::lpm_trie::Key};
use injector_common::{
    Control, RuleEntry,
    conversation::{Conversation, udp_state},
    filter::PeerName,
    packet::Facts,
    uses::Uses,
};

use crate::{
    atomic::set_bits,
    maps::{CONVERSATIONS, PEERS, in_use},
};

/// Whether a packet that goes in `direction` is one that the rule means.
#[inline(always)]
pub(crate) fn matches(rule: &RuleEntry, facts: &Facts, direction: u32) -> bool {
    let filter = &rule.filter;
    filter.matches_headers(facts, direction)
        && (!in_use(Uses::FRAMES) || filter.takes_frame(facts))
        && (!in_use(Uses::PORTS) || filter.takes_ports(facts, direction))
        && (!filter.asks_table()
            || filter.takes_peer(known(PeerName::of(rule.key, facts, direction))))
        && (!in_use(Uses::LOCALS)
            || !filter.asks_for_local()
            || filter.takes_local(known(PeerName::of_local(rule.key, facts, direction))))
}

/// What the peer table says of one end of a packet: the longest network decides.
#[inline(always)]
pub(crate) fn known(name: PeerName) -> Option<u32> {
    PEERS.get(&Key::new(PeerName::BITS, name)).copied()
}

/// Notes that a packet of its conversation was seen, and in `facts` whether it
/// was the first at `place`, which is [`AT_INTERFACES`] or [`AT_SOCKETS`]. Does nothing
/// unless one of the rules in `mask` asks.
///
/// [`AT_INTERFACES`]: injector_common::conversation::AT_INTERFACES
/// [`AT_SOCKETS`]: injector_common::conversation::AT_SOCKETS
///
/// A function of its own, for the sake of the stack: the keys need not lie
/// there when rules are asked.
#[inline(never)]
pub(crate) fn follow_conversation(
    control: &Control,
    mask: u64,
    facts: &mut Facts,
    direction: u32,
    place: u32,
) {
    if control.by_state & mask == 0 {
        return;
    }
    let Some((conversation, bit)) = Conversation::of(facts, direction) else {
        return;
    };
    let mut before = 0;
    let placed = bit << place;
    if let Some(seen) = CONVERSATIONS.get_ptr_mut(conversation) {
        // SAFETY: an aligned u64 of a map value. Two packets that come at the
        // same time on two CPUs may both be the first.
        unsafe {
            before = seen.read_volatile();
            if before & placed == 0 {
                set_bits(seen, placed);
            }
        }
    } else {
        // A full table forgets the conversation that was silent the longest.
        let _ = CONVERSATIONS.insert(conversation, placed, u64::from(BPF_ANY));
    }
    facts.state = udp_state(before >> place, bit);
}
