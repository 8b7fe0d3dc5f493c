//! Objects of the kernel, read field by field.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::{
        bpf_probe_read_kernel,
        generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    },
};

/// An object of the kernel, by its address.
pub(crate) type Object = *const u8;

/// Reads a `T` at `offset` from an object.
#[inline(always)]
pub(crate) fn read<T>(object: Object, offset: u32) -> Option<T> {
    // SAFETY: the helper checks the address; callers ask for integers and
    // pointers only.
    unsafe { bpf_probe_read_kernel(object.wrapping_add(offset as usize).cast::<T>()) }.ok()
}

/// Reads a `T` at `offset` from the task that runs.
///
/// Without a helper, whose way to memory that may not be there costs some 70 instructions: the
/// verifier knows the task, and the kind of each of its members (`PTR_TO_BTF_ID`, Linux 5.5).
#[inline(always)]
pub(crate) fn read_current<T>(offset: u32) -> T {
    read_known(current_task(), offset)
}

/// The same from an object to which fields of the task that runs have led, each of them read by
/// this: the verifier knows it then. Null leads nowhere.
#[inline(always)]
pub(crate) fn follow<T>(object: Object, offset: u32) -> Option<T> {
    // Some kernels know that there may be none, and want to see that it was looked at.
    if object.is_null() {
        return None;
    }
    Some(read_known(object, offset))
}

#[inline(always)]
fn read_known<T>(object: Object, offset: u32) -> T {
    // SAFETY: the verifier refuses what is no whole member of an object that it knows; callers ask
    // for integers and pointers only. At an address that is none, the kernel reads 0.
    unsafe {
        object
            .wrapping_add(offset as usize)
            .cast::<T>()
            .read_volatile()
    }
}

/// The task that runs.
#[inline(always)]
pub(crate) fn current_task() -> Object {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task_btf() }.cast::<u8>()
}

/// The registers with which it entered the kernel. The verifier knows them as long as they stay
/// in a register; whoever gets them from elsewhere reads them through a helper.
#[inline(always)]
pub(crate) fn current_registers() -> *const pt_regs {
    // SAFETY: the helpers take the current task.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs }
}
