//! Plans for calls that wait.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::model::{AddressFamily, CallDelay, CallFilter, Cidr, Manner, Moment};

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
        at: Moment::Enter,
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
                 would be without effect; --rung fmod_ret of the rule that fails it, \
                 or has it return more than 0, goes with the \
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

/// The same before it returns.
fn late(mut fault: Fault) -> Fault {
    if let Fault::Call(_, CallFault::Delay(delay)) = &mut fault {
        delay.at = Moment::Exit;
    }
    fault
}

#[test]
fn calls_wait_before_they_return() {
    check(
        &[
            (
                late(delay(&["openat", "fsync"], LONG, None)),
                calls_of(web()),
            ),
            (
                late(delay(&["read"], SHORT, Some(Manner::Busy))),
                calls_of(web()),
            ),
        ],
        &able(),
        "rule r0 (sys-delay) through asleep
         rule r1 (sys-delay) through busy
         1. write rule r0 at 0, inactive
         2. write rule r1 at 1, inactive
         3. aim rules 0,1 at cgroup /web (id 42)
         4. name openat at its return, to wait asleep for rules 0
         5. name fsync at its return, to wait asleep for rules 0
         6. name read at its return, to wait busy for rules 1
         7. start the process that wakes calls, which all go on if it ends
         8. attach to the return of openat, to wait asleep
         9. attach to the return of fsync, to wait asleep
         10. attach to the return of read, to wait busy
         11. put the rules in force",
    );
}

#[test]
fn what_cannot_be_late_is_refused_with_the_reason() {
    let stock = Features {
        sleeping_returns: BTreeMap::new(),
        ..debian()
    };
    for (fault, call, found) in [
        (
            delay(&["execve"], LONG, None),
            "execve",
            "it returns to another program, or else has done nothing",
        ),
        (
            delay(&["fsync"], LONG, None),
            "fsync",
            "asleep: it was not tried; busy: it is longer than 1ms",
        ),
    ] {
        let refused = format!(
            "refused: rule r0: --call {call}: not supported here: needs a place where the call \
             can wait; found {found}"
        );
        check(&[(late(fault), calls_of(web()))], &stock, &refused);
    }
    // What is optional is left out, and what a kprobe overrides does not get to its return.
    let some = plan(
        &[(
            late(delay(&["?execve", "fsync"], LONG, None)),
            calls_of(web()),
        )],
        &able(),
    );
    let notes = some.expect("a plan").notes;
    assert!(
        notes[0].contains("does not hit execve: it returns to another"),
        "{notes:?}"
    );
    check(
        &[
            (late(delay(&["fsync"], LONG, None)), calls_of(web())),
            (errno(&["fsync"]), calls_of(web())),
        ],
        &able(),
        "refused: rule r1: --call fsync: not supported here: needs no program in the place of a \
         call whose result a kprobe overrides, which would be without effect; --rung fmod_ret of \
         the rule that fails it, or has it return more than 0, goes with the other; found kprobe \
         here, and fmod_ret in a rule \
         before it",
    );
}

/// A program that sleeps may not look into the table of peers.
#[test]
fn who_sleeps_at_a_hook_is_chosen_by_one_network_at_most() {
    let features = Features {
        sleeping_entries: BTreeMap::new(),
        ..debian()
    };
    let asked = |peers: &[&str]| {
        let mut fault = delay(&["connect"], LONG, None);
        if let Fault::Call(calls, _) = &mut fault {
            let networks = peers.iter().map(|peer| Cidr {
                address: peer.parse().expect("an address"),
                prefix: 32,
            });
            let mut filter = filter(Direction::Egress);
            filter.peers.these.extend(networks);
            calls.filter.peers = Some(Box::new(filter));
        }
        plan(&[(fault, calls_of(web()))], &features)
    };
    for few in [&[] as &[&str], &["10.0.0.1"]] {
        asked(few).expect("one network");
    }
    let error = asked(&["10.0.0.1", "::1"])
        .expect_err("two of them")
        .to_string();
    assert!(error.contains("one network"), "{error}");
}

/// What a removed rule left at a function stays attached there.
#[test]
fn a_change_lets_no_override_be_lost() {
    let plan_of = |fault: Fault| plan(&[(fault, calls_of(web()))], &able()).expect("a plan");
    let waits = [
        late(delay(&["fsync"], LONG, None)),
        late(delay(&["fsync"], SHORT, Some(Manner::Busy))),
        delay(&["fsync"], LONG, None),
    ];
    for fault in waits {
        let (waits, fails) = (plan_of(fault), plan_of(errno(&["fsync"])));
        for (now, next) in [(&waits, &fails), (&fails, &waits)] {
            let error = change(now, next)
                .expect_err("one hides the other")
                .to_string();
            assert!(error.contains("in the place of fsync"), "{error}");
        }
        let others = plan_of(errno(&["fdatasync"]));
        change(&waits, &others).expect("another function");
    }
}

/// What waits at its entry is attached there until the end, 33 programs of the 38 that the kernel
/// takes at one function.
#[test]
fn a_change_attaches_no_more_programs_than_the_kernel_takes() {
    let plan_of = |faults: &[Fault]| {
        let rules = faults.iter().map(|fault| (fault.clone(), calls_of(web())));
        plan(&rules.collect::<Vec<_>>(), &able()).expect("a plan")
    };
    let (enter, exit) = (
        delay(&["fsync"], LONG, None),
        late(delay(&["fsync"], LONG, None)),
    );
    let both = [enter.clone(), exit.clone()];
    for (now, next, more) in [
        (&both[..1], &both[1..], 33),
        (&both[..1], &both[..], 17),
        (&both[1..], &both[..1], 33),
        (&both[1..], &both[..], 17),
    ] {
        let error = change(&plan_of(now), &plan_of(next)).expect_err("66, or 50");
        assert_eq!(
            error.to_string(),
            format!(
                "this change while the experiment runs: not supported here: needs room for {more} \
                 programs more at fsync, of 38 that the kernel takes at one function; stop the \
                 experiment and start it anew; found 33 of this experiment there, which stay until \
                 its end"
            )
        );
    }
    // There are programs enough for all calls that come or go, or that are few from the start.
    let attaches = |now: &[Fault], next: &[Fault]| {
        let steps = change(&plan_of(now), &plan_of(next)).expect("a change");
        let is_attached = |effect: &&Effect| effect.to_string().contains("to wait asleep");
        let steps = steps.iter().filter(is_attached).map(ToString::to_string);
        steps.filter(|step| step.starts_with("attach")).count()
    };
    assert_eq!(attaches(&both, &both[1..]), 0);
    assert_eq!(
        attaches(&both[..1], &[delay(&["fsync", "read"], LONG, None)]),
        1
    );
    let eight = [
        "fsync", "read", "write", "close", "dup", "sync", "unlink", "mkdir",
    ];
    let both = [delay(&eight, LONG, None), late(delay(&eight, LONG, None))];
    assert_eq!(attaches(&both[..1], &both), 8);
}

/// A file that is closed has no path any more.
#[test]
fn a_late_close_is_known_by_no_file() {
    let file = |filter: &mut CallFilter| filter.file_types.these.push(FileType::Regular);
    let socket = |filter: &mut CallFilter| filter.families.these.push(AddressFamily::INET);
    for add in [file, socket] {
        let mut fault = late(delay(&["close"], LONG, None));
        if let Fault::Call(calls, _) = &mut fault {
            add(&mut calls.filter);
        }
        check(
            &[(fault, calls_of(web()))],
            &able(),
            "refused: rule r0: --call close: not supported here: needs a place where the call can \
             wait; found its file is closed when it returns",
        );
    }
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
