//! Calls that a rule can hit on no kernel.

use super::sockets;
use crate::{
    error::SpecError,
    faults::{plausible, pretended},
    model::{CallFault, CallFilter, Errno, Fault, Moment, Rung, Syscall, Waits, Way},
    plan::{Features, hooks::call_hooks},
};

/// Refuses calls that no kernel could have hit as they are to be: those that are wanted, and the
/// optional ones if there is no other.
pub(crate) fn check(fault: &Fault) -> Result<(), SpecError> {
    let (Some(calls), Some(way)) = (fault.calls(), fault.call_way()) else {
        return Ok(());
    };
    let features = Features::of_any_kernel(calls.all());
    let unmet = |call: Syscall, way| call_hooks(call, way, &features).err();
    let refuse = |call: Syscall, why: &str| {
        let met = |way| unmet(call, way).is_none();
        let (field, allowed) = to_change(&calls.filter, way, met);
        let problem = match (field, way.rung) {
            ("call", _) => format!("{} cannot be hit so on any kernel: {why}", call.name),
            ("rung", Some(rung)) => {
                format!(
                    "`{}` is not for {} on any kernel: {why}",
                    rung.name(),
                    call.name
                )
            }
            _ => format!("is not for {} on any kernel: {why}", call.name),
        };
        Err(SpecError::new(field, problem, allowed))
    };
    let again = |&call: &Syscall| Some((call, tried_again(fault, call)?));
    if let Some((call, errno)) = calls.wanted.iter().find_map(again) {
        let problem = format!("is {} for {}, {AGAIN}", errno.name, call.name);
        return Err(SpecError::new("errno", problem, "other errors"));
    }
    if !calls.wanted.is_empty() {
        let mut wanted = calls.wanted.iter();
        let refused = wanted.find_map(|&call| Some((call, unmet(call, way)?)));
        return refused.map_or(Ok(()), |(call, why)| refuse(call, &why));
    }
    let never = |call| match lacks(fault, call) {
        Some(why) => Some((why, true)),
        None => Some((unmet(call, way)?, false)),
    };
    match calls
        .optional
        .first()
        .and_then(|&call| Some((call, never(call)?)))
    {
        Some((call, (why, itself))) if calls.optional.iter().all(|&call| never(call).is_some()) => {
            if itself {
                let problem = format!("{} cannot be hit so on any kernel: {why}", call.name);
                return Err(SpecError::new("call", problem, OTHERS));
            }
            refuse(call, &why)
        }
        Some(_) | None => Ok(()),
    }
}

/// What a call lacks by itself that the fault asks for, if anything.
pub(crate) fn lacks(fault: &Fault, call: Syscall) -> Option<String> {
    if fault.is_plausible() && plausible::errors(call).is_none() {
        return Some(plausible::unknown(call));
    }
    if let Some(errno) = tried_again(fault, call) {
        return Some(format!("{} is no end of it, {AGAIN}", errno.name));
    }
    if let Some(value) = fault.call_way().and_then(|way| way.returns)
        && let Err(why) = pretended::check(call, value)
    {
        return Some(why.to_owned());
    }
    let unmet = fault.calls()?.filter.never_met_by(call)?;
    Some(format!("a call that {}", unmet.reason()))
}

/// An error of the fault at which the kernel tries a request of io_uring again, so that whoever made
/// it does not see it.
fn tried_again(fault: &Fault, call: Syscall) -> Option<Errno> {
    let Fault::Call(_, CallFault::Errno(errors)) = fault else {
        return None;
    };
    let mut errors = errors.iter().map(|choice| choice.errno);
    errors.find(|&errno| plausible::is_tried_again(call, errno))
}

const AGAIN: &str = "which the kernel then tries again, unseen by whoever made it";

const OTHERS: &str = "other calls; docs/faults.md tells which the kind can have";

/// The option without which the call could be hit, and what it may be instead.
fn to_change(filter: &CallFilter, way: Way, met: impl Fn(Way) -> bool) -> (&'static str, String) {
    let with = |rung| Way { rung, ..way };
    if way.rung.is_some() && met(with(None)) {
        let others = Rung::ALL.into_iter().filter(|&rung| met(with(Some(rung))));
        let names: Vec<&str> = others.map(Rung::name).collect();
        return (
            "rung",
            format!("{}; or none, for the first that works", names.join(", ")),
        );
    }
    let left_out = "or the call left out, as with ? before it or its class";
    let no_file = Way {
        by_file: false,
        open: false,
        made: false,
        ..way
    };
    if way.by_file && met(no_file) {
        return (
            asked_for_file(filter),
            format!("no such condition; {left_out}"),
        );
    }
    let no_socket = Way {
        by_socket: false,
        by_table: false,
        ..way
    };
    if way.by_socket && met(no_socket) {
        let field = sockets::asked_for_socket(filter);
        return (field, format!("no such condition; {left_out}"));
    }
    if let Some(waits) = way.waits.filter(|waits| waits.at == Moment::Exit) {
        let at = Moment::Enter;
        let waits = Some(Waits { at, ..waits });
        if met(Way { waits, ..way }) {
            return ("at", format!("enter; {left_out}"));
        }
    }
    ("call", OTHERS.to_owned())
}

/// An option by which a filter asks for files.
fn asked_for_file(filter: &CallFilter) -> &'static str {
    if !filter.paths.is_any() {
        "path"
    } else if !filter.file_names.is_any() {
        "file-name"
    } else if !filter.file_types.is_any() {
        "file-type"
    } else {
        "access"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{
        FaultKindDef, raw, sys_delay::SysDelay, sys_errno::SysErrno, sys_return::SysReturn,
        sys_signal::SysSignal,
    };

    #[track_caller]
    fn check_line<K: FaultKindDef>(line: &str) -> Result<(), SpecError>
    where
        K::Raw: clap::Args,
    {
        check(&K::validate(raw(line)).expect(line))
    }

    #[track_caller]
    fn refused<K: FaultKindDef>(line: &str, field: &str, says: &[&str])
    where
        K::Raw: clap::Args,
    {
        let error = check_line::<K>(line).expect_err(line);
        assert_eq!(error.field, field, "{line}: {error}");
        for words in says {
            assert!(error.to_string().contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn a_rung_that_could_never_do_it_is_refused() {
        let no_success = "at a security hook a call can fail, and not succeed";
        refused::<SysReturn>(
            "--call fsync --value 0 --rung lsm",
            "rung",
            &[
                "fsync on any kernel",
                no_success,
                "allowed: kprobe; or none",
            ],
        );
        refused::<SysReturn>(
            "--call write --value length --rung fmod_ret-security",
            "rung",
            &[no_success, "allowed: kprobe, fmod_ret; or none"],
        );
        refused::<SysReturn>(
            "--call fsync --value 0 --rung fmod_ret",
            "rung",
            &["lets it go on", "allowed: kprobe;"],
        );
        refused::<SysErrno>(
            "--call openat,fsync --errno EIO --rung lsm",
            "rung",
            &[
                "fsync on any kernel: no security hook",
                "kprobe, fmod_ret; or none",
            ],
        );
        refused::<SysErrno>(
            "--call ?fsync,?close --errno EIO --rung lsm",
            "rung",
            &["no security hook"],
        );
    }

    #[test]
    fn conditions_that_no_kernel_could_tell_are_refused() {
        refused::<SysReturn>(
            "--call unlink --value 0 --path /srv",
            "path",
            &["and not succeed", "no descriptor of the file"],
        );
        refused::<SysErrno>(
            "--call socket --errno EIO --file-name *.wal",
            "file-name",
            &["told of a file"],
        );
        refused::<SysErrno>(
            "--call mkdir --errno EIO --file-type dir",
            "file-type",
            &["has been made"],
        );
        refused::<SysSignal>(
            "--call stat --signal TERM --access read",
            "access",
            &["open file"],
        );
        refused::<SysDelay>(
            "--call execve --delay 1ms --at exit",
            "at",
            &["another program", "allowed: enter"],
        );
        refused::<SysDelay>(
            "--call close --delay 1ms --at exit --family inet",
            "family",
            &["closed when it returns"],
        );
    }

    /// Errors that the kernel keeps to itself.
    #[test]
    fn requests_that_are_tried_again_are_refused() {
        let unseen = &["tries again, unseen"];
        for line in [
            "--call io_uring:accept --errno EAGAIN",
            "--call read,io_uring:read --errno EIO,EAGAIN=2",
            "--call io_uring:connect --errno EINPROGRESS",
        ] {
            refused::<SysErrno>(line, "errno", unseen);
        }
        refused::<SysErrno>("--call ?io_uring:recv --errno EAGAIN", "call", unseen);
        for line in [
            "--call recvfrom,?io_uring:recv --errno EAGAIN",
            "--call io_uring:recv --errno EINPROGRESS",
            "--call io_uring:recv --errno plausible",
        ] {
            check_line::<SysErrno>(line).expect(line);
        }
        let request = "io_uring:recv".parse().expect("a request");
        let listed = plausible::errors(request).expect("a list");
        assert!(
            listed.iter().all(|errno| errno.name != "EAGAIN"),
            "{listed:?}"
        );
    }

    #[test]
    fn optional_calls_are_refused_where_none_is_left() {
        refused::<SysReturn>("--call ?mmap,?fork --value 0", "call", &["mmap", "address"]);
        refused::<SysErrno>(
            "--call ?getpmsg --errno plausible",
            "call",
            &["getpmsg", "other calls"],
        );
        for line in ["--call ?mmap,?fsync --value 0", "--call ?%file --value 0"] {
            check_line::<SysReturn>(line).expect(line);
        }
    }

    /// Whatever some kernel may have.
    #[test]
    fn what_some_kernel_can_do_is_not_refused() {
        for line in [
            "--call fsync,openat --errno EIO",
            "--call ?all --errno EIO",
            "--call openat,?fsync --errno EIO --rung lsm",
            "--call openat --errno EIO --rung fmod_ret-security",
            "--call fsync --errno EIO --path /srv",
        ] {
            check_line::<SysErrno>(line).expect(line);
        }
        check_line::<SysReturn>("--call write --value 7 --rung fmod_ret").expect("above 0");
        for line in [
            "--call unlink --delay 1s --wait asleep",
            "--call fsync --delay 1ms --wait busy --path /srv",
            "--call fsync --delay 1s --at exit",
        ] {
            check_line::<SysDelay>(line).expect(line);
        }
    }
}
