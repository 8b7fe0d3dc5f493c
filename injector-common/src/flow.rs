//! Flows, and what a rule that counts per flow makes of their packets.
//!
//! What becomes of packet `n` of a flow is a pure function of the seed, the rule, the
//! flow and `n`: whatever other flows do meanwhile, and on whichever CPU, the same
//! packets of it are hit again.

use crate::{
    filter::EGRESS,
    packet::Facts,
    random::{self, mix},
};

/// One direction of what two ends exchange, as a rule sees it: each is counted by
/// itself, since how their packets interleave is the network's to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// [`EGRESS`] for packets that the target sends, [`INGRESS`] for those that it
    /// receives.
    ///
    /// [`INGRESS`]: crate::filter::INGRESS
    pub direction: u32,
    /// [`Facts::number`].
    pub protocol: u8,
    /// The target's address, as [`Facts::src`] has addresses.
    pub local: [u32; 4],
    /// The target's port; 0 where there is none.
    pub local_port: u16,
    /// The peer's address, likewise.
    pub peer: [u32; 4],
    /// The peer's port, likewise.
    pub peer_port: u16,
}

impl Flow {
    /// The flow of a packet that goes in `direction`. Packets without ports, such as
    /// those of ICMP and later fragments, are one flow between two addresses.
    #[inline(always)]
    #[must_use]
    pub const fn of(facts: &Facts, direction: u32) -> Self {
        let (local, peer, local_port, peer_port) = if direction == EGRESS {
            (facts.src, facts.dst, facts.src_port, facts.dst_port)
        } else {
            (facts.dst, facts.src, facts.dst_port, facts.src_port)
        };
        Self {
            direction,
            protocol: facts.number,
            local,
            local_port,
            peer,
            peer_port,
        }
    }

    /// The seed of the flow's own decisions under a rule with this seed, and what its
    /// count is kept by.
    ///
    /// A hash with the rule's seed as its key: each word goes through the finaliser of
    /// SplitMix64 together with all before it. Two flows of a rule have the same one by
    /// chance, once in 2^64 pairs.
    #[inline(always)]
    #[must_use]
    pub const fn seed(&self, rule_seed: u64) -> u64 {
        let ends = (self.local_port as u64) << 48
            | (self.peer_port as u64) << 32
            | (self.protocol as u64) << 8
            | self.direction as u64;
        let mut hash = mix(rule_seed ^ ends);
        hash = chain(hash, self.local[0], self.local[1]);
        hash = chain(hash, self.local[2], self.local[3]);
        hash = chain(hash, self.peer[0], self.peer[1]);
        chain(hash, self.peer[2], self.peer[3])
    }
}

/// Takes two more words into a hash.
#[inline(always)]
const fn chain(hash: u64, high: u32, low: u32) -> u64 {
    let word = (high as u64) << 32 | low as u64;
    // Multiplied, so that a word of 0 and one that is missing differ.
    mix(hash.wrapping_mul(5) ^ word)
}

/// The draw for packet `n` of a flow, under a rule with this seed.
#[inline(always)]
#[must_use]
pub const fn draw(flow: &Flow, rule_seed: u64, n: u64) -> u64 {
    random::draw(flow.seed(rule_seed), n)
}
