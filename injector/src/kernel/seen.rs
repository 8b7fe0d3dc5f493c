//! The bits that tell in advance that an id is in no rule's scope.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::AsFd as _,
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use aya::maps::{Map, MapData};
use injector_common::names::SEEN_BITS;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Words of the map.
const WORDS: usize = SEEN_BITS as usize / 64;
/// Its size, a whole number of pages.
const SIZE: NonZeroUsize = NonZeroUsize::new(WORDS * size_of::<u64>()).expect("not 0");

/// The map, in this process's memory: programs set bits of it too, whenever a
/// targeted process forks, and a word that is read and written back would lose
/// those.
#[derive(Debug)]
pub(super) struct Seen {
    words: NonNull<AtomicU64>,
    /// Programs that are loaded later name it by its descriptor.
    _map: MapData,
}

impl Seen {
    /// Maps it.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub(super) fn new(map: Map) -> io::Result<Self> {
        let Map::Array(map) = map else {
            return Err(io::Error::other("no array of bits in the object"));
        };
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a free range of addresses.
        let memory = unsafe {
            mmap(
                None,
                SIZE,
                protection,
                MapFlags::MAP_SHARED,
                map.fd().as_fd(),
                0,
            )
        }?;
        Ok(Self {
            words: memory.cast(),
            _map: map,
        })
    }

    /// Sets the bit of an id.
    pub(super) fn set(&self, id: u64) {
        let bit = id % u64::from(SEEN_BITS);
        // SAFETY: the mapping has so many words, page-aligned, and lives as
        // long as `self`. Nobody but atomic operations changes them.
        let words = unsafe { std::slice::from_raw_parts(self.words.as_ptr(), WORDS) };
        if let Some(word) = usize::try_from(bit / 64).ok().and_then(|at| words.get(at)) {
            word.fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        // SAFETY: the range that was mapped, and nobody uses it any more.
        let unmapped = unsafe { munmap(self.words.cast(), SIZE.get()) };
        if let Err(error) = unmapped {
            tracing::debug!("a map cannot be unmapped: {error}");
        }
    }
}
