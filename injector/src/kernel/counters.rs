//! Reading what the rules have done.

use aya::maps::{Array, Map, MapData, MapError};
use injector_common::RuleStats;

/// The rules' counters.
pub(super) struct Counters(Array<MapData, RuleStats>);

impl Counters {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        Array::try_from(map).map(Self)
    }

    /// The counters of the first `count` rules, in their order.
    pub(super) fn read(&self, count: u32) -> Result<Vec<RuleStats>, MapError> {
        (0..count).map(|index| self.0.get(&index, 0)).collect()
    }
}
