//! `sys-errno`: system calls fail with the chosen error, and only those.

use std::fs;

use injector_tests::{
    agent::{self, Agent, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::{Feature, Where},
    python::Victims,
    require,
    stats::binomial_999,
    victim::{CallVictim, Callers, Seen, assert_all_failed, failures, main_thread},
};

/// Error numbers, as the victim sees them.
const EIO: u32 = 5;

/// Calls that each thread and process makes in a round.
const COUNT: u64 = 20;

/// A victim in a group of its own and a bystander outside, which make the same
/// call.
struct Bed {
    cgroup: Cgroup,
    victim: CallVictim,
    bystander: CallVictim,
}

impl Bed {
    fn new(call: &str, callers: Callers) -> Self {
        let cgroup = Cgroup::new("victim");
        let victim = CallVictim::start(Place::cgroup(&cgroup), call, callers);
        let bystander = CallVictim::start(Place::HERE, call, callers);
        Self {
            cgroup,
            victim,
            bystander,
        }
    }

    /// Puts a rule in force on the victim's group.
    fn inject(&self, call: &str, options: &[&str]) -> Injection {
        let target = self.cgroup.target();
        let mut args = vec![
            "sys-errno",
            "--call",
            call,
            "--target",
            &target,
            "--for",
            "60s",
        ];
        args.extend(options);
        Injection::start(&args)
    }

    /// Does a round of the victim's beside one of the bystander's, which no
    /// call of may fail.
    #[track_caller]
    fn round(&self, count: u64) -> Vec<Seen> {
        self.victim.begin(count);
        self.bystander.assert_unharmed(count);
        self.victim.finish()
    }
}

/// Fails every call of a victim in all its threads and descendants, beside a
/// bystander that makes the same call; and none before or after.
#[track_caller]
fn check(call: &str, errno_name: &str, errno: u32, callers: Callers) {
    require!(SysErrno);
    let bed = Bed::new(call, callers);
    bed.victim.assert_unharmed(COUNT);
    let injection = bed.inject(call, &["--errno", errno_name]);
    let seen = bed.round(COUNT);
    let rule = injection.stop().rule();
    assert_all_failed(&seen, errno);
    // One hit for each failure: nothing failed for another reason, and nothing
    // was counted that did not fail.
    let calls = COUNT * seen.len() as u64;
    assert_eq!((rule.matched, rule.injected), (calls, calls), "{rule:?}");
    assert_eq!(rule.backend, expected_backend(), "{rule:?}");
    bed.victim.assert_unharmed(COUNT);
}

fn expected_backend() -> &'static str {
    let rungs = [
        ("kprobe", Feature::Override),
        ("fmod_ret", Feature::FmodRet),
        ("lsm", Feature::Lsm),
    ];
    let here = |feature: &Feature| feature.expected(Where::current()).is_ok();
    let mut rungs = rungs.into_iter();
    let best = rungs.find(|(_, feature)| here(feature));
    best.map_or("fmod_ret-security", |(rung, _)| rung)
}

macro_rules! calls {
    ($($call:ident: $errno:ident = $number:literal, $callers:ident;)+) => {
        $(
            #[test]
            fn $call() {
                check(stringify!($call), stringify!($errno), $number, Callers::$callers);
            }
        )+
    };
}

calls! {
    open: EIO = 5, EarlyFamily;
    openat: EIO = 5, EarlyFamily;
    read: EIO = 5, EarlyFamily;
    write: ENOSPC = 28, EarlyFamily;
    connect: ETIMEDOUT = 110, EarlyFamily;
    bind: EADDRINUSE = 98, EarlyFamily;
    sendmsg: ENOBUFS = 105, EarlyFamily;
    recvmsg: ECONNRESET = 104, EarlyFamily;
    execve: ENOMEM = 12, EarlyFamily;
    clone: EAGAIN = 11, EarlyFamily;
    mmap: ENOMEM = 12, EarlyFamily;
    unlink: EROFS = 30, EarlyFamily;
    rename: EXDEV = 18, EarlyFamily;
    mkdir: EDQUOT = 122, EarlyFamily;
    stat: EACCES = 13, EarlyFamily;
}

#[test]
fn descendants_that_are_forked_under_the_fault() {
    check("openat", "EIO", EIO, Callers::LateFamily);
}

#[test]
fn every_worker_thread() {
    check("openat", "EIO", EIO, Callers::Threads(8));
}

#[test]
fn an_error_by_its_number() {
    check("openat", "122", 122, Callers::One);
}

/// A rule for a process hits all its threads and descendants.
#[track_caller]
fn check_process(callers: Callers) {
    require!(SysErrno);
    let victim = CallVictim::start(Place::HERE, "openat", callers);
    let bystander = CallVictim::start(Place::HERE, "openat", callers);
    victim.assert_unharmed(COUNT);
    let target = victim.target();
    let args = [
        "sys-errno",
        "--call",
        "openat",
        "--errno",
        "EIO",
        "--target",
        &target,
    ];
    let injection = Injection::start(&[&args[..], &["--for", "60s"]].concat());
    victim.begin(COUNT);
    bystander.assert_unharmed(COUNT);
    let seen = victim.finish();
    let rule = injection.stop().rule();
    assert_all_failed(&seen, EIO);
    assert_eq!(rule.injected, COUNT * seen.len() as u64);
    victim.assert_unharmed(COUNT);
}

#[test]
fn descendants_of_a_process_that_exist_already() {
    check_process(Callers::EarlyFamily);
}

#[test]
fn descendants_of_a_process_that_are_forked_under_the_fault() {
    check_process(Callers::LateFamily);
}

#[test]
fn a_command_suffers_with_its_descendants() {
    require!(SysErrno);
    // A call that neither the loader nor the victim's own start makes.
    let victim = CallVictim::prepare("mkdir", Callers::LateFamily);
    let bystander = CallVictim::start(Place::HERE, "mkdir", Callers::LateFamily);
    let command = victim.command();
    let mut args = vec![
        "sys-errno",
        "--call",
        "mkdir",
        "--errno",
        "EIO",
        "--for",
        "60s",
        "--",
    ];
    args.extend(command.iter().map(String::as_str));
    let injection = Injection::start(&args);
    victim.begin(COUNT);
    bystander.assert_unharmed(COUNT);
    let seen = victim.finish();
    let finished = injection.wait();
    assert_all_failed(&seen, EIO);
    assert_eq!(finished.report().stopped_by, "command_exit");
    assert_eq!(finished.rule().injected, COUNT * seen.len() as u64);
    bystander.assert_unharmed(COUNT);
}

#[test]
fn a_share_of_the_calls() {
    require!(SysErrno);
    let bed = Bed::new("openat", Callers::Threads(3));
    let count = 2000;
    let injection = bed.inject(
        "openat",
        &["--errno", "EIO", "--percent", "20", "--seed", "9"],
    );
    let seen = bed.round(count);
    let rule = injection.stop().rule();
    let expected = binomial_999(4 * count, 0.2);
    assert!(
        expected.contains(&rule.injected),
        "{rule:?}, allowed: {expected:?}"
    );
    assert_eq!((rule.matched, rule.injected), (4 * count, failures(&seen)));
}

#[test]
fn times_is_exact_with_threads_that_race() {
    require!(SysErrno);
    for _ in 0..3 {
        let bed = Bed::new("openat", Callers::Threads(7));
        let injection = bed.inject("openat", &["--errno", "EIO", "--times", "7"]);
        let seen = bed.round(200);
        let finished = injection.wait();
        assert_eq!(failures(&seen), 7, "{seen:?}");
        assert_eq!(finished.report().stopped_by, "budget");
        assert_eq!(finished.rule().injected, 7);
    }
}

#[test]
fn when_names_the_very_calls() {
    require!(SysErrno);
    let bed = Bed::new("openat", Callers::One);
    let injection = bed.inject("openat", &["--errno", "EIO", "--when", "3..9+2"]);
    let seen = bed.round(COUNT);
    assert_eq!(main_thread(&seen).failed_calls, [3, 5, 7, 9]);
    let rule = injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (COUNT, 4));
}

#[test]
fn several_calls_in_one_rule() {
    require!(SysErrno);
    let bed = Bed::new("openat", Callers::One);
    let reader = CallVictim::start(Place::cgroup(&bed.cgroup), "read", Callers::One);
    let spared = CallVictim::start(Place::cgroup(&bed.cgroup), "write", Callers::One);
    let injection = bed.inject("openat,read", &["--errno", "EIO"]);
    assert_all_failed(&bed.round(COUNT), EIO);
    assert_all_failed(&reader.round(COUNT), EIO);
    spared.assert_unharmed(COUNT);
    assert_eq!(injection.stop().rule().injected, 2 * COUNT);
}

/// Those that do not name the call are passed over, by a helper that Linux 5.15 lacks or without.
#[test]
fn rules_among_many_are_asked_in_their_order() {
    require!(SysErrno);
    for without in [false, true] {
        let scene = Victims::new();
        let there = scene.path("there");
        let mut spec = "version: 1\nfor: 60s\nrules:\n".to_owned();
        for (number, (call, errno, when)) in [
            ("mkdir", "EPERM", "1.."),
            ("openat", "EIO", "2"),
            ("rmdir", "EPERM", "1.."),
            ("openat", "ENOSPC", "2.."),
            ("unlink", "EPERM", "1.."),
        ]
        .into_iter()
        .enumerate()
        {
            spec.push_str(&format!(
                "- {{name: r{number}, kind: sys-errno, target: command, call: '{call}', errno: {errno}, \
                 when: '{when}', path: {there}}}\n"
            ));
        }
        let file = scene.path("spec.yml");
        fs::write(&file, spec).expect("a spec");
        let program = scene.program(
            "def seen():
    try: return opens() or 0
    except OSError as error: return error.errno
tell(*(seen() for _ in range(5)))",
        );
        let line = [
            "run", &file, "--output", "json", "--", "python3", "-S", "-c", &program,
        ];
        let hidden: &[(&str, &str)] = if without {
            &[("INJECTOR_TEST_NO_LOOP", "1")]
        } else {
            &[]
        };
        let finished = Agent::start(Place::HERE, &line, hidden).wait();
        assert_eq!(scene.told(), ["0 5 28 28 28"], "{finished:?}");
        let counts: Vec<_> = finished
            .report()
            .rules
            .iter()
            .map(|rule| (rule.matched, rule.injected))
            .collect();
        assert_eq!(
            counts,
            [(0, 0), (5, 1), (0, 0), (4, 3), (0, 0)],
            "{finished:?}"
        );
    }
}

/// Fails one call and checks that others, which reach the same security hook,
/// do not fail with it.
#[track_caller]
fn check_narrow(call: &str, spared: &[&str]) {
    require!(SysErrno);
    let bed = Bed::new(call, Callers::One);
    let spared: Vec<_> = spared
        .iter()
        .map(|call| CallVictim::start(Place::cgroup(&bed.cgroup), call, Callers::One))
        .collect();
    let injection = bed.inject(call, &["--errno", "EIO"]);
    for victim in &spared {
        victim.assert_unharmed(COUNT);
    }
    assert_all_failed(&bed.round(COUNT), EIO);
    let rule = injection.stop().rule();
    assert_eq!(
        (rule.matched, rule.injected),
        (COUNT, COUNT),
        "others were counted"
    );
}

#[test]
fn openat_is_not_execve_or_another_open() {
    check_narrow("openat", &["execve", "open", "openat2"]);
}

#[test]
fn execve_is_not_openat() {
    check_narrow("execve", &["openat", "mmap", "clone"]);
}

#[test]
fn read_is_not_another_read_or_write() {
    check_narrow("read", &["write", "pread64"]);
}

#[test]
fn write_is_not_another_write_or_read() {
    check_narrow("write", &["read", "pwrite64"]);
}

#[test]
fn sendmsg_is_not_sendto() {
    check_narrow("sendmsg", &["sendto", "write", "recvmsg"]);
}

#[test]
fn recvmsg_is_not_recvfrom() {
    check_narrow("recvmsg", &["recvfrom", "read", "sendmsg"]);
}

#[test]
fn connect_is_not_bind() {
    check_narrow("connect", &["bind", "sendto"]);
}

#[test]
fn clone_is_not_execve() {
    // Each execve of the victim is in a process made by the C library's fork,
    // which is a clone: so only calls without a new process are spared.
    check_narrow("clone", &["openat", "mmap"]);
}

#[test]
fn unlink_is_not_unlinkat_or_rename() {
    check_narrow("unlink", &["unlinkat", "rename", "mkdir"]);
}

#[test]
fn rename_is_not_unlink_or_mkdir() {
    check_narrow("rename", &["unlink", "mkdir"]);
}

#[test]
fn stat_is_not_newfstatat_or_open() {
    check_narrow("stat", &["newfstatat", "openat"]);
}

#[test]
fn open_is_not_openat_or_execve() {
    check_narrow("open", &["openat", "openat2", "execve"]);
}

#[test]
fn bind_is_not_connect() {
    check_narrow("bind", &["connect", "sendto"]);
}

#[test]
fn mmap_is_not_execve() {
    // Which maps the program's segments.
    check_narrow("mmap", &["execve", "openat", "read"]);
}

#[test]
fn mkdir_is_not_mkdirat_or_rename() {
    check_narrow("mkdir", &["mkdirat", "rename", "unlink"]);
}

/// Calls on sockets, whatever family these are of.
#[test]
fn sockets_of_ipv6_suffer_too() {
    require!(SysErrno);
    for call in ["connect", "bind", "sendmsg"] {
        let bed = Bed::new(&format!("{call} of IPv6"), Callers::One);
        bed.victim.assert_unharmed(COUNT);
        let injection = bed.inject(call, &["--errno", "EIO"]);
        assert_all_failed(&bed.round(COUNT), EIO);
        assert_eq!(injection.stop().rule().injected, COUNT, "{call}");
        bed.victim.assert_unharmed(COUNT);
    }
}

/// A call that no security hook stands for.
#[test]
fn a_call_without_a_hook_fails_where_override_reaches_it() {
    require!(SysErrno);
    let here = |feature: Feature| feature.available().is_ok();
    if here(Feature::Override) || here(Feature::FmodRet) {
        check("fsync", "EIO", EIO, Callers::EarlyFamily);
        return;
    }
    let bed = Bed::new("fsync", Callers::One);
    let target = bed.cgroup.target();
    let args = ["inject", "sys-errno", "--call", "fsync", "--errno", "EIO"];
    let refused = agent::run(&[&args[..], &["--target", &target, "--for", "5s"]].concat());
    assert_eq!(refused.code(), 3, "{refused:?}");
    assert!(refused.stderr.contains("fsync"), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("hook"),
        "no reason: {}",
        refused.stderr
    );
    bed.victim.assert_unharmed(COUNT);
}
