//! The bits that tell in advance that an id is in no rule's scope.

use std::{io, sync::atomic::Ordering};

use aya::maps::Map;
use injector_common::names::SEEN_BITS;

use super::words::Words;

/// The bits. Programs set them too, whenever a targeted process forks, and a word that is
/// read and written back would lose those.
#[derive(Debug)]
pub(super) struct Seen(Words);

impl Seen {
    /// # Errors
    ///
    /// What the kernel refused.
    pub(super) fn new(map: Map) -> io::Result<Self> {
        Words::new(map, SEEN_BITS / 64).map(Self)
    }

    /// Sets the bit of an id.
    pub(super) fn set(&self, id: u64) {
        let bit = id % u64::from(SEEN_BITS);
        let at = usize::try_from(bit / 64).ok();
        if let Some(word) = at.and_then(|at| self.0.as_slice().get(at)) {
            word.fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
    }
}
