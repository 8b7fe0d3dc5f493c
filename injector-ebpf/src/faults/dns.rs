//! `dns`: the query becomes its answer.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM},
    helpers::generated::{bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes},
};
use injector_common::{
    RuleEntry, SiteEntry,
    answer::{self, Segment, TCP_LEN},
    dns::{HEADER_LEN, NOERROR, OPT_LEN, RECORD_HEAD_LEN, answer_header, answer_opt, record_head},
    faults::{
        Params,
        dns::{self, TRUNCATED},
        net_reset,
    },
    filter::EGRESS,
    packet::{PROTO_TCP, PROTO_UDP, PacketBytes as _},
};

use super::net_reset::send_copy;
use crate::{
    answer::{
        COMPLETE, REFUSED, SPOILT, make_room, segment, start_value, sum_of, swap_link, turn_round,
        write, write_network, write_segment,
    },
    skb::{NEXT, Skb, Stamp},
    workspace::Workspace,
};

/// Length of a UDP header.
const UDP_LEN: u32 = 8;
/// Bytes of the longest query that are kept: header, name, type and class.
const QUERY_ROOM: u32 = 512;
/// Where the second of two answers begins at most.
const MESSAGE_ROOM: usize = 1024;

/// Answers in the making, as they follow the header of UDP or TCP.
pub(crate) struct Message {
    /// How many bytes there are.
    len: u32,
    bytes: [u8; MESSAGE_ROOM + 64],
}

impl Message {
    /// Puts bytes at a place.
    #[inline(always)]
    fn put<const N: usize>(&mut self, at: u32, bytes: [u8; N]) {
        let at = at as usize & (MESSAGE_ROOM - 1);
        // SAFETY: N is small, and the array goes on behind the last place.
        unsafe {
            (&raw mut self.bytes)
                .cast::<u8>()
                .add(at)
                .cast::<[u8; N]>()
                .write(bytes)
        };
    }
}

/// Answers the packet's queries, and returns the verdict on it, [`REFUSED`] or
/// [`SPOILT`].
#[inline(always)]
pub(crate) fn apply(
    skb: *mut __sk_buff,
    space: &mut Workspace,
    rule: &RuleEntry,
    site: &SiteEntry,
    direction: u32,
) -> i32 {
    space.message.len = 0;
    if !append(skb, space, 0, &rule.params)
        || (space.asked_count == 2 && !append(skb, space, 1, &rule.params))
    {
        return REFUSED;
    }
    if space.facts.proto == PROTO_TCP {
        answer_tcp(skb, space, site, direction)
    } else {
        answer_udp(skb, space, site, direction)
    }
}

/// Appends the answer to one query.
#[inline(never)]
fn append(skb: *mut __sk_buff, space: &mut Workspace, which: usize, params: &Params) -> bool {
    let packet = Skb(skb);
    let asked = &space.asked[which & 1];
    let (offset, len) = (asked.offset, asked.question_end - asked.offset);
    let (kind, has_opt) = (asked.kind as u16, asked.has_opt != 0);
    let end = asked.question_end;
    let over_tcp = space.facts.proto == PROTO_TCP;
    // Forgotten, as below: the verifier would walk all else once for each value.
    let prefix_len = space.forget(if over_tcp { 2 } else { 0 }) as u32;
    let begin = space.message.len + prefix_len;
    // Header and question, as they are.
    let message = &mut space.message;
    let place = (begin & (QUERY_ROOM - 1)) as usize;
    let Some(len) = clamped(len) else {
        return false;
    };
    // SAFETY: the helper copies at most QUERY_ROOM bytes to a place that has as
    // many behind it, or fails.
    let status = unsafe {
        let to = (&raw mut message.bytes).cast::<u8>().add(place);
        bpf_skb_load_bytes(skb.cast(), offset, to.cast(), len)
    };
    let Some(header) = packet.load(offset) else {
        return false;
    };
    if status != 0 {
        return false;
    }
    let code = dns::code(*params);
    let has_opt = space.forget(has_opt.into()) != 0;
    let rcode = if code == TRUNCATED { NOERROR } else { code };
    let address_len = if code == NOERROR {
        dns::address_len(*params, kind)
    } else {
        0
    };
    let address_len = space.forget(address_len.into()) as u8;
    let message = &mut space.message;
    let records = (address_len != 0) as u8;
    let head = answer_header(header, rcode, code == TRUNCATED, records, has_opt as u8);
    message.put(begin, head);
    let mut at = begin + len;
    if address_len != 0 {
        message.put(at, record_head(kind, dns::ttl(*params), address_len));
        message.put(at + RECORD_HEAD_LEN, dns::address(*params, kind));
        at += RECORD_HEAD_LEN + u32::from(address_len);
    }
    if has_opt {
        let Some(opt) = packet.load(end) else {
            return false;
        };
        message.put(at, answer_opt(opt));
        at += OPT_LEN;
    }
    if prefix_len != 0 {
        message.put(begin - 2, ((at - begin) as u16).to_be_bytes());
    }
    message.len = at;
    true
}

/// A length that the verifier sees to be from 1 to [`QUERY_ROOM`]; `None` for one
/// that is not.
#[inline(always)]
fn clamped(len: u32) -> Option<u32> {
    if !(HEADER_LEN..=QUERY_ROOM).contains(&len) {
        return None;
    }
    let len = len - 1;
    // SAFETY: reads a variable of ours.
    Some((unsafe { (&raw const len).read_volatile() } & (QUERY_ROOM - 1)) + 1)
}

/// Makes the packet one with a header of `header_len` bytes without options, and
/// the message behind it. Its headers have no meaning yet.
#[inline(always)]
fn lay_out(skb: &Skb, space: &mut Workspace, l2_len: u32, header_len: u32) -> i32 {
    let (facts, len) = (&space.facts, space.message.len);
    let Some(len) = clamped_message(len) else {
        return REFUSED;
    };
    let extra = facts.transport_offset - l2_len - answer::ip_len(facts.family);
    // First down to the headers, so that no bytes lie apart from the others.
    // SAFETY: the context comes from the kernel; the helper checks the length.
    if unsafe { bpf_skb_change_tail(skb.0, facts.transport_offset + header_len, 0) } != 0 {
        return REFUSED;
    }
    if extra != 0 && !make_room(skb, (extra as i32).wrapping_neg()) {
        return SPOILT;
    }
    let at = l2_len + answer::ip_len(facts.family) + header_len;
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
    // SAFETY: as above; the other helper copies from the array, which is long
    // enough.
    let stored = unsafe {
        let from = (&raw const space.message.bytes).cast();
        bpf_skb_change_tail(skb.0, at + len, 0) == 0
            && bpf_skb_store_bytes(skb.0, at, from, len, flags) == 0
    };
    if stored { 0 } else { SPOILT }
}

/// The same for the length of all answers.
#[inline(always)]
fn clamped_message(len: u32) -> Option<u32> {
    const MOST: u32 = MESSAGE_ROOM as u32;
    if !(HEADER_LEN..=MOST).contains(&len) {
        return None;
    }
    let len = len - 1;
    // SAFETY: reads a variable of ours.
    Some((unsafe { (&raw const len).read_volatile() } & (MOST - 1)) + 1)
}

/// Makes a query over UDP its answer.
#[inline(never)]
fn answer_udp(skb: *mut __sk_buff, space: &mut Workspace, site: &SiteEntry, direction: u32) -> i32 {
    let (skb, l2_len) = (&Skb(skb), site.l2_len);
    let device_sums = start_value(skb.0, &space.facts) != COMPLETE;
    let laid_out = lay_out(skb, space, l2_len, UDP_LEN);
    if laid_out != 0 {
        return laid_out;
    }
    let len = UDP_LEN + space.message.len;
    space.draft.begin(&space.facts, l2_len);
    let draft = &mut space.draft;
    draft.turn();
    let at = draft.behind();
    let pseudo = draft.ends.pseudo_sum(PROTO_UDP as u8, len);
    let start = if device_sums { answer::fold(pseudo) } else { 0 };
    let header = draft.ends.udp_header(len, start);
    if !write_network(skb.0, draft, PROTO_UDP as u8, len) || !write(skb, draft, at, header) {
        return SPOILT;
    }
    if !device_sums {
        let sum = answer::complement(pseudo + sum_of(skb.0, at, at + len));
        // 0 says that there is no checksum.
        let sum = if sum == 0 { u16::MAX } else { sum };
        let header = draft.ends.udp_header(len, sum);
        if !write(skb, draft, at, header) {
            return SPOILT;
        }
    }
    if !swap_link(skb, l2_len) {
        return SPOILT;
    }
    turn_round(skb, direction, site)
}

/// Makes a query over TCP its answer, and the connection's last segment. The name
/// server, which knows nothing of it, gets a reset instead of the query.
#[inline(never)]
fn answer_tcp(skb: *mut __sk_buff, space: &mut Workspace, site: &SiteEntry, direction: u32) -> i32 {
    let (skb, l2_len) = (&Skb(skb), site.l2_len);
    let Some(query) = segment(skb, &space.facts) else {
        return REFUSED;
    };
    let query_len = space.facts.payload_len(skb.len());
    let device_sums = start_value(skb.0, &space.facts) != COMPLETE;
    let laid_out = lay_out(skb, space, l2_len, TCP_LEN);
    if laid_out != 0 {
        return laid_out;
    }
    space.draft.begin(&space.facts, l2_len);
    space.draft.turn();
    if !write_answer(skb.0, space, query.last_answer(query_len), device_sums)
        || !swap_link(skb, l2_len)
        || !send_copy(skb, direction, site)
        || !swap_link(skb, l2_len)
    {
        return SPOILT;
    }
    let draft = &mut space.draft;
    draft.turn();
    let bare_len = draft.behind() + TCP_LEN;
    // SAFETY: the context comes from the kernel; the helper checks the length.
    let cut = unsafe { bpf_skb_change_tail(skb.0, bare_len, 0) } == 0;
    if !cut || !write_segment(skb, draft, net_reset::in_place(query), device_sums) {
        return SPOILT;
    }
    if direction == EGRESS && site.loopback != 0 {
        skb.set_stamp(Stamp::ANSWER);
    }
    NEXT
}

/// Writes the headers of an answer over TCP.
#[inline(always)]
fn write_answer(
    skb: *mut __sk_buff,
    space: &mut Workspace,
    segment: Segment,
    device_sums: bool,
) -> bool {
    let skb = Skb(skb);
    let len = TCP_LEN + space.message.len;
    let draft = &mut space.draft;
    let at = draft.behind();
    let pseudo = draft.ends.pseudo_sum(PROTO_TCP as u8, len);
    let start = if device_sums { answer::fold(pseudo) } else { 0 };
    let header = draft.ends.tcp_head(segment, start);
    if !write_network(skb.0, draft, PROTO_TCP as u8, len) || !write(&skb, draft, at, header) {
        return false;
    }
    if device_sums {
        return true;
    }
    let sum = answer::complement(pseudo + sum_of(skb.0, at, at + len));
    let header = draft.ends.tcp_head(segment, sum);
    write(&skb, draft, at, header)
}
