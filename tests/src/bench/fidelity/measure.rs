//! What every measurement has in common.

use super::{
    bed::Bed,
    results::{Bar, Figure, Measured},
};
use crate::{
    stats::{Fit, float, normal_tails, quantile},
    traffic::Direction,
};

/// Least chance that a bar on something drawn by lot accepts. There are dozens of
/// such bars, and an injector that is right should meet them all in each run.
pub(super) const LEAST_CHANCE: f64 = 1e-4;

/// A way to look at a fault: the traffic to send under it and the figures that
/// tell what became of it.
pub(super) trait Measure: Sync {
    /// Sends the traffic, through whatever fault is there.
    fn take(&self, bed: &Bed, way: Direction) -> Measured;

    /// Holds the injector's figures against what was asked for, or against those
    /// of the reference.
    fn judge(&self, reference: &Measured, ours: &Measured) -> Vec<Bar>;
}

impl Figure {
    /// A figure that is shown with so many digits behind the point.
    pub(super) fn new(name: &str, value: f64, digits: usize) -> Self {
        Self {
            name: name.to_owned(),
            value: Some(value),
            digits,
        }
    }

    /// A figure that is a whole number.
    pub(super) fn count(name: &str, value: u64) -> Self {
        Self::new(name, float(value), 0)
    }

    /// A chance, if there was enough to test.
    pub(super) fn chance(name: &str, fit: Option<Fit>) -> Self {
        Self {
            name: name.to_owned(),
            value: fit.map(|fit| fit.chance),
            digits: 4,
        }
    }
}

impl Measured {
    /// Figures without a curve.
    pub(super) const fn of(figures: Vec<Figure>) -> Self {
        Self {
            figures,
            curve: Vec::new(),
        }
    }

    /// The same with the distribution of a sample, unless that is empty.
    pub(super) fn with_curve(self, sorted: &[f64]) -> Self {
        if sorted.is_empty() {
            return self;
        }
        let shares = (0..=100).map(|percent| f64::from(percent) / 100.0);
        Self {
            curve: shares.map(|share| quantile(sorted, share)).collect(),
            ..self
        }
    }

    /// The figure of this name; NaN, which meets no bar, when there is none.
    pub(super) fn get(&self, name: &str) -> f64 {
        let figure = self.figures.iter().find(|figure| figure.name == name);
        figure.and_then(|figure| figure.value).unwrap_or(f64::NAN)
    }
}

/// The bar that something drawn by lot must meet.
pub(super) fn plausible(what: &str, chance: f64) -> Bar {
    Bar {
        text: format!("{what}: chance {chance:.4} (bar: {LEAST_CHANCE})"),
        met: chance >= LEAST_CHANCE,
    }
}

/// How likely a share so far from the one asked for is.
pub(super) fn chance_of_share(measured: f64, asked: f64, deviation: f64) -> f64 {
    normal_tails((measured - asked) / deviation)
}

/// Values in ascending order.
pub(super) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}
