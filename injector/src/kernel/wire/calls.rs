//! Conditions on calls, as programs evaluate them.

use injector_common::{
    call_filter::{ArgumentTest, CallFilter as WireFilter, condition, test},
    faults::sys_errno::ErrorList,
};

use crate::{
    faults::plausible,
    model::{Access, CallFilter, Choice, FileType, Syscall},
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
    ask(condition::ARGUMENTS, !filter.arguments.is_empty());
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
    for (place, argument) in wire.arguments.iter_mut().zip(&filter.arguments) {
        let sign = if argument.signed { test::SIGNED } else { 0 };
        *place = ArgumentTest {
            value: argument.value,
            index: argument.index,
            test: argument.test.number() | sign,
        };
    }
    wire
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
