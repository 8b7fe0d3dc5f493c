//! `net-corrupt`: a byte of the packet changes.

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_RECOMPUTE_CSUM},
    helpers::generated::{bpf_csum_level, bpf_l4_csum_replace},
};
use injector_common::{
    faults::{
        Params,
        net_corrupt::{self, CHECKSUM_VALID},
    },
    packet::{Facts, PROTO_ICMP, PROTO_TCP, PROTO_UDP, PacketBytes as _},
};

use crate::skb::Skb;

/// `BPF_CSUM_LEVEL_RESET`: makes the stack verify the checksum itself.
const CSUM_LEVEL_RESET: u64 = 3;

/// Where the checksum lies in a transport header.
#[inline(always)]
pub(crate) fn checksum_offset(proto: u32) -> Option<u32> {
    match proto {
        PROTO_TCP => Some(16),
        PROTO_UDP => Some(6),
        PROTO_ICMP => Some(2),
        _ => None,
    }
}

/// Length of the payload that can be damaged; 0 for a packet that this kind
/// does not match: one without payload, a later fragment, or a transport whose
/// checksum is not known here.
#[inline(always)]
pub(crate) fn payload_len(skb: &Skb, facts: &Facts) -> u32 {
    if checksum_offset(facts.proto).is_none() || facts.is_fragment() {
        return 0;
    }
    facts.payload_len(skb.len())
}

/// Damages the packet; whether it worked.
#[inline(always)]
pub(crate) fn apply(skb: &Skb, facts: &Facts, params: Params, amount: u32) -> bool {
    let Some(offset) = checksum_offset(facts.proto) else {
        return false;
    };
    let checksum = facts.transport_offset + offset;
    if params[0] == CHECKSUM_VALID {
        damage_payload(skb, facts, checksum, amount)
    } else {
        damage_checksum(skb, facts, checksum, amount)
    }
}

#[inline(always)]
fn damage_payload(skb: &Skb, facts: &Facts, checksum: u32, amount: u32) -> bool {
    let len = payload_len(skb, facts);
    let Some((place, pattern)) = net_corrupt::place(len, amount) else {
        return false;
    };
    let position = facts.payload_offset + place;
    let Some([old]) = skb.load(position) else {
        return false;
    };
    let new = old ^ pattern;
    // No recomputation by the kernel: the change of the payload and that of
    // the checksum cancel out in the sum over the whole packet.
    if !skb.store(position, [new], 0) {
        return false;
    }
    // The checksum sums 16-bit words counted from the transport header.
    let odd = (position - facts.transport_offset) & 1 == 1;
    let word = |byte: u8| if odd { [0, byte] } else { [byte, 0] };
    let (from, to) = (u16::from_ne_bytes(word(old)), u16::from_ne_bytes(word(new)));
    let mut flags = 2;
    if facts.proto == PROTO_UDP {
        // A UDP checksum of 0 means none, and must stay so.
        flags |= u64::from(BPF_F_MARK_MANGLED_0);
    }
    // Does nothing to a packet whose checksum the device still has to fill in.
    // SAFETY: the context comes from the kernel; the helper checks the offset.
    unsafe { bpf_l4_csum_replace(skb.0, checksum, from.into(), to.into(), flags) == 0 }
}

/// Flips bits of the checksum itself. The field is wrong in whatever state the
/// packet is: complete, or holding the start value from which a device goes on.
#[inline(always)]
fn damage_checksum(skb: &Skb, facts: &Facts, checksum: u32, amount: u32) -> bool {
    let Some(old) = skb.load::<2>(checksum) else {
        return false;
    };
    let pattern = ((amount as u16) | 1).to_be_bytes();
    let mut new = [old[0] ^ pattern[0], old[1] ^ pattern[1]];
    if facts.proto == PROTO_UDP && new == [0, 0] {
        // Zero would mean "no checksum" and pass.
        new = [!old[0], old[1] ^ 0x5a];
    }
    if !skb.store(checksum, new, u64::from(BPF_F_RECOMPUTE_CSUM)) {
        return false;
    }
    // Fails for a packet that no device vouched for, which is verified anyway.
    // SAFETY: the context comes from the kernel.
    let _ = unsafe { bpf_csum_level(skb.0, CSUM_LEVEL_RESET) };
    true
}
