//! Files: which one a call is about, and which rules name it or a directory above it.

use aya_ebpf::{cty::c_void, macros::raw_tracepoint, programs::RawTracePointContext};
use injector_common::{
    call_filter::{CallFilter, FileKey, FileRules, NAME_BYTES, condition},
    uses::Uses,
};

use crate::{
    chain,
    decide::{ENOUGH, GO_ON, repeat},
    maps::{FILES, FOUND, SPARED, field, in_use},
    objects::{Object, follow, read, read_current},
};

/// What a call is about.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    /// The open file, if there is one; null otherwise.
    pub(crate) file: Object,
    /// The entries of directories that it names, of which the second may be null.
    pub(crate) dentries: [Object; 2],
}

impl Subject {
    /// A call that is about no file.
    pub(crate) const NONE: Self = Self {
        file: core::ptr::null(),
        dentries: [core::ptr::null(); 2],
    };

    /// An open file.
    #[inline(always)]
    pub(crate) fn file(file: Object) -> Option<Self> {
        // Linux 7.3 knows that a mapping may have none, and wants to see that it was looked at.
        if file.is_null() {
            return None;
        }
        let dentry = path_dentry(file.wrapping_add(field!(file_path) as usize))?;
        Some(Self {
            file,
            dentries: [dentry, core::ptr::null()],
        })
    }

    /// What a `struct path` leads to.
    #[inline(always)]
    pub(crate) fn path(path: Object) -> Option<Self> {
        Some(Self::entries(path_dentry(path)?, core::ptr::null()))
    }

    /// Entries of directories.
    #[inline(always)]
    pub(crate) const fn entries(one: Object, other: Object) -> Self {
        Self {
            file: core::ptr::null(),
            dentries: [one, other],
        }
    }

    /// The program that is about to be executed.
    #[inline(always)]
    pub(crate) fn program(bprm: Object) -> Option<Self> {
        Self::file(read(bprm, field!(bprm_file))?)
    }

    /// The file that a descriptor of the current task stands for.
    #[inline(always)]
    pub(crate) fn descriptor(descriptor: u64) -> Option<Self> {
        Self::file(open_file(descriptor)?)
    }
}

/// The open file that a descriptor of the current task stands for.
#[inline(always)]
pub(crate) fn open_file(descriptor: u64) -> Option<Object> {
    let descriptor = descriptor as u32;
    let files: Object = read_current(field!(task_files));
    let table: Object = read(files, field!(files_fdt))?;
    let room: u32 = read(table, field!(fdtable_max))?;
    if descriptor >= room {
        return None;
    }
    let slots: Object = read(table, field!(fdtable_fd))?;
    let file: Object = read(slots.wrapping_add(descriptor as usize * 8), 0)?;
    (!file.is_null()).then_some(file)
}

#[inline(always)]
fn path_dentry(path: Object) -> Option<Object> {
    read(path, field!(path_dentry))
}

/// A walk from an entry up to the root of its file system.
struct Walk {
    entry: Object,
    found: FileRules,
}

/// The rules that name an entry, or a directory above it; none if it is null.
///
/// The walk goes by the directories in which the kernel has found the file, whatever name, link
/// or descriptor led to it, and ends at the root of the file system: where another one is mounted
/// below a directory, the table names that one's root too.
#[inline(never)]
pub(crate) fn rules_at(entry: Object, found: &mut FileRules) {
    if entry.is_null() {
        return;
    }
    let mut walk = Walk {
        entry,
        found: FileRules::default(),
    };
    repeat(climb, &mut walk);
    *found = walk.found;
}

/// # Safety
///
/// Called by the kernel, with the state of [`rules_at`].
unsafe extern "C" fn climb(
    _map: *mut c_void,
    _round: *const u32,
    _value: *const u64,
    walk: *mut Walk,
) -> u64 {
    // SAFETY: see above.
    let walk = unsafe { &mut *walk };
    // An entry of what is yet to be made has no inode.
    if let Some(key) = key_of(walk.entry) {
        // SAFETY: values are plain integers that only user space replaces.
        if let Some(rules) = unsafe { FILES.get(key) } {
            walk.found.below[0] |= rules.below[0];
            walk.found.below[1] |= rules.below[1];
            walk.found.not[0] |= rules.not[0];
            walk.found.not[1] |= rules.not[1];
        }
    }
    let Some(parent) = read::<Object>(walk.entry, field!(dentry_parent)) else {
        return ENOUGH;
    };
    if parent == walk.entry {
        return ENOUGH;
    }
    walk.entry = parent;
    GO_ON
}

#[inline(always)]
fn key_of(entry: Object) -> Option<FileKey> {
    let inode: Object = read(entry, field!(dentry_inode))?;
    if inode.is_null() {
        return None;
    }
    let superblock: Object = read(inode, field!(inode_sb))?;
    Some(FileKey {
        inode: read(inode, field!(inode_number))?,
        device: read(superblock, field!(sb_device))?,
        _pad: 0,
    })
}

/// Whether the current task executes a file that is to be spared.
///
/// A function of its own: what comes after it would be verified once for each way through it.
#[inline(never)]
pub(crate) fn executes_spared(bits: u64) -> bool {
    executed_spared(bits).is_some()
}

/// `bits` are those of the files that are to be spared.
#[inline(always)]
fn executed_spared(bits: u64) -> Option<()> {
    let file: Object = follow(read_current(field!(task_mm)), field!(mm_exe))?;
    let entry: Object = follow(file, field!(file_inode))?;
    let inode: u64 = follow(entry, field!(inode_number))?;
    if bits & FileKey::bit(inode) == 0 {
        return None;
    }
    let superblock: Object = follow(entry, field!(inode_sb))?;
    let key = FileKey {
        inode,
        device: follow(superblock, field!(sb_device))?,
        _pad: 0,
    };
    // SAFETY: values are plain integers that only user space replaces.
    unsafe { SPARED.get(key) }.map(|_| ())
}

/// Whether the call's file is open as the filter asks.
#[inline(always)]
pub(crate) fn is_open(subject: &Subject, filter: &CallFilter) -> bool {
    filter.open_for(read(subject.file, field!(file_mode)).unwrap_or(0))
}

/// Whether an entry has a name and a type that the filter asks for.
#[inline(never)]
pub(crate) fn entry_fits(entry: Object, filter: &CallFilter) -> bool {
    if filter.asks(condition::TYPE) {
        let mode = read(entry, field!(dentry_inode))
            .and_then(|inode: Object| read::<u16>(inode, field!(inode_mode)));
        if !filter.file_type(u32::from(mode.unwrap_or(0))) {
            return false;
        }
    }
    if !filter.asks(condition::NAME | condition::WHOLE_NAME) {
        return true;
    }
    filter.name(is_called(entry, filter).unwrap_or(false))
}

/// Whether the name of an entry is as the filter says.
#[inline(always)]
fn is_called(entry: Object, filter: &CallFilter) -> Option<bool> {
    let name = entry.wrapping_add(field!(dentry_name) as usize);
    let length: u32 = read(name, field!(name_length))?;
    let text: Object = read(name, field!(name_text))?;
    let (head, tail) = (filter.head_length, filter.tail_length);
    if length < head + tail || filter.asks(condition::WHOLE_NAME) && length != head {
        return Some(false);
    }
    let last = text.wrapping_add((length - tail) as usize);
    Some(same_bytes(text, head, &filter.name_head) && same_bytes(last, tail, &filter.name_tail))
}

/// Whether so many bytes there are those of `wanted`, behind which zeros follow.
///
/// Word by word, since the stack has no room for all of them, and the last ones in parts: Linux 6.1
/// does not see that a number of bytes which is computed is small.
#[inline(never)]
fn same_bytes(text: Object, length: u32, wanted: &[u64; NAME_BYTES / 8]) -> bool {
    let (words, left) = (length / 8, length % 8);
    let rest = text.wrapping_add(words as usize * 8);
    let (mut bytes, mut bits) = (0_u64, 0_u32);
    if left & 4 != 0 {
        bytes = u64::from(read::<u32>(rest, 0).unwrap_or(0));
        bits = 32;
    }
    if left & 2 != 0 {
        bytes |= u64::from(read::<u16>(rest, bits / 8).unwrap_or(0)) << bits;
        bits += 16;
    }
    if left & 1 != 0 {
        bytes |= u64::from(read::<u8>(rest, bits / 8).unwrap_or(0)) << bits;
    }
    let mut word = 0;
    while word < NAME_BYTES / 8 {
        // Only the loop's own number is an index: what is computed has no bound to the verifier.
        if word as u32 >= words {
            return left == 0 || bytes == wanted[word];
        }
        if read::<u64>(text, word as u32 * 8) != Some(wanted[word]) {
            return false;
        }
        word += 1;
    }
    length as usize == NAME_BYTES
}

/// Looks up the file that a descriptor of the caller stands for, when the agent runs this by
/// itself (`BPF_PROG_TEST_RUN`): what stat(2) tells of a file is not always what the kernel
/// knows it by. Or what is mapped at an address of the caller, if there is a second argument: what an
/// overlay maps is a file of the file system below it. It is never attached.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn inj_find(ctx: RawTracePointContext) -> i32 {
    let mapped: u64 = ctx.arg(1);
    let found = if in_use(Uses::CHAINS) && mapped != 0 {
        chain::file_at(mapped)
    } else {
        Subject::descriptor(ctx.arg(0)).and_then(|subject| key_of(subject.dentries[0]))
    };
    if let Some(slot) = FOUND.get_ptr_mut(0) {
        // SAFETY: the pointer comes from a lookup that succeeded; the agent asks for one file at
        // a time. Zeros are no file's key.
        unsafe { *slot = found.unwrap_or_default() };
    }
    0
}
