//! The table of functions that rules name.

use std::{collections::BTreeMap, ops::Range};

use aya::maps::{HashMap, Map, MapData, MapError};
use injector_common::{
    call_chain::{FILE_FUNCTIONS, Function, Functions},
    call_filter::{FileKey, FileRules},
};

use super::files::place;

/// The table of functions.
pub(super) struct ChainTable {
    map: HashMap<MapData, FileKey, Functions>,
    known: BTreeMap<FileKey, BTreeMap<(u64, u64), FileRules>>,
}

/// Why functions could not be named.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChainTableError {
    /// The kernel refused.
    #[error(transparent)]
    Map(#[from] MapError),
    /// An entry holds no more.
    #[error("rules name more than {FILE_FUNCTIONS} functions of this file, or parts of such")]
    Full,
}

impl ChainTable {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self {
            map: HashMap::try_from(map)?,
            known: BTreeMap::new(),
        })
    }

    /// Names a part of a file's code for the version of a rule that has this key.
    pub(super) fn add(
        &mut self,
        file: FileKey,
        part: &Range<u64>,
        key: u32,
        left_out: bool,
    ) -> Result<(), ChainTableError> {
        let functions = self.known.entry(file).or_default();
        let at = (part.start, part.end);
        if functions.len() == FILE_FUNCTIONS && !functions.contains_key(&at) {
            return Err(ChainTableError::Full);
        }
        let rules = functions.entry(at).or_default();
        let (version, bit) = place(key);
        if left_out {
            rules.not[version] |= bit;
        } else {
            rules.below[version] |= bit;
        }
        let entry = entry(functions);
        Ok(self.map.insert(file, entry, 0)?)
    }

    /// Takes a file's functions away from the version of a rule that has this key.
    pub(super) fn remove(&mut self, file: FileKey, key: u32) -> Result<(), MapError> {
        let Some(functions) = self.known.get_mut(&file) else {
            return Ok(());
        };
        let (version, bit) = place(key);
        for rules in functions.values_mut() {
            rules.not[version] &= !bit;
            rules.below[version] &= !bit;
        }
        functions.retain(|_, rules| *rules != FileRules::default());
        if functions.is_empty() {
            self.known.remove(&file);
            self.map.remove(&file)
        } else {
            let entry = entry(functions);
            self.map.insert(file, entry, 0)
        }
    }
}

fn entry(functions: &BTreeMap<(u64, u64), FileRules>) -> Functions {
    let mut entry = Functions::NONE;
    for (place, (&(start, end), &rules)) in entry.list.iter_mut().zip(functions) {
        *place = Function { start, end, rules };
    }
    entry
}
