//! Which packets are hit where neighbours have something in common.

use std::time::Duration;

use super::{
    bed::Bed,
    chain::{Chain, runs},
    measure::{Measure, chance_of_share, plausible},
    results::{Bar, Figure, Measured},
};
use crate::{
    stats::float,
    traffic::{Direction, Load},
};

/// How a packet tells that it was hit.
#[derive(Clone, Copy)]
pub(super) enum Sign {
    /// It does not arrive as it was sent.
    Gone,
    /// It arrives again.
    Twice,
    /// It arrives in less than half of this time.
    Ahead(Duration),
}

/// A share of packets, of which neighbours are hit together.
pub(super) struct Correlated {
    /// What was asked for, in percent.
    pub(super) percent: f64,
    /// The correlation that was, in percent.
    pub(super) correlation: f64,
    /// How to tell who was hit.
    pub(super) sign: Sign,
    /// Packets to send.
    pub(super) count: u64,
}

const HIT: &str = "hit, %";
const CORRELATION: &str = "correlation, %";
const SHARE_CHANCE: &str = "chance of the share";
const RUN_CHANCE: &str = "chance of the runs hit";
const GAP_CHANCE: &str = "chance of the runs spared";

impl Correlated {
    /// A wire on which all is hit while it is bad, and nothing while it is good.
    fn model(&self) -> Chain {
        let (share, fresh) = (self.percent / 100.0, 1.0 - self.correlation / 100.0);
        Chain::bursts(share * fresh, (1.0 - share) * fresh)
    }

    /// Of each packet whether it was hit.
    fn hits(&self, notes: &[(u64, Duration)], sent: u64) -> Vec<bool> {
        let mut seen = vec![(0, Duration::MAX); usize::try_from(sent).unwrap_or(0)];
        for &(number, delay) in notes {
            let place = usize::try_from(number).ok();
            if let Some((times, shortest)) = place.and_then(|place| seen.get_mut(place)) {
                *times += 1;
                *shortest = delay.min(*shortest);
            }
        }
        let hit = |(times, shortest): (u64, Duration)| match self.sign {
            Sign::Gone => times == 0,
            Sign::Twice => times > 1,
            Sign::Ahead(delay) => shortest < delay / 2,
        };
        seen.into_iter().map(hit).collect()
    }
}

/// The share that was hit, and the correlation of neighbours.
fn figures(hits: &[bool]) -> [f64; 2] {
    let part = |hits: Vec<bool>| {
        let found = hits.iter().filter(|&&hit| hit).count() as u64;
        float(found) / float(hits.len() as u64)
    };
    let after = |hit: bool| {
        let pairs = hits.windows(2).filter(|pair| pair[0] == hit);
        part(pairs.map(|pair| pair[1]).collect())
    };
    [part(hits.to_vec()), after(true) - after(false)]
}

impl Measure for Correlated {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let flow = bed.flow(way);
        let sent = flow.round(Load::of(self.count)).sent;
        let hits = self.hits(&flow.notes(), sent);
        let [share, correlation] = figures(&hits);
        let model = self.model();
        let chance = chance_of_share(share, model.rate(), model.deviation(sent));
        let [hit, spared] = runs(&hits);
        let mut lengths: Vec<f64> = hit.iter().map(|&run| float(run)).collect();
        lengths.sort_by(f64::total_cmp);
        let mean = lengths.iter().sum::<f64>() / float(lengths.len() as u64);
        Measured::of(vec![
            Figure::count("sent", sent),
            Figure::new("asked, %", self.percent, 2),
            Figure::new(HIT, share * 100.0, 2),
            Figure::new(SHARE_CHANCE, chance, 4),
            Figure::new("asked correlation, %", self.correlation, 1),
            Figure::new(CORRELATION, correlation * 100.0, 1),
            Figure::new("mean run", mean, 2),
            Figure::chance(RUN_CHANCE, model.fit(&hit, true)),
            Figure::chance(GAP_CHANCE, model.fit(&spared, false)),
        ])
        .with_curve(&lengths)
    }

    fn judge(&self, _: &Measured, ours: &Measured) -> Vec<Bar> {
        [
            ("share hit", SHARE_CHANCE),
            ("lengths of the runs hit", RUN_CHANCE),
            ("lengths of the runs spared", GAP_CHANCE),
        ]
        .into_iter()
        .map(|(what, name)| plausible(what, ours.get(name)))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn signs_tell_who_was_hit() {
        let notes = [(0, MS), (2, 9 * MS), (2, 9 * MS), (3, 5 * MS)];
        for (sign, expected) in [
            (Sign::Gone, [false, true, false, false]),
            (Sign::Twice, [false, false, true, false]),
            (Sign::Ahead(10 * MS), [true, false, false, false]),
        ] {
            let measure = Correlated {
                percent: 20.0,
                correlation: 50.0,
                sign,
                count: 4,
            };
            assert_eq!(measure.hits(&notes, 4), expected);
        }
    }

    #[test]
    fn figures_are_the_share_and_what_neighbours_share() {
        let of = |hits: &str| figures(&hits.bytes().map(|c| c == b'x').collect::<Vec<_>>());
        assert_eq!(of("x.x.x.x.x"), [5.0 / 9.0, -1.0]);
        // Two of three come after a hit, one of four after a miss.
        assert_eq!(of("....xxx."), [3.0 / 8.0, 2.0 / 3.0 - 0.25]);
    }
}
