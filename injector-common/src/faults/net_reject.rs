//! `net-reject`: packets are answered by an error, as by a firewall.

use super::Params;

/// TCP is answered by a reset, all else by an ICMP error.
pub const BY_EITHER: u64 = 0;
/// TCP is answered by a reset; nothing else matches.
pub const BY_RESET: u64 = 1;
/// Everything is answered by an ICMP error.
pub const BY_ICMP: u64 = 2;

/// What an ICMP error says, as the codes of both families: (RFC 792, RFC 1812
/// §5.2.7.1) and (RFC 4443 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// Of type 3, destination unreachable.
    pub v4: u8,
    /// Of type 1, destination unreachable.
    pub v6: u8,
}

/// There is no route to the network.
pub const NET: Codes = Codes { v4: 0, v6: 0 };
/// The host does not answer.
pub const HOST: Codes = Codes { v4: 1, v6: 3 };
/// Nobody listens at the port.
pub const PORT: Codes = Codes { v4: 3, v6: 4 };
/// An administrator forbids it.
pub const ADMIN: Codes = Codes { v4: 13, v6: 1 };

/// `RuleEntry::params` of a rejection: one of the constants `BY_…`, and the
/// codes.
#[must_use]
pub const fn params(by: u64, codes: Codes) -> Params {
    [by, codes.v4 as u64, codes.v6 as u64, 0]
}

/// Whether a packet of this protocol is answered by a reset, and not by ICMP.
#[inline(always)]
#[must_use]
pub const fn by_reset(params: Params, is_tcp: bool) -> bool {
    params[0] == BY_RESET || (params[0] == BY_EITHER && is_tcp)
}

/// Type and code of the ICMP error.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "codes are bytes")]
pub const fn icmp(params: Params, family: u8) -> (u8, u8) {
    if family == 4 {
        (3, params[1] as u8)
    } else {
        (1, params[2] as u8)
    }
}
