//! Seeded randomness without state.
//!
//! Decision `n` of rule `r` is a pure function of `(seed, r, n)`, or of
//! `(seed, r, flow, n)` where a rule counts per flow (see [`crate::flow`]), so one
//! seed gives one sequence on any CPU and in any run.

/// Increment of the SplitMix64 sequence: 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Scrambles 64 bits with the finaliser of SplitMix64 (Steele, Lea and Flood,
/// "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[inline(always)]
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The draw for occurrence `n` of a rule with this seed: 64 even bits.
///
/// Callers use the two halves as independent 32-bit rolls, [`roll`] for the
/// trigger and [`amount`] for the size of the fault.
#[inline(always)]
#[must_use]
pub const fn draw(seed: u64, n: u64) -> u64 {
    mix(seed.wrapping_add(n.wrapping_mul(GOLDEN)))
}

/// The half of a draw that decides whether a fault is injected.
#[inline(always)]
#[must_use]
pub const fn roll(draw: u64) -> u32 {
    (draw >> 32) as u32
}

/// The lower half of 64 bits.
const LOW_HALF: u64 = 0xffff_ffff;

/// The half of a draw that decides how strong a fault is.
#[inline(always)]
#[must_use]
pub const fn amount(draw: u64) -> u32 {
    (draw & LOW_HALF) as u32
}

/// The seed of one rule, derived from the experiment's, so that two rules of
/// an experiment never take the same decisions.
#[must_use]
pub const fn rule_seed(experiment_seed: u64, rule: u32) -> u64 {
    mix(experiment_seed ^ mix(rule as u64 + 1))
}

/// Maps an even 32-bit value to `0..=span`, without division or 128-bit
/// arithmetic, neither of which BPF has.
#[inline(always)]
#[must_use]
pub const fn scale(value: u32, span: u64) -> u64 {
    let count = span.saturating_add(1);
    let high = (count >> 32) * value as u64;
    let low = ((count & 0xffff_ffff) * value as u64) >> 32;
    high + low
}
