//! Calls of kernel functions (kfuncs), which only programs may make that the agent's own loader
//! loads. It gives them their numbers (`injector/src/kernel/modify_return.rs`).

use core::mem::transmute;

use aya_ebpf::cty::c_void;
use injector_common::names::KERNEL_CALL;

/// `bpf_task_from_pid` (Linux 6.2): the task of this id, to be given back, or null.
#[inline(always)]
pub(crate) fn task_from_pid(pid: u32) -> *mut c_void {
    // SAFETY: the number is no address. The compiler makes a call of it, as of a helper's, and
    // the loader one of the kernel function that has this prototype.
    let call: unsafe extern "C" fn(i32) -> *mut c_void = unsafe { transmute(KERNEL_CALL as usize) };
    // SAFETY: the function takes any number.
    unsafe { call(pid as i32) }
}

/// `bpf_task_release` (Linux 6.2): gives a task back.
///
/// # Safety
///
/// The task is from [`task_from_pid`], is not null, and is not used any more.
#[inline(always)]
pub(crate) unsafe fn task_release(task: *mut c_void) {
    // SAFETY: as above.
    let call: unsafe extern "C" fn(*mut c_void) = unsafe { transmute(KERNEL_CALL as usize + 1) };
    // SAFETY: the caller vouches for the task.
    unsafe { call(task) }
}
