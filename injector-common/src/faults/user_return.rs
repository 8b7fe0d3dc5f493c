//! `user-return`: a function of a program or library does nothing, and returns a chosen value.

use super::Params;
use crate::names::CALL_NUMBERS;

/// `RuleEntry::params` of functions that return this value.
#[must_use]
pub const fn params(value: u64) -> Params {
    [value, 0, 0, 0]
}

/// What the function returns.
#[inline(always)]
#[must_use]
pub const fn value(params: Params) -> u64 {
    params[0]
}

/// The version of a rule that hits, by its [key](crate::RuleEntry::key), as the number that a call
/// is decided by: above 0, which stands for no result, as a wait is.
#[inline(always)]
#[must_use]
pub const fn packed(key: u32) -> i32 {
    (key & 0xffff) as i32 + 1
}

/// The key in such a number, if there is one.
#[inline(always)]
#[must_use]
pub const fn key(packed: i32) -> Option<u32> {
    if packed > 0 {
        Some(packed.cast_unsigned() - 1)
    } else {
        None
    }
}

/// Bytes of a page of memory, by which files are mapped.
pub const PAGE: u64 = 4096;

/// A function, as a program at its entry knows it: its number, and where a `ret` is from there. One
/// word, which the kernel keeps with the attached program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entry(u64);

/// Bits of the function's number.
const NUMBER_BITS: u32 = 12;
/// Bits of its place in a page.
const PLACE_BITS: u32 = 12;
// Functions are numbered as calls are.
const _: () = assert!(CALL_NUMBERS <= 1 << NUMBER_BITS);
/// Lowest bit of the way to the `ret`.
const WAY: u32 = NUMBER_BITS + PLACE_BITS;

impl Entry {
    /// The function of this number whose entry is at offset `entry` of its file, with a `ret` at
    /// offset `back` of the same part of it, which is mapped as one. `None` where a program that
    /// finds itself at the `ret` could take it for the entry, and where numbers are too large.
    #[must_use]
    pub const fn new(number: u32, entry: u64, back: u64) -> Option<Self> {
        let way = back.wrapping_sub(entry).cast_signed();
        let most = 1 << (63 - WAY);
        if number >> NUMBER_BITS != 0
            || way >= most
            || way < -most
            || way.cast_unsigned().is_multiple_of(PAGE)
        {
            return None;
        }
        let place = (entry % PAGE) << NUMBER_BITS;
        Some(Self((way << WAY).cast_unsigned() | place | number as u64))
    }

    /// The word.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The function that a word stands for.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The function's number.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u32 {
        (self.0 & ((1 << NUMBER_BITS) - 1)) as u32
    }

    /// The address of the `ret`, for a thread at this one; `None` where that is not the function's
    /// entry. Another program that was asked before may have sent the thread elsewhere.
    #[inline(always)]
    #[must_use]
    pub const fn back(self, address: u64) -> Option<u64> {
        let place = self.0 >> NUMBER_BITS & ((1 << PLACE_BITS) - 1);
        if address % PAGE != place {
            return None;
        }
        let way = self.0.cast_signed() >> WAY;
        Some(address.wrapping_add(way.cast_unsigned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{RuleEntry, names::MAX_RULES};

    #[test]
    fn every_version_of_a_rule_has_its_number() {
        for index in 0..MAX_RULES {
            for version in [0, 1] {
                let rule = RuleEntry::key(index, version);
                assert_eq!(key(packed(rule)), Some(rule));
            }
        }
        assert_eq!(key(0), None);
        assert_eq!(key(i32::MIN), None);
    }

    proptest! {
        #[test]
        fn a_thread_at_the_entry_is_led_to_the_ret(
            number in 0..CALL_NUMBERS, entry in 0_u64..1 << 38, back in 0_u64..1 << 38,
            base in 0_u64..1 << 34,
        ) {
            let base = base * PAGE;
            match Entry::new(number, entry, back) {
                Some(packed) => {
                    let known = Entry::from_bits(packed.bits());
                    prop_assert_eq!(known.number(), number);
                    prop_assert_eq!(known.back(base + entry), Some(base + back));
                    // Whoever was sent to the `ret` already goes no further.
                    prop_assert_eq!(known.back(base + back), None);
                    prop_assert_eq!(known.back(base + entry + 1), None);
                }
                None => prop_assert_eq!(entry % PAGE, back % PAGE),
            }
        }

        #[test]
        fn what_does_not_fit_is_none(number: u32, entry: u64, back: u64, address: u64) {
            if let Some(packed) = Entry::new(number, entry, back) {
                prop_assert_eq!(packed.number(), number);
                let way = back.wrapping_sub(entry);
                let led = packed.back(address);
                prop_assert_eq!(led, (address % PAGE == entry % PAGE).then(|| address.wrapping_add(way)));
            }
        }
    }
}
