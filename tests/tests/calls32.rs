//! Calls of 32-bit callers, on which numbers mean other calls, and arguments lie elsewhere.

use std::{
    fs,
    net::UdpSocket,
    sync::atomic::Ordering::{Acquire, Release},
};

use injector_tests::{
    actor::{
        calls32::{FILE, MAPPED},
        sockets::Outcomes,
    },
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    require,
    victim::BoardFile,
    wait,
};
use syscalls::x86;
use tempfile::TempDir;

const EIO: u32 = 5;
const EROFS: u32 = 30;

/// What came of each call, and how often each rule matched and hit, with rules of these conditions.
#[track_caller]
fn counts(rules: &[(&str, &str)], rung: &str) -> (Outcomes, Vec<(u64, u64)>) {
    let folder = TempDir::new().expect("a folder");
    let path = |path: &std::path::Path| path.to_str().expect("a path in UTF-8").to_owned();
    fs::write(folder.path().join(FILE), "text").expect("a file");
    // Elsewhere, since it is opened and written by other calls.
    let results = TempDir::new().expect("a folder");
    let outcomes = results.path().join("outcomes");
    let peer = UdpSocket::bind("127.0.0.2:0").expect("a peer");
    let address = peer.local_addr().expect("an address");
    let cgroup = Cgroup::new("victim");
    let board = BoardFile::new();
    let work = [
        "calls32",
        "--folder",
        &path(folder.path()),
        "--peer",
        &address.to_string(),
        "--outcomes",
        &path(&outcomes),
    ];
    let mut victim = board.spawn(Place::cgroup(&cgroup), &work);
    wait::until("the victim", || {
        (board.board().actors[0].thread.load(Acquire) != 0).then_some(())
    });
    let lines = rules.iter().map(|(call, more)| {
        let more = more
            .replace("PEER", &address.ip().to_string())
            .replace("PORT", &address.port().to_string())
            .replace("FOLDER", &path(folder.path()));
        let target = cgroup.target();
        format!("- {{kind: sys-errno, target: '{target}', call: '{call}', {rung}{more}}}\n")
    });
    let lines: String = lines.collect();
    let injection = Injection::of_spec(&format!("version: 1\nfor: 60s\nrules:\n{lines}"));
    board.board().round.fetch_add(1, Release);
    let status = victim.wait();
    assert!(status.success(), "{status}");
    let report = injection.stop().report();
    let found = report.rules.iter();
    let found = found.map(|rule| (rule.matched, rule.injected)).collect();
    let text = fs::read(&outcomes).expect("the outcomes");
    (serde_json::from_slice(&text).expect("JSON"), found)
}

/// The calls that failed, with their errors.
fn failed(outcomes: &Outcomes) -> Vec<(&str, u32)> {
    let failed = outcomes.iter().filter(|(_, errno)| **errno != 0);
    failed
        .map(|(name, errno)| (name.as_str(), *errno))
        .collect()
}

/// Rules that match and never hit, so that none hides what the next one matches.
#[test]
fn conditions_hold_of_32_bit_callers() {
    require!(Lsm);
    let mapped = format!("arg: '1=={MAPPED}'");
    let wanted: &[(&str, &str, u64)] = &[
        ("open", "path: FOLDER", 1),
        // Its number is that of `open` there.
        ("fstat", "path: FOLDER", 1),
        ("openat", "path: FOLDER", 2),
        ("openat", "path: FOLDER, access: write", 1),
        ("openat", "path: FOLDER, arg: '2&1'", 1),
        ("read", "path: FOLDER, arg: '2==0'", 1),
        ("read", "path: FOLDER, arg: '2>0'", 0),
        ("mkdir", "path: FOLDER", 1),
        ("mmap", &mapped, 1),
        ("socket", "family: inet", 1),
        ("socket", "family: inet6", 1),
        ("socket", "family: unix", 0),
        ("connect", "peer: PEER", 2),
        ("connect", "peer: PEER, peer-port: PORT", 2),
        ("connect", "peer: '!PEER'", 0),
        ("sendmsg", "peer: PEER, peer-port: PORT", 1),
        ("sendto", "peer: PEER, peer-port: PORT", 2),
        ("sendto", "peer: '!PEER'", 0),
        // What the number of `openat` there means to 64-bit callers.
        ("preadv", "path: FOLDER", 0),
    ];
    let never = |more: &str| format!("errno: EIO, when: '100000', {more}");
    let rules: Vec<_> = wanted.iter().map(|rule| (rule.0, never(rule.1))).collect();
    let rules: Vec<_> = rules
        .iter()
        .map(|(call, more)| (*call, more.as_str()))
        .collect();
    let (outcomes, found) = counts(&rules, "rung: lsm, ");
    for ((call, condition, matched), found) in wanted.iter().zip(found) {
        assert_eq!(found, (*matched, 0), "{call}: {condition}: {outcomes:?}");
    }
    // There is nothing to be unlinked.
    assert_eq!(failed(&outcomes), [("unlinkat", 2)]);
}

#[track_caller]
fn check_failures(rung: &str) {
    let errno = "errno: EIO";
    let rules = [
        ("open", errno),
        ("openat", "errno: EROFS, path: FOLDER, access: write"),
        ("connect,sendto", errno),
        ("fstat", "errno: plausible, path: FOLDER"),
    ];
    let (outcomes, found) = counts(&rules, rung);
    assert_eq!(found, [(1, 1), (1, 1), (4, 4), (1, 1)], "{outcomes:?}");
    let fstat = outcomes["fstat64"];
    assert!(fstat != 0, "{outcomes:?}");
    let expected = [
        ("connect", EIO),
        ("connect by socketcall", EIO),
        ("fstat64", fstat),
        ("open", EIO),
        ("openat for writing", EROFS),
        ("send by socketcall", EIO),
        ("sendto by socketcall", EIO),
        // There is nothing to be unlinked.
        ("unlinkat", 2),
    ];
    assert_eq!(failed(&outcomes), expected);
}

#[test]
fn calls_of_32_bit_callers_fail_at_security_hooks() {
    require!(Lsm);
    check_failures("rung: lsm, ");
}

#[test]
fn they_fail_in_the_place_of_security_functions() {
    require!(FmodRetSecurity);
    check_failures("rung: fmod_ret-security, ");
}

/// The number of this call without arguments means `writev` to 64-bit callers.
#[test]
fn they_fail_at_their_entry() {
    require!(Override);
    let rules = [
        ("open", "errno: EIO"),
        ("openat", "errno: EROFS, arg: '2&1'"),
        ("connect,sendto", "errno: EIO"),
        ("fstat", "errno: EIO, path: FOLDER"),
        ("getpid", "errno: EIO"),
        ("writev", "errno: EIO"),
    ];
    for rung in ["rung: kprobe, ", "rung: fmod_ret, "] {
        let (outcomes, found) = counts(&rules, rung);
        let expected = [(1, 1), (1, 1), (4, 4), (1, 1), (1, 1), (0, 0)];
        assert_eq!(found, expected, "{rung}{outcomes:?}");
        let expected = [
            ("connect", EIO),
            ("connect by socketcall", EIO),
            ("fstat64", EIO),
            ("getpid", EIO),
            ("open", EIO),
            ("openat for writing", EROFS),
            ("send by socketcall", EIO),
            ("sendto by socketcall", EIO),
            // There is nothing to be unlinked.
            ("unlinkat", 2),
        ];
        assert_eq!(failed(&outcomes), expected, "{rung}");
    }
}

/// Calls, and their twins, of which some are of old: users and times had other widths. A kernel may
/// be built without those.
const OF_OLD: &[(&str, &str)] = &[
    // Users and groups of 16 bits.
    ("chown", "chown chown32"),
    ("getgroups", "getgroups getgroups32"),
    ("getresuid", "getresuid getresuid32"),
    ("getuid", "getuid getuid32"),
    ("setfsgid", "setfsgid setfsgid32"),
    ("setuid", "setuid setuid32"),
    // Times of 32 bits.
    ("adjtimex", "adjtimex"),
    ("clock_adjtime", "clock_adjtime clock_adjtime64"),
    ("clock_getres", "clock_getres clock_getres_time64"),
    ("clock_gettime", "clock_gettime clock_gettime64"),
    ("clock_nanosleep", "clock_nanosleep clock_nanosleep_time64"),
    ("clock_settime", "clock_settime clock_settime64"),
    ("futex", "futex futex_time64"),
    ("futimesat", "futimesat"),
    ("io_getevents", "io_getevents"),
    ("io_pgetevents", "io_pgetevents io_pgetevents_time64"),
    ("mq_timedreceive", "mq_timedreceive mq_timedreceive_time64"),
    ("mq_timedsend", "mq_timedsend mq_timedsend_time64"),
    ("nanosleep", "nanosleep"),
    ("ppoll", "ppoll ppoll_time64"),
    ("pselect6", "pselect6 pselect6_time64"),
    ("recvmmsg", "recvmmsg recvmmsg_time64"),
    ("rt_sigtimedwait", "rt_sigtimedwait rt_sigtimedwait_time64"),
    (
        "sched_rr_get_interval",
        "sched_rr_get_interval sched_rr_get_interval_time64",
    ),
    ("time", "time"),
    ("timer_gettime", "timer_gettime timer_gettime64"),
    ("timer_settime", "timer_settime timer_settime64"),
    ("timerfd_gettime", "timerfd_gettime timerfd_gettime64"),
    ("timerfd_settime", "timerfd_settime timerfd_settime64"),
    ("utime", "utime"),
    ("utimensat", "utimensat utimensat_time64"),
    ("utimes", "utimes"),
];

/// Others that do not just enter by a function of their name.
const TWINS: &[(&str, &str)] = &[
    // Arguments that come in two halves.
    ("fadvise64", "fadvise64 fadvise64_64"),
    ("fallocate", "fallocate"),
    ("ftruncate", "ftruncate ftruncate64"),
    ("pread64", "pread64"),
    ("pwrite64", "pwrite64"),
    ("readahead", "readahead"),
    ("sync_file_range", "sync_file_range"),
    ("truncate", "truncate truncate64"),
    // Other names, or other structures.
    ("epoll_pwait", "epoll_pwait"),
    ("fcntl", "fcntl fcntl64"),
    ("fstat", "oldfstat fstat fstat64"),
    ("getdents", "getdents"),
    ("getrlimit", "getrlimit ugetrlimit"),
    ("lseek", "lseek _llseek"),
    ("lstat", "oldlstat lstat lstat64"),
    ("mmap", "mmap2"),
    ("newfstatat", "fstatat64"),
    ("open", "open"),
    ("select", "_newselect"),
    ("sendfile", "sendfile sendfile64"),
    ("stat", "oldstat stat stat64"),
    ("statfs", "statfs statfs64"),
    ("umount2", "umount umount2"),
    ("uname", "oldolduname olduname uname"),
    ("wait4", "waitpid wait4"),
];

/// The kernel has several functions for many of them, of which they enter by one.
#[test]
fn twins_are_seen_once() {
    require!(SysSignal);
    let symbols = fs::read_to_string("/proc/kallsyms").expect("the kernel's symbols");
    let has = |function| symbols.contains(&format!(" T __ia32_sys_{function}\n"));
    let of_old = if has("setuid16") && has("time32") {
        OF_OLD
    } else {
        &[]
    };
    let twins = || of_old.iter().chain(TWINS);
    let cgroup = Cgroup::new("victim");
    let board = BoardFile::new();
    let numbers = twins().flat_map(|(_, twins)| twins.split(' '));
    let numbers = numbers.map(|name| name.parse::<x86::Sysno>().expect(name).id().to_string());
    let numbers: Vec<String> = numbers.collect();
    let _victim = board.spawn(
        Place::cgroup(&cgroup),
        &["sweep32", "--numbers", &numbers.join(",")],
    );
    let actor = &board.board().actors[0];
    wait::until("the victim", || {
        (actor.thread.load(Acquire) != 0).then_some(())
    });
    let target = cgroup.target();
    let lines = twins().map(|(call, _)| {
        // Which nobody notices who does not wait for it.
        format!(
            "- {{kind: sys-signal, name: {call}, target: '{target}', call: {call}, signal: URG}}\n"
        )
    });
    let lines: String = lines.collect();
    let injection = Injection::of_spec(&format!("version: 1\nfor: 5m\nrules:\n{lines}"));
    board.board().round.store(1, Release);
    wait::until("all calls", || {
        (actor.round.load(Acquire) != 0).then_some(())
    });
    let report = injection.stop().report();
    let found = report
        .rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.matched));
    let expected = twins().map(|(call, twins)| (*call, twins.split(' ').count() as u64));
    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}
