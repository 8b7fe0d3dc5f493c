//! How long packets are under way.

use std::time::Duration;

use super::{
    bed::Bed,
    measure::{Measure, plausible, sorted},
    results::{Bar, Figure, Measured},
};
use crate::{
    netns::Ip,
    stats::{fit, float, quantile, same_source},
    traffic::{Direction, Load},
};

/// What a delay may be further off than the reference's, in µs.
const TOLERANCE_US: f64 = 100.0;

/// A fixed delay.
pub(super) struct Delay {
    /// What was asked for.
    pub(super) asked: Duration,
    /// Packets to send.
    pub(super) count: u64,
    /// Pause between two.
    pub(super) gap: Duration,
    /// Their family.
    pub(super) ip: Ip,
}

const MEDIAN: &str = "median error, µs";
const P99: &str = "p99 error, µs";
const MAX: &str = "max error, µs";
const DISORDER: &str = "out of order";
const MISSING: &str = "missing";

impl Measure for Delay {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let flow = bed.flow_of(way, self.ip);
        let load = Load::of(self.count).spaced(self.gap).windowed(self.count);
        let arrived = flow.round(load);
        let asked = self.asked.as_secs_f64();
        let off = |(_, delay): (u64, Duration)| (delay.as_secs_f64() - asked) * 1e6;
        let errors = sorted(flow.notes().into_iter().map(off).collect());
        // The one that is furthest off, on whichever side.
        let max = [0.0, 1.0].map(|share| quantile(&errors, share));
        let max = max.into_iter().max_by(|a, b| a.abs().total_cmp(&b.abs()));
        Measured::of(vec![
            Figure::new(MEDIAN, quantile(&errors, 0.5), 0),
            Figure::new(P99, quantile(&errors, 0.99), 0),
            Figure::new(MAX, max.unwrap_or(f64::NAN), 0),
            Figure::count(DISORDER, arrived.inversions),
            Figure::count(MISSING, arrived.missing()),
        ])
        .with_curve(&errors)
    }

    fn judge(&self, reference: &Measured, ours: &Measured) -> Vec<Bar> {
        let mut bars: Vec<Bar> = [MEDIAN, P99, MAX]
            .into_iter()
            .map(|name| {
                let [theirs, ours] = [reference, ours].map(|measured| measured.get(name));
                Bar {
                    text: format!(
                        "{name}: {ours:.0}, netem's {theirs:.0} (bar: {TOLERANCE_US} more)"
                    ),
                    met: ours.abs() <= theirs.abs() + TOLERANCE_US,
                }
            })
            .collect();
        let lost = ours.get(DISORDER) + ours.get(MISSING);
        bars.push(Bar {
            text: format!("out of order or missing: {lost:.0} (bar: 0)"),
            met: lost == 0.0,
        });
        bars
    }
}

/// A delay that is evenly drawn from a range, on packets so far from each other that
/// none waits for the one before it.
pub(super) struct Jitter {
    /// The shortest and the longest delay asked for.
    pub(super) range: [Duration; 2],
    /// Packets to send.
    pub(super) count: u64,
    /// Pause between two.
    pub(super) gap: Duration,
}

const SHORTEST: &str = "shortest, ms";
const MIDDLE: &str = "median, ms";
const LONGEST: &str = "longest, ms";
const EVEN: &str = "chance if even";

/// Parts of the range that should get the same number of packets.
const PARTS: u32 = 20;

impl Measure for Jitter {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let flow = bed.flow(way);
        let load = Load::of(self.count).spaced(self.gap).windowed(self.count);
        let arrived = flow.round(load);
        let notes = flow.notes();
        let width = (self.range[1] - self.range[0]) / PARTS;
        let mut bins = vec![(0, 1.0 / f64::from(PARTS)); PARTS as usize];
        for &(_, delay) in &notes {
            let place = delay.saturating_sub(self.range[0]).as_nanos() / width.as_nanos();
            let last = bins.len() - 1;
            bins[usize::try_from(place).unwrap_or(last).min(last)].0 += 1;
        }
        let ms = |(_, delay): (u64, Duration)| delay.as_secs_f64() * 1e3;
        let times = sorted(notes.into_iter().map(ms).collect());
        Measured::of(vec![
            Figure::new(SHORTEST, quantile(&times, 0.0), 2),
            Figure::new(MIDDLE, quantile(&times, 0.5), 2),
            Figure::new(LONGEST, quantile(&times, 1.0), 2),
            Figure::chance(EVEN, fit(bins)),
            Figure::count(DISORDER, arrived.inversions),
            Figure::count(MISSING, arrived.missing()),
        ])
        .with_curve(&times)
    }

    fn judge(&self, _: &Measured, ours: &Measured) -> Vec<Bar> {
        let [low, high] = self.range.map(|bound| bound.as_secs_f64() * 1e3);
        let (shortest, longest) = (ours.get(SHORTEST), ours.get(LONGEST));
        let slack = 1.0;
        vec![
            Bar {
                text: format!(
                    "between {shortest:.2} and {longest:.2} ms \
                     (bar: {low:.0} to {high:.0}, and {slack:.0} for the way)"
                ),
                met: shortest >= low && longest <= high + slack,
            },
            plausible("evenly spread", ours.get(EVEN)),
        ]
    }
}

/// The same on packets that follow each other closely. There is no bar: makers may
/// mean different things by it.
pub(super) struct CloseJitter(pub(super) Jitter);

impl Measure for CloseJitter {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let mut measured = self.0.take(bed, way);
        // They are not meant to be even.
        measured.figures.retain(|figure| figure.name != EVEN);
        measured
    }

    fn judge(&self, _: &Measured, _: &Measured) -> Vec<Bar> {
        Vec::new()
    }
}

/// A delay that is drawn by a table, on packets that may overtake each other.
pub(super) struct Spread {
    /// Packets to send.
    pub(super) count: u64,
    /// Pause between two.
    pub(super) gap: Duration,
}

const PACKETS: &str = "packets";

impl Measure for Spread {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let flow = bed.flow(way);
        let load = Load::of(self.count).spaced(self.gap).windowed(self.count);
        let arrived = flow.round(load);
        let ms = |(_, delay): (u64, Duration)| delay.as_secs_f64() * 1e3;
        let times = sorted(flow.notes().into_iter().map(ms).collect());
        let count = float(times.len() as u64);
        let mean = times.iter().sum::<f64>() / count;
        let squares: f64 = times.iter().map(|time| (time - mean).powi(2)).sum();
        Measured::of(vec![
            Figure::count(PACKETS, arrived.intact),
            Figure::new(SHORTEST, quantile(&times, 0.0), 2),
            Figure::new(MIDDLE, quantile(&times, 0.5), 2),
            Figure::new(LONGEST, quantile(&times, 1.0), 2),
            Figure::new("mean, ms", mean, 2),
            Figure::new("deviation, ms", (squares / count).sqrt(), 2),
            Figure::count(DISORDER, arrived.inversions),
            Figure::count(MISSING, arrived.missing()),
        ])
        .with_curve(&times)
    }

    fn judge(&self, reference: &Measured, ours: &Measured) -> Vec<Bar> {
        let distance = distance(&reference.curve, &ours.curve);
        let sizes = [reference, ours].map(|measured| measured.get(PACKETS));
        vec![plausible(
            &format!("spread like the reference's, {distance:.2} apart at most"),
            same_source(distance, sizes),
        )]
    }
}

/// How far two distribution functions are apart at most, given the percentiles of
/// each; exact to a hundredth.
fn distance(one: &[f64], other: &[f64]) -> f64 {
    let parts = float(other.len().saturating_sub(1) as u64);
    let share = |percentiles: &[f64], value: f64| {
        let below = percentiles.partition_point(|&percentile| percentile < value);
        float(below as u64) / parts
    };
    let apart = |&value: &f64| (share(one, value) - share(other, value)).abs();
    one.iter().chain(other).map(apart).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_by_a_fifth_is_a_fifth_apart() {
        let even = |shift: u32| -> Vec<f64> { (shift..=100 + shift).map(f64::from).collect() };
        assert!((distance(&even(0), &even(20)) - 0.2).abs() < 0.011);
        assert!(distance(&even(7), &even(7)) < 1e-9);
    }
}
