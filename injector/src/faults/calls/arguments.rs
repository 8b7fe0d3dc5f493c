//! Tests of arguments that no value passes.

use std::iter;

use injector_common::call_filter::{self, test::SIGNED};

use crate::{
    error::SpecError,
    model::{Argument, ArgumentTest, CallFilter},
};

/// The upper half of a register, of which a C `int` says nothing.
const UPPER: u64 = u64::MAX << 32;

/// Refuses tests of one argument that contradict each other. What is refused is certain; not all
/// that is certain is refused.
pub(super) fn check(filter: &CallFilter) -> Result<(), SpecError> {
    for index in 0..=5 {
        let tests: Vec<&Argument> = filter
            .arguments
            .iter()
            .filter(|test| test.index == index)
            .collect();
        let texts: Vec<&str> = tests.iter().map(|test| test.text.as_str()).collect();
        let texts = texts.join(" and ");
        if contradict(&tests) {
            let problem = format!("no value passes {texts}");
            return Err(SpecError::new(
                "arg",
                problem,
                "tests that some value passes",
            ));
        }
        if index == 0 && !tests.is_empty() && !leave_a_descriptor(&tests, filter) {
            let problem =
                format!("is the first argument too, and what it leaves does not pass {texts}");
            return Err(SpecError::new(
                "fd",
                problem,
                "descriptors that pass the tests of argument 0, or no such test",
            ));
        }
    }
    Ok(())
}

/// Whether an argument passes a test.
fn holds(argument: &Argument, value: u64) -> bool {
    let sign = if argument.signed { SIGNED } else { 0 };
    let test = call_filter::ArgumentTest {
        value: argument.value,
        index: argument.index,
        test: argument.test.number() | sign,
    };
    test.holds(value)
}

/// Whether some register with this lower half passes each test.
fn fits(tests: &[&Argument], lower: u32) -> bool {
    let lower = u64::from(lower);
    tests.iter().all(|test| {
        if test.test == ArgumentTest::Equal && !test.signed {
            return test.value & !UPPER == lower;
        }
        // Any other that holds for neither the least nor the largest of them holds for none.
        holds(test, lower) || holds(test, lower | UPPER)
    })
}

fn contradict(tests: &[&Argument]) -> bool {
    let equal = tests.iter().find(|test| test.test == ArgumentTest::Equal);
    match equal {
        // Below 0 it is that of a C `int`.
        Some(test) if test.signed => !fits(tests, lower_half(test.value)),
        Some(test) => !tests.iter().all(|other| holds(other, test.value)),
        None => {
            let mut pairs = tests.iter().flat_map(|one| iter::repeat(one).zip(tests));
            pairs.any(|(one, other)| exclude(one, other))
        }
    }
}

/// Whether a test leaves nothing for another one.
fn exclude(one: &Argument, other: &Argument) -> bool {
    if (one.test, other.test) == (ArgumentTest::SomeBits, ArgumentTest::NoBits) {
        return one.value & !other.value == 0;
    }
    if (one.test, other.test) != (ArgumentTest::More, ArgumentTest::Less)
        || one.signed != other.signed
    {
        return false;
    }
    if one.signed {
        one.value.cast_signed().saturating_add(1) >= other.value.cast_signed()
    } else {
        one.value.saturating_add(1) >= other.value
    }
}

/// Whether some descriptor that is meant passes the tests.
fn leave_a_descriptor(tests: &[&Argument], filter: &CallFilter) -> bool {
    let descriptors = &filter.descriptors;
    if !descriptors.these.is_empty() {
        return descriptors.these.iter().any(|&number| fits(tests, number));
    }
    let equal = tests.iter().find(|test| test.test == ArgumentTest::Equal);
    equal.is_none_or(|test| descriptors.takes(&lower_half(test.value)))
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
const fn lower_half(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::faults::{FaultKindDef as _, raw, sys_errno::SysErrno};

    #[test]
    fn what_no_value_passes_is_refused() {
        for (line, field, says) in [
            ("--fd 3 --arg 0==4", "fd", "does not pass 0==4"),
            ("--fd 3,5 --arg 0==4", "fd", "does not pass 0==4"),
            ("--fd !4 --arg 0==4", "fd", "does not pass 0==4"),
            ("--fd 3 --arg 0<3 --arg 1==0", "fd", "does not pass 0<3;"),
            ("--fd 3 --arg 0==-1", "fd", "does not pass 0==-1"),
            ("--fd 3 --arg 0!&1", "fd", "does not pass 0!&1"),
            ("--arg 2==4 --arg 2==5", "arg", "2==4 and 2==5"),
            ("--arg 2==4 --arg 2!=4", "arg", "2==4 and 2!=4"),
            ("--arg 2==-1 --arg 2>-1", "arg", "2==-1 and 2>-1"),
            ("--arg 2>5 --arg 2<6", "arg", "2>5 and 2<6"),
            ("--arg 2>-2 --arg 2<-1", "arg", "2>-2 and 2<-1"),
            ("--arg 2&3 --arg 2!&7", "arg", "2&3 and 2!&7"),
        ] {
            let line = format!("--call read --errno EIO {line}");
            let error = SysErrno::validate(raw(&line)).expect_err(&line);
            assert_eq!(error.field, field, "{line}: {error}");
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
        for line in [
            "--fd 3 --arg 0==3",
            // Whatever the caller left in the upper half.
            "--fd 3 --arg 0==0x100000003",
            "--fd 3 --arg 0>5000000000",
            "--fd 3 --arg 0!=3",
            "--fd 3,4 --arg 0==4",
            "--fd !3 --arg 0==4",
            "--arg 1==4 --arg 2==5",
            "--arg 2>5 --arg 2<7",
            "--arg 2==-1 --arg 2>5",
            "--arg 2&3 --arg 2!&1",
        ] {
            let line = format!("--call read --errno EIO {line}");
            SysErrno::validate(raw(&line)).expect(&line);
        }
    }

    proptest! {
        /// Of small and of large values, of which some pass.
        #[test]
        fn what_some_value_passes_is_taken(
            words in vec(("==|!=|<|<=|>|>=|&|!&", -3..6i64, any::<bool>()), 1..4),
            value in -4..7i64,
            upper in any::<bool>(),
            descriptor in any::<bool>(),
        ) {
            let tests: Vec<Argument> = words
                .iter()
                .filter_map(|(sign, number, high)| {
                    let number = if *high && *number > 0 { number | 1 << 32 } else { *number };
                    format!("0{sign}{number}").parse().ok()
                })
                .collect();
            let mut register = value.cast_unsigned();
            if upper {
                register = register & !UPPER | 1 << 32;
            }
            let mut filter = CallFilter { arguments: tests.clone(), ..CallFilter::default() };
            if descriptor && value >= 0 {
                filter.descriptors.these.push(lower_half(register));
            }
            if tests.iter().all(|test| holds(test, register)) {
                prop_assert!(check(&filter).is_ok(), "{tests:?} {register:#x}");
            }
        }
    }
}
