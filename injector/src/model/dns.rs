//! What a rule on queries of DNS asks for and answers.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use injector_common::dns::{TYPE_A, TYPE_AAAA};

use super::{Choice, QueueMemory};

/// Which queries, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The names asked for; of several that take one in, the longest decides.
    pub names: Choice<NamePattern>,
    /// The types asked for; none for any, and at most
    /// [`injector_common::faults::dns::MAX_TYPES`].
    pub types: Vec<RecordType>,
    /// What the target gets.
    pub reply: Reply,
}

/// A name, or all names below one: in lower case, without a dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NamePattern {
    /// This name alone.
    Exact(String),
    /// Every name that ends with a dot and this one.
    Below(String),
}

/// The number of a type of records, not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordType(pub u16);

impl RecordType {
    /// An IPv4 address.
    pub const A: Self = Self(TYPE_A);
    /// An IPv6 address.
    pub const AAAA: Self = Self(TYPE_AAAA);

    /// Types that have a name here.
    pub const NAMED: [(&'static str, Self); 15] = [
        ("A", Self::A),
        ("NS", Self(2)),
        ("CNAME", Self(5)),
        ("SOA", Self(6)),
        ("PTR", Self(12)),
        ("MX", Self(15)),
        ("TXT", Self(16)),
        ("AAAA", Self::AAAA),
        ("SRV", Self(33)),
        ("NAPTR", Self(35)),
        ("DS", Self(43)),
        ("SVCB", Self(64)),
        ("HTTPS", Self(65)),
        ("ANY", Self(255)),
        ("CAA", Self(257)),
    ];
}

/// What becomes of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// There is no such name.
    Nxdomain,
    /// The name server failed.
    Servfail,
    /// The name server does not want to answer.
    Refused,
    /// There is no answer.
    Timeout,
    /// The answer is too long for UDP.
    Truncated,
    /// The query is late.
    Delay {
        /// So much.
        delay: Duration,
        /// How many queries may wait.
        memory: QueueMemory,
    },
    /// An address that is drawn for each query, of networks that nobody has
    /// ([`injector_common::faults::dns::DRAWN_V4`] and its like).
    Random {
        /// For how many seconds it may be kept.
        ttl: u32,
    },
    /// These addresses, at least one.
    Addresses {
        /// For queries of type A.
        v4: Option<Ipv4Addr>,
        /// For queries of type AAAA.
        v6: Option<Ipv6Addr>,
        /// For how many seconds they may be kept.
        ttl: u32,
    },
}

impl Dns {
    /// Whether it leaves no query to a later rule, as far as names are the same.
    #[must_use]
    pub fn hides(&self, later: &Self) -> bool {
        let ends = match self.reply {
            Reply::Nxdomain
            | Reply::Servfail
            | Reply::Refused
            | Reply::Timeout
            | Reply::Truncated
            | Reply::Random { .. }
            | Reply::Addresses { .. } => true,
            // A late query goes on.
            Reply::Delay { .. } => false,
        };
        let names = self.names.is_any() || self.names == later.names;
        let all = |types: &[RecordType]| types.iter().all(|kind| self.types.contains(kind));
        let types = self.types.is_empty() || (!later.types.is_empty() && all(&later.types));
        ends && names && types
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMED.iter().find(|(_, kind)| kind == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}
