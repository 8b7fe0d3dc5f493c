//! What a bulk connection achieves.

use super::{
    bed::Bed,
    measure::Measure,
    results::{Bar, Figure, Measured},
};
use crate::{
    stats::{float, median},
    traffic::Direction,
};

/// Least share of the reference's throughput.
const SHARE: f64 = 0.95;

/// One bulk flow after the other.
pub(super) struct Tcp {
    /// How many.
    pub(super) flows: usize,
    /// How long each lasts.
    pub(super) seconds: u32,
}

/// The figure that is plotted.
pub(super) const RATE: &str = "Mbit/s";
const DEVIATION: &str = "± of the mean";
const AGAIN: &str = "sent again, %";

impl Measure for Tcp {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let read = || ["OutSegs", "RetransSegs"].map(|name| bed.sender(way).counter("Tcp", name));
        let before = read();
        let rates: Vec<f64> = (0..self.flows)
            .map(|_| bed.hosts.bulk(way, self.seconds))
            .collect();
        let after = read();
        let [sent, again] = [0, 1].map(|at| float(after[at] - before[at]));
        let count = float(rates.len() as u64);
        let mean = rates.iter().sum::<f64>() / count;
        let squares: f64 = rates.iter().map(|rate| (rate - mean).powi(2)).sum();
        let deviation = (squares / (count - 1.0).max(1.0) / count).sqrt();
        let digits = if mean < 100.0 { 2 } else { 0 };
        let [least, most] = [f64::min as fn(f64, f64) -> f64, f64::max]
            .map(|pick| rates.iter().copied().reduce(pick).unwrap_or(f64::NAN));
        Measured::of(vec![
            Figure::count("flows", self.flows as u64),
            Figure::new(RATE, mean, digits),
            Figure::new(DEVIATION, deviation, digits),
            Figure::new("median", median(&rates), digits),
            Figure::new("least", least, digits),
            Figure::new("most", most, digits),
            Figure::count("segments", after[0] - before[0]),
            Figure::new(AGAIN, again / sent * 100.0, 2),
        ])
    }

    fn judge(&self, reference: &Measured, ours: &Measured) -> Vec<Bar> {
        let [theirs, mine] = [reference, ours].map(|measured| measured.get(RATE));
        let spread = [reference, ours].map(|measured| measured.get(DEVIATION));
        let noise = 3.0 * spread[0].hypot(spread[1]) / theirs;
        let ratio = mine / theirs;
        vec![Bar {
            text: format!(
                "throughput ÷ the reference's: {ratio:.3}, ± {noise:.3} by chance (bar: {SHARE})"
            ),
            met: ratio + noise >= SHARE,
        }]
    }
}
