//! The distributions that delays are drawn from.

use std::sync::Arc;

use aya::maps::{Array, Map, MapData, MapError};
use injector_common::faults::net_delay::Table;

use crate::model::{DelayTable, Rule};

/// The kernel's copies of the distributions in use.
pub(super) struct DelayTables {
    map: Array<MapData, Values>,
    known: Vec<Arc<DelayTable>>,
}

/// A table as the map takes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Values(Table);

// SAFETY: an array of integers, without padding.
unsafe impl aya::Pod for Values {}

impl DelayTables {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        let map = Array::try_from(map)?;
        let known = Vec::new();
        Ok(Self { map, known })
    }

    /// Where the rule's distribution lies, if it has one; rules with the same
    /// share it.
    ///
    /// # Errors
    ///
    /// When there is no room for another one.
    pub(super) fn index(&mut self, rule: &Rule) -> Result<Option<u32>, MapError> {
        let Some(table) = rule.fault.delay_table() else {
            return Ok(None);
        };
        let known = self.known.iter().position(|known| known == table);
        let position = known.unwrap_or(self.known.len());
        let index = u32::try_from(position).unwrap_or(u32::MAX);
        if known.is_none() {
            self.map.set(index, Values(*table.values), 0)?;
            self.known.push(Arc::clone(table));
        }
        Ok(Some(index))
    }
}
