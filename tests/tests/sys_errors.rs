//! `sys-errno`: of several errors, each call gets the one that its number and the seed say.

use std::collections::BTreeSet;

use injector_common::{
    faults::sys_errno::{self, ErrorList},
    random,
};
use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    ledger::Ledger,
    require,
    victim::{CallVictim, Callers, main_thread},
};
use syscalls::Errno;

const SEED: u64 = 9;

/// The draw for the `n`th call of the only rule.
const fn draw(n: u64) -> u64 {
    random::draw(random::rule_seed(SEED, 0), n)
}

/// The error number of the only call in a round of a victim's.
#[track_caller]
fn one_call(victim: &CallVictim) -> u32 {
    main_thread(&victim.round(1)).errno
}

fn inject(cgroup: &Cgroup, calls: &str, errors: &str, more: &[&str]) -> Injection {
    let target = cgroup.target();
    let seed = SEED.to_string();
    let args = [
        "sys-errno",
        "--call",
        calls,
        "--errno",
        errors,
        "--target",
        &target,
        "--seed",
        &seed,
        "--for",
        "60s",
    ];
    Injection::start(&[&args[..], more].concat())
}

#[test]
fn errors_are_drawn_by_their_weights() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let victim = CallVictim::start(Place::cgroup(&cgroup), "openat", Callers::One);
    let bystander = CallVictim::start(Place::HERE, "openat", Callers::One);
    let injection = inject(&cgroup, "openat", "EIO=6,ENOSPC=3,EMFILE", &[]);
    let params = sys_errno::params(&[(5, 6), (28, 3), (24, 1)]);
    let mut errors = BTreeSet::new();
    for n in 1..=100 {
        let errno = one_call(&victim);
        let value = sys_errno::return_value(params, draw(n));
        assert_eq!(errno, value.unsigned_abs(), "call {n}");
        errors.insert(errno);
    }
    assert_eq!(errors.len(), 3, "{errors:?}");
    bystander.assert_unharmed(100);
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (100, 100), "{rule:?}");
}

/// The errors of calls' manual pages, in the order of their names.
const OF_MKDIR: [Errno; 14] = [
    Errno::EACCES,
    Errno::EDQUOT,
    Errno::EEXIST,
    Errno::EFAULT,
    Errno::EINVAL,
    Errno::ELOOP,
    Errno::EMLINK,
    Errno::ENAMETOOLONG,
    Errno::ENOENT,
    Errno::ENOMEM,
    Errno::ENOSPC,
    Errno::ENOTDIR,
    Errno::EPERM,
    Errno::EROFS,
];
const OF_BIND: [Errno; 13] = [
    Errno::EACCES,
    Errno::EADDRINUSE,
    Errno::EADDRNOTAVAIL,
    Errno::EBADF,
    Errno::EFAULT,
    Errno::EINVAL,
    Errno::ELOOP,
    Errno::ENAMETOOLONG,
    Errno::ENOENT,
    Errno::ENOMEM,
    Errno::ENOTDIR,
    Errno::ENOTSOCK,
    Errno::EROFS,
];

/// Two calls of one rule, which each have errors of their own; and the ledger names each.
#[test]
fn plausible_errors_are_those_of_the_call() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let calls = [("mkdir", &OF_MKDIR[..]), ("bind", &OF_BIND[..])];
    let mut victims = calls.map(|(call, errors)| {
        let numbers: Vec<u32> = errors
            .iter()
            .map(|errno| errno.into_raw().unsigned_abs())
            .collect();
        let victim = CallVictim::start(Place::cgroup(&cgroup), call, Callers::One);
        let bystander = CallVictim::start(Place::HERE, call, Callers::One);
        (victim, bystander, ErrorList::of(&numbers), BTreeSet::new())
    });
    let folder = tempfile::tempdir().expect("make a folder");
    let path = folder.path().join("hits.jsonl");
    let ledger = ["--ledger", path.to_str().expect("a path in UTF-8")];
    let injection = inject(&cgroup, "mkdir,bind", "plausible", &ledger);
    let mut told = Vec::new();
    for n in 1..=200 {
        victims.reverse();
        let (victim, _, list, seen) = &mut victims[0];
        let errno = one_call(victim);
        assert_eq!(errno, list.choose(draw(n)).unsigned_abs(), "call {n}");
        seen.insert(errno);
        told.push(errno);
    }
    for (_, bystander, list, seen) in &victims {
        // A hundred calls miss one of so few errors with one seed in a hundred, and not with this.
        assert_eq!(seen.len() as u64, list.count, "{seen:?}");
        bystander.assert_unharmed(100);
    }
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (200, 200), "{rule:?}");
    let hits = Ledger::read(&path).hits;
    let named: Vec<&str> = hits
        .iter()
        .filter_map(|hit| hit["errno"].as_str())
        .collect();
    let told: Vec<&str> = told
        .iter()
        .filter_map(|&errno| Errno::new(i32::try_from(errno).ok()?).name())
        .collect();
    assert_eq!(named, told);
    // These victims have one thread, which is the process's first.
    assert!(
        hits.iter()
            .all(|hit| hit["tid"].is_u64() && hit["tid"] == hit["tgid"]),
        "{hits:?}"
    );
}

#[test]
fn a_call_whose_errors_nobody_knows_is_refused_or_left_out() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let plan = |calls: &str| {
        let args = ["plan", "sys-errno", "--call", calls, "--errno", "plausible"];
        agent::run(&[&args[..], &["--target", &target, "--for", "5s"]].concat())
    };
    let refused = plan("mkdir,getpid");
    assert_eq!(refused.code(), 2, "{refused:?}");
    let why = "it is not known which errors getpid can plausibly fail with";
    assert!(refused.stderr.contains(why), "{refused:?}");
    let planned = plan("mkdir,?getpid");
    assert_eq!(planned.code(), 0, "{planned:?}");
    let told = "mkdir: EACCES, EDQUOT, EEXIST,";
    assert!(planned.stdout.contains(told), "{planned:?}");
    let note = format!("does not hit getpid: {why}");
    assert!(planned.stdout.contains(&note), "{planned:?}");
}
