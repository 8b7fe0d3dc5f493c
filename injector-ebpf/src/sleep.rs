//! Waiting asleep: see [`injector_common::sleep`].

use aya_ebpf::{
    cty::c_void,
    helpers::{
        bpf_get_current_pid_tgid,
        generated::{bpf_copy_from_user_task, bpf_ktime_get_boot_ns},
    },
};
use injector_common::sleep::{MAX_SLEEPERS, MAX_TURNS, Sleeper, TRIES, address, slot};

use crate::{
    atomic::fetch_add,
    decide::{ENOUGH, GO_ON, armed, repeat_many},
    kernel_calls::{task_from_pid, task_release},
    maps::{DORMITORY, SLEEPERS, STATS},
};

/// Whether there is somebody who would wake a sleeper.
#[inline(always)]
pub(crate) fn is_served(now: u64) -> bool {
    DORMITORY
        .get(0)
        .is_some_and(|dormitory| now < dormitory.served_until_ns)
}

/// A place to sleep that nobody else has, or none. Whoever gets one gives it back.
///
/// Not an option: of one that is none, the compiler keeps a slot that was never written, which
/// the verifier does not let it.
#[derive(Clone, Copy)]
pub(crate) struct Bed {
    slot: u32,
}

/// In place of a slot.
const NONE: u32 = u32::MAX;

impl Bed {
    /// A free one; none if all are taken, or if there is nobody who would wake its sleeper.
    #[inline(always)]
    pub(crate) fn take(now: u64) -> Self {
        let none = Self { slot: NONE };
        if !is_served(now) {
            return none;
        }
        let thread = bpf_get_current_pid_tgid() as u32;
        let mut turn = 0;
        while turn < TRIES {
            let slot = slot(thread, turn);
            let Some(sleeper) = SLEEPERS.get_ptr_mut(slot) else {
                return none;
            };
            // SAFETY: an aligned u64 of a map value.
            if unsafe { fetch_add(&raw mut (*sleeper).wanted, 1) } == 0 {
                return Self { slot };
            }
            // SAFETY: as above.
            unsafe { fetch_add(&raw mut (*sleeper).wanted, u64::MAX) };
            turn += 1;
        }
        none
    }

    /// Whether it is one.
    #[inline(always)]
    pub(crate) const fn is_there(self) -> bool {
        self.slot != NONE
    }

    #[inline(always)]
    fn sleeper(self) -> Option<*mut Sleeper> {
        SLEEPERS.get_ptr_mut(self.slot % MAX_SLEEPERS)
    }

    /// Sleeps there for so many µs, and counts for the rule if it was less.
    #[inline(always)]
    pub(crate) fn sleep(self, us: u32, rule: u32) {
        let Some(sleeper) = self.sleeper() else {
            return;
        };
        // SAFETY: reads a clock.
        let now = unsafe { bpf_ktime_get_boot_ns() };
        let mut sleep = Sleep {
            due_ns: now + u64::from(us) * 1_000,
            slot: self.slot,
            _pad: 0,
        };
        // SAFETY: an aligned u64 of a map value.
        unsafe { (&raw mut (*sleeper).due_ns).write_volatile(sleep.due_ns) };
        repeat_many(turn, MAX_TURNS, &mut sleep);
        // SAFETY: as above.
        if unsafe { bpf_ktime_get_boot_ns() } < sleep.due_ns
            && let Some(stats) = STATS.get_ptr_mut(rule)
        {
            // SAFETY: an aligned u64 of a map value.
            unsafe { fetch_add(&raw mut (*stats).cut_short, 1) };
        }
    }

    /// Gives it back.
    #[inline(always)]
    pub(crate) fn leave(self) {
        if let Some(sleeper) = self.sleeper() {
            // SAFETY: aligned u64s of a map value.
            unsafe {
                (&raw mut (*sleeper).due_ns).write_volatile(0);
                fetch_add(&raw mut (*sleeper).wanted, u64::MAX);
            }
        }
    }
}

struct Sleep {
    due_ns: u64,
    slot: u32,
    _pad: u32,
}

/// Lies down once. The waker wakes whoever lay down before one that is due as well, and who is
/// not due lies down again.
///
/// # Safety
///
/// Called by the kernel, with the state of [`Bed::sleep`].
unsafe extern "C" fn turn(_turn: u64, sleep: *mut Sleep) -> u64 {
    // SAFETY: see above.
    let (due_ns, slot) = unsafe { ((*sleep).due_ns, (*sleep).slot % MAX_SLEEPERS) };
    let (Some(sleeper), Some(dormitory)) = (SLEEPERS.get_ptr_mut(slot), DORMITORY.get(0)) else {
        return ENOUGH;
    };
    // SAFETY: an aligned u64 of a map value.
    let woken = unsafe { (&raw const (*sleeper).woken).read_volatile() };
    let holder = task_from_pid(dormitory.holder);
    if holder.is_null() {
        return ENOUGH;
    }
    let mut byte = 0u8;
    // SAFETY: the helper writes one byte; the task is given back and used no more.
    unsafe {
        bpf_copy_from_user_task(
            (&raw mut byte).cast::<c_void>(),
            1,
            address(dormitory.base, slot) as *const c_void,
            holder.cast(),
            0,
        );
        task_release(holder);
    }
    // SAFETY: as above; and a clock is read.
    let (again, now) = unsafe {
        (
            (&raw const (*sleeper).woken).read_volatile(),
            bpf_ktime_get_boot_ns(),
        )
    };
    // Where it was not the waker, the thread is being killed, or the waker is gone.
    if now >= due_ns || again == woken || armed().is_none() {
        ENOUGH
    } else {
        GO_ON
    }
}
