//! Messages of DNS (RFC 1035): which of them are queries, whose name they ask
//! for, and what stands in an answer.

/// Length of a message's header.
pub const HEADER_LEN: u32 = 12;
/// Length of what follows a question's name: its type and its class.
pub const TYPE_AND_CLASS_LEN: u32 = 4;
/// How many characters a name has at most, without the dot at its end: 255
/// bytes on the wire, of which the first and the last stand for none.
pub const MAX_NAME: u32 = 253;
/// How many characters a label has at most.
pub const MAX_LABEL: u32 = 63;

/// The class of the internet.
pub const CLASS_IN: u16 = 1;
/// Type of an IPv4 address.
pub const TYPE_A: u16 = 1;
/// Type of an IPv6 address (RFC 3596).
pub const TYPE_AAAA: u16 = 28;
/// Type of the record that says what a client knows of EDNS (RFC 6891).
pub const TYPE_OPT: u16 = 41;

/// There is an answer, or there is nothing of this type.
pub const NOERROR: u8 = 0;
/// The name server failed.
pub const SERVFAIL: u8 = 2;
/// There is no such name.
pub const NXDOMAIN: u8 = 3;
/// The name server does not want to answer.
pub const REFUSED: u8 = 5;

/// The value of a name in the table that a rule asks for.
pub const NAME_IN: u32 = 1;
/// The value of a name in the table that a rule leaves out.
pub const NAME_OUT: u32 = 2;

/// Where the table has the names that rules ask for: a trie for longest
/// prefixes, in which names stand backwards, so that a prefix is what a name
/// ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct NameKey {
    /// The key of the rule's version.
    pub rule: u8,
    /// The name's characters, in lower case, the last one first, and a 0.
    pub name: [u8; 255],
}

impl NameKey {
    /// Length of a prefix with so many characters of a name, its 0 included.
    #[inline(always)]
    #[must_use]
    pub const fn bits(characters: u32) -> u32 {
        (1 + characters) * 8
    }
}

/// What [`NameReader::take`] returns where a byte is no character: more follows.
pub const MORE: u32 = 0x100;
/// The name has ended.
pub const END: u32 = 0x101;
/// This is no name, or one that is stored elsewhere (RFC 1035 §4.1.4), as a
/// question's never is.
pub const BAD: u32 = 0x102;

/// Stands for characters that no pattern can have, and that would be taken for a
/// dot or for the end.
const STRANGE: u8 = 0xff;

/// Reads a name byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct NameReader {
    /// Bytes of the label that are still to come.
    left: u32,
    /// Characters so far.
    pub len: u32,
}

impl NameReader {
    /// Before the first byte.
    #[inline(always)]
    #[must_use]
    pub const fn new() -> Self {
        Self { left: 0, len: 0 }
    }

    /// Before the first character of a label of the longest kind.
    #[inline(always)]
    #[must_use]
    pub const fn within_label() -> Self {
        Self {
            left: MAX_LABEL,
            len: 0,
        }
    }

    /// Takes the next byte. Returns the name's next character, in lower case, or
    /// [`MORE`], [`END`] or [`BAD`].
    #[inline(always)]
    pub const fn take(&mut self, byte: u8) -> u32 {
        if self.left > 0 {
            self.left -= 1;
            return self.put(folded(byte));
        }
        if byte == 0 {
            return END;
        }
        if byte as u32 > MAX_LABEL {
            return BAD;
        }
        self.left = byte as u32;
        if self.len == 0 { MORE } else { self.put(b'.') }
    }

    #[inline(always)]
    const fn put(&mut self, character: u8) -> u32 {
        if self.len >= MAX_NAME {
            return BAD;
        }
        self.len += 1;
        character as u32
    }
}

impl Default for NameReader {
    fn default() -> Self {
        Self::new()
    }
}

/// A character of a label as it is compared (RFC 4343).
#[inline(always)]
const fn folded(byte: u8) -> u8 {
    if byte == 0 || byte == b'.' {
        STRANGE
    } else {
        byte.to_ascii_lowercase()
    }
}

/// Whether a message with this header asks one thing, and brings no records but
/// additional ones.
#[inline(always)]
#[must_use]
pub const fn is_query(header: [u8; 12]) -> bool {
    // Neither a response nor another operation.
    header[2] & 0xf8 == 0
        && u16::from_be_bytes([header[4], header[5]]) == 1
        && header[6] | header[7] | header[8] | header[9] == 0
}

/// Whether a message with this header has additional records.
#[inline(always)]
#[must_use]
pub const fn has_additional(header: [u8; 12]) -> bool {
    header[10] | header[11] != 0
}

/// Header of the answer to a query with this header: `records` of them, with as
/// many additional ones as `additional`.
#[inline(always)]
#[must_use]
pub const fn answer_header(
    query: [u8; 12],
    rcode: u8,
    truncated: bool,
    records: u8,
    additional: u8,
) -> [u8; 12] {
    const RESPONSE: u8 = 0x80;
    const TRUNCATED: u8 = 0x02;
    const RECURSION_DESIRED: u8 = 0x01;
    const RECURSION_AVAILABLE: u8 = 0x80;
    const CHECKING_DISABLED: u8 = 0x10;
    let truncated = if truncated { TRUNCATED } else { 0 };
    [
        query[0],
        query[1],
        RESPONSE | truncated | query[2] & RECURSION_DESIRED,
        RECURSION_AVAILABLE | query[3] & CHECKING_DISABLED | rcode & 0x0f,
        0,
        1,
        0,
        records,
        0,
        0,
        0,
        additional,
    ]
}

/// Length of a record's head in front of its data, if it names the question's
/// name by a reference.
pub const RECORD_HEAD_LEN: u32 = 12;

/// The head of a record of class IN about the name that was asked for, with
/// `len` bytes of data, which may be kept for `ttl` seconds.
#[inline(always)]
#[must_use]
pub const fn record_head(kind: u16, ttl: u32, len: u8) -> [u8; 12] {
    let [k0, k1] = kind.to_be_bytes();
    let [t0, t1, t2, t3] = ttl.to_be_bytes();
    // The question's name, behind the header (RFC 1035 §4.1.4).
    [0xc0, 0x0c, k0, k1, 0, 1, t0, t1, t2, t3, 0, len]
}

/// Length of an OPT record without options.
pub const OPT_LEN: u32 = 11;

/// Whether a record that begins like this is the one of EDNS.
#[inline(always)]
#[must_use]
pub const fn is_opt(record: [u8; 11]) -> bool {
    record[0] == 0 && u16::from_be_bytes([record[1], record[2]]) == TYPE_OPT
}

/// The record of EDNS in an answer: version 0, no options, and what the query's
/// said of sizes and signatures (RFC 6891 §6.1, RFC 3225).
#[inline(always)]
#[must_use]
pub const fn answer_opt(query: [u8; 11]) -> [u8; 11] {
    const SIGNATURES_WANTED: u8 = 0x80;
    [
        0,
        query[1],
        query[2],
        query[3],
        query[4],
        0,
        0,
        query[7] & SIGNATURES_WANTED,
        0,
        0,
        0,
    ]
}
