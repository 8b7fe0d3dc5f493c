//! Files as the kernel tells them apart, and the table of those that rules name.

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroUsize,
    os::fd::{AsFd, AsRawFd as _},
    ptr,
};

use aya::{
    maps::{Array, HashMap, Map, MapData, MapError},
    programs::RawTracePoint,
};
use injector_common::{
    call_filter::{FileKey, FileRules},
    names,
};
use nix::{
    libc,
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
};

use super::object::{Programs, once};
use crate::error::describe;

/// The table of files.
pub(super) struct Files {
    map: HashMap<MapData, FileKey, FileRules>,
    known: BTreeMap<FileKey, FileRules>,
}

impl Files {
    pub(super) fn new(map: Map) -> Result<Self, MapError> {
        Ok(Self {
            map: HashMap::try_from(map)?,
            known: BTreeMap::new(),
        })
    }

    /// Names a file for the version of a rule that has this key.
    pub(super) fn add(&mut self, file: FileKey, key: u32, left_out: bool) -> Result<(), MapError> {
        let rules = self.known.entry(file).or_default();
        let (version, bit) = place(key);
        if left_out {
            rules.not[version] |= bit;
        } else {
            rules.below[version] |= bit;
        }
        self.map.insert(file, *rules, 0)
    }

    /// Takes a file away from the version of a rule that has this key.
    pub(super) fn remove(&mut self, file: FileKey, key: u32) -> Result<(), MapError> {
        let Some(rules) = self.known.get_mut(&file) else {
            return Ok(());
        };
        let (version, bit) = place(key);
        rules.not[version] &= !bit;
        rules.below[version] &= !bit;
        if *rules == FileRules::default() {
            self.known.remove(&file);
            self.map.remove(&file)
        } else {
            self.map.insert(file, *rules, 0)
        }
    }
}

/// Where a rule's bit is, by its key.
pub(super) const fn place(key: u32) -> (usize, u64) {
    ((key & 1) as usize, 1 << (key >> 1 & 63))
}

/// What the kernel knows an open file by.
///
/// stat(2) does not always tell: overlayfs and btrfs show other numbers than they use.
///
/// # Errors
///
/// When the program that looks cannot be loaded or run.
pub(super) fn key_of(programs: &mut Programs, file: impl AsFd) -> io::Result<FileKey> {
    let descriptor = u64::try_from(file.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    find(programs, [descriptor, 0])
}

/// What the kernel knows the mappings of an open file by: those of an overlay's file are of the one
/// below it.
///
/// # Errors
///
/// Where the file cannot be mapped, and as above.
pub(super) fn key_of_mapped(programs: &mut Programs, file: impl AsFd) -> io::Result<FileKey> {
    let length = NonZeroUsize::MIN;
    // SAFETY: a new mapping, which nobody reads.
    let mapped = unsafe {
        mmap(
            None,
            length,
            ProtFlags::PROT_READ,
            MapFlags::MAP_PRIVATE,
            file,
            0,
        )
    }?;
    let found = find(programs, [0, mapped.as_ptr().expose_provenance() as u64]);
    // SAFETY: the mapping from above.
    unsafe { munmap(mapped, length.get()) }?;
    found
}

fn find(programs: &mut Programs, arguments: [u64; 2]) -> io::Result<FileKey> {
    let other = |error: &dyn std::error::Error| io::Error::other(describe(error));
    let program = programs.ebpf.program_mut(names::PROG_FIND);
    let program = program.ok_or_else(|| io::Error::other("no program to look it up"))?;
    let program: &mut RawTracePoint = program.try_into().map_err(|error| other(&error))?;
    once(program.load()).map_err(|error| other(&error))?;
    let program = program.fd().map_err(|error| other(&error))?;
    run(program.as_fd().as_raw_fd(), &arguments)?;
    let found = programs.ebpf.map(names::MAP_FOUND);
    let found = found.ok_or_else(|| io::Error::other("no map to find it in"))?;
    let found: Array<_, FileKey> = Array::try_from(found).map_err(|error| other(&error))?;
    let found = found.get(&0, 0).map_err(|error| other(&error))?;
    if found == FileKey::default() {
        return Err(io::Error::other("the program found no such file"));
    }
    Ok(found)
}

/// `bpf_attr` as `BPF_PROG_TEST_RUN` reads it (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    returned: u32,
    data_in_size: u32,
    data_out_size: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_size: u32,
    context_out_size: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    _pad: u32,
}

const BPF_PROG_TEST_RUN: libc::c_int = 10;

/// Runs a program for raw tracepoints in this thread (Linux 5.10).
fn run(program: libc::c_int, arguments: &[u64]) -> io::Result<()> {
    let mut attributes = TestRun {
        program: u32::try_from(program).map_err(io::Error::other)?,
        context_in_size: u32::try_from(size_of_val(arguments)).map_err(io::Error::other)?,
        context_in: arguments.as_ptr().expose_provenance() as u64,
        ..TestRun::default()
    };
    // SAFETY: the kernel reads and writes the attributes, which are as long as it is told, and
    // reads as many bytes of the arguments.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            ptr::from_mut(&mut attributes),
            size_of::<TestRun>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
