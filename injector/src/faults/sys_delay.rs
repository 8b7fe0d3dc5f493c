//! `sys-delay`: system calls take longer.

use std::time::Duration;

use injector_common::FaultKind;

use super::{FaultKindDef, calls, net_delay};
use crate::{
    error::SpecError,
    model::{CallDelay, CallFault, Calls, Fault, MAX_SLEEP, MAX_SPIN, Manner, Moment},
    spec::{
        duration::{self, Span},
        text::Text,
    },
};

/// The kind.
#[derive(Debug)]
pub struct SysDelay;

calls::call_kind! {
    /// Its options, as written.
    pub struct Raw (calls) {
        /// How much longer the calls take, such as 50ms; at most 10s, and at most 1ms where they wait busy
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        pub delay: Text<Span>,

        /// Spread around the delay, at most the delay [default: none]
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        #[serde(default)]
        pub jitter: Option<Text<Span>>,

        /// How they wait: asleep or busy [default: asleep where the kernel lets them, else busy]
        #[arg(long, value_name = "MANNER")]
        #[serde(default)]
        pub wait: Option<Text<Manner>>,

        /// When they wait: at enter, before they do anything, or at exit, when they have done their
        /// work and their caller does not know [default: enter]
        #[arg(long, value_name = "MOMENT")]
        #[serde(default)]
        pub at: Option<Text<Moment>>,
    }
}

impl FaultKindDef for SysDelay {
    const KIND: FaultKind = FaultKind::SysDelay;
    const SUMMARY: &'static str = "System calls take longer, for the thread that makes them";
    const MANUAL: &'static str = "\
A call waits for DELAY, or evenly from DELAY-JITTER to DELAY+JITTER, and then does what it does. Only
the thread that makes it waits. Asleep it takes no processor time, is killed at once by SIGKILL, and
no other signal ends the wait. Whatever ends the rule or the injector wakes it; the report counts such
calls as `cut short`.

Asleep, calls can wait that pass a security hook without a lock: opens, stat, readlink, getxattr,
mmap, ioctl, flock, fork and exec, prctl, mount, and those on sockets (Linux 6.2 or later with BPF
LSM). Where the kernel lets programs take the place of calls (CONFIG_FUNCTION_ERROR_INJECTION), every
call can. `injector doctor --call` tells. Busy, every call can wait for up to 1 ms on every kernel with
kprobes; nothing else runs on its processor then.

The wait comes at the hook, behind what the kernel does before: an open of a file that is not there
fails at once. A call that another rule fails at its entry does not get to a hook behind it. Words of
--call are those of `sys-errno`.

With --at exit a call does its work first, and its caller waits for the result: others see the file
written, and the writer does not know. It waits whatever came of the call, also if it failed, or if
another rule failed it; only a call that a signal interrupts goes on at once. Asleep it does so where
the kernel lets programs take the place of calls, and busy where it lets them run behind a function
(fexit). What never returns to its caller, such as execve, is refused.";
    const EXAMPLES: &'static str = "\
Examples:
  A directory on a slow disk: every open below it takes 50 ms more:
    injector inject sys-delay --target cgroup:/web --call openat --path /srv/data --delay 50ms --for 1m

  Connections are slow to open, now and then:
    injector inject sys-delay --target pid:4242 --call connect --delay 300ms --jitter 200ms \\
      --percent 10 --for 1m

  Every sync of a command takes 100 ms, where the kernel lets it:
    injector inject sys-delay --call fsync,fdatasync --delay 100ms --for 1m -- ./app

  A commit gets through, and whoever asked for it learns of it late:
    injector inject sys-delay --target cgroup:/db --call fdatasync --at exit --delay 2s --when 5 --for 1m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let calls = raw.calls()?;
        let delay = CallDelay {
            at: raw.at.as_ref().map(|text| text.0).unwrap_or_default(),
            ..checked(&raw.delay, raw.jitter.as_ref(), raw.wait.as_ref())?
        };
        Ok(Fault::Call(calls, CallFault::Delay(delay)))
    }
}

/// A delay of calls that these options describe. One that no call could wait is refused.
pub(crate) fn checked(
    delay: &Text<Span>,
    jitter: Option<&Text<Span>>,
    wait: Option<&Text<Manner>>,
) -> Result<CallDelay, SpecError> {
    let delay = delay.0.0;
    if delay < Duration::from_micros(1) || delay > MAX_SLEEP {
        return Err(out_of_range("delay", delay, MAX_SLEEP));
    }
    let jitter = net_delay::jitter(jitter, delay)?;
    let delay = CallDelay {
        delay,
        jitter,
        manner: wait.map(|text| text.0),
        at: Moment::Enter,
    };
    let longest = delay.longest();
    if longest > MAX_SLEEP {
        return Err(out_of_range("jitter", longest, MAX_SLEEP));
    }
    if delay.manner == Some(Manner::Busy) && longest > MAX_SPIN {
        let problem = format!(
            "busy for {}, nothing else would run on that processor",
            duration::format(longest)
        );
        let allowed = format!("at most {} in all", duration::format(MAX_SPIN));
        return Err(SpecError::new("wait", problem, allowed));
    }
    Ok(delay)
}

fn out_of_range(field: &'static str, given: Duration, most: Duration) -> SpecError {
    let problem = format!("{} is out of range", duration::format(given));
    let allowed = format!("1us to {} in all", duration::format(most));
    SpecError::new(field, problem, allowed)
}

pub(super) fn explain(calls: &Calls, delay: &CallDelay) -> String {
    let time = if delay.jitter.is_zero() {
        duration::format(delay.delay)
    } else {
        format!(
            "{} ± {}",
            duration::format(delay.delay),
            duration::format(delay.jitter)
        )
    };
    let manner = match delay.manner {
        None => "",
        Some(Manner::Asleep) => " asleep",
        Some(Manner::Busy) => " busy",
    };
    let at = match delay.at {
        Moment::Enter => "",
        Moment::Exit => " before it returns",
    };
    let which = calls::describe(calls);
    format!("has {which} wait{manner} for {time}{at}")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        raw: Raw,
    }

    fn validate(words: &str) -> Result<Fault, SpecError> {
        let words = ["line", "--call", "openat"].into_iter().chain(words.split(' '));
        SysDelay::validate(Line::try_parse_from(words).expect("options").raw)
    }

    #[test]
    fn what_no_call_could_wait_is_refused() {
        for (words, field, says) in [
            ("--delay 0s", "delay", "out of range"),
            ("--delay 11s", "delay", "out of range"),
            ("--delay 1ms --jitter 2ms", "jitter", "more than the delay"),
            ("--delay 9s --jitter 2s", "jitter", "11s is out of range"),
            ("--delay 2ms --wait busy", "wait", "nothing else would run"),
            ("--delay 1ms --jitter 1us --wait busy", "wait", "at most"),
        ] {
            let error = validate(words).expect_err(words);
            assert_eq!(error.field, field, "{words}");
            assert!(error.to_string().contains(says), "{words}: {error}");
        }
        for words in ["--delay 1us", "--delay 5s --jitter 5s", "--delay 1ms --wait busy"] {
            validate(words).expect(words);
        }
    }

    #[test]
    fn a_delay_is_told_in_words() {
        let told = |words| crate::faults::explain(&validate(words).expect(words));
        assert_eq!(told("--delay 50ms"), "has openat wait for 50ms");
        assert_eq!(
            told("--delay 50ms --jitter 20ms --wait asleep"),
            "has openat wait asleep for 50ms ± 20ms"
        );
        assert_eq!(
            told("--delay 50ms --at exit"),
            "has openat wait for 50ms before it returns"
        );
        assert_eq!(told("--delay 50ms --at enter"), told("--delay 50ms"));
    }
}
