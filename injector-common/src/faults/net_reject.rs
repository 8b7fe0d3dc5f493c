//! `net-reject`: packets are answered by an error, as by a firewall.

use super::Params;

/// TCP is answered by a reset, all else by an ICMP error.
pub const BY_EITHER: u64 = 0;
/// TCP is answered by a reset; nothing else matches.
pub const BY_RESET: u64 = 1;
/// Everything is answered by an ICMP error.
pub const BY_ICMP: u64 = 2;

/// What an ICMP error says, as the codes of both families: (RFC 792, RFC 1122 §3.2.2.1,
/// RFC 1812 §5.2.7.1) and (RFC 4443 §3). Where one family has none of its own, it is what
/// a translator makes of the other's (RFC 7915 §4.2), or for the two reasons for which
/// RFC 4443 says that they are forms of "prohibited", what stands for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codes {
    /// Of type 3, destination unreachable.
    pub v4: u8,
    /// The type, [`UNREACHABLE`] or [`PARAMETER_PROBLEM`], and its code.
    pub v6: [u8; 2],
}

/// ICMPv6: destination unreachable.
pub const UNREACHABLE: u8 = 1;
/// ICMPv6: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;

/// Where an IPv6 header says what follows: the parameter in question.
const NEXT_HEADER: u32 = 6;

/// There is no route to the network.
pub const NET: Codes = Codes {
    v4: 0,
    v6: [UNREACHABLE, 0],
};
/// The host does not answer.
pub const HOST: Codes = Codes {
    v4: 1,
    v6: [UNREACHABLE, 3],
};
/// The host does not speak the protocol.
pub const PROTO: Codes = Codes {
    v4: 2,
    v6: [PARAMETER_PROBLEM, 1],
};
/// Nobody listens at the port.
pub const PORT: Codes = Codes {
    v4: 3,
    v6: [UNREACHABLE, 4],
};
/// An administrator forbids packets to the network.
pub const NET_PROHIBITED: Codes = Codes {
    v4: 9,
    v6: [UNREACHABLE, 1],
};
/// An administrator forbids packets to the host.
pub const HOST_PROHIBITED: Codes = Codes {
    v4: 10,
    v6: [UNREACHABLE, 1],
};
/// An administrator forbids it.
pub const ADMIN: Codes = Codes {
    v4: 13,
    v6: [UNREACHABLE, 1],
};
/// The source address is not one that may send there.
pub const POLICY_FAIL: Codes = Codes {
    v4: 13,
    v6: [UNREACHABLE, 5],
};
/// The route to the destination is one that rejects.
pub const REJECT_ROUTE: Codes = Codes {
    v4: 13,
    v6: [UNREACHABLE, 6],
};

/// `RuleEntry::params` of a rejection: one of the constants `BY_…`, and the
/// codes.
#[must_use]
pub const fn params(by: u64, codes: Codes) -> Params {
    let [kind, code] = codes.v6;
    [by, codes.v4 as u64, kind as u64, code as u64]
}

/// Whether a packet of this protocol is answered by a reset, and not by ICMP.
#[inline(always)]
#[must_use]
pub const fn by_reset(params: Params, is_tcp: bool) -> bool {
    params[0] == BY_RESET || (params[0] == BY_EITHER && is_tcp)
}

/// Type and code of the ICMP error, and the word behind its checksum.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "types and codes are bytes")]
pub const fn icmp(params: Params, family: u8) -> (u8, u8, u32) {
    if family == 4 {
        (3, params[1] as u8, 0)
    } else if params[2] as u8 == PARAMETER_PROBLEM {
        (PARAMETER_PROBLEM, params[3] as u8, NEXT_HEADER.to_be())
    } else {
        (params[2] as u8, params[3] as u8, 0)
    }
}
