//! The functions that a call came through, as the stack of its caller tells: what programs know of
//! code, and how a function's end shows where it will return to.

use crate::call_filter::FileRules;

/// How many functions of the caller's stack are looked at, from the innermost.
pub const MAX_FRAMES: u32 = 64;

/// How many functions of one file the rules of an agent can name, or parts of such.
pub const FILE_FUNCTIONS: usize = 32;

/// The code of a function, or a part of it, and the rules that name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Function {
    /// Where in the file it begins.
    pub start: u64,
    /// Where it has ended.
    pub end: u64,
    /// Rules that mean calls below it, and rules that leave them out.
    pub rules: FileRules,
}

/// The functions of a file that rules name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Functions {
    /// They, in any order; they may overlap. Unused places have no code.
    pub list: [Function; FILE_FUNCTIONS],
}

impl Functions {
    /// None.
    pub const NONE: Self = Self {
        list: [Function {
            start: 0,
            end: 0,
            rules: FileRules {
                below: [0; 2],
                not: [0; 2],
            },
        }; FILE_FUNCTIONS],
    };

    /// Adds the rules that name a function with code at this place of the file.
    ///
    /// Without a branch: each would be two ways to the verifier.
    #[inline(always)]
    pub fn add_rules_at(&self, offset: u64, found: &mut FileRules) {
        let mut place = 0;
        while place < FILE_FUNCTIONS {
            let function = &self.list[place];
            // Ones in all bits if it lies within: both differences are then no less than 0.
            let outside = offset.wrapping_sub(function.start)
                | function.end.wrapping_sub(1).wrapping_sub(offset);
            let within = (outside >> 63).wrapping_sub(1);
            let rules = &function.rules;
            found.below[0] |= rules.below[0] & within;
            found.below[1] |= rules.below[1] & within;
            found.not[0] |= rules.not[0] & within;
            found.not[1] |= rules.not[1] & within;
            place += 1;
        }
    }
}

/// How many bytes behind a system call are looked at for the end of the function that made it.
pub const END_BYTES: u64 = 48;

/// `ret`.
const RET: u64 = 0xc3;
/// `cmp $-4096,%rax`, and with the bit of [`CMP_EITHER`] `cmp $-4095,%rax`: whether the call failed.
const CMP: u64 = 0xffff_f000_3d48;
/// The bit in which the two differ.
const CMP_EITHER: u64 = 1 << 16;
/// The bytes of `cmp`.
const CMP_BYTES: u64 = (1 << 48) - 1;

/// Whether a function returns behind a system call without touching its stack, by the 16 bytes
/// there: the word that the stack pointer points to is then where it returns to.
///
/// That is what the wrappers of a C library look like: `cmp`, a jump to what sets `errno`, and
/// `ret`.
#[inline(always)]
#[must_use]
pub const fn returns_at_once(bytes: [u64; 2]) -> bool {
    let [first, second] = bytes;
    if first & 0xff == RET {
        return true;
    }
    if (first ^ CMP) & CMP_BYTES & !CMP_EITHER != 0 {
        return false;
    }
    match first >> 48 & 0xff {
        // `jae` and `ja`, near.
        0x73 | 0x77 => second & 0xff == RET,
        // The same, far.
        0x0f => matches!(first >> 56, 0x83 | 0x87) && second >> 32 & 0xff == RET,
        _ => false,
    }
}

/// How many bytes a function takes off its stack before it returns, if these 8 bytes begin with
/// `add $N,%rsp; ret`; 0 if they do not.
#[inline(always)]
#[must_use]
pub const fn taken_off(bytes: u64) -> u64 {
    let size = bytes >> 24 & 0xff;
    if bytes & 0xff_00ff_ffff == RET << 32 | 0xc4_8348 && size < 0x80 {
        size
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
        let mut padded = bytes.to_vec();
        padded.resize(8 * N, 0x90);
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(padded.chunks(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap());
        }
        words
    }

    #[test]
    fn wrappers_that_return_at_once() {
        // Of glibc 2.36: `write`, `mkdir`, and one whose jump is far.
        for bytes in [
            &[0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x77, 0x58, 0xc3][..],
            &[0x48, 0x3d, 1, 0xf0, 0xff, 0xff, 0x73, 1, 0xc3],
            &[
                0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x0f, 0x87, 1, 2, 3, 4, 0xc3,
            ],
            &[0xc3],
        ] {
            assert!(returns_at_once(words(bytes)), "{bytes:x?}");
        }
        for bytes in [
            // `mov %r8d,%edi` behind the jump: something has been kept.
            &[0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x77, 0x31, 0x44, 0xc3][..],
            &[0x48, 0x3d, 0, 0xf0, 0xff, 0xff, 0x76, 0x58, 0xc3],
            &[0x48, 0x3d, 2, 0xf0, 0xff, 0xff, 0x77, 0x58, 0xc3],
            &[0x5d, 0xc3],
            &[],
        ] {
            assert!(!returns_at_once(words(bytes)), "{bytes:x?}");
        }
    }

    #[test]
    fn what_a_function_takes_off_its_stack() {
        let [word] = words(&[0x48, 0x83, 0xc4, 0x28, 0xc3]);
        assert_eq!(taken_off(word), 0x28);
        for bytes in [
            &[0x48, 0x83, 0xc4, 0x28, 0x5b, 0xc3][..],
            // To have more there.
            &[0x48, 0x83, 0xc4, 0x80, 0xc3],
            &[0x48, 0x83, 0xec, 0x28, 0xc3],
        ] {
            let [word] = words(bytes);
            assert_eq!(taken_off(word), 0, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn rules_are_those_of_the_functions_around_a_place(
            functions in proptest::collection::vec((0..40u64, 0..20u64, 0..64u32), 0..FILE_FUNCTIONS),
            offset in 0..70u64,
        ) {
            let mut all = Functions::NONE;
            let mut expected = FileRules::default();
            for (place, &(start, length, rule)) in all.list.iter_mut().zip(&functions) {
                let rules = FileRules { below: [1 << rule, 0], not: [0, 1 << rule] };
                *place = Function { start, end: start + length, rules };
                if (start..start + length).contains(&offset) {
                    expected.below[0] |= 1 << rule;
                    expected.not[1] |= 1 << rule;
                }
            }
            let mut found = FileRules::default();
            all.add_rules_at(offset, &mut found);
            prop_assert_eq!(found, expected);
        }
    }
}
