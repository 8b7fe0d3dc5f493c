//! Which share of the packets is changed, or comes twice.

use super::{
    bed::Bed,
    measure::{Measure, chance_of_share, plausible},
    results::{Bar, Figure, Measured},
};
use crate::{
    stats::float,
    traffic::{Direction, Load},
};

const CHANCE: &str = "chance of the share";

/// A share of packets, each drawn by itself.
#[derive(Clone, Copy)]
pub(super) struct Share {
    /// What was asked for, in percent.
    pub(super) percent: f64,
    /// Packets to send.
    pub(super) count: u64,
}

impl Share {
    fn percent_of(hit: u64, sent: u64) -> f64 {
        float(hit) / float(sent) * 100.0
    }

    fn chance(self, hit: u64, sent: u64) -> f64 {
        let asked = self.percent / 100.0;
        let deviation = (asked * (1.0 - asked) / float(sent)).sqrt();
        chance_of_share(float(hit) / float(sent), asked, deviation)
    }
}

/// Packets that are changed on their way.
pub(super) struct Damage(pub(super) Share);

impl Measure for Damage {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let flow = bed.flow(way);
        let refused = || bed.receiver(way).counter("Udp", "InCsumErrors");
        let before = refused();
        let arrived = flow.round(Load::of(self.0.count).sized(1000));
        let refused = refused() - before;
        let sent = arrived.sent;
        let hit = arrived.damaged + arrived.missing();
        let share = |hit| Share::percent_of(hit, sent);
        let elsewhere = arrived.missing().saturating_sub(refused);
        Measured::of(vec![
            Figure::count("sent", sent),
            Figure::new("asked, %", self.0.percent, 2),
            Figure::new("changed, %", share(hit), 2),
            Figure::new(CHANCE, self.0.chance(hit, sent), 4),
            Figure::new("arrived so, %", share(arrived.damaged), 2),
            Figure::new("refused for the checksum, %", share(refused), 2),
            Figure::new("refused otherwise, %", share(elsewhere), 2),
        ])
    }

    fn judge(&self, _: &Measured, ours: &Measured) -> Vec<Bar> {
        vec![plausible("share changed", ours.get(CHANCE))]
    }
}

/// Packets that arrive twice.
pub(super) struct Duplicates(pub(super) Share);

impl Measure for Duplicates {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let arrived = bed.flow(way).round(Load::of(self.0.count));
        let (sent, twice) = (arrived.sent, arrived.duplicates);
        Measured::of(vec![
            Figure::count("sent", sent),
            Figure::new("asked, %", self.0.percent, 2),
            Figure::new("came twice, %", Share::percent_of(twice, sent), 2),
            Figure::new(CHANCE, self.0.chance(twice, sent), 4),
            Figure::count("out of order", arrived.inversions),
            Figure::count("missing", arrived.missing()),
        ])
    }

    fn judge(&self, _: &Measured, ours: &Measured) -> Vec<Bar> {
        let missing = ours.get("missing");
        vec![
            plausible("share that came twice", ours.get(CHANCE)),
            Bar {
                text: format!("missing: {missing:.0} (bar: 0)"),
                met: missing == 0.0,
            },
        ]
    }
}
