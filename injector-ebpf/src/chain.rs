//! The functions that a call came through, from the stack of its caller.
//!
//! Frames are followed by what compilers keep in `rbp` where they are told to, and code is known by
//! the file that is mapped there: neither where that lies nor what it is called matters.

use core::{hint::black_box, ptr::null_mut};

use aya_ebpf::{
    bindings::{BPF_LOCAL_STORAGE_GET_F_CREATE, task_struct},
    cty::c_void,
    helpers::{
        bpf_probe_read_user,
        generated::{
            bpf_find_vma, bpf_get_current_task_btf, bpf_probe_read_user as copy_from_user,
            bpf_task_storage_get,
        },
    },
};
use injector_common::{
    call_chain::{END_BYTES, Functions, MAX_FRAMES, returns_at_once, taken_off},
    call_filter::{CallFilter, FileKey, FileRules, condition},
    calls32,
};

use crate::{
    decide::{ENOUGH, GO_ON, repeat},
    maps::{CHAINS, FUNCTIONS, field},
    objects::{Object, current_registers, follow},
};

/// `-ENOENT` (include/uapi/asm-generic/errno-base.h): nothing is mapped there.
const NOTHING_THERE: i64 = -2;
/// Pages are of 4096 bytes.
const PAGE_SHIFT: u32 = 12;

/// What is known of the chain of a task's last call that a rule asked for it of. It lies with the
/// task, since there is no room for it on the stack (Linux 6.1 counts that of all functions), and
/// since another task may come between on the same CPU.
#[repr(C)]
pub(crate) struct Chain {
    /// The rules that name a function in it.
    rules: FileRules,
    /// Not 0 if there may be more of it.
    lost: u64,
    /// Which call it is, by the time at which rules were asked for it.
    call_ns: u64,
}

/// A walk from the function that makes the call to those that it came through.
struct Walk {
    /// The rules that name a function that was looked at.
    rules: FileRules,
    /// What the last frame said.
    frame: Frame,
    /// Where the first function returns to, if that is certain; 0 otherwise.
    caller: u64,
    /// No frame that is meant lies below this.
    lowest: u64,
    /// How many more functions may be looked at; [`LOST`] if there may be others.
    left: u64,
    mapping: Mapping,
}

/// A frame as it lies on the stack.
#[repr(C)]
struct Frame {
    /// Where that of the calling function is.
    next: u64,
    /// Where it goes on in that function.
    returns: u64,
}

/// What [`Walk::left`] is at the end where the walk led no further.
const LOST: u64 = u64::MAX;

/// What is mapped at addresses of the caller.
struct Mapping {
    start: u64,
    end: u64,
    /// To be added to an address there for where it is in the file.
    shift: u64,
    /// The file; zeros for memory without one, which are no file's key.
    file: FileKey,
}

/// Finds the rules that name a function that the call came through which began `now`. `call` is what
/// it is known by.
#[inline(always)]
pub(crate) fn find(call: u32, now: u64) {
    if let Some(chain) = storage(u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE)) {
        // SAFETY: the task's own, who is in here.
        let chain = unsafe { &mut *chain };
        chain.call_ns = now;
        if call & calls32::known_as(0) == 0 {
            inj_walk(chain);
        } else {
            // The kernel's own way into 32-bit calls leaves something else in the registers.
            chain.rules = FileRules::default();
            chain.lost = 1;
        }
    }
}

/// Whether the call came through functions as the rule with this key wants it: one of
/// [`met`](injector_common::call_filter::met).
#[inline(always)]
pub(crate) fn fits(filter: &CallFilter, key: u32, now: u64) -> u32 {
    let (index, version) = (key >> 1 & 63, (key & 1) as usize);
    let (mut by, mut not, mut lost) = (0, 0, 1);
    // Without it there was no memory for it.
    if filter.asks(condition::CHAIN)
        && let Some(chain) = storage(0)
    {
        // SAFETY: as above.
        let chain = unsafe { &*chain };
        by = chain.rules.below[version] >> index;
        not = chain.rules.not[version] >> index;
        lost = chain.lost | (chain.call_ns ^ now);
    }
    filter.chain(by, not, lost)
}

/// Where the current task's chain is, if there is room.
#[inline(always)]
fn storage(flags: u64) -> Option<*mut Chain> {
    let map = &raw const CHAINS;
    // SAFETY: the map is one for storage in tasks, and the task is the current one.
    let place = unsafe {
        bpf_task_storage_get(
            map.cast_mut().cast(),
            bpf_get_current_task_btf().cast(),
            null_mut(),
            flags,
        )
    };
    (!place.is_null()).then_some(place.cast())
}

/// Walks from the function that makes the current call to those that it came through.
///
/// A global function: what it leaves on the stack goes with it, and all its ways are one to the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn inj_walk(chain: *mut Chain) -> u64 {
    // SAFETY: null, as far as the verifier knows, or the task's own, who is in here.
    let Some(chain) = (unsafe { chain.as_mut() }) else {
        return 0;
    };
    let registers = current_registers();
    // SAFETY: the verifier knows those of the current task.
    let (address, stack, frame, again) = unsafe {
        (
            (&raw const (*registers).rip).read_volatile(),
            (&raw const (*registers).rsp).read_volatile(),
            (&raw const (*registers).rbp).read_volatile(),
            (&raw const (*registers).rsp).read_volatile(),
        )
    };
    // Not known to be 0: what the verifier knows of it before the first step it would know behind
    // the last one, and take for true (before Linux 6.7).
    let zero = stack ^ again;
    let caller = inj_caller(address, stack);
    let mut walk = Walk {
        rules: FileRules {
            below: [zero; 2],
            not: [zero; 2],
        },
        frame: Frame {
            next: frame,
            returns: address,
        },
        caller,
        lowest: stack,
        left: zero ^ u64::from(MAX_FRAMES),
        mapping: Mapping {
            start: zero,
            end: zero,
            shift: zero,
            file: FileKey {
                inode: zero,
                device: zero as u32,
                _pad: 0,
            },
        },
    };
    repeat(step, &mut walk);
    chain.rules = walk.rules;
    chain.lost = u64::from(walk.left == LOST);
    0
}

/// Looks at one function, and finds the one that called it.
///
/// # Safety
///
/// Called by the kernel, with the state of [`inj_walk`].
unsafe extern "C" fn step(
    _map: *mut c_void,
    _round: *const u32,
    _value: *const u64,
    walk: *mut Walk,
) -> u64 {
    // SAFETY: see above.
    let walk = unsafe { &mut *walk };
    if walk.left == 0 {
        walk.left = LOST;
        return ENOUGH;
    }
    walk.left -= 1;
    // The instruction before is the one that calls, the last one of its function perhaps.
    let address = walk.frame.returns.wrapping_sub(1);
    if address < walk.mapping.start || address >= walk.mapping.end {
        match map_at(address, &mut walk.mapping) {
            0 => {}
            // Whatever led there was no frame.
            NOTHING_THERE => return ENOUGH,
            _ => {
                walk.left = LOST;
                return ENOUGH;
            }
        }
    }
    // No file has the number 0: where the verifier knows that there is none, it goes on at once.
    // SAFETY: values are plain integers that only user space replaces.
    if walk.mapping.file.inode != 0
        && let Some(functions) = unsafe { FUNCTIONS.get(&walk.mapping.file) }
    {
        inj_add_rules(functions, walk);
    }
    let caller = walk.caller;
    if caller != 0 {
        walk.caller = 0;
        walk.frame.returns = caller;
        return GO_ON;
    }
    let frame = walk.frame.next;
    // Where it ends there is 0, or whatever code has there that keeps no frames.
    if frame < walk.lowest || frame & 7 != 0 {
        return ENOUGH;
    }
    // SAFETY: the helper checks the address, and writes as many bytes as there are.
    let error = unsafe {
        copy_from_user(
            (&raw mut walk.frame).cast(),
            size_of::<Frame>() as u32,
            frame as *const c_void,
        )
    };
    if error != 0 {
        walk.left = LOST;
        return ENOUGH;
    }
    walk.lowest = frame.wrapping_add(size_of::<Frame>() as u64);
    GO_ON
}

/// Adds the rules that name the function at hand. A global function: the verifier walks it once, and
/// not for each step (Linux 5.12, which wants such a function to return a number).
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn inj_add_rules(functions: *const Functions, walk: *mut Walk) -> u64 {
    // SAFETY: null, as far as the verifier knows, or a value of the table and the state of `inj_walk`.
    if let (Some(functions), Some(walk)) = unsafe { (functions.as_ref(), walk.as_mut()) } {
        let address = walk.frame.returns.wrapping_sub(1);
        let offset = address.wrapping_add(walk.mapping.shift);
        functions.add_rules_at(offset, &mut walk.rules);
    }
    0
}

/// Finds what is mapped at an address of the caller. Returns 0, or why that is not known.
#[inline(always)]
fn map_at(address: u64, mapping: &mut Mapping) -> i64 {
    mapping.file = FileKey::default();
    // SAFETY: the callback has the type that the helper wants, and the state outlives the call
    // (Linux 5.17).
    unsafe {
        bpf_find_vma(
            bpf_get_current_task_btf().cast::<task_struct>(),
            address,
            look_at_mapping as *mut c_void,
            (&raw mut *mapping).cast::<c_void>(),
            0,
        )
    }
}

/// # Safety
///
/// Called by the kernel, with a mapping (`struct vm_area_struct`) and the state of [`map_at`].
unsafe extern "C" fn look_at_mapping(
    _task: *mut c_void,
    area: Object,
    mapping: *mut Mapping,
) -> u64 {
    // SAFETY: see above.
    let mapping = unsafe { &mut *mapping };
    let (Some(start), Some(end), Some(page)) = (
        follow::<u64>(area, field!(mapping_start)),
        follow::<u64>(area, field!(mapping_end)),
        follow::<u64>(area, field!(mapping_page)),
    ) else {
        return 0;
    };
    mapping.start = start;
    mapping.end = end;
    mapping.shift = (page << PAGE_SHIFT).wrapping_sub(start);
    if let Some(file) = file_of(area) {
        mapping.file = file;
    }
    0
}

#[inline(always)]
fn file_of(area: Object) -> Option<FileKey> {
    let file: Object = follow(area, field!(mapping_file))?;
    let inode: Object = follow(file, field!(file_inode))?;
    let superblock: Object = follow(inode, field!(inode_sb))?;
    Some(FileKey {
        inode: follow(inode, field!(inode_number))?,
        device: follow(superblock, field!(sb_device))?,
        _pad: 0,
    })
}

/// What programs know the code by that is mapped at this address of the caller, if it is that of a
/// file.
pub(crate) fn file_at(address: u64) -> Option<FileKey> {
    let mut mapping = Mapping {
        start: 0,
        end: 0,
        shift: 0,
        file: FileKey::default(),
    };
    (map_at(address, &mut mapping) == 0).then_some(mapping.file)
}

/// A search for the end of the function that makes the call.
struct End {
    at: u64,
    last: u64,
    /// How many bytes of its stack it gives back there.
    size: u64,
}

/// Where the function returns to that makes the call, if its end shows it: the wrappers of a C
/// library have no frame of their own, and who calls them would not be found by that of another.
///
/// A global function: all its ways are one to the verifier.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn inj_caller(address: u64, stack: u64) -> u64 {
    let (Some(first), Some(second)) = (read_user(address), read_user(address.wrapping_add(8)))
    else {
        return 0;
    };
    let mut end = End {
        at: address,
        last: address.wrapping_add(END_BYTES),
        // Not known to be 0, as above.
        size: first ^ black_box(first),
    };
    if !returns_at_once([first, second]) {
        repeat(look_for_end, &mut end);
        if end.size == 0 {
            return 0;
        }
    }
    read_user(stack.wrapping_add(end.size)).unwrap_or(0)
}

/// # Safety
///
/// Called by the kernel, with the state of [`inj_caller`].
unsafe extern "C" fn look_for_end(
    _map: *mut c_void,
    _round: *const u32,
    _value: *const u64,
    end: *mut End,
) -> u64 {
    // SAFETY: see above.
    let end = unsafe { &mut *end };
    let Some(bytes) = read_user(end.at) else {
        return ENOUGH;
    };
    end.size = taken_off(bytes);
    end.at = end.at.wrapping_add(1);
    u64::from(end.size != 0 || end.at == end.last)
}

/// Reads a word of the caller's memory.
#[inline(always)]
fn read_user(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const u64) }.ok()
}
