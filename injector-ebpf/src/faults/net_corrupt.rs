//! `net-corrupt`: bits or bytes of the packet change.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_RECOMPUTE_CSUM},
    cty::c_void,
    helpers::generated::{bpf_csum_level, bpf_l4_csum_replace},
};
use injector_common::{
    RuleSlot,
    faults::{
        Params,
        net_corrupt::{CHECKSUM_VALID, MAX_CHANGES, Region, Sums, checksum_offset},
    },
    names::MAX_RULES,
    packet::{PROTO_UDP, PacketBytes as _},
};

use crate::{
    answer::{COMPLETE, start_value},
    decide::{ENOUGH, GO_ON, ask_rules},
    skb::Skb,
    workspace::Workspace,
};

/// `BPF_CSUM_LEVEL_RESET`: makes the stack verify the checksum itself.
const CSUM_LEVEL_RESET: u64 = 3;

/// Whether there is enough to damage; notes what. There is not in a packet
/// without payload, a later fragment, or a transport whose checksum is not known
/// here. And a UDP packet without a checksum has none that could be broken.
///
/// A function of its own for the sake of the stack.
#[inline(never)]
pub(crate) fn can(skb: *mut __sk_buff, space: &mut Workspace, params: &Params) -> bool {
    let skb = Skb(skb);
    let facts = &space.facts;
    let region = Region::of(facts, skb.len(), *params);
    if !region.has_room(*params) {
        return false;
    }
    if facts.proto == PROTO_UDP && params[0] != CHECKSUM_VALID {
        let sum = checksum_offset(PROTO_UDP).unwrap_or(0);
        if skb.load(facts.transport_offset + sum) == Some([0, 0]) {
            return false;
        }
    }
    space.region = region;
    true
}

/// A packet that is being damaged.
struct Damaging<'a> {
    skb: *mut __sk_buff,
    space: &'a mut Workspace,
    params: &'a Params,
    draw: u64,
}

/// Damages what [`can`] has noted; whether it worked.
///
/// A function of its own for the sake of the stack.
#[inline(never)]
pub(crate) fn apply(
    skb: *mut __sk_buff,
    space: &mut Workspace,
    params: &Params,
    draw: u64,
) -> bool {
    space.sums = Sums::NONE;
    space.changes = 0;
    let mut damaging = Damaging {
        skb,
        space,
        params,
        draw,
    };
    // Not a loop, which the verifier would walk change by change: the kernel
    // counts them, by a table that has enough entries.
    ask_rules(change, &mut damaging);
    let Damaging { space, .. } = damaging;
    if u64::from(space.changes) < params[1] {
        return false;
    }
    if params[0] == CHECKSUM_VALID {
        fit(skb, space)
    } else {
        break_off(skb, space)
    }
}

const _: () = assert!(MAX_RULES >= MAX_CHANGES);

/// Does change number `k`.
///
/// # Safety
///
/// Called by the kernel, with the number of the change and the state of [`apply`].
unsafe extern "C" fn change(
    _map: *mut c_void,
    k: *const u32,
    _slot: *const RuleSlot,
    damaging: *mut Damaging<'_>,
) -> u64 {
    // SAFETY: see above.
    let (k, damaging) = unsafe { (u64::from(*k), &mut *damaging) };
    let (skb, params) = (Skb(damaging.skb), *damaging.params);
    let Some((offset, pattern)) = damaging.space.region.change(params, damaging.draw, k) else {
        return ENOUGH;
    };
    let Some([old]) = skb.load(offset) else {
        return ENOUGH;
    };
    let place = offset - damaging.space.facts.transport_offset;
    let new = damaging.space.sums.damage(place, old, pattern);
    // To make the checksum fit, the kernel must not count: the change of the bytes
    // and that of the checksum cancel out in the sum over the whole packet.
    let flags = if params[0] == CHECKSUM_VALID {
        0
    } else {
        u64::from(BPF_F_RECOMPUTE_CSUM)
    };
    if !skb.store(offset, [new], flags) {
        return ENOUGH;
    }
    damaging.space.changes += 1;
    GO_ON
}

/// Where the packet's checksum lies.
#[inline(always)]
fn checksum(space: &Workspace) -> u32 {
    // Others have no region.
    space.facts.transport_offset + checksum_offset(space.facts.proto).unwrap_or(0)
}

/// Makes the checksum fit the damage.
#[inline(always)]
fn fit(skb: *mut __sk_buff, space: &Workspace) -> bool {
    let (from, to) = space.sums.words();
    let mut flags = 2;
    if space.facts.proto == PROTO_UDP {
        // A UDP checksum of 0 means none, and must stay so.
        flags |= u64::from(BPF_F_MARK_MANGLED_0);
    }
    // Does nothing to a packet whose checksum the device still has to fill in.
    // SAFETY: the context comes from the kernel; the helper checks the offset.
    unsafe { bpf_l4_csum_replace(skb, checksum(space), from.into(), to.into(), flags) == 0 }
}

/// Leaves the checksum what it was, also where a device still has to fill it in,
/// and has the receiver look at it.
#[inline(always)]
fn break_off(skb: *mut __sk_buff, space: &Workspace) -> bool {
    let start = start_value(skb, &space.facts);
    if start != COMPLETE {
        let start = space.sums.undone(start as u16);
        return Skb(skb).store(checksum(space), start.to_ne_bytes(), 0);
    }
    // Fails for a packet that no device vouched for, which is verified anyway.
    // SAFETY: the context comes from the kernel.
    let _ = unsafe { bpf_csum_level(skb, CSUM_LEVEL_RESET) };
    true
}
