//! Which system calls a rule names, in the words of strace's `-e trace=`.

use std::str::FromStr;

use super::{
    call_classes::{CLASSES, IO_URING, members},
    syscall::every_call,
    text::ValueError,
};
use crate::{error::SpecError, model::Syscall};

/// One word of `--call`: a call by name or number, a class of calls as `%file`, or `all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallWord {
    sign: Sign,
    calls: Vec<Syscall>,
}

/// What stands in front of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// Nothing: these calls are to fail.
    Wanted,
    /// `?`: those of them that can be made to fail here.
    Optional,
    /// `!`: all but these.
    Not,
}

impl FromStr for CallWord {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (sign, name) = match text.split_at_checked(1) {
            Some(("?", rest)) => (Sign::Optional, rest),
            Some(("!", rest)) => (Sign::Not, rest),
            _ => (Sign::Wanted, text),
        };
        let calls = match name.strip_prefix('%') {
            _ if name == "all" => all(),
            Some(class) => members(class).ok_or_else(|| {
                let names: Vec<&str> = CLASSES.iter().map(|class| class.name).collect();
                let names = names.join(", %");
                let allowed = format!("%{names}, as in strace(1); %{IO_URING}");
                ValueError::new(text, "is not a class of system calls", allowed)
            })?,
            None => vec![name.parse()?],
        };
        Ok(Self { sign, calls })
    }
}

/// Every call that can fail.
fn all() -> Vec<Syscall> {
    every_call()
        .filter_map(|call| call.name().parse().ok())
        .collect()
}

/// The calls that words name together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Those that have to fail.
    pub wanted: Vec<Syscall>,
    /// Further ones that fail where the kernel lets them.
    pub optional: Vec<Syscall>,
}

/// Puts words together, in the order in which calls are named first. Words with `!` take away
/// from the others wherever they stand; if there are no others, from all calls, as with strace.
///
/// # Errors
///
/// When nothing is left.
pub fn select(words: &[CallWord]) -> Result<Selected, SpecError> {
    let named = |sign| {
        let words = words.iter().filter(move |word| word.sign == sign);
        words.flat_map(|word| word.calls.iter().copied())
    };
    let without: Vec<Syscall> = named(Sign::Not).collect();
    let mut wanted: Vec<Syscall> = Vec::new();
    let mut add = |call| {
        if !without.contains(&call) && !wanted.contains(&call) {
            wanted.push(call);
        }
    };
    if words.iter().all(|word| word.sign == Sign::Not) && !words.is_empty() {
        all().into_iter().for_each(&mut add);
    } else {
        named(Sign::Wanted).for_each(&mut add);
    }
    let mut optional: Vec<Syscall> = Vec::new();
    for call in named(Sign::Optional) {
        if ![&without, &wanted, &optional]
            .iter()
            .any(|known| known.contains(&call))
        {
            optional.push(call);
        }
    }
    // Nothing else would say that it takes nothing away: `all` has no requests.
    let mut requests = without.iter().filter(|call| call.as_request().is_some());
    let named: Vec<Syscall> = [Sign::Wanted, Sign::Optional]
        .into_iter()
        .flat_map(named)
        .collect();
    if let Some(call) = requests.find(|call| !named.contains(call)) {
        let problem = format!("leaves out {}, which no other word names", call.name);
        return Err(SpecError::new(
            "call",
            problem,
            "%io_uring beside it, or neither",
        ));
    }
    if wanted.is_empty() && optional.is_empty() {
        let allowed = "at least one system call";
        return Err(SpecError::new("call", "names no call", allowed));
    }
    Ok(Selected { wanted, optional })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn selected(words: &str) -> Selected {
        let words = words.split(',').map(|word| word.parse().expect(word));
        select(&words.collect::<Vec<_>>()).expect("some call")
    }

    fn names(calls: &[Syscall]) -> Vec<&'static str> {
        calls.iter().map(|call| call.name).collect()
    }

    #[test]
    fn names_numbers_and_repeats() {
        let read = syscalls::Sysno::read.id();
        let both = selected(&format!("write,{read},read,write"));
        assert_eq!(names(&both.wanted), ["write", "read"]);
        assert_eq!(both.optional, []);
    }

    #[test]
    fn a_class_but_for_some() {
        let all = selected("%process").wanted;
        assert!(all.iter().any(|call| call.name == "execve"));
        assert!(all.iter().all(|call| call.name != "exit_group"));
        let some = selected("!clone3,%process,!wait4").wanted;
        assert_eq!(some.len(), all.len() - 2);
        assert_eq!(selected("%net"), selected("%network"));
    }

    #[test]
    fn all_but_some() {
        let all = selected("all").wanted;
        assert!(names(&all).contains(&syscalls::Sysno::last().name()));
        let most = selected("!%file,!brk").wanted;
        let file = selected("%file").wanted;
        assert_eq!(most.len(), all.len() - file.len() - 1);
        for nothing in [&["read", "!read"][..], &["!all"], &[]] {
            let words = nothing.iter().map(|word| word.parse().expect("a word"));
            let refused = select(&words.collect::<Vec<_>>());
            assert!(refused.is_err(), "{refused:?}");
        }
    }

    #[test]
    fn requests_are_left_out_of_their_class() {
        let most = selected("%io_uring,!io_uring:read").wanted;
        assert_eq!(most.len() + 1, selected("%io_uring").wanted.len());
        for words in ["!io_uring:read", "%file,!%io_uring", "read,!io_uring:read"] {
            let words = words.split(',').map(|word| word.parse().expect(word));
            let refused = select(&words.collect::<Vec<_>>()).expect_err("nothing to leave out");
            assert!(refused.problem.contains("no other word names"), "{refused}");
        }
    }

    #[test]
    fn what_is_wanted_is_not_optional() {
        let both = selected("?%file,open,!access");
        assert_eq!(names(&both.wanted), ["open"]);
        let optional = names(&both.optional);
        assert!(optional.contains(&"chdir"), "{optional:?}");
        assert!(
            !optional.contains(&"open") && !optional.contains(&"access"),
            "{optional:?}"
        );
    }

    #[test]
    fn words_that_name_nothing() {
        for (word, allowed) in [
            ("%files", "%file, %process"),
            ("%", "%file"),
            ("!", "syscalls(2)"),
            ("?", "syscalls(2)"),
            ("!!read", "syscalls(2)"),
            ("?!read", "syscalls(2)"),
            ("%ALL", "%file"),
            ("", "syscalls(2)"),
            ("/open", "syscalls(2)"),
        ] {
            let error = word.parse::<CallWord>().expect_err(word);
            assert!(error.allowed.contains(allowed), "{word}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = text.parse::<CallWord>();
        }
    }
}
