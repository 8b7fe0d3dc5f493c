//! `sys-delay --at exit`: a call has done its work, and its caller waits for the result.

use std::{
    fs,
    time::{Duration, Instant},
};

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    kernel::Feature,
    python::{Victims, go_on},
    require,
    residue::Snapshot,
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// A victim that writes a byte into `there/x`, and tells before and after it.
const WRITER: &str = "file = os.open(there, os.O_WRONLY)
tell('ready')
sys.stdin.read()
tell('begins')
took = timed(lambda: os.pwrite(file, b'x', 0))
tell(took, time.monotonic())";

fn written(scene: &Victims) -> bool {
    !fs::read(scene.path("there/x")).expect("a file").is_empty()
}

/// Has such a victim wait for so long, until it has told that it begins.
#[track_caller]
fn writes_under(
    scene: &Victims,
    cgroup: &Cgroup,
    rest: &[&str],
) -> (Injection, injector_tests::command::Process) {
    let mut victim = scene.start(cgroup, WRITER);
    scene.line(1);
    let target = cgroup.target();
    let options = ["sys-delay", "--call", "pwrite64", "--target", &target];
    let injection = Injection::start(&[&options[..], &["--for", "60s"], rest].concat());
    go_on(&mut victim);
    scene.line(2);
    (injection, victim)
}

/// How long its call took, in ms, and when it told so, in s.
#[track_caller]
fn end(scene: &Victims) -> (f64, f64) {
    let line = scene.line(3);
    let (took, at) = line.split_once(' ').expect("two words");
    (took.parse().expect("a time"), at.parse().expect("a time"))
}

/// At enter nothing is written while it waits, and at exit all of it.
#[test]
fn the_work_is_done_before_the_wait() {
    require!(FmodRet);
    for (at, while_it_waits) in [("enter", false), ("exit", true)] {
        let scene = Victims::new();
        let cgroup = Cgroup::new("victim");
        let rest = ["--delay", "1500ms", "--at", at];
        let (injection, mut victim) = writes_under(&scene, &cgroup, &rest);
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(written(&scene), while_it_waits, "at {at}");
        assert_eq!(scene.told().len(), 2, "at {at} it does not wait");
        let (took, _) = end(&scene);
        victim.wait();
        assert!(written(&scene), "at {at}");
        assert!((1500.0..2500.0).contains(&took), "{took} ms at {at}");
        let rule = injection.stop().rule();
        let counts = (rule.matched, rule.injected, rule.errors, rule.cut_short);
        assert_eq!(counts, (1, 1, 0, Some(0)), "{rule:?}");
        assert_eq!(rule.backend, "asleep");
    }
}

/// Many at once, by chosen numbers, and each for as long as was asked for.
#[test]
fn chosen_calls_of_all_threads_are_late() {
    require!(FmodRet);
    let scene = Victims::new();
    let there = scene.path("there");
    let finished = scene.run(
        "sys-delay",
        &[
            "--call", "fsync", "--delay", "50ms", "--at", "exit", "--path", &there, "--per",
            "thread", "--when", "2..+2",
        ],
        "late, soon = [], []
def work():
    file = os.open(there, os.O_RDWR)
    for n in range(10): (late if n % 2 else soon).append(timed(lambda: os.fsync(file)))
in_threads(8, work)
tell(len(late), min(late), sorted(soon)[20])
os.fsync(out)",
    );
    let rule = finished.rule();
    assert_eq!(
        (rule.matched, rule.injected, rule.errors),
        (80, 40, 0),
        "{rule:?}"
    );
    let seen = scene.numbers();
    println!("{seen:?}");
    assert!(
        seen[0] == 40.0 && seen[1] >= 50.0 && seen[2] < 40.0,
        "{seen:?}"
    );
}

/// Whatever comes of it: also a call that fails, by itself or by a rule.
#[test]
fn a_failing_call_is_late_too() {
    require!(FmodRet);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let mut victim = scene.start(
        &cgroup,
        "tell('ready')
sys.stdin.read()
def fails(file):
    def call():
        try: os.fdatasync(file)
        except OSError as error: tell(error.errno)
    return call
tell(timed(fails(out)))
tell(timed(fails(999)))",
    );
    scene.line(1);
    let target = cgroup.target();
    let injection = Injection::of_spec(&format!(
        "version: 1
for: 60s
rules:
- {{kind: sys-delay, call: fdatasync, delay: 80ms, at: exit, target: '{target}'}}
- {{kind: sys-errno, call: fdatasync, errno: EIO, when: 1, rung: fmod_ret, target: '{target}'}}
"
    ));
    go_on(&mut victim);
    victim.wait();
    let report = injection.stop().report();
    let hits: Vec<u64> = report.rules.iter().map(|rule| rule.injected).collect();
    assert_eq!(hits, [2, 1], "{report:?}");
    let told = scene.told();
    assert_eq!((told[1].as_str(), told[3].as_str()), ("5", "9"), "{told:?}");
    for line in [&told[2], &told[4]] {
        let took: f64 = line.parse().expect("a time");
        assert!((80.0..400.0).contains(&took), "{told:?}");
    }
}

/// The handler runs at once, and only the call that then gets its byte is late.
#[test]
fn an_interrupted_call_is_not_over() {
    require!(FmodRet);
    let scene = Victims::new();
    let finished = scene.run(
        "sys-delay",
        &[
            "--call", "read", "--delay", "700ms", "--at", "exit", "--comm", "victim",
        ],
        "ends = os.pipe()
begun = 0
def handler(*_):
    tell((time.monotonic() - begun) * 1000)
    os.write(ends[1], b'x')
signal.signal(signal.SIGALRM, handler)
named = os.open('/proc/self/comm', os.O_WRONLY)
os.write(named, b'victim')
begun = time.monotonic()
signal.setitimer(signal.ITIMER_REAL, 0.1)
os.read(ends[0], 1)
took = (time.monotonic() - begun) * 1000
os.write(named, b'python3')
tell(took)",
    );
    let rule = finished.rule();
    assert_eq!(
        (rule.matched, rule.injected, rule.errors),
        (1, 1, 0),
        "{rule:?}"
    );
    let seen = scene.numbers();
    assert!((100.0..600.0).contains(&seen[0]), "{seen:?}");
    assert!(seen[1] >= 800.0, "{seen:?}");
}

/// At its entry and at its return: by other programs, which do not take each other's turn.
#[test]
fn a_call_can_wait_before_and_after() {
    require!(FmodRet);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let mut victim = scene.start(
        &cgroup,
        "tell('ready')
sys.stdin.read()
for _ in range(3): tell(timed(lambda: os.getpgid(0)))",
    );
    scene.line(1);
    let target = cgroup.target();
    let injection = Injection::of_spec(&format!(
        "version: 1
for: 60s
rules:
- {{kind: sys-delay, call: getpgid, delay: 30ms, target: '{target}'}}
- {{kind: sys-delay, call: getpgid, delay: 90ms, at: exit, target: '{target}'}}
"
    ));
    go_on(&mut victim);
    victim.wait();
    let report = injection.stop().report();
    let hits: Vec<_> = report
        .rules
        .iter()
        .map(|rule| (rule.injected, rule.errors))
        .collect();
    assert_eq!(hits, [(3, 0), (3, 0)], "{report:?}");
    for line in &scene.told()[1..] {
        let took: f64 = line.parse().expect("a time");
        assert!((120.0..400.0).contains(&took), "{took} ms");
    }
}

#[test]
fn its_end_lets_everybody_go_on() {
    require!(FmodRet);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let snapshot = Snapshot::take(&[]);
    let rest = ["--delay", "10s", "--at", "exit"];
    let (injection, mut victim) = writes_under(&scene, &cgroup, &rest);
    wait::until("what it writes", || written(&scene).then_some(()));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(scene.told().len(), 2, "it does not wait");
    let begun = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock"));
    let abandoned = injection.abandon();
    let took = end(&scene).1 - begun.as_secs_f64();
    // Not by the lease, which is of 2 s.
    assert!(took < 1.5, "{took} s");
    victim.wait();
    snapshot.assert_bpf_gone(false);
    abandoned.clean_up();
    snapshot.assert_clean();
}

#[test]
fn a_victim_is_killed_at_once() {
    require!(FmodRet);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let rest = ["--delay", "10s", "--at", "exit"];
    let (injection, mut victim) = writes_under(&scene, &cgroup, &rest);
    wait::until("what it writes", || written(&scene).then_some(()));
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    kill(Pid::from_raw(victim.pid().cast_signed()), Signal::SIGKILL).expect("kill it");
    victim.wait();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    let rule = injection.stop().rule();
    assert_eq!((rule.injected, rule.cut_short), (1, Some(1)), "{rule:?}");
}

/// Where programs may run behind functions, as on every kernel of Debian's.
#[test]
fn every_call_can_be_late_busy() {
    require!(SysSignal);
    let scene = Victims::new();
    let finished = scene.run(
        "sys-delay",
        &[
            "--call", "getpgid", "--delay", "700us", "--wait", "busy", "--at", "exit",
        ],
        "for _ in range(30): tell(timed(lambda: os.getpgid(0)))",
    );
    let rule = finished.rule();
    assert_eq!(rule.backend, "busy");
    assert_eq!(
        (rule.matched, rule.injected, rule.errors),
        (30, 30, 0),
        "{rule:?}"
    );
    let least = scene.numbers().into_iter().fold(f64::MAX, f64::min);
    assert!(least >= 0.7, "{least} ms");
}

#[test]
fn what_cannot_be_late_is_refused_with_the_reason() {
    let refused = |words: &str, code: i32, says: &str| {
        let mut args = vec!["inject", "sys-delay", "--at"];
        args.extend(words.split(' '));
        args.extend(["--for", "1s", "--", "true"]);
        let finished = agent::run(&args);
        assert_eq!(finished.code(), code, "{words}: {finished:?}");
        assert!(finished.stderr.contains(says), "{words}: {finished:?}");
    };
    refused("last --call fsync --delay 5ms", 2, "enter, exit");
    refused("exit --call exit_group --delay 5ms", 2, "does not return");
    refused(
        "exit --call execve --delay 5ms",
        2,
        "returns to another program",
    );
    refused(
        "exit --call pause --delay 5ms",
        2,
        "only when a signal interrupts it",
    );
    refused(
        "exit --call close --delay 5ms --path /tmp",
        2,
        "its file is closed",
    );
    refused(
        "exit --call openat --delay 5ms --path /tmp",
        2,
        "no descriptor of the file",
    );
    if Feature::FmodRet.available().is_err() {
        refused(
            "exit --call fsync --delay 5ms",
            3,
            "busy: it is longer than 1ms",
        );
        refused("exit --call fsync --delay 1ms --wait asleep", 3, "asleep: ");
    }
}
