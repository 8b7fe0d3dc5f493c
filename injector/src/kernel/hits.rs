//! Reading hits one by one, as the programs tell them.

use std::fmt;

use aya::maps::{HashMap, Map, MapData, MapError, RingBuf};
use injector_common::{Hit, names::LEDGER_BYTES};

/// The ring of hits, and the counts of flows.
pub struct Hits {
    ring: RingBuf<MapData>,
    turns: HashMap<MapData, u64, u64>,
}

impl fmt::Debug for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hits").finish_non_exhaustive()
    }
}

impl Hits {
    pub(super) fn new(ring: Map, turns: Map) -> Result<Self, MapError> {
        Ok(Self {
            ring: RingBuf::try_from(ring)?,
            turns: HashMap::try_from(turns)?,
        })
    }

    /// Takes the hits that have come so far out of the ring: at most as many as it
    /// holds, so that this ends while more are coming.
    pub fn take(&mut self, mut each: impl FnMut(&Hit)) {
        const MOST: usize = LEDGER_BYTES as usize / size_of::<Hit>();
        for _ in 0..MOST {
            let Some(item) = self.ring.next() else {
                return;
            };
            if item.len() == size_of::<Hit>() {
                // SAFETY: as many bytes as a hit has, and any bytes are one.
                each(&unsafe { item.as_ptr().cast::<Hit>().read_unaligned() });
            }
        }
    }

    /// How many packets of a flow matched a rule that counts per flow, by the
    /// [seed](injector_common::flow::Flow::seed) of the flow; 0 for one that is not known.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn packets(&self, flow_seed: u64) -> Result<u64, MapError> {
        match self.turns.get(&flow_seed, 0) {
            Ok(count) => Ok(count),
            Err(MapError::KeyNotFound) => Ok(0),
            Err(error) => Err(error),
        }
    }
}
