//! Turning a packet into an answer to it.
//!
//! A program cannot make a packet, so the one that is answered becomes the
//! answer: cut, with new headers, and sent the other way.

use core::mem::size_of;

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_NO_CSUM_RESET, BPF_F_INGRESS, BPF_F_RECOMPUTE_CSUM,
        bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
    },
    cty::c_void,
    helpers::generated::{
        bpf_csum_diff, bpf_l4_csum_replace, bpf_redirect, bpf_set_hash_invalid,
        bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
    },
};
use injector_common::{
    RuleSlot, SiteEntry,
    answer::{self, Ends, ICMP_LEN, Segment, TCP_LEN},
    faults::net_corrupt::checksum_offset,
    filter::EGRESS,
    names::MAX_RULES,
    packet::{Facts, PROTO_TCP, PacketBytes as _},
};

use crate::{
    decide::{ENOUGH, GO_ON, ask_rules},
    skb::{NEXT, Skb, Stamp},
    workspace::Workspace,
};

/// ICMP of each family, as a network header names it.
const NEXT_ICMP: u8 = 1;
const NEXT_ICMPV6: u8 = 58;

/// What became of an answer.
#[derive(PartialEq, Eq)]
pub(crate) enum Made {
    /// The packet is the answer now.
    Done,
    /// The kernel refused before anything was changed.
    Refused,
    /// The kernel refused afterwards; nobody can use the packet any more.
    Spoilt,
}

/// In place of a verdict: see [`Made::Refused`].
pub(crate) const REFUSED: i32 = -100;
/// In place of a verdict: see [`Made::Spoilt`].
pub(crate) const SPOILT: i32 = -101;

/// The verdict that sends an answer the other way.
///
/// On the loopback it goes on where it is, and arrives: both ends are here. There
/// it must keep its route, without which its addresses would be strange ones.
#[inline(always)]
pub(crate) fn turn_round(skb: &Skb, direction: u32, site: &SiteEntry) -> i32 {
    // SAFETY: the context comes from the kernel.
    unsafe { bpf_set_hash_invalid(skb.0) };
    if site.loopback != 0 {
        if direction == EGRESS {
            skb.set_stamp(Stamp::ANSWER);
        }
        return NEXT;
    }
    skb.set_stamp(Stamp::ANSWER);
    let flags = if direction == EGRESS {
        u64::from(BPF_F_INGRESS)
    } else {
        0
    };
    // SAFETY: the helper only notes the index.
    unsafe { bpf_redirect(skb.ifindex(), flags) as i32 }
}

/// What a TCP packet says of its connection.
#[inline(always)]
pub(crate) fn segment(skb: &Skb, facts: &Facts) -> Option<Segment> {
    let b: [u8; 10] = skb.load(facts.transport_offset + 4)?;
    Some(Segment {
        seq: u32::from_be_bytes([b[0], b[1], b[2], b[3]]),
        ack: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
        flags: b[9],
    })
}

/// Cuts a packet down to a link-layer header and room for a network header without
/// options and a transport header of so many bytes.
#[inline(always)]
pub(crate) fn cut(skb: &Skb, facts: &Facts, l2_len: u32, header_len: u32) -> Made {
    let extra = facts.transport_offset - l2_len - answer::ip_len(facts.family);
    // Ends segmentation offload too.
    // SAFETY: the context comes from the kernel; the helper checks the length.
    if unsafe { bpf_skb_change_tail(skb.0, facts.transport_offset + header_len, 0) } != 0 {
        return Made::Refused;
    }
    if extra != 0 && !make_room(skb, (extra as i32).wrapping_neg()) {
        return Made::Spoilt;
    }
    Made::Done
}

/// Adds or removes bytes behind the link-layer header.
#[inline(always)]
fn make_room(skb: &Skb, bytes: i32) -> bool {
    let flags = u64::from(BPF_F_ADJ_ROOM_NO_CSUM_RESET);
    // SAFETY: the context comes from the kernel; the helper checks the length.
    unsafe { bpf_skb_adjust_room(skb.0, bytes, BPF_ADJ_ROOM_MAC, flags) == 0 }
}

/// An answer's headers, in a map for the sake of the stack.
pub(crate) struct Draft {
    pub(crate) ends: Ends,
    pub(crate) family: u8,
    pub(crate) l2_len: u32,
    /// Room for the longest header.
    words: [u32; 10],
}

impl Draft {
    /// Begins an answer to the packet, between the same ends.
    #[inline(always)]
    pub(crate) fn begin(&mut self, facts: &Facts, l2_len: u32) {
        self.ends = Ends::of(facts);
        self.family = facts.family;
        self.l2_len = l2_len;
    }

    /// Exchanges the ends.
    #[inline(always)]
    pub(crate) fn turn(&mut self) {
        self.ends = self.ends.back();
    }

    /// Where the header behind the network header is.
    #[inline(always)]
    pub(crate) fn behind(&self) -> u32 {
        self.l2_len + answer::ip_len(self.family)
    }
}

/// Makes a packet that [`cut`] has prepared a TCP segment without payload.
#[inline(always)]
pub(crate) fn write_segment(
    skb: &Skb,
    draft: &mut Draft,
    segment: Segment,
    device_sums: bool,
) -> bool {
    let header = draft.ends.tcp_header(segment, device_sums);
    let offset = draft.behind();
    write_network(skb.0, draft, PROTO_TCP as u8, TCP_LEN) && write(skb, draft, offset, header)
}

/// Writes a network header, for so many bytes behind it.
#[inline(never)]
pub(crate) fn write_network(skb: *mut __sk_buff, draft: &mut Draft, proto: u8, len: u32) -> bool {
    let skb = Skb(skb);
    let offset = draft.l2_len;
    if draft.family == 4 {
        let header = draft.ends.ipv4_header(proto, len);
        write(&skb, draft, offset, header)
    } else {
        let header = draft.ends.ipv6_header(proto, len);
        write(&skb, draft, offset, header)
    }
}

/// Writes words as they are.
#[inline(always)]
pub(crate) fn write<const N: usize>(
    skb: &Skb,
    draft: &mut Draft,
    offset: u32,
    words: [u32; N],
) -> bool {
    let len = size_of::<[u32; N]>() as u32;
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
    for (place, word) in draft.words.iter_mut().zip(words) {
        *place = word;
    }
    // SAFETY: the helper copies from the array, which is long enough for every
    // header, and checks the offset.
    unsafe { bpf_skb_store_bytes(skb.0, offset, draft.words.as_ptr().cast(), len, flags) == 0 }
}

/// Exchanges the hardware addresses, if there are any.
#[inline(always)]
pub(crate) fn swap_link(skb: &Skb, l2_len: u32) -> bool {
    if l2_len == 0 {
        return true;
    }
    let Some(m) = skb.load::<12>(0) else {
        return false;
    };
    let swapped = [
        m[6], m[7], m[8], m[9], m[10], m[11], m[0], m[1], m[2], m[3], m[4], m[5],
    ];
    skb.store(0, swapped, u64::from(BPF_F_RECOMPUTE_CSUM))
}

/// In place of [`start_value`]: the checksum is complete, or there is none.
pub(crate) const COMPLETE: u32 = 1 << 16;

/// The checksum that a device still has to fill in, in the order of memory, or
/// [`COMPLETE`].
///
/// The helper that updates a checksum leaves alone what a device overwrites. (A
/// function of its own that returns a number: of an `Option`, inlined, the
/// compiler copies what was never set, which the verifier refuses.)
#[inline(never)]
pub(crate) fn start_value(skb: *mut __sk_buff, facts: &Facts) -> u32 {
    let skb = Skb(skb);
    let Some(offset) = checksum_offset(facts.proto) else {
        return COMPLETE;
    };
    let offset = facts.transport_offset + offset;
    let Some(before) = skb.load::<2>(offset) else {
        return COMPLETE;
    };
    // SAFETY: the context comes from the kernel; the helper checks the offset.
    if unsafe { bpf_l4_csum_replace(skb.0, offset, 0, 1, 2) } != 0 {
        return COMPLETE;
    }
    let Some(after) = skb.load::<2>(offset) else {
        return COMPLETE;
    };
    if after == before {
        return u16::from_ne_bytes(before).into();
    }
    skb.store(offset, before, 0);
    COMPLETE
}

/// Makes a packet an ICMP error of this type and code, and with this word behind its
/// checksum, that quotes it.
#[inline(always)]
pub(crate) fn make_icmp(
    skb: &Skb,
    space: &mut Workspace,
    l2_len: u32,
    (kind, code, rest): (u8, u8, u32),
) -> Made {
    let (facts, draft) = (&space.facts, &mut space.draft);
    let family = facts.family;
    let start = start_value(skb.0, facts);
    let quoted = answer::quoted(family, facts.end(skb.len()) - l2_len);
    // SAFETY: the context comes from the kernel; the helper checks the length.
    if unsafe { bpf_skb_change_tail(skb.0, l2_len + quoted, 0) } != 0 {
        return Made::Refused;
    }
    let quote = if start == COMPLETE {
        sum_of(skb.0, l2_len, l2_len + quoted)
    } else {
        // The device will sum up all from the transport header on, its start
        // value included, and put the complement there: then the whole sums up
        // to the complement of the start value, whatever else it holds.
        sum_of(skb.0, l2_len, facts.transport_offset) + u64::from(!(start as u16))
    };
    let head_len = answer::ip_len(family) + ICMP_LEN;
    if !make_room(skb, head_len as i32) {
        return Made::Spoilt;
    }
    draft.begin(facts, l2_len);
    draft.turn();
    let len = ICMP_LEN + quoted;
    let (proto, pseudo) = if family == 4 {
        (NEXT_ICMP, 0)
    } else {
        (NEXT_ICMPV6, draft.ends.pseudo_sum(NEXT_ICMPV6, len))
    };
    let header = answer::icmp_header(kind, code, rest, pseudo, quote);
    let offset = draft.behind();
    let written = write(skb, draft, offset, header)
        && write_network(skb.0, draft, proto, len)
        && swap_link(skb, l2_len);
    if written { Made::Done } else { Made::Spoilt }
}

/// How many bytes are summed up at once.
const CHUNK: u32 = 32;

// There are as many chunks as rules: enough for the longest quote.
const _: () = assert!(MAX_RULES * CHUNK >= answer::quoted(6, u32::MAX));

/// A sum on its way through a packet.
struct Summing {
    skb: *mut __sk_buff,
    offset: u32,
    end: u32,
    sum: u32,
}

/// Sum of the bytes of a packet from `offset` up to `end`, as words.
///
/// Not a loop: Linux 6.1 takes one whose counter lies on the stack for endless,
/// and the verifier would walk it chunk by chunk. The kernel counts the chunks
/// instead, by a table that has as many entries.
#[inline(always)]
pub(crate) fn sum_of(skb: *mut __sk_buff, offset: u32, end: u32) -> u64 {
    let mut summing = Summing {
        skb,
        offset,
        end,
        sum: 0,
    };
    ask_rules(sum_chunk, &mut summing);
    summing.sum.into()
}

/// Adds what there is of a chunk to the sum.
///
/// # Safety
///
/// Called by the kernel, with the number of the chunk and the state of [`sum_of`].
unsafe extern "C" fn sum_chunk(
    _map: *mut c_void,
    number: *const u32,
    _slot: *const RuleSlot,
    summing: *mut Summing,
) -> u64 {
    // SAFETY: see above.
    let (number, summing) = unsafe { (*number, &mut *summing) };
    let offset = summing.offset + number * CHUNK;
    if offset >= summing.end {
        return ENOUGH;
    }
    let last = (summing.end - offset).min(CHUNK) - 1;
    // The verifier must see the bounds, which the compiler knows and leaves out.
    // SAFETY: reads a variable of ours.
    let len = (unsafe { (&raw const last).read_volatile() } & (CHUNK - 1)) + 1;
    let mut bytes = [0u32; CHUNK as usize / 4];
    // SAFETY: the helper copies at most a chunk into the array, or fails; the
    // other only reads it.
    unsafe {
        bpf_skb_load_bytes(summing.skb.cast(), offset, bytes.as_mut_ptr().cast(), len);
        let (to, none) = (bytes.as_mut_ptr(), core::ptr::null_mut());
        summing.sum = bpf_csum_diff(none, 0, to, CHUNK, summing.sum) as u32;
    }
    GO_ON
}
