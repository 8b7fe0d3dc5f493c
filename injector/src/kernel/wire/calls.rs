//! Conditions on calls, as programs evaluate them.

use injector_common::{
    call_filter::{ArgumentTest, CallFilter as WireFilter, condition, test},
    faults::sys_errno::ErrorList,
};

use crate::{
    faults::plausible,
    model::{Access, AddressFamily, CallFilter, Choice, FileType, Syscall},
};

/// The conditions of a rule.
pub(in crate::kernel) fn call_filter(filter: &CallFilter) -> WireFilter {
    let mut wire = WireFilter::ANY;
    let mut ask = |bits, so| wire.conditions |= if so { bits } else { 0 };
    ask(condition::BELOW, !filter.paths.these.is_empty());
    ask(condition::NOT_BELOW, !filter.paths.not.is_empty());
    ask(condition::NOT_NAME, !filter.file_names.not.is_empty());
    ask(condition::TYPE, !filter.file_types.is_any());
    ask(condition::ACCESS, filter.access.is_some());
    ask(condition::USER, !filter.users.these.is_empty());
    ask(condition::NOT_USER, !filter.users.not.is_empty());
    ask(condition::COMMAND, !filter.commands.these.is_empty());
    ask(condition::NOT_COMMAND, !filter.commands.not.is_empty());
    ask(
        condition::ARGUMENTS,
        !(filter.arguments.is_empty() && filter.descriptors.is_any()),
    );
    ask(condition::FAMILY, !filter.families.is_any());
    ask(condition::PEER, filter.peers.is_some());
    ask(condition::CALLED_BY, !filter.functions.these.is_empty());
    ask(condition::NOT_CALLED_BY, !filter.functions.not.is_empty());
    if let Some(name) = only(&filter.file_names) {
        wire.conditions |= match name.tail {
            Some(_) => condition::NAME,
            None => condition::WHOLE_NAME,
        };
        let tail = name.tail.as_deref().unwrap_or_default();
        (wire.name_head, wire.head_length) = words(&name.head);
        (wire.name_tail, wire.tail_length) = words(tail);
    }
    let wanted = FileType::ALL
        .iter()
        .filter(|kind| filter.file_types.takes(kind));
    wire.file_types = wanted.fold(0, |bits, kind| bits | 1 << kind.number());
    // `FMODE_READ` and `FMODE_WRITE` (include/linux/fs.h).
    wire.access = match filter.access {
        None => 0,
        Some(Access::Read) => 1,
        Some(Access::Write) => 2,
    };
    if let Some(users) = only(&filter.users) {
        (wire.user_first, wire.user_last) = (*users.start(), *users.end());
    }
    if let Some(command) = only(&filter.commands) {
        (wire.command, _) = words(command);
    }
    let tests = filter.arguments.iter().map(|argument| {
        let sign = if argument.signed { test::SIGNED } else { 0 };
        ArgumentTest {
            value: argument.value,
            index: argument.index,
            test: argument.test.number() | sign,
        }
    });
    let tests = tests.chain(descriptor_test(&filter.descriptors));
    for (place, test) in wire.arguments.iter_mut().zip(tests) {
        *place = test;
    }
    if !filter.families.is_any() {
        let wanted = AddressFamily::all().filter(|family| filter.families.takes(family));
        wire.families = wanted.fold(0, |bits, family| bits | 1 << family.number());
    }
    wire
}

/// The test of the first argument that a condition on descriptors is.
fn descriptor_test(descriptors: &Choice<u32>) -> Option<ArgumentTest> {
    let set = |list: &[u32]| {
        list.iter().fold(0, |bits, number| {
            bits | 1_u64.checked_shl(*number).unwrap_or(0)
        })
    };
    let (value, test) = match (&descriptors.these[..], &descriptors.not[..]) {
        ([], []) => return None,
        ([one], _) => (u64::from(*one), test::EQUAL),
        ([], [one]) => (u64::from(*one), test::DIFFERENT),
        ([], not) => (set(not), test::NONE_OF),
        // None of them is left out.
        (these, _) => (set(these), test::ONE_OF),
    };
    Some(ArgumentTest {
        value,
        index: 0,
        // A descriptor is a C `int`.
        test: test | test::SIGNED,
    })
}

/// The errors that a call can plausibly fail with; none where they are not known.
pub(in crate::kernel) fn error_list(call: Syscall) -> ErrorList {
    let errors = plausible::errors(call).unwrap_or_default();
    let numbers: Vec<u32> = errors.iter().map(|errno| errno.value).collect();
    ErrorList::of(&numbers)
}

/// The value of a condition that has one at most.
fn only<T>(choice: &Choice<T>) -> Option<&T> {
    choice.each().next().map(|(value, _)| value)
}

/// A text as words in the order of memory with zeros behind it, and how many bytes it has.
fn words<const N: usize>(text: &str) -> ([u64; N], u32) {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(text.as_bytes().chunks(8)) {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(padded);
    }
    let length = text.len().min(8 * N);
    (words, u32::try_from(length).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    #[test]
    fn families_are_bits() {
        let families = |these: &[u32], not: &[u32]| {
            let list = |numbers: &[u32]| {
                let families = numbers.iter().copied().filter_map(AddressFamily::new);
                families.collect()
            };
            let (these, not) = (list(these), list(not));
            let filter = CallFilter {
                families: Choice { these, not },
                ..CallFilter::default()
            };
            let wire = call_filter(&filter);
            assert_eq!(wire.conditions, condition::FAMILY);
            wire.families
        };
        assert_eq!(families(&[2, 63], &[]), 1 << 2 | 1 << 63);
        assert_eq!(families(&[], &[0, 10]), !(1 | 1 << 10));
        assert_eq!(call_filter(&CallFilter::default()).conditions, 0);
    }

    proptest! {
        #[test]
        fn descriptors_are_those_of_the_choice(
            these in btree_set(0..64u32, 0..4),
            not in btree_set(64..70u32, 0..2),
            one in any::<bool>(),
            descriptor in 0..75u32,
            above in any::<u32>(),
        ) {
            let (mut these, mut not): (Vec<u32>, Vec<u32>) =
                (these.into_iter().collect(), not.into_iter().collect());
            if one {
                (these, not) = (Vec::new(), these);
            }
            let descriptors = Choice { these, not };
            let expected = descriptors.takes(&descriptor);
            let any = descriptors.is_any();
            let wire = call_filter(&CallFilter { descriptors, ..CallFilter::default() });
            // What the caller left in the upper half of the register means nothing.
            let argument = u64::from(above) << 32 | u64::from(descriptor);
            prop_assert_eq!(wire.asks(condition::ARGUMENTS), !any);
            prop_assert!(wire.arguments.iter().all(|test| test.index == 0));
            prop_assert_eq!(wire.arguments.iter().all(|test| test.holds(argument)), expected);
        }
    }
}
