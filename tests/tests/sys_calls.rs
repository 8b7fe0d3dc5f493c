//! `sys-errno` on every call that has a way here: each fails with the error of its own rule, as
//! often as it is made, and is counted as often.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};

use injector_tests::{
    actor::{
        calls::MAIN,
        sweep::{Outcome, RESULTS, Results},
    },
    agent::{self, Injection, RuleReport},
    cgroup::Cgroup,
    command::Place,
    kernel::{Feature, Where},
    require,
    victim::{BoardFile, Prepared},
    wait,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// Calls, by what they have in common. `sys_errno.rs` has those that most programs make.
const RULES: &[&[&str]] = &[
    &["creat", "openat2", "open_by_handle_at"],
    &["readv", "pread64", "preadv", "preadv2"],
    &["writev", "pwrite64", "pwritev", "pwritev2"],
    &["getdents", "getdents64"],
    &["fallocate"],
    &["lstat", "fstat", "newfstatat", "statx"],
    &["readlink", "readlinkat"],
    &["rmdir"],
    &["unlinkat"],
    &["renameat", "renameat2"],
    &["mkdirat"],
    &["mknod", "mknodat"],
    &["link", "linkat"],
    &["symlink", "symlinkat"],
    &["chmod", "fchmod", "fchmodat"],
    &["chown", "fchown", "lchown", "fchownat"],
    &["truncate"],
    &["ftruncate"],
    &["chroot"],
    &["inotify_add_watch"],
    &["setxattr", "lsetxattr", "fsetxattr"],
    &["getxattr", "lgetxattr", "fgetxattr"],
    &["listxattr", "llistxattr", "flistxattr"],
    &["removexattr", "lremovexattr", "fremovexattr"],
    &["mount"],
    &["umount2"],
    &["fcntl"],
    &["flock"],
    &["ioctl"],
    &["mprotect", "pkey_mprotect"],
    &["shmget"],
    &["shmat"],
    &["semop", "semtimedop"],
    &["msgsnd"],
    &["fork", "clone3"],
    &[
        "kill",
        "tkill",
        "tgkill",
        "rt_sigqueueinfo",
        "rt_tgsigqueueinfo",
    ],
    &["prctl"],
    &["setrlimit"],
    &["setpriority"],
    &[
        "sched_setaffinity",
        "sched_setscheduler",
        "sched_setparam",
        "sched_setattr",
    ],
    &["setuid", "setreuid", "setresuid"],
    &["setgid", "setregid", "setresgid"],
    &["setgroups"],
    &["capset"],
    &[
        "eventfd",
        "eventfd2",
        "epoll_create",
        "epoll_create1",
        "timerfd_create",
        "signalfd",
        "signalfd4",
        "memfd_create",
        "inotify_init",
        "inotify_init1",
    ],
    &["socket"],
    &["socketpair"],
    &["listen"],
    &["accept", "accept4"],
    &["shutdown"],
    &["getsockopt"],
    &["setsockopt"],
    &["getsockname", "getpeername"],
    &["sendmmsg"],
    &["recvmmsg"],
];

/// A call that a kernel can be built without; it then fails with `ENOSYS`.
const OPTIONAL: &str = "pkey_mprotect";

/// Calls that also undo others that have succeeded, with how many.
const UNDOING: &[(&str, u64)] = &[
    ("rmdir", 1),
    ("setxattr", 3),
    ("mount", 1),
    ("umount2", 1),
    ("setresuid", 1),
    ("setresgid", 1),
];

/// How often each call is made in a round.
const COUNT: u64 = 5;

/// The error number of a rule's own. The first ones are those that some calls give by themselves.
fn errno(rule: usize) -> u32 {
    const FIRST: u32 = 60;
    FIRST + u32::try_from(rule).expect("few rules")
}

/// A victim that makes all of the calls.
struct Sweeper {
    prepared: Prepared,
    folder: TempDir,
}

impl Sweeper {
    #[track_caller]
    fn start(place: Place<'_>, files: &Path) -> Self {
        let folder = TempDir::new().expect("make a folder");
        let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let (own, files) = (path(folder.path()), path(files));
        let work = ["sweep", "--folder", &own, "--files", &files];
        let mut prepared = Prepared::new(BoardFile::new(), &work);
        prepared.start(place);
        let ready = &prepared.file.board().actors[MAIN].thread;
        wait::until("the victim", || (ready.load(Acquire) != 0).then_some(()));
        Self { prepared, folder }
    }

    /// What became of each call in a round.
    #[track_caller]
    fn round(&self) -> Results {
        let board = self.prepared.file.board();
        board.count.store(COUNT, Relaxed);
        let round = board.round.fetch_add(1, Release) + 1;
        let done = &board.actors[MAIN].round;
        wait::until("the victim's calls", || {
            (done.load(Acquire) == round).then_some(())
        });
        let results = fs::read(self.folder.path().join(RESULTS)).expect("results");
        serde_json::from_slice(&results).expect("results")
    }

    /// Checks that every call succeeds, except one that this kernel may not have, and returns
    /// whether it has that.
    #[track_caller]
    fn assert_unharmed(&self) -> bool {
        const ENOSYS: u32 = 38;
        let mut results = self.round();
        results.retain(|_, outcome| outcome.succeeded != COUNT || outcome.failed != 0);
        let lacking = results.remove(OPTIONAL);
        assert_eq!(results, Results::new());
        if let Some(outcome) = lacking {
            assert_eq!((outcome.failed, outcome.errno), (COUNT, ENOSYS));
        }
        lacking.is_none()
    }
}

/// Fails all calls of a victim that works on files in one folder, beside a bystander in another,
/// on the best rung or on one that is named.
#[track_caller]
fn check(files: &Path, other: &Path, rung: Option<&str>) {
    let cgroup = Cgroup::new("victim");
    let victim = Sweeper::start(Place::cgroup(&cgroup), files);
    let bystander = Sweeper::start(Place::HERE, other);
    let has_optional = victim.assert_unharmed();
    let calls_of = |calls: &[&'static str]| -> Vec<&'static str> {
        let here = |&&call: &&&str| has_optional || call != OPTIONAL;
        calls.iter().filter(here).copied().collect()
    };
    let groups: Vec<_> = RULES.iter().map(|calls| calls_of(calls)).collect();
    let rung = rung.map_or_else(String::new, |rung| format!(", rung: {rung}"));
    let spec = |when: &str| {
        let rules = groups.iter().enumerate().map(|(number, calls)| {
            format!(
                "{{kind: sys-errno, name: r{number}, target: '{}', call: [{}], errno: '{}'{rung}{when}}}",
                cgroup.target(),
                calls.join(", "),
                errno(number)
            )
        });
        let rules: Vec<_> = rules.collect();
        format!("{{version: 1, for: 120s, rules: [{}]}}", rules.join(", "))
    };
    let check_counts = |rules: &[RuleReport], fail: bool| {
        let miscounted: Vec<_> = rules
            .iter()
            .zip(&groups)
            .filter(|(rule, calls)| {
                let own = COUNT * calls.len() as u64;
                let undoing = UNDOING.iter().filter(|(call, _)| calls.contains(call));
                let undoing: u64 = undoing.map(|(_, others)| COUNT * others).sum();
                let expected = if fail { (own, own) } else { (own + undoing, 0) };
                (rule.matched, rule.injected) != expected
            })
            .collect();
        assert!(miscounted.is_empty(), "{miscounted:#?}");
    };
    // First without a failure: the call goes on, and may pass further hooks.
    let injection = Injection::of_spec(&spec(", when: '1000000'"));
    victim.assert_unharmed();
    check_counts(&injection.stop().report().rules, false);
    let injection = Injection::of_spec(&spec(""));
    let seen = victim.round();
    bystander.assert_unharmed();
    let rules = injection.stop().report().rules;
    let expected: Results = groups
        .iter()
        .enumerate()
        .flat_map(|(number, calls)| {
            let outcome = Outcome {
                succeeded: 0,
                failed: COUNT,
                errno: errno(number),
            };
            calls.iter().map(move |&call| (call.to_owned(), outcome))
        })
        .collect();
    let differ: BTreeMap<_, _> = expected
        .iter()
        .filter(|(call, outcome)| seen.get(*call) != Some(outcome))
        .map(|(call, outcome)| (call, (outcome.errno, seen.get(call))))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
    assert_eq!(seen.len(), expected.len() + usize::from(!has_optional));
    check_counts(&rules, true);
    victim.assert_unharmed();
}

/// On the second rung of those that reach as much as the best one does, which the overlay has.
#[test]
fn each_call_fails_with_its_own_error() {
    require!(SysErrno);
    let folders = [(); 2].map(|()| TempDir::new().expect("make a folder"));
    let second = [
        ("fmod_ret", Feature::FmodRet),
        ("fmod_ret-security", Feature::FmodRetSecurity),
    ];
    let mut here = second.into_iter();
    // 7.3 has no call without arguments on the first of them.
    let all = |rung| rung != "fmod_ret" || Where::current() != Where::DebianNewest;
    let here = here.find(|(rung, feature)| feature.available().is_ok() && all(*rung));
    check(
        folders[0].path(),
        folders[1].path(),
        here.map(|(rung, _)| rung),
    );
}

/// As containers have it, where the kernel asks a file system on behalf of another one: each call
/// counts once.
#[test]
fn each_call_counts_once_on_an_overlay() {
    require!(SysErrno);
    let folder = TempDir::new().expect("make a folder");
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| {
        let path = folder.path().join(name);
        fs::create_dir(&path).expect("make a folder");
        path
    });
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let overlay = Some("overlay");
    mount(overlay, &merged, overlay, MsFlags::empty(), Some(&*options)).expect("mount an overlay");
    let folders = ["a", "b"].map(|name| merged.join(name));
    for folder in &folders {
        fs::create_dir(folder).expect("make a folder");
    }
    check(&folders[0], &folders[1], None);
    umount2(&merged, MntFlags::MNT_DETACH).expect("unmount the overlay");
}

/// What a class names, all of it but for what is taken out, beside a call by its number, and
/// nothing else.
#[test]
fn a_class_fails_but_for_what_is_taken_out() {
    const ERRNO: u32 = 70;
    const FAILING: &[&str] = &[
        "accept",
        "accept4",
        "flock",
        "getpeername",
        "getsockname",
        "getsockopt",
        "recvmmsg",
        "sendmmsg",
        "setsockopt",
        "shutdown",
        "socket",
        "socketpair",
    ];
    require!(SysErrno);
    let folder = TempDir::new().expect("make a folder");
    let cgroup = Cgroup::new("victim");
    let victim = Sweeper::start(Place::cgroup(&cgroup), folder.path());
    let all = victim.round();
    let (target, errno) = (cgroup.target(), ERRNO.to_string());
    let calls = format!("?%network,!listen,{}", syscalls::Sysno::flock.id());
    let options = ["--call", &calls, "--errno", &errno, "--for", "60s"];
    let rule = ["sys-errno", "--target", &target];
    let injection = Injection::start(&[&rule[..], &options].concat());
    let seen = victim.round();
    let rule = injection.stop().rule();
    let expected: Results = all
        .into_iter()
        .map(|(call, mut outcome)| {
            if FAILING.contains(&&*call) {
                outcome = Outcome {
                    succeeded: 0,
                    failed: COUNT,
                    errno: ERRNO,
                };
            }
            (call, outcome)
        })
        .collect();
    assert_eq!(seen, expected);
    let count = COUNT * FAILING.len() as u64;
    assert_eq!((rule.matched, rule.injected), (count, count), "{rule:?}");
    victim.assert_unharmed();
}

/// What no rung reaches is told by name, and refused unless it may be left out.
#[test]
fn what_a_class_cannot_fail_is_told() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let ask = |what: &str, calls: &str| {
        let options = ["sys-errno", "--target", &target, "--errno", "EIO"];
        let rest = ["--call", calls, "--for", "60s", "--output", "json"];
        agent::run(&[&[what][..], &options, &rest].concat())
    };
    // No kernel has it, though it has a number.
    for what in ["plan", "inject"] {
        let refused = ask(what, "%network");
        assert_eq!(refused.code(), 3, "{refused:?}");
        assert!(refused.stderr.contains("--call getpmsg"), "{refused:?}");
    }
    let refused = ask("plan", "?getpmsg,?putpmsg");
    assert_eq!(refused.code(), 3, "{refused:?}");
    let planned = ask("plan", "?%network");
    assert_eq!(planned.code(), 0, "{planned:?}");
    let plan: serde_json::Value = serde_json::from_str(&planned.stdout).expect("JSON");
    let notes = plan["notes"].to_string();
    assert!(notes.contains("does not hit getpmsg"), "{plan}");
    assert!(notes.contains("putpmsg"), "{plan}");
    assert!(!notes.contains("accept"), "{plan}");
}
