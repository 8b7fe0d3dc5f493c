//! `sys-errno`: system calls fail.

use injector_common::{FaultKind, faults::sys_errno::MAX_ERRORS};

use super::{FaultKindDef, calls, plausible};
use crate::{
    error::SpecError,
    model::{CallFault, Calls, ErrorChoice, Fault, Rung, errors},
    spec::{syscall::ErrorWord, text::Text},
};

/// The kind.
#[derive(Debug)]
pub struct SysErrno;

calls::call_kind! {
    /// Its options, as written.
    pub struct Raw (calls) {
        /// The error that they fail with, by name as in errno(3) or by number, 1 to 133; of several
        /// one is drawn for each call, by their weights. Or plausible: one of those that the call's
        /// manual page lists
        #[arg(
            long,
            value_name = "ERRNO[=WEIGHT][,…]",
            value_delimiter = ',',
            required = true,
            allow_hyphen_values = true
        )]
        #[serde(deserialize_with = "crate::spec::text::comma_list")]
        pub errno: Vec<Text<ErrorWord>>,

        /// How the calls are made to fail: kprobe, fmod_ret, lsm or fmod_ret-security [default: the
        /// best that works for each call]
        #[arg(long, value_name = "RUNG")]
        #[serde(default)]
        pub rung: Option<Text<Rung>>,
    }
}

impl FaultKindDef for SysErrno {
    const KIND: FaultKind = FaultKind::SysErrno;
    const SUMMARY: &'static str = "System calls fail with a chosen error";
    const MANUAL: &'static str = "\
A failing call returns the error and has no effect: no file is opened, no byte written. Every
thread and every child of the target is hit. Which calls can fail depends on the kernel; see
`injector doctor --call`. A rule names calls exactly: `open` and `openat` are two, and most
programs use `openat`.

Classes of calls are those of strace: %file (calls that take a file name), %process, %network (or
%net), %signal, %ipc, %desc (calls that take or make a descriptor), %memory, %creds; and `all`.
`!` before a call or class leaves it out. If one of the calls cannot be made to fail here, the rule
is refused; with `?` before the call or class it is left out instead, and a note says so.

Requests of io_uring are not the calls that do the same, and are named for themselves: io_uring:read,
io_uring:openat, …, and %io_uring for all that a security hook sees. Their arguments cannot be asked for.

`--errno plausible` is one of the errors that section 2 of the manual lists for the call, each as
likely as another. `injector doctor --call CALL` shows them. A call whose errors are not known is
refused, or left out with `?`.";
    const EXAMPLES: &'static str = "\
Examples:
  Every open in a cgroup fails:
    injector inject sys-errno --target cgroup:/web --call openat --errno EIO --for 30s

  The disk is full, for every fifth write:
    injector inject sys-errno --target pid:4242 --call write,pwrite64 --errno ENOSPC \\
      --percent 20 --for 1m

  Whatever takes a file name fails once in a while, but for starting programs:
    injector inject sys-errno --target pid:4242 --call '?%file,!execve,!execveat' --errno EIO \\
      --percent 1 --for 1m

  Whichever way a database reads its files:
    injector inject sys-errno --target cgroup:/db --call pread64,io_uring:read --errno EIO \
      --path /var/lib/db --percent 1 --for 1m

  A disk that mostly errs and sometimes is full:
    injector inject sys-errno --target pid:4242 --call write --errno EIO=9,ENOSPC=1 --for 1m

  Whatever these calls can fail with, as their manual pages tell:
    injector inject sys-errno --target pid:4242 --call openat,read,write,connect --errno plausible \\
      --percent 1 --for 1m

  What a database sends does not come any more, on connections that are open:
    injector inject sys-errno --target cgroup:/web --call read,recvfrom,recvmsg \
      --peer 10.0.0.7 --peer-port 5432 --errno ECONNRESET --for 1m

  The third connect of a command is refused:
    injector inject sys-errno --call connect --errno ECONNREFUSED --when 3 --for 1m -- ./app";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let calls = Calls {
            rung: raw.rung.as_ref().map(|text| text.0),
            ..raw.calls()?
        };
        let fault = errors(raw.errno)?;
        if fault == CallFault::Plausible
            && let Some(call) = calls.wanted.iter().find(|&&call| plausible::errors(call).is_none())
        {
            return Err(SpecError::new(
                "errno",
                format!("is plausible, and {}", plausible::unknown(*call)),
                "the errors by their names; or the call left out, as with ? before it or its class",
            ));
        }
        Ok(Fault::Call(calls, fault))
    }
}

fn errors(given: Vec<Text<ErrorWord>>) -> Result<CallFault, SpecError> {
    let refuse = |what: String| {
        let allowed = format!("1 to {MAX_ERRORS} different errors, or plausible alone");
        Err(SpecError::new("errno", what, allowed))
    };
    if let [Text(ErrorWord::Plausible)] = given[..] {
        return Ok(CallFault::Plausible);
    }
    let mut errors: Vec<ErrorChoice> = Vec::new();
    for Text(word) in given {
        let ErrorWord::Choice(choice) = word else {
            return refuse("has plausible beside other errors".to_owned());
        };
        if errors.iter().any(|known| known.errno == choice.errno) {
            return refuse(format!("names {} twice", choice.errno.name));
        }
        errors.push(choice);
    }
    match errors.len() {
        0 => refuse("names no error".to_owned()),
        1..=MAX_ERRORS => Ok(CallFault::Errno(errors)),
        _ => refuse("names too many errors".to_owned()),
    }
}

pub(super) fn explain(calls: &Calls, errors: &[ErrorChoice]) -> String {
    let which = calls::describe(calls);
    format!("fails {which} with {}", errors::in_words(errors))
}

/// The same where each call has its own errors, which are told.
pub(super) fn explain_plausible(calls: &Calls) -> String {
    let which = calls::describe(calls);
    let told: Vec<String> = calls
        .all()
        .filter_map(|call| {
            let errors = plausible::errors(call)?;
            let names: Vec<&str> = errors.iter().map(|errno| errno.name).collect();
            Some(format!("{}: {}", call.name, names.join(", ")))
        })
        .collect();
    format!(
        "fails {which} with one of the errors of its manual page, each as likely ({})",
        told.join("; ")
    )
}
