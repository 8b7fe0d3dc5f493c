//! How much gets through a wire of limited rate.

use std::time::Duration;

use super::{
    bed::Bed,
    measure::Measure,
    results::{Bar, Figure, Measured},
};
use crate::{
    stats::float,
    traffic::{Direction, Load},
};

/// Headers of Ethernet, IPv4 and UDP in front of a payload.
const HEADERS: u32 = 14 + 20 + 8;

/// Least and most share of the rate that was asked for.
const BAR: [f64; 2] = [0.95, 1.02];

/// Packets at twice the rate that fits through.
pub(super) struct Rate {
    /// The rate asked for, in Mbit/s of whole frames.
    pub(super) mbit: f64,
    /// Bytes of payload in each packet.
    pub(super) size: u32,
    /// How long to send.
    pub(super) time: Duration,
}

const ACHIEVED: &str = "achieved ÷ asked";

impl Measure for Rate {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let flow = bed.flow(way);
        let frame = f64::from(self.size + HEADERS) * 8.0;
        let gap = Duration::from_secs_f64(frame / (self.mbit * 1e6) / 2.0);
        let count = u64::try_from(self.time.as_nanos() / gap.as_nanos()).unwrap_or(u64::MAX);
        let load = Load::of(count).sized(self.size).spaced(gap).windowed(count);
        let arrived = flow.round(load);
        let arrivals: Vec<f64> = flow
            .notes()
            .iter()
            .map(|&(number, delay)| float(number) * gap.as_secs_f64() + delay.as_secs_f64())
            .collect();
        // Whatever a burst let through at once is over after a tenth.
        let steady = &arrivals[arrivals.len() / 10..];
        let time = steady
            .last()
            .zip(steady.first())
            .map_or(f64::NAN, |(last, first)| last - first);
        let mbit = float(steady.len() as u64 - 1) * frame / time / 1e6;
        Measured::of(vec![
            Figure::count("sent", arrived.sent),
            Figure::count("arrived", arrived.intact),
            Figure::new("asked, Mbit/s", self.mbit, 2),
            Figure::new("achieved, Mbit/s", mbit, 3),
            Figure::new(ACHIEVED, mbit / self.mbit, 4),
            Figure::count("out of order", arrived.inversions),
        ])
    }

    fn judge(&self, _: &Measured, ours: &Measured) -> Vec<Bar> {
        let achieved = ours.get(ACHIEVED);
        let [least, most] = BAR;
        vec![Bar {
            text: format!("rate ÷ what was asked for: {achieved:.4} (bar: {least} to {most})"),
            met: (least..=most).contains(&achieved),
        }]
    }
}
