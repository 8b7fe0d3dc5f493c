//! `user-return`: functions of programs and libraries do nothing, and return a chosen value.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use injector_tests::{
    agent::{self, Injection, RuleReport},
    cgroup::Cgroup,
    command::{Place, Process},
    kernel::Feature,
    python::{Victims, go_on, next},
    require,
    residue::Snapshot,
    scene::state,
    wait,
};
use nix::sys::signal::Signal;

/// Where a function is that a program of Python calls when it is told to, and not otherwise.
const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";

/// What a rule on a function of the C library is asked for here.
fn returns<'a>(function: &'a str, value: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let options = [
        "--function", function, "--file", LIBC, "--return", value,
    ];
    [&options, rest].concat()
}

#[track_caller]
fn assert_counts(rule: &RuleReport, counts: (u64, u64, u64, u64)) {
    let found = (rule.matched, rule.injected, rule.passed, rule.errors);
    assert_eq!(found, counts, "{rule:?}");
}

/// A program that asks for its parent once for each line that it is given, and tells what it heard,
/// until there are no more.
const ASKS: &str = "for line in sys.stdin: tell(os.getppid())
tell('ends well')";

/// One that does so in the test's own cgroup.
fn bystander(scene: &Victims) -> Process {
    let mut command = Place::HERE.command("/usr/bin/python3");
    command.args(["-S", "-c", &scene.program(ASKS)]);
    Process(command.stdin(Stdio::piped()).spawn().expect("Python"))
}

/// A victim that can be asked again and again.
struct Asked {
    scene: Victims,
    process: Process,
    lines: usize,
}

impl Asked {
    fn start(cgroup: &Cgroup) -> Self {
        let scene = Victims::new();
        let process = scene.start(cgroup, ASKS);
        Self::new(scene, process)
    }

    fn beside() -> Self {
        let scene = Victims::new();
        let process = bystander(&scene);
        Self::new(scene, process)
    }

    const fn new(scene: Victims, process: Process) -> Self {
        Self {
            scene,
            process,
            lines: 0,
        }
    }

    /// What it takes for its parent.
    #[track_caller]
    fn parent(&mut self) -> i64 {
        next(&mut self.process);
        self.lines += 1;
        self.scene.line(self.lines).parse().expect("a number")
    }

    #[track_caller]
    fn assert_unharmed(&mut self, times: usize) {
        for _ in 0..times {
            assert_eq!(self.parent(), i64::from(std::process::id()));
        }
    }

    /// Lets it end.
    #[track_caller]
    fn end(mut self) {
        go_on(&mut self.process);
        let status = self.process.wait();
        assert!(status.success(), "{status:?}");
        assert_eq!(self.scene.line(self.lines + 1), "ends well");
    }
}

/// Every other time, each value as it was written.
#[test]
fn a_function_returns_what_was_asked_for() {
    require!(UserReturn);
    for (value, told) in [
        ("0", "0"),
        ("7", "7"),
        ("-1", "-1"),
        // A C int is the lower half.
        ("0x7fffffff", "2147483647"),
        ("0xffffffff00000002", "2"),
    ] {
        let scene = Victims::new();
        let finished = scene.run(
            "user-return",
            &returns("getppid", value, &["--when", "2..+2"]),
            "pid = os.getppid()
heard = [os.getppid() for _ in range(9)]
assert heard[1::2] == [pid] * 4, heard
tell(*heard[::2])",
        );
        let expected = [told; 5].join(" ");
        assert_eq!(scene.line(1), expected, "{value}: {finished:?}");
        let rule = finished.rule();
        assert_counts(&rule, (10, 5, 5, 0));
        assert_eq!(rule.backend, "uprobe");
    }
}

/// All 64 bits of an address.
#[test]
fn all_bits_of_an_address_are_returned() {
    require!(UserReturn);
    let scene = Victims::new();
    let finished = scene.run(
        "user-return",
        &returns("lfind", "0x8123456789abcdef", &[]),
        "import ctypes
lfind = ctypes.CDLL(None).lfind
lfind.restype = ctypes.c_uint64
tell(hex(lfind(0, 0, 0, 0, 0)))",
    );
    assert_eq!(scene.line(1), "0x8123456789abcdef", "{finished:?}");
    assert_counts(&finished.rule(), (1, 1, 0, 0));
}

/// However the agent ends, whoever is in the function goes on, and nothing comes of it any more.
#[test]
fn it_lasts_as_long_as_the_agent_vouches_for_it() {
    require!(UserReturn);
    let cgroup = Cgroup::new("victim");
    let snapshot = Snapshot::take(&[]);
    let mut victim = Asked::start(&cgroup);
    let mut beside = Asked::beside();
    victim.assert_unharmed(3);
    beside.assert_unharmed(3);
    let target = cgroup.target();
    let options = returns("getppid", "42", &["--target", &target, "--for", "60s"]);
    let begin = || Injection::start(&[&["user-return"], &options[..]].concat());

    let injection = begin();
    for _ in 0..5 {
        assert_eq!(victim.parent(), 42);
        beside.assert_unharmed(1);
    }
    assert_counts(&injection.stop().rule(), (5, 5, 0, 0));
    snapshot.assert_clean();
    victim.assert_unharmed(3);

    let injection = begin();
    assert_eq!(victim.parent(), 42);
    let abandoned = injection.abandon();
    snapshot.assert_bpf_gone(false);
    victim.assert_unharmed(3);
    beside.assert_unharmed(3);
    abandoned.clean_up();
    snapshot.assert_clean();

    let injection = begin();
    injection.agent().signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    let mut hits = 0;
    wait::until("the lease's end", || {
        let spared = victim.parent() != 42;
        hits += u64::from(!spared);
        spared.then_some(())
    });
    let lasted = stopped.elapsed();
    assert!(hits > 0 && lasted < Duration::from_secs(4), "{hits} in {lasted:?}");
    // Programs are still there, and let it go on.
    victim.assert_unharmed(5);
    beside.assert_unharmed(3);
    assert_eq!(state(injection.agent().pid()), 'T');
    injection.agent().signal(Signal::SIGCONT);
    let report = injection.stop();
    // Renewed, the lease may have let one more through.
    assert_eq!(report.rule().injected, hits, "{report:?}");
    snapshot.assert_clean();
    victim.assert_unharmed(3);
    victim.end();
    beside.end();
}
