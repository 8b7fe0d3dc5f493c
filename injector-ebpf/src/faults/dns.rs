//! `dns`: the query becomes its answer.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM},
    helpers::generated::{bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes},
};
use injector_common::{
    RuleEntry, SiteEntry,
    answer::{self, Ends, TCP_LEN},
    dns::{HEADER_LEN, NOERROR, OPT_LEN, RECORD_HEAD_LEN, answer_header, answer_opt, record_head},
    faults::{
        Params,
        dns::{self, TRUNCATED},
    },
    packet::{PROTO_TCP, PROTO_UDP, PacketBytes as _},
};

use super::net_reset::{send_copy, tell_receiver};
use crate::{
    answer::{
        COMPLETE, Made, REFUSED, SPOILT, cut, segment, start_value, sum_of, swap_link, turn_round,
        write, write_network,
    },
    skb::Skb,
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
    let Some(len) = clamped::<QUERY_ROOM>(len) else {
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
    let records = (address_len != 0) as u8;
    let head = answer_header(header, rcode, code == TRUNCATED, records, has_opt as u8);
    space.message.put(begin, head);
    let mut at = begin + len;
    if address_len != 0 {
        space
            .message
            .put(at, record_head(kind, dns::ttl(*params), address_len));
        let address = dns::address(*params, kind, space.draw);
        space.message.put(at + RECORD_HEAD_LEN, address);
        at += RECORD_HEAD_LEN + u32::from(address_len);
    }
    if has_opt {
        let Some(opt) = packet.load(end) else {
            return false;
        };
        space.message.put(at, answer_opt(opt));
        at += OPT_LEN;
    }
    if prefix_len != 0 {
        space
            .message
            .put(begin - 2, ((at - begin) as u16).to_be_bytes());
    }
    space.message.len = at;
    true
}

/// A length that the verifier sees to be from 1 to `MOST`, a power of two; `None` for
/// one that no message has.
#[inline(always)]
fn clamped<const MOST: u32>(len: u32) -> Option<u32> {
    if !(HEADER_LEN..=MOST).contains(&len) {
        return None;
    }
    let len = len - 1;
    // SAFETY: reads a variable of ours.
    Some((unsafe { (&raw const len).read_volatile() } & (MOST - 1)) + 1)
}

/// Makes the packet one with a header of `header_len` bytes without options, and
/// the message behind it. Its headers have no meaning yet.
#[inline(always)]
fn lay_out(skb: &Skb, space: &mut Workspace, l2_len: u32, header_len: u32) -> Made {
    let facts = &space.facts;
    let Some(len) = clamped::<{ MESSAGE_ROOM as u32 }>(space.message.len) else {
        return Made::Refused;
    };
    // First down to the headers, so that no bytes lie apart from the others.
    let made = cut(skb, facts, l2_len, header_len);
    if made != Made::Done {
        return made;
    }
    let at = l2_len + answer::ip_len(facts.family) + header_len;
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
    // SAFETY: the context comes from the kernel, and the helpers check the lengths;
    // one copies from the array, which is long enough.
    let stored = unsafe {
        let from = (&raw const space.message.bytes).cast();
        bpf_skb_change_tail(skb.0, at + len, 0) == 0
            && bpf_skb_store_bytes(skb.0, at, from, len, flags) == 0
    };
    if stored { Made::Done } else { Made::Spoilt }
}

/// Makes a query over UDP its answer.
#[inline(never)]
fn answer_udp(skb: *mut __sk_buff, space: &mut Workspace, site: &SiteEntry, direction: u32) -> i32 {
    let (skb, l2_len) = (&Skb(skb), site.l2_len);
    let device_sums = start_value(skb.0, &space.facts) != COMPLETE;
    match lay_out(skb, space, l2_len, UDP_LEN) {
        Made::Done => {}
        Made::Refused => return REFUSED,
        Made::Spoilt => return SPOILT,
    }
    space.draft.begin(&space.facts, l2_len);
    space.draft.turn();
    if !write_heads(skb.0, space, PROTO_UDP, device_sums, Ends::udp_header)
        || !swap_link(skb, l2_len)
    {
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
    match lay_out(skb, space, l2_len, TCP_LEN) {
        Made::Done => {}
        Made::Refused => return REFUSED,
        Made::Spoilt => return SPOILT,
    }
    space.draft.begin(&space.facts, l2_len);
    space.draft.turn();
    let answer = query.last_answer(query_len);
    let header = |ends: &Ends, _: u32, sum| ends.tcp_head(answer, sum);
    if !write_heads(skb.0, space, PROTO_TCP, device_sums, header)
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
    if !cut {
        return SPOILT;
    }
    tell_receiver(skb, draft, query, device_sums, (site, direction))
}

/// Writes the headers in front of a message, the transport's by `header`, which takes
/// the length behind the network header and the checksum.
#[inline(always)]
fn write_heads<const N: usize>(
    skb: *mut __sk_buff,
    space: &mut Workspace,
    proto: u32,
    device_sums: bool,
    header: impl Fn(&Ends, u32, u16) -> [u32; N],
) -> bool {
    let skb = Skb(skb);
    let len = size_of::<[u32; N]>() as u32 + space.message.len;
    let draft = &mut space.draft;
    let at = draft.behind();
    let pseudo = draft.ends.pseudo_sum(proto as u8, len);
    let start = if device_sums { answer::fold(pseudo) } else { 0 };
    let first = header(&draft.ends, len, start);
    if !write_network(skb.0, draft, proto as u8, len) || !write(&skb, draft, at, first) {
        return false;
    }
    if device_sums {
        return true;
    }
    let sum = answer::complement(pseudo + sum_of(skb.0, at, at + len));
    // 0 says that UDP has no checksum.
    let sum = if proto == PROTO_UDP && sum == 0 {
        u16::MAX
    } else {
        sum
    };
    let last = header(&draft.ends, len, sum);
    write(&skb, draft, at, last)
}
