//! Plans for calls that wait.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::model::{CallDelay, Manner};

fn delay(words: &[&str], delay: Duration, manner: Option<Manner>) -> Fault {
    let Selected { wanted, optional } = selected(words);
    let calls = Calls {
        wanted,
        optional,
        ..Calls::default()
    };
    let jitter = Duration::ZERO;
    let delay = CallDelay {
        delay,
        jitter,
        manner,
    };
    Fault::Call(calls, CallFault::Delay(delay))
}

const LONG: Duration = Duration::from_millis(50);
const SHORT: Duration = Duration::from_millis(1);

/// Behind the entry if it can be, where the kernel lets more of them sleep at once.
#[test]
fn calls_sleep_at_security_hooks_and_else_at_their_entry() {
    check(
        &[(
            delay(&["openat", "open", "fsync"], LONG, None),
            calls_of(web()),
        )],
        &able(),
        "rule r0 (sys-delay) through asleep
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. name openat at security hook file_open, to wait asleep for rules 0
         4. name open at security hook file_open, to wait asleep for rules 0
         5. name fsync at its entry, to wait asleep for rules 0
         6. start the process that wakes calls, which all go on if it ends
         7. attach to security hook file_open, to wait asleep
         8. attach to the entry of fsync, to wait asleep
         9. put the rules in force",
    );
}

/// One that is to wait and to fail waits first, whatever the order of the rules.
#[test]
fn sleeping_programs_are_attached_behind_those_that_fail_calls() {
    let features = Features {
        sleeping_entries: BTreeMap::new(),
        ..debian()
    };
    check(
        &[
            (delay(&["openat"], LONG, None), calls_of(web())),
            (errno(&["openat"]), calls_of(web())),
        ],
        &features,
        "rule r0 (sys-delay) through asleep
         rule r1 (sys-errno) through lsm
         1. write rule r0 at 0, inactive
         2. write rule r1 at 1, inactive
         3. aim rules 0,1 at cgroup /web (id 42)
         4. name openat at security hook file_open, to wait asleep for rules 0
         5. name openat at security hook file_open for rules 1
         6. attach to security hook file_open
         7. start the process that wakes calls, which all go on if it ends
         8. attach to security hook file_open, to wait asleep
         9. put the rules in force",
    );
}

/// A program in the place of a call makes nothing of what a kprobe overrides.
#[test]
fn a_call_is_not_overridden_where_its_place_is_taken() {
    let late = (delay(&["fsync"], LONG, None), calls_of(web()));
    let fails = (errno(&["fsync"]), calls_of(web()));
    let needs = "needs no program in the place of a call whose result a kprobe overrides, which \
                 would be without effect; --rung fmod_ret of the rule that fails it goes with the \
                 other; found";
    for (rules, found) in [
        (
            [late.clone(), fails.clone()],
            "kprobe here, and fmod_ret in a rule before it",
        ),
        (
            [fails, late.clone()],
            "fmod_ret here, and kprobe in a rule before it",
        ),
    ] {
        let refused =
            format!("refused: rule r1: --call fsync: not supported here: {needs} {found}");
        check(&rules, &able(), &refused);
    }
    let mut modifies = errno(&["fsync"]);
    if let Fault::Call(calls, _) = &mut modifies {
        calls.rung = Some(crate::model::Rung::FmodRet);
    }
    check(
        &[late, (modifies, calls_of(web()))],
        &able(),
        "rule r0 (sys-delay) through asleep
         rule r1 (sys-errno) through fmod_ret
         1. write rule r0 at 0, inactive
         2. write rule r1 at 1, inactive
         3. aim rules 0,1 at cgroup /web (id 42)
         4. name fsync at its entry, to wait asleep for rules 0
         5. name fsync at its entry by fmod_ret for rules 1
         6. attach to the entry of fsync by fmod_ret
         7. start the process that wakes calls, which all go on if it ends
         8. attach to the entry of fsync, to wait asleep
         9. put the rules in force",
    );
}

/// Only for as long as a processor may be kept, and only if nobody has to keep it.
#[test]
fn what_cannot_sleep_waits_busy() {
    let busy = "rule r0 (sys-delay) through busy
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. name write at its entry, to see it for rules 0
         4. attach to the entry of write, to see it
         5. put the rules in force";
    let features = Features {
        sleeping_entries: BTreeMap::new(),
        waker: no("no FUSE"),
        ..debian()
    };
    check(
        &[(delay(&["write"], SHORT, None), calls_of(web()))],
        &features,
        busy,
    );
    let asked = delay(&["write"], SHORT, Some(Manner::Busy));
    check(&[(asked, calls_of(web()))], &able(), busy);
    let refused = "refused: rule r0: --call write: not supported here: needs a place where the \
                   call can wait; found asleep: no FUSE";
    let long = delay(&["write"], LONG, None);
    let longer = format!("{refused}; busy: it is longer than 1ms");
    check(&[(long, calls_of(web()))], &features, &longer);
    let asleep = delay(&["write"], SHORT, Some(Manner::Asleep));
    check(&[(asleep, calls_of(web()))], &features, refused);
}

/// `unlink` would hold the lock of its directory.
#[test]
fn nobody_sleeps_with_a_lock() {
    let features = Features {
        sleeping_entries: BTreeMap::new(),
        ..debian()
    };
    for call in ["unlink", "write", "mkdir", "setxattr", "fsync"] {
        check(
            &[(delay(&[call], LONG, Some(Manner::Asleep)), calls_of(web()))],
            &features,
            &format!(
                "refused: rule r0: --call {call}: not supported here: needs a place where the \
                 call can wait; found asleep: no security hook of this call lets programs sleep, \
                 and holds no lock; or it was not tried"
            ),
        );
    }
}
