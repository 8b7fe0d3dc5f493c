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

/// The task that runs.
#[inline(always)]
pub(crate) fn current_task() -> Object {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_get_current_task_btf() }.cast::<u8>()
}

/// The registers with which it entered the kernel. They can be read through a helper only.
#[inline(always)]
pub(crate) fn current_registers() -> *const pt_regs {
    // SAFETY: the helpers take the current task.
    unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) as *const pt_regs }
}
