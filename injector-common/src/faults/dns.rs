//! `dns`: queries get another answer, or none.

use super::Params;
use crate::dns::{NOERROR, TYPE_A, TYPE_AAAA};

/// How many types of queries a rule can name.
pub const MAX_TYPES: usize = 4;
/// How long an address may be kept at most, in seconds: a week.
pub const MAX_TTL: u32 = 604_800;

/// In place of a response code: there is no answer.
pub const TIMEOUT: u8 = 0x10;
/// In place of a response code: the answer is too long for UDP.
pub const TRUNCATED: u8 = 0x11;
/// In place of a response code: the query is late.
pub const DELAY: u8 = 0x12;

/// Bits of `params[0]`, above the response code: an address is there, and the
/// table has names for the rule.
const HAS_V4: u64 = 1 << 8;
const HAS_V6: u64 = 1 << 9;
const NAMED: u64 = 1 << 10;
/// The last bits of an address are drawn for each query.
const DRAWN_BIT: u32 = 11;
/// Where the time to live begins, and the IPv4 address.
const TTL_SHIFT: u32 = 12;
const V4_SHIFT: u32 = 32;

/// `RuleEntry::params` of a response code, one of those in [`crate::dns`], or of
/// [`TIMEOUT`] or [`TRUNCATED`], for queries of any name and type.
#[must_use]
pub const fn params(code: u8) -> Params {
    [code as u64, 0, 0, 0]
}

/// The parameters of a delay.
#[must_use]
pub const fn delayed(delay_ns: u64) -> Params {
    [DELAY as u64, 0, delay_ns, 0]
}

/// The parameters of chosen addresses, which may be kept for `ttl` seconds, at
/// most [`MAX_TTL`].
#[must_use]
pub const fn addresses(v4: Option<[u8; 4]>, v6: Option<[u8; 16]>, ttl: u32) -> Params {
    let mut params = [NOERROR as u64 | (ttl as u64) << TTL_SHIFT, 0, 0, 0];
    if let Some(v4) = v4 {
        params[0] |= HAS_V4 | (u32::from_be_bytes(v4) as u64) << V4_SHIFT;
    }
    if let Some(v6) = v6 {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = v6;
        params[0] |= HAS_V6;
        params[2] = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        params[3] = u64::from_be_bytes([i, j, k, l, m, n, o, p]);
    }
    params
}

/// The network of which 8 bits are drawn: one that nobody has (RFC 5737).
pub const DRAWN_V4: [u8; 4] = [192, 0, 2, 0];
/// The network of which 64 bits are drawn: one that nobody has (RFC 3849).
pub const DRAWN_V6: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// The parameters of addresses that are drawn for each query, and may be kept for `ttl` seconds,
/// at most [`MAX_TTL`].
#[must_use]
pub const fn drawn(ttl: u32) -> Params {
    let [answer, types, high, low] = addresses(Some(DRAWN_V4), Some(DRAWN_V6), ttl);
    [answer | 1 << DRAWN_BIT, types, high, low]
}

/// The same for queries of these types, at least one and none of them 0.
#[must_use]
pub const fn of_types(params: Params, types: &[u16]) -> Params {
    let [answer, _, high, low] = params;
    let mut packed = 0;
    let mut at = 0;
    while at < types.len() && at < MAX_TYPES {
        packed |= (types[at] as u64) << (16 * at);
        at += 1;
    }
    [answer, packed, high, low]
}

/// The same for queries of names that the table has for the rule.
#[must_use]
pub const fn of_names(params: Params) -> Params {
    let [answer, types, high, low] = params;
    [answer | NAMED, types, high, low]
}

/// The response code, or one of the constants in its place.
#[inline(always)]
#[must_use]
pub const fn code(params: Params) -> u8 {
    params[0].to_le_bytes()[0]
}

/// Whether the table has to be asked for a query's name.
#[inline(always)]
#[must_use]
pub const fn asks_table(params: Params) -> bool {
    params[0] & NAMED != 0
}

/// Whether a query of this type is one that the rule means.
#[inline(always)]
#[must_use]
pub const fn takes_type(params: Params, kind: u16) -> bool {
    let [_, types, ..] = params;
    let asked = kind as u64;
    // One of four differences is 0 where their product is, which fits: a chain of
    // comparisons is that many paths for the verifier. No query asks for type 0,
    // which stands in places without a type.
    let product = (types & 0xffff ^ asked)
        * (types >> 16 & 0xffff ^ asked)
        * (types >> 32 & 0xffff ^ asked)
        * (types >> 48 ^ asked);
    types == 0 || (kind != 0 && product == 0)
}

/// How long a query is late, in ns.
#[inline(always)]
#[must_use]
pub const fn delay_ns(params: Params) -> u64 {
    params[2]
}

/// How long an address may be kept, in seconds.
#[inline(always)]
#[must_use]
pub const fn ttl(params: Params) -> u32 {
    (params[0] >> TTL_SHIFT & 0xf_ffff) as u32
}

/// How many bytes of address answer a query of this type; 0 for none.
#[inline(always)]
#[must_use]
pub const fn address_len(params: Params, kind: u16) -> u8 {
    if kind == TYPE_A && params[0] & HAS_V4 != 0 {
        4
    } else if kind == TYPE_AAAA && params[0] & HAS_V6 != 0 {
        16
    } else {
        0
    }
}

/// The address that answers a query of this type, in the order of the wire: as many bytes as
/// [`address_len`] says, the rest of no meaning. It takes the place of what is not chosen from the
/// operation's `draw`.
#[inline(always)]
#[must_use]
pub const fn address(params: Params, kind: u16, draw: u64) -> [u8; 16] {
    // Without a branch, which would be another path for the verifier.
    let draw = draw & (params[0] >> DRAWN_BIT & 1).wrapping_neg();
    let (first, second) = if kind == TYPE_A {
        ((params[0] ^ (draw & 0xff) << V4_SHIFT) & !0 << V4_SHIFT, 0)
    } else {
        (params[2], params[3] ^ draw)
    };
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) =
        (first.to_be_bytes(), second.to_be_bytes());
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}
