//! `net-rate`: a link of a given bandwidth.
//!
//! The link is a clock, the time at which it has sent all that it was given
//! (the virtual scheduling of ITU-T I.371's generic cell rate algorithm). A
//! packet leaves when it has been sent; one that would have to wait longer than
//! the queue is long is dropped.

use super::Params;

/// Lowest bandwidth, in bits per second: a packet of 1,500 bytes takes a
/// second and a half.
pub const MIN_RATE: u64 = 8_000;
/// Highest bandwidth, in bits per second.
pub const MAX_RATE: u64 = 1_000_000_000_000;

/// A link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Bandwidth in bits per second, within [`MIN_RATE`] and [`MAX_RATE`].
    pub rate: u64,
    /// Bytes that pass at once after the link was idle.
    pub burst: u32,
    /// Bytes added to each packet, as by a header of the link; may be negative.
    pub overhead: i32,
    /// How long a packet may wait, in ns.
    pub queue_ns: u64,
    /// Whether each flow has such a link of its own.
    pub per_flow: bool,
}

/// Bit of the last parameter: a link for each flow.
const PER_FLOW: u64 = 1 << 63;

/// `RuleEntry::params` of a link.
#[must_use]
#[expect(
    clippy::cast_sign_loss,
    reason = "the bits are kept, and read back as a signed number"
)]
pub const fn params(link: Link) -> Params {
    let flow = if link.per_flow { PER_FLOW } else { 0 };
    [
        link.rate,
        link.burst as u64,
        link.overhead as u32 as u64,
        link.queue_ns & !PER_FLOW | flow,
    ]
}

/// Whether each flow has such a link of its own.
#[inline(always)]
#[must_use]
pub const fn is_per_flow(params: Params) -> bool {
    params[3] & PER_FLOW != 0
}

/// How long the link sends `bytes` in `segments` packets, in ns.
#[inline(always)]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "the lower bits hold a signed number"
)]
pub const fn cost_ns(params: Params, bytes: u32, segments: u32) -> u64 {
    let overhead = params[2] as u32 as i32;
    let added = overhead.unsigned_abs() as u64 * segments as u64;
    let bytes = if overhead < 0 {
        (bytes as u64).saturating_sub(added)
    } else {
        bytes as u64 + added
    };
    time_ns(params[0], bytes)
}

/// How long it takes to send this many bytes, in ns.
#[inline(always)]
const fn time_ns(rate: u64, bytes: u64) -> u64 {
    // The product does not overflow, for up to two GiB.
    match (bytes * 8_000_000_000).checked_div(rate) {
        Some(time) => time,
        None => 0,
    }
}

/// How long a packet waits that the link has sent by `done_ns`, at `now_ns`:
/// `None` if that is longer than the queue.
#[inline(always)]
#[must_use]
pub const fn wait_ns(params: Params, now_ns: u64, done_ns: u64) -> Option<u64> {
    let at_once = time_ns(params[0], params[1]);
    let wait = done_ns.saturating_sub(now_ns).saturating_sub(at_once);
    if wait > params[3] & !PER_FLOW {
        None
    } else {
        Some(wait)
    }
}
