//! The table of interfaces that rules act on, as programs find them there.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use injector_common::{
    SiteEntry,
    abi::near_site,
    names::{MAX_SITES, NEAR_SITES},
};

use super::actuator::Failure;

/// The interfaces of a run, by their indexes.
///
/// An entry is changed in place. A program that reads it meanwhile may see some rules of
/// before and some of after, each of which is asked whether it is in force.
pub(super) struct Sites {
    entries: Array<MapData, SiteEntry>,
    slots: HashMap<MapData, u32, u32>,
    near: Array<MapData, u64>,
    known: BTreeMap<u32, Known>,
}

struct Known {
    slot: u32,
    entry: SiteEntry,
}

impl Sites {
    /// # Errors
    ///
    /// When a map is not of the type that it should be.
    pub(super) fn new(entries: Map, slots: Map, near: Map) -> Result<Self, MapError> {
        Ok(Self {
            entries: entries.try_into()?,
            slots: slots.try_into()?,
            near: near.try_into()?,
            known: BTreeMap::new(),
        })
    }

    /// What is known of an interface; nothing of one where no rule acts.
    pub(super) fn get(&self, ifindex: u32) -> SiteEntry {
        let known = self.known.get(&ifindex);
        known.map(|known| known.entry).unwrap_or_default()
    }

    /// # Errors
    ///
    /// When the table is full, or the kernel refuses to write.
    pub(super) fn insert(&mut self, ifindex: u32, entry: SiteEntry) -> Result<(), Failure> {
        let slot = match self.known.get(&ifindex) {
            Some(known) => known.slot,
            None => free_slot(self.known.values().map(|known| known.slot))
                .ok_or_else(|| format!("more than {MAX_SITES} interfaces"))?,
        };
        // Before programs can find it.
        self.entries.set(slot, entry, 0)?;
        self.slots.insert(ifindex, slot, 0)?;
        let near = near_site(ifindex, slot);
        self.near.set(ifindex % NEAR_SITES, near, 0)?;
        self.known.insert(ifindex, Known { slot, entry });
        Ok(())
    }

    /// Makes `sites` all that the table holds.
    ///
    /// # Errors
    ///
    /// As [`Self::insert`].
    pub(super) fn replace(&mut self, sites: &BTreeMap<u32, SiteEntry>) -> Result<(), Failure> {
        for (&ifindex, &entry) in sites {
            self.insert(ifindex, entry)?;
        }
        let stale = self.known.keys().filter(|key| !sites.contains_key(key));
        for ifindex in stale.copied().collect::<Vec<_>>() {
            self.remove(ifindex)?;
        }
        Ok(())
    }

    fn remove(&mut self, ifindex: u32) -> Result<(), Failure> {
        let Some(known) = self.known.remove(&ifindex) else {
            return Ok(());
        };
        let at = ifindex % NEAR_SITES;
        // Another interface may have taken the place.
        if self.near.get(&at, 0)? == near_site(ifindex, known.slot) {
            self.near.set(at, 0, 0)?;
        }
        self.slots.remove(&ifindex)?;
        // Last: a program may be on its way here.
        Ok(self.entries.set(known.slot, SiteEntry::default(), 0)?)
    }
}

/// The lowest place that none of `used` is.
fn free_slot(used: impl Iterator<Item = u32>) -> Option<u32> {
    let used: BTreeSet<u32> = used.collect();
    (0..MAX_SITES).find(|place| !used.contains(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_once() {
        assert_eq!(free_slot([].into_iter()), Some(0));
        assert_eq!(free_slot([1, 0].into_iter()), Some(2));
        assert_eq!(free_slot([3, 0, 1].into_iter()), Some(2));
        assert_eq!(free_slot([1, 2].into_iter()), Some(0));
        assert_eq!(free_slot(0..MAX_SITES), None);
    }
}
