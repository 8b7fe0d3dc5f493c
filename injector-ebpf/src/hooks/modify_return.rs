//! Programs that take the place of a kernel function (`fmod_ret`): what they return other than 0
//! is what it returns, and it does not run.
//!
//! The programs of security hooks serve as such too, at `security_HOOK`, whose arguments and
//! result are those of the hook. Here are those that nothing else serves. aya knows no section
//! for them; `injector/src/kernel/modify_return.rs` loads them, whatever section they are in.

use aya_ebpf::{cty::c_void, programs::FEntryContext};
use injector_common::names::{MODIFIED_ENTRY, SecurityHook};

use super::{security, syscall};

/// `__x64_sys_*(const struct pt_regs *regs)`: any of them.
///
/// They return a long. An int would leave the upper half of the register at 0, which makes a
/// large positive number of an error.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry")]
extern "C" fn inj_fmod_entry(ctx: *mut c_void) -> i64 {
    let ctx = FEntryContext::new(ctx);
    // The argument after the function's own: what programs before this one returned.
    let earlier: i64 = ctx.arg(1);
    if earlier != 0 {
        return earlier;
    }
    syscall::enter(MODIFIED_ENTRY, ctx.arg(0)).map_or(0, i64::from)
}

/// `security_mmap_file(struct file *file, unsigned long prot, unsigned long flags)`, which has an
/// argument less than its hook.
#[unsafe(no_mangle)]
#[unsafe(link_section = "fentry")]
extern "C" fn inj_fmod_mmap(ctx: *mut c_void) -> i32 {
    let ctx = FEntryContext::new(ctx);
    let earlier: i32 = ctx.arg(3);
    if earlier != 0 {
        return earlier;
    }
    let about = security::About::File(0);
    security::enter(SecurityHook::MmapFile, about, |at| ctx.arg(at)).unwrap_or(0)
}
