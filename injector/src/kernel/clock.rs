//! The clock that deadlines and leases are told in.

use nix::time::{ClockId, clock_gettime};

/// Boot time in ns (`CLOCK_BOOTTIME`): goes on during suspend, as
/// `bpf_ktime_get_boot_ns` does.
#[must_use]
pub fn boot_ns() -> u64 {
    // The clock exists since Linux 2.6.39 and cannot fail; 0 would make every
    // rule expired, which is the safe side.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
    })
}
