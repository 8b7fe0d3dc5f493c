//! Reading queries of DNS.

use aya_ebpf::{bindings::__sk_buff, btf_maps::lpm_trie::Key, cty::c_void};
use injector_common::{
    Control, RuleIndex, RuleSlot,
    answer::{ACK, RST, SYN},
    dns::{
        BAD, CLASS_IN, END, HEADER_LEN, MORE, NAME_IN, NameKey, NameReader, OPT_LEN,
        TYPE_AND_CLASS_LEN, has_additional, is_opt, is_query,
    },
    faults::{Params, dns},
    filter::EGRESS,
    packet::{PROTO_TCP, PROTO_UDP, PacketBytes as _},
};

use crate::{
    decide::{ENOUGH, GO_ON, ask_rules, repeat},
    maps::QUERIES,
    skb::Skb,
    workspace::Workspace,
};

/// How many queries of one packet are read. Over TCP a resolver that wants both
/// addresses of a name sends two at once.
pub(crate) const MAX_ASKED: usize = 2;

/// Where a name's last character would stand, and its 0 stands.
const NAME_END: u32 = 260;
/// Room for a key that begins in front of the longest name, and for one that
/// begins in front of none.
const ROOM: usize = 520;

/// A query.
pub(crate) struct Asked {
    /// Where its message begins.
    pub(crate) offset: u32,
    /// Just past its question; 0 if it is none.
    pub(crate) question_end: u32,
    /// The type that it asks for.
    pub(crate) kind: u32,
    /// 1 if a record of EDNS comes next.
    pub(crate) has_opt: u32,
    reader: NameReader,
    /// The name backwards, so that it ends at [`NAME_END`].
    key: [u8; ROOM],
}

/// The rules in `mask`, but for those that ask for queries which the packet does not
/// bring.
///
/// Before the rules are asked, and not while they are: the verifier walks what a
/// rule's turn may come to once for each way that it can begin.
#[inline(never)]
pub(crate) fn rule_out(
    control: &Control,
    mask: u64,
    skb: *mut __sk_buff,
    space: &mut Workspace,
    direction: u32,
) -> u64 {
    let asking = control.by_query & mask;
    if asking == 0 {
        return mask;
    }
    if direction != EGRESS {
        return mask & !asking;
    }
    space.asked_count = 0;
    read(skb, space);
    let mut search = Search {
        space,
        asking,
        meant: 0,
    };
    ask_rules(look_for, &mut search);
    let mask = mask & !asking | search.meant;
    // SAFETY: the pointer comes from a reference that nobody used meanwhile.
    unsafe { (*search.space).forget(mask) }
}

/// Which rules mean a packet's queries.
struct Search {
    space: *mut Workspace,
    asking: u64,
    meant: u64,
}

/// Notes one rule that means the queries.
///
/// # Safety
///
/// Called by the kernel, with a rule of the table and the state of [`rule_out`].
unsafe extern "C" fn look_for(
    _map: *mut c_void,
    index: *const u32,
    slot: *const RuleSlot,
    search: *mut Search,
) -> u64 {
    // SAFETY: see above; the working space is this CPU's.
    let (index, rule, search) = unsafe { (*index, (*slot).rule(), &mut *search) };
    let bit = RuleIndex(index).mask();
    // SAFETY: as above.
    if search.asking & bit != 0 && means(unsafe { &mut *search.space }, rule.key, &rule.params) {
        search.meant |= bit;
    }
    GO_ON
}

/// Reads the queries of a packet.
#[inline(never)]
fn read(skb: *mut __sk_buff, space: &mut Workspace) {
    let skb = Skb(skb);
    let facts = &space.facts;
    if facts.is_fragment() || skb.gso_size() != 0 {
        return;
    }
    let (at, end) = (facts.payload_offset, facts.end(skb.len()));
    if facts.proto == PROTO_UDP {
        // A first fragment is shorter than what its header says.
        let Some(len) = skb.load(facts.transport_offset + 4) else {
            return;
        };
        if facts.transport_offset + u32::from(u16::from_be_bytes(len)) == end
            && read_query(skb.0, at, end, &mut space.asked[0])
        {
            space.asked_count = 1;
        }
    } else if facts.proto == PROTO_TCP {
        if facts.tcp_flags & (ACK | SYN | RST) as u16 != ACK as u16 {
            return;
        }
        let first = message_end(&skb, at, end);
        if first == 0 || !read_query(skb.0, at + 2, first, &mut space.asked[0]) {
            return;
        }
        if first == end {
            space.asked_count = 1;
            return;
        }
        if message_end(&skb, first, end) == end
            && read_query(skb.0, first + 2, end, &mut space.asked[1])
        {
            space.asked_count = 2;
        }
    }
}

/// Where the message ends whose length stands at `at`; 0 if that is past `end`.
#[inline(always)]
fn message_end(skb: &Skb, at: u32, end: u32) -> u32 {
    let Some(len) = skb.load(at) else {
        return 0;
    };
    let message_end = at + 2 + u32::from(u16::from_be_bytes(len));
    if message_end > end { 0 } else { message_end }
}

/// Reads one query, from `at` up to `end`; whether it is one.
#[inline(never)]
fn read_query(skb: *mut __sk_buff, at: u32, end: u32, asked: &mut Asked) -> bool {
    let packet = Skb(skb);
    let Some(header) = packet.load(at) else {
        return false;
    };
    if !is_query(header) {
        return false;
    }
    asked.offset = at;
    asked.question_end = 0;
    asked.reader = NameReader::new();
    asked.key[NAME_END as usize] = 0;
    let mut walk = Walk {
        skb,
        asked,
        offset: at + HEADER_LEN,
    };
    repeat(take_byte, &mut walk);
    // SAFETY: the pointer comes from a reference that nobody used meanwhile.
    let asked = unsafe { &mut *walk.asked };
    let name_end = asked.question_end;
    let question_end = name_end + TYPE_AND_CLASS_LEN;
    if name_end == 0 || question_end > end {
        return false;
    }
    let Some([k0, k1, c0, c1]) = packet.load(name_end) else {
        return false;
    };
    asked.question_end = question_end;
    asked.kind = u16::from_be_bytes([k0, k1]).into();
    let opt = packet.load(question_end).is_some_and(is_opt);
    asked.has_opt = (has_additional(header) && opt && question_end + OPT_LEN <= end) as u32;
    u16::from_be_bytes([c0, c1]) == CLASS_IN
}

/// A name on its way into a key.
struct Walk {
    skb: *mut __sk_buff,
    asked: *mut Asked,
    offset: u32,
}

/// Takes one byte of a name.
///
/// # Safety
///
/// Called by the kernel, with the number of the byte and the state of
/// [`read_query`].
unsafe extern "C" fn take_byte(
    _map: *mut c_void,
    number: *const u32,
    _value: *const u64,
    walk: *mut Walk,
) -> u64 {
    // SAFETY: see above.
    let (number, walk) = unsafe { (*number, &mut *walk) };
    let at = walk.offset + number;
    let Some([byte]) = Skb(walk.skb).load(at) else {
        return ENOUGH;
    };
    // SAFETY: a map value of this CPU's.
    let asked = unsafe { &mut *walk.asked };
    match asked.reader.take(byte) {
        MORE => GO_ON,
        END => {
            asked.question_end = at + 1;
            ENOUGH
        }
        BAD => ENOUGH,
        character => {
            let place = NAME_END.wrapping_sub(asked.reader.len) as usize & 0x1ff;
            asked.key[place] = character as u8;
            GO_ON
        }
    }
}

/// Whether the rule with this key means all queries that were read, at least one.
#[inline(never)]
fn means(space: &mut Workspace, rule: u32, params: &Params) -> bool {
    match space.asked_count {
        1 => means_one(&mut space.asked[0], rule, params),
        2 => {
            means_one(&mut space.asked[0], rule, params)
                && means_one(&mut space.asked[1], rule, params)
        }
        _ => false,
    }
}

#[inline(never)]
fn means_one(asked: &mut Asked, rule: u32, params: &Params) -> bool {
    if !dns::takes_type(*params, asked.kind as u16) {
        return false;
    }
    if !dns::asks_table(*params) {
        return true;
    }
    // The name, one place for the rule's key, and four for the length.
    let len = asked.reader.len;
    let place = (NAME_END - 5).wrapping_sub(len) as usize & 0xff;
    let bits = NameKey::bits(len + 1).to_ne_bytes();
    let key = (&raw mut asked.key).cast::<u8>();
    // SAFETY: the key ends within the array wherever it begins.
    let key = unsafe {
        let key = key.add(place);
        key.cast::<[u8; 4]>().write(bits);
        key.add(4).write(rule as u8);
        &*key.cast::<Key<NameKey>>()
    };
    QUERIES.get(key) == Some(&NAME_IN)
}
