//! Arrays of words that this process and programs change at the same time.

use std::{io, num::NonZeroUsize, os::fd::AsFd as _, ptr::NonNull, slice, sync::atomic::AtomicU64};

use aya::maps::{Map, MapData};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// An array map of words (`BPF_F_MMAPABLE`, Linux 5.5), in this process's memory. Words
/// are changed there as atomically as programs do it, and without a call of the kernel.
#[derive(Debug)]
pub(super) struct Words {
    memory: NonNull<AtomicU64>,
    count: usize,
    size: NonZeroUsize,
    /// Programs that are loaded later name it by its descriptor.
    _map: MapData,
}

impl Words {
    /// Maps an array of `count` words.
    ///
    /// # Errors
    ///
    /// What the kernel refused.
    pub(super) fn new(map: Map, count: u32) -> io::Result<Self> {
        let Map::Array(map) = map else {
            return Err(io::Error::other("no array of words in the object"));
        };
        let count = usize::try_from(count).map_err(io::Error::other)?;
        let size = NonZeroUsize::new(count * size_of::<u64>());
        let size = size.ok_or_else(|| io::Error::other("an array without words"))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let (flags, fd) = (MapFlags::MAP_SHARED, map.fd().as_fd());
        // SAFETY: the kernel chooses a free range of addresses, and refuses more than the
        // map's pages.
        let memory = unsafe { mmap(None, size, protection, flags, fd, 0) }?;
        Ok(Self {
            memory: memory.cast(),
            count,
            size,
            _map: map,
        })
    }

    /// All words.
    pub(super) const fn as_slice(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has so many words, page-aligned, and lives as long as
        // `self`. Nobody but atomic operations changes them.
        unsafe { slice::from_raw_parts(self.memory.as_ptr(), self.count) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the range that was mapped, and nobody uses it any more.
        let unmapped = unsafe { munmap(self.memory.cast(), self.size.get()) };
        if let Err(error) = unmapped {
            tracing::debug!("a map cannot be unmapped: {error}");
        }
    }
}
