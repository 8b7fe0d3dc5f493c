//! What calls of 32-bit callers are known by to programs: numbers behind those of 64-bit calls.
//!
//! The numbers of i386 are those of `arch/x86/entry/syscalls/syscall_32.tbl`. A 64-bit process makes
//! such calls too, by `int 0x80`.

use crate::names::MAX_CALLS;

/// Which of them `socketcall(2)` is, which stands for one of many by its first argument.
pub const SOCKETCALL: u32 = 102;

/// Where those of `socketcall` begin among them, above every number that Linux has given so far.
const MANY: u32 = 480;

/// The bits of a first argument of `socketcall` that count; it knows 1 to 20
/// (`include/uapi/linux/net.h`).
const MANY_MASK: u32 = 31;

/// What a 32-bit call is known by.
#[inline(always)]
#[must_use]
pub const fn known_as(number: u32) -> u32 {
    MAX_CALLS + number
}

/// What a call is known by that `socketcall` makes, by the first argument of that.
#[inline(always)]
#[must_use]
pub const fn by_socketcall(call: u32) -> u32 {
    known_as(MANY) + (call & MANY_MASK)
}

/// By how many bits a number is shifted to be [`IN_MEMORY`] or below.
pub const MEMORY_SHIFT: u32 = MANY_MASK.count_ones();
/// What is left of the numbers of calls that have their arguments in the caller's memory, as those
/// of `socketcall` do.
pub const IN_MEMORY: u32 = by_socketcall(0) >> MEMORY_SHIFT;

/// Ones in the upper half for a 32-bit call, whose arguments have none; 0 for another one.
#[inline(always)]
#[must_use]
pub const fn upper_half(call: u32) -> u64 {
    ((call / MAX_CALLS) as u64).wrapping_neg() << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::CALL_NUMBERS;

    #[test]
    fn arguments_of_32_bit_callers_have_no_upper_half() {
        for (call, upper) in [
            (0, 0),
            (MAX_CALLS - 1, 0),
            (known_as(0), 0xffff_ffff_0000_0000),
            (by_socketcall(20), 0xffff_ffff_0000_0000),
        ] {
            assert_eq!(upper_half(call), upper, "{call}");
        }
    }

    #[test]
    fn calls_of_socketcall_are_none_of_the_others() {
        let in_memory = |call: u32| call >> MEMORY_SHIFT == IN_MEMORY;
        assert!(!in_memory(known_as(MANY - 1)));
        assert!(!in_memory(MAX_CALLS - 1));
        assert!(in_memory(by_socketcall(0)) && in_memory(by_socketcall(u32::MAX)));
        // Whatever a caller asks for, it is in the table.
        assert_eq!(by_socketcall(u32::MAX), CALL_NUMBERS - 1);
    }
}
