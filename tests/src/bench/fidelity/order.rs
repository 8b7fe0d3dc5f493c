//! Which packets overtake others.

use std::time::Duration;

use super::{
    bed::Bed,
    measure::{Measure, chance_of_share, plausible, sorted},
    results::{Bar, Figure, Measured},
};
use crate::{
    stats::float,
    traffic::{Direction, Load},
};

/// A share of the packets is sent ahead of those that are delayed.
pub(super) struct Order {
    /// The delay of the others.
    pub(super) delay: Duration,
    /// Share of those that may be sent ahead, in percent.
    pub(super) percent: f64,
    /// Only each so manieth packet may be.
    pub(super) gap: u64,
    /// Packets to send.
    pub(super) count: u64,
    /// Pause between two.
    pub(super) pause: Duration,
}

const ASKED: &str = "asked, %";
const AHEAD: &str = "sent ahead, %";
const CHANCE: &str = "chance of the share";
const REORDERED: &str = "reordered, %";
const MEAN_EXTENT: &str = "mean extent";
const MAX_EXTENT: &str = "max extent";

impl Measure for Order {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let flow = bed.flow(way);
        let load = Load::of(self.count).spaced(self.pause).windowed(self.count);
        let arrived = flow.round(load);
        let notes = flow.notes();
        let early = notes.iter().filter(|(_, delay)| *delay < self.delay / 2);
        let (early, sent) = (early.count() as u64, arrived.sent);
        let ahead = float(early) / float(sent);
        // From one that was sent ahead to the next: those that must wait, and then
        // the draws until one hits.
        let share = self.percent / 100.0;
        let cycle = float(self.gap - 1) + 1.0 / share;
        let variance = (1.0 - share) / share.powi(2);
        let asked = 1.0 / cycle;
        let deviation = (variance / cycle.powi(3) / float(sent)).sqrt();
        // Where nothing is drawn, the ends of the round still make a difference.
        let deviation = deviation.max(1.0 / float(sent));
        let numbers: Vec<u64> = notes.iter().map(|&(number, _)| number).collect();
        let extents: Vec<f64> = extents(&numbers).into_iter().map(float).collect();
        let extents = sorted(extents);
        let reordered = extents.len() as u64;
        let mean = extents.iter().sum::<f64>() / float(reordered);
        let measured = Measured::of(vec![
            Figure::count("sent", sent),
            Figure::new(ASKED, asked * 100.0, 2),
            Figure::new(AHEAD, ahead * 100.0, 2),
            Figure::new(CHANCE, chance_of_share(ahead, asked, deviation), 4),
            Figure::new(REORDERED, float(reordered) / float(sent) * 100.0, 2),
            Figure::new(MEAN_EXTENT, mean, 2),
            Figure::new(MAX_EXTENT, extents.last().copied().unwrap_or(0.0), 0),
            Figure::count("missing", arrived.missing()),
        ]);
        measured.with_curve(&extents)
    }

    fn judge(&self, reference: &Measured, ours: &Measured) -> Vec<Bar> {
        let [theirs, mine] = [reference, ours].map(|measured| measured.get(MEAN_EXTENT));
        vec![
            plausible("share sent ahead", ours.get(CHANCE)),
            Bar {
                text: format!("mean extent: {mine:.2}, netem's {theirs:.2} (bar: ± 10 %)"),
                met: (mine / theirs - 1.0).abs() <= 0.1,
            },
        ]
    }
}

/// The same where the makers mean different things by the same words: without bars.
pub(super) struct OtherOrder(pub(super) Order);

impl Measure for OtherOrder {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let mut measured = self.0.take(bed, way);
        measured
            .figures
            .retain(|figure| ![ASKED, CHANCE].contains(&figure.name.as_str()));
        measured
    }

    fn judge(&self, _: &Measured, _: &Measured) -> Vec<Bar> {
        Vec::new()
    }
}

/// Reordering extents as RFC 4737 defines them (section 4.2): for each packet that
/// came after one with a higher number, how many places behind the first of those
/// it came.
fn extents(numbers: &[u64]) -> Vec<u64> {
    // The highest number up to each place never falls, so the first place with a
    // higher number than this one can be searched for.
    let mut highest: Vec<u64> = Vec::with_capacity(numbers.len());
    let mut found = Vec::new();
    for (place, &number) in numbers.iter().enumerate() {
        let first = highest.partition_point(|&high| high <= number);
        if first < place {
            found.push((place - first) as u64);
        }
        highest.push(highest.last().map_or(number, |&high| high.max(number)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_nothing_has_an_extent() {
        assert!(extents(&[1, 2, 5, 7]).is_empty());
        assert!(extents(&[]).is_empty());
    }

    #[test]
    fn extents_are_those_of_the_standard() {
        // Section 4.2 of RFC 4737 counts from the first earlier arrival that is
        // higher: 4 came two places behind 5, and 2 four behind 3.
        assert_eq!(extents(&[1, 3, 5, 6, 4, 2, 7]), [2, 4]);
        // One packet sent ahead of four makes each of those late.
        assert_eq!(extents(&[5, 1, 2, 3, 4, 6]), [1, 2, 3, 4]);
    }
}
