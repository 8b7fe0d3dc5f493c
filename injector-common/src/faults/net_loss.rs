//! `net-loss`: which packets vanish, where a model with a memory says so.
//!
//! Without a model the rule's trigger alone selects packets.

use super::Params;

/// A certain share. Shares are kept in 31 bits, so that two of them fit in one
/// parameter with certainty among their values.
pub const CERTAIN: u32 = 1 << 31;

/// `params[0]`: the trigger alone selects packets.
const INDEPENDENT: u64 = 0;
/// `params[0]`: a [`Gilbert`] chain selects packets.
const GILBERT: u64 = 1;
/// `params[0]`: a [`Markov`] chain selects packets.
const MARKOV: u64 = 2;
/// Low bits of `params[0]` that name the model.
const MODEL: u64 = 0xff;
/// Bit of `params[0]`: the sender's stack is told.
const LOCAL: u64 = 1 << 8;

/// The Gilbert-Elliott model: a link that is good or bad (Gilbert, "Capacity of
/// a burst-noise channel", 1960; Elliott, 1963), with the parameters of tc-netem(8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gilbert {
    /// Share of packets in the good state after which it is bad.
    pub p: u32,
    /// Share of packets in the bad state after which it is good.
    pub r: u32,
    /// Share of packets that are lost in the bad state, tc's `1-h`.
    pub bad: u32,
    /// Share of packets that are lost in the good state, tc's `1-k`.
    pub good: u32,
}

/// The chain of four states of tc-netem(8) (Salsano et al., "Definition of a
/// general and intuitive loss model for packet networks", 2012): 1 received in a
/// gap, 2 received in a burst, 3 lost in a burst, 4 lost alone in a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Markov {
    /// From state 1 to 3.
    pub p13: u32,
    /// From state 3 to 1.
    pub p31: u32,
    /// From state 3 to 2.
    pub p32: u32,
    /// From state 2 to 3.
    pub p23: u32,
    /// From state 1 to 4.
    pub p14: u32,
}

/// How a chain begins: in the good state, or in state 1.
pub const START: u64 = 0;
const BAD: u64 = 1;

const GAP_RECEIVED: u64 = START;
const BURST_RECEIVED: u64 = 1;
const BURST_LOST: u64 = 2;
const GAP_LOST: u64 = 3;

/// `RuleEntry::params` of a loss that the trigger alone decides.
#[must_use]
pub const fn independent() -> Params {
    [INDEPENDENT, 0, 0, 0]
}

/// `RuleEntry::params` of a loss by the Gilbert-Elliott model.
#[must_use]
pub const fn gilbert(model: Gilbert) -> Params {
    let Gilbert { p, r, bad, good } = model;
    [GILBERT, pair(p, r), pair(bad, good), 0]
}

/// `RuleEntry::params` of a loss by the chain of four states.
#[must_use]
pub const fn markov(model: Markov) -> Params {
    let Markov {
        p13,
        p31,
        p32,
        p23,
        p14,
    } = model;
    [MARKOV, pair(p13, p31), pair(p32, p23), p14 as u64]
}

/// The same loss, of which the sender's stack is told.
#[must_use]
pub const fn told(params: Params) -> Params {
    let [model, first, second, third] = params;
    [model | LOCAL, first, second, third]
}

/// Whether the sender's stack is told.
#[inline(always)]
#[must_use]
pub const fn is_told(params: Params) -> bool {
    params[0] & LOCAL != 0
}

/// Whether a model with a memory selects the packets.
#[inline(always)]
#[must_use]
pub const fn has_memory(params: Params) -> bool {
    params[0] & MODEL != INDEPENDENT
}

const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

#[inline(always)]
const fn halves(pair: u64) -> (u64, u64) {
    (pair & 0xffff_ffff, pair >> 32)
}

/// One packet passes: the chain's next state, and whether the packet is lost.
///
/// A packet is lost by the state that it finds (Gilbert-Elliott) or leads to
/// (four states), as in the kernel's `net/sched/sch_netem.c`.
#[inline(always)]
#[must_use]
pub const fn step(params: Params, state: u64, draw: u64) -> (u64, bool) {
    // Two rolls of 31 bits: whether the state changes, and whether the packet
    // is lost.
    let (change, loss) = (draw >> 33, draw & 0x7fff_ffff);
    let (first, second) = halves(params[1]);
    let (third, fourth) = halves(params[2]);
    if params[0] & MODEL == GILBERT {
        return if state == BAD {
            (if change < second { START } else { BAD }, loss < third)
        } else {
            (if change < first { BAD } else { START }, loss < fourth)
        };
    }
    let (p13, p31, p32, p23, p14) = (first, second, third, fourth, params[3]);
    match state {
        BURST_RECEIVED if change < p23 => (BURST_LOST, true),
        BURST_RECEIVED => (BURST_RECEIVED, false),
        BURST_LOST if change < p32 => (BURST_RECEIVED, false),
        BURST_LOST if change < p32 + p31 => (GAP_RECEIVED, false),
        BURST_LOST => (BURST_LOST, true),
        GAP_LOST => (GAP_RECEIVED, false),
        _ if change < p14 => (GAP_LOST, true),
        _ if change < p14 + p13 => (BURST_LOST, true),
        _ => (GAP_RECEIVED, false),
    }
}
