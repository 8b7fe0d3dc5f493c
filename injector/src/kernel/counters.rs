//! Reading what the rules have done.

use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use injector_common::RuleStats;

/// The rules' counters, and those of packets that no rule could hit.
pub(super) struct Counters {
    rules: Array<MapData, RuleStats>,
    unattributed: PerCpuArray<MapData, u64>,
}

impl Counters {
    pub(super) fn new(rules: Map, unattributed: Map) -> Result<Self, MapError> {
        Ok(Self {
            rules: Array::try_from(rules)?,
            unattributed: PerCpuArray::try_from(unattributed)?,
        })
    }

    /// The counters of the first `count` rules, in their order.
    pub(super) fn read(&self, count: u32) -> Result<Vec<RuleStats>, MapError> {
        (0..count).map(|index| self.rules.get(&index, 0)).collect()
    }

    /// The packets without an owner: those that left, and those that arrived.
    pub(super) fn unattributed(&self) -> Result<[u64; 2], MapError> {
        let sum = |way| -> Result<u64, MapError> {
            let counts = self.unattributed.get(&way, 0)?;
            Ok(counts.iter().sum())
        };
        Ok([sum(0)?, sum(1)?])
    }
}
