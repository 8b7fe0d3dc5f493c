//! Which packets are lost.

use super::{
    bed::Bed,
    chain::{Chain, runs},
    measure::{Measure, chance_of_share, plausible},
    results::{Bar, Figure, Measured},
};
use crate::{
    netns::Ip,
    stats::float,
    traffic::{Direction, Load},
};

/// Losses that follow a model.
pub(super) struct Loss {
    /// The model.
    pub(super) model: Chain,
    /// Packets to send.
    pub(super) count: u64,
    /// Their family.
    pub(super) ip: Ip,
}

const RATE: &str = "lost, %";
const ASKED: &str = "asked, %";
const RATE_CHANCE: &str = "chance of the share";
const MEAN_RUN: &str = "mean run";
const LONGEST_RUN: &str = "longest run";
const RUN_CHANCE: &str = "chance of the runs lost";
const GAP_CHANCE: &str = "chance of the runs kept";

impl Measure for Loss {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let flow = bed.flow_of(way, self.ip);
        let arrived = flow.round(Load::of(self.count));
        let mut lost = vec![true; usize::try_from(arrived.sent).unwrap_or(0)];
        for (number, _) in flow.notes() {
            let place = usize::try_from(number).ok();
            if let Some(lost) = place.and_then(|place| lost.get_mut(place)) {
                *lost = false;
            }
        }
        let missing = float(lost.iter().filter(|&&lost| lost).count() as u64);
        let rate = missing / float(arrived.sent);
        let [losses, kept] = runs(&lost);
        let deviation = self.model.deviation(arrived.sent);
        let chance = chance_of_share(rate, self.model.rate(), deviation);
        let mean = float(losses.iter().sum()) / float(losses.len() as u64);
        let longest = losses.iter().copied().max().unwrap_or(0);
        let length = |run: &u64| float(*run);
        let mut lengths: Vec<f64> = losses.iter().map(length).collect();
        lengths.sort_by(f64::total_cmp);
        Measured::of(vec![
            Figure::count("sent", arrived.sent),
            Figure::new(ASKED, self.model.rate() * 100.0, 2),
            Figure::new(RATE, rate * 100.0, 2),
            Figure::new(RATE_CHANCE, chance, 4),
            Figure::new(MEAN_RUN, mean, 2),
            Figure::count(LONGEST_RUN, longest),
            Figure::chance(RUN_CHANCE, self.model.fit(&losses, true)),
            Figure::chance(GAP_CHANCE, self.model.fit(&kept, false)),
        ])
        .with_curve(&lengths)
    }

    fn judge(&self, _: &Measured, ours: &Measured) -> Vec<Bar> {
        [
            ("share lost", RATE_CHANCE),
            ("lengths of the runs lost", RUN_CHANCE),
            ("lengths of the runs kept", GAP_CHANCE),
        ]
        .into_iter()
        .filter(|(_, name)| !ours.get(name).is_nan())
        .map(|(what, name)| plausible(what, ours.get(name)))
        .collect()
    }
}
