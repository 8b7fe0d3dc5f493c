//! `sys-return`: system calls do nothing, and succeed.

use injector_common::FaultKind;

use super::{FaultKindDef, calls, pretended};
use crate::{
    error::SpecError,
    model::{CallFault, Calls, Fault, Rung, value_in_words},
    spec::{syscall::ReturnValue, text::Text},
};

/// The kind.
#[derive(Debug)]
pub struct SysReturn;

calls::call_kind! {
    /// Its options, as written.
    pub struct Raw (calls) {
        /// What they return: 0, or of calls that write so many bytes, or length for all that they were asked for
        #[arg(long, value_name = "N|length", allow_hyphen_values = true)]
        pub value: Text<ReturnValue>,

        /// How the calls are kept from running: kprobe, or fmod_ret for values above 0 [default: the
        /// first that works]
        #[arg(long, value_name = "RUNG")]
        #[serde(default)]
        pub rung: Option<Text<Rung>>,
    }
}

impl FaultKindDef for SysReturn {
    const KIND: FaultKind = FaultKind::SysReturn;
    const SUMMARY: &'static str = "System calls do nothing and return a chosen success";
    const MANUAL: &'static str = "\
The call is not made, and its caller is told that it was: a sync that reaches no disk, a file that is
still there, a write that got lost. What the target then does in good faith is not undone: data that
it believes to be safe are not.

--value 0 is the success of most calls; the end of a file for read, and no event for poll and its
like. write, pwrite64 and sendto return how many bytes they took: with --value length all that they were
asked for, and with a number that many, but never more than they were asked for; a call for no byte at
all is let pass and not counted. Nothing is written in either case. A short write or read that does move
its fewer bytes cannot be had: that would take a change of the caller's registers.

Only calls are taken whose success can be pretended. Refused are those that return an address or a
descriptor, make a process, fill memory that the caller then reads, or give up rights.

This needs a kernel that lets programs override system calls (CONFIG_BPF_KPROBE_OVERRIDE). Where
programs can take their place alone (CONFIG_FUNCTION_ERROR_INJECTION), only values above 0 can be had,
since 0 lets the call go on. At a security hook a call can fail and not succeed. Words of --call are those
of `sys-errno`.";
    const EXAMPLES: &'static str = "\
Examples:
  A disk that lies: no sync reaches it, and nobody is told:
    injector inject sys-return --target cgroup:/db --call fsync,fdatasync --value 0 --for 1m

  A hundredth of all writes to a log gets lost:
    injector inject sys-return --target pid:4242 --call write,pwrite64 --value length --percent 1 --for 1m

  A command reads the end of its input too early:
    injector inject sys-return --call read --value 0 --when 10 --for 1m -- ./app";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let ReturnValue(value) = raw.value.0;
        let calls = Calls {
            rung: raw.rung.as_ref().map(|text| text.0),
            ..raw.calls()?
        };
        for &call in &calls.wanted {
            pretended::check(call, value).map_err(|why| {
                let problem = format!("cannot have {} return {}: {why}", call.name, value_in_words(value));
                SpecError::new("call", problem, pretended::ALLOWED)
            })?;
        }
        Ok(Fault::Call(calls, CallFault::Return(value)))
    }
}

pub(super) fn explain(calls: &Calls, value: u32) -> String {
    let which = calls::describe(calls);
    format!("has {which} do nothing and return {}", value_in_words(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate(line: &str) -> Result<Fault, SpecError> {
        SysReturn::validate(super::super::raw(line))
    }

    #[test]
    fn what_nobody_could_believe_is_refused() {
        for (line, says) in [
            ("--call mmap --value 0", "address"),
            ("--call openat --value 0", "descriptor"),
            ("--call clone --value 0", "takes itself for the child"),
            ("--call execve --value 0", "only when it fails"),
            ("--call setuid --value 0", "rights"),
            ("--call stat --value 0", "memory"),
            ("--call fsync --value 1", "nothing but 0"),
            ("--call read --value length", "memory"),
            ("--call fsync,futex --value 0", "futex return 0"),
        ] {
            let error = validate(line).expect_err(line);
            assert_eq!(error.field, "call", "{line}");
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
        for line in [
            "--call fsync,unlink,write --value 0",
            "--call write,pwrite64,sendto --value length",
            "--call write --value 2147479552",
            "--call read,epoll_wait --value 0",
            "--call ?%file,fsync --value 0",
        ] {
            validate(line).expect(line);
        }
    }

    #[test]
    fn a_value_is_told_in_words() {
        let told = |line| crate::faults::explain(&validate(line).expect(line));
        assert_eq!(
            told("--call fsync --value 0"),
            "has fsync do nothing and return 0"
        );
        assert_eq!(
            told("--call write --value length"),
            "has write do nothing and return the length that it was asked for"
        );
    }
}
