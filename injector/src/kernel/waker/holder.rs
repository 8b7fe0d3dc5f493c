//! The holder: a process that has the memory whose pages calls wait for, and does nothing.
//!
//! Whoever waits there holds the lock of its memory for reading (`mmap_lock`), so nothing of it
//! may change any more. It must not have the waker's `/dev/fuse`: that is closed when the waker
//! ends, and only the last one to close it wakes all.

use std::{
    fs::File,
    io::{self, Write as _},
    num::NonZeroUsize,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
};

use injector_common::sleep::{PAGE, PER_RANGE, RANGE, RANGES, offset};
use nix::{
    libc,
    sys::{
        mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous},
        prctl,
        signal::Signal,
    },
    unistd::{getppid, pause},
};

/// Lives as the holder of the file mounted there: says the address of its memory, and waits for
/// its end, which comes with that of its parent `waker`.
pub(super) fn live(mount: BorrowedFd<'_>, mut says: File, waker: u32) -> ! {
    let held = prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(io::Error::from)
        .and_then(|()| hold(mount));
    // The one before the signal was asked for may be gone already.
    let is_orphan = u32::try_from(getppid().as_raw()) != Ok(waker);
    let address = held.map_or(0, |memory| memory.addr().get() as u64);
    if is_orphan || says.write_all(&address.to_ne_bytes()).is_err() {
        // SAFETY: ends this process, at once.
        unsafe { libc::_exit(1) };
    }
    drop(says);
    loop {
        pause();
    }
}

/// The memory, in which every page is missing but one in each range.
fn hold(mount: BorrowedFd<'_>) -> io::Result<NonNull<libc::c_void>> {
    let file = File::open(format!("/proc/self/fd/{}", mount.as_raw_fd()))?;
    // The kernel takes the file for an empty one before it has asked.
    file.metadata()?;
    let range = size(RANGE)?;
    let page = size(PAGE)?;
    let pages = size(offset(PER_RANGE))?;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // One more, for a begin that is that of a range.
    let most = size(RANGE * u64::from(RANGES + 1))?;
    // SAFETY: the kernel chooses a free range of addresses.
    let all = unsafe { mmap_anonymous(None, most, ProtFlags::PROT_NONE, flags) }?;
    let base = all.addr().get().next_multiple_of(range.get());
    let mut begin = base;
    for number in 0..RANGES {
        let last = NonZeroUsize::new(begin + range.get() - page.get());
        let first = libc::off_t::try_from(offset(number * PER_RANGE)).map_err(io::Error::other)?;
        let private = MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED;
        let shared = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        let read = ProtFlags::PROT_READ;
        // SAFETY: inside of what was mapped above, and nobody uses it. The page that is written
        // is one of those that may be.
        unsafe {
            let there = mmap_anonymous(last, page, read | ProtFlags::PROT_WRITE, private)?;
            there.cast::<u8>().write_volatile(1);
            let missing = mmap(NonZeroUsize::new(begin), pages, read, shared, &file, first)?;
            // Nothing but the page that is wanted is read.
            madvise(missing, pages.get(), MmapAdvise::MADV_RANDOM)?;
        }
        begin += range.get();
    }
    NonNull::new(ptr::without_provenance_mut(base))
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// A number of bytes.
fn size(bytes: u64) -> io::Result<NonZeroUsize> {
    let size = usize::try_from(bytes).map_err(io::Error::other)?;
    NonZeroUsize::new(size).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
