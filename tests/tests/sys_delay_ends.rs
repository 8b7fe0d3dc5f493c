//! Whatever ends, nobody waits on under `sys-delay`.
//!
//! Times are held against bounds of milliseconds, in virtual machines whose clock counts
//! instructions.

use std::{
    fs,
    io::Write as _,
    time::{Duration, Instant},
};

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Process,
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

/// The opens of the file.
fn opens<'a>(there: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["--call", "openat", "--path", there], rest].concat()
}

fn now() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    Duration::from(time).as_secs_f64()
}

/// Starts a victim that waits for 10 s in an open, when the lines `ready` and `begins` are there.
#[track_caller]
fn sleeper(scene: &Victims, cgroup: &Cgroup) -> (Injection, Process) {
    sleeper_that(scene, cgroup, "goes")
}

/// The same, which makes a third call when there is a file `go` if it is to stay.
#[track_caller]
fn sleeper_that(scene: &Victims, cgroup: &Cgroup, how: &str) -> (Injection, Process) {
    let mut victim = scene.start(
        cgroup,
        "tell('ready')
stays = sys.stdin.read() == 'stay'
tell('begins')
opens()
tell(time.monotonic())
tell(timed(opens))
while stays and not os.path.exists('FOLDER/go'): time.sleep(0.05)
if stays: tell(timed(opens))",
    );
    scene.line(1);
    let (there, target) = (scene.path("there/x"), cgroup.target());
    let options = opens(
        &there,
        &["--delay", "10s", "--target", &target, "--for", "60s"],
    );
    let injection = Injection::start(&[&["sys-delay"], &options[..]].concat());
    let stdin = victim.0.stdin.as_mut().expect("its input");
    stdin.write_all(how.as_bytes()).expect("write to it");
    go_on(&mut victim);
    scene.line(2);
    // It is asleep by then.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(scene.told().len(), 2, "it does not wait");
    (injection, victim)
}

/// The process that wakes calls for this agent.
#[track_caller]
fn waker(injection: &Injection) -> Pid {
    let agent = injection.agent().pid();
    let children = fs::read_to_string(format!("/proc/{agent}/task/{agent}/children"));
    let children = children.expect("the agent's children");
    let is_waker = |pid: &&str| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|word| word == b"waker")
    };
    let found = children.split_whitespace().find(is_waker).expect("a waker");
    Pid::from_raw(found.parse().expect("a number"))
}

#[track_caller]
fn assert_soon(scene: &Victims, begun: f64, what: &str) {
    let end: f64 = scene.line(3).parse().expect("a time");
    let took = end - begun;
    println!("after {what} it went on within {took:.4} s");
    assert!(took < 0.1, "{took} s after {what}");
}

#[test]
fn the_end_of_the_agent_wakes_everybody() {
    require!(Asleep);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let snapshot = Snapshot::take(&[]);
    let (injection, mut victim) = sleeper(&scene, &cgroup);
    let begun = now();
    let abandoned = injection.abandon();
    assert_soon(&scene, begun, "SIGKILL of the agent");
    victim.wait();
    let next: f64 = scene.line(4).parse().expect("a time");
    assert!(next < 100.0, "{next} ms without an agent");
    snapshot.assert_bpf_gone(false);
    abandoned.clean_up();
    snapshot.assert_clean();
}

#[test]
fn the_end_of_the_waker_wakes_everybody() {
    require!(Asleep);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let (injection, mut victim) = sleeper(&scene, &cgroup);
    let begun = now();
    kill(waker(&injection), Signal::SIGKILL).expect("kill it");
    assert_soon(&scene, begun, "SIGKILL of the waker");
    victim.wait();
    wait::until("the agent's word", || {
        let words = "was killed: none waits any more";
        (injection.agent().logged(words) > 0).then_some(())
    });
    let finished = injection.stop();
    let report = finished.report();
    let rule = report.only();
    // The second one may come before the agent has seen it: it has waited for nothing.
    assert_eq!(rule.injected + rule.errors, 2, "{rule:?}");
    assert_eq!(rule.cut_short, Some(rule.injected), "{rule:?}");
}

#[test]
fn a_stopped_waker_is_ended() {
    require!(Asleep);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let (injection, mut victim) = sleeper(&scene, &cgroup);
    let begun = now();
    kill(waker(&injection), Signal::SIGSTOP).expect("stop it");
    let end: f64 = scene.line(3).parse().expect("a time");
    assert!((1.0..6.0).contains(&(end - begun)), "{} s", end - begun);
    victim.wait();
    let finished = injection.stop();
    assert_eq!(finished.report().only().cut_short, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("did not answer"), "{finished:?}");
}

/// After the lease nobody waits any more, until it goes on.
#[test]
fn a_stopped_agent_lets_everybody_go() {
    require!(Asleep);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let (injection, mut victim) = sleeper_that(&scene, &cgroup, "stay");
    let begun = now();
    injection.agent().signal(Signal::SIGSTOP);
    let end: f64 = scene.line(3).parse().expect("a time");
    assert!((1.0..3.0).contains(&(end - begun)), "{} s", end - begun);
    // The second one comes at once, and waits for nothing.
    let next: f64 = scene.line(4).parse().expect("a time");
    assert!(next < 100.0, "{next} ms without a lease");
    injection.agent().signal(Signal::SIGCONT);
    // It has renewed its lease by then.
    std::thread::sleep(Duration::from_secs(1));
    fs::write(scene.path("go"), "").expect("a file");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(scene.told().len(), 4, "the third one does not wait");
    let rule = injection.stop().rule();
    assert_eq!((rule.injected, rule.cut_short), (2, Some(2)), "{rule:?}");
    victim.wait();
}

#[test]
fn an_orderly_end_wakes_everybody_and_counts_it() {
    require!(Asleep);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let snapshot = Snapshot::take(&[]);
    let (injection, mut victim) = sleeper(&scene, &cgroup);
    let rule = injection.stop().rule();
    assert_eq!((rule.injected, rule.cut_short), (1, Some(1)), "{rule:?}");
    victim.wait();
    snapshot.assert_clean();
}

#[test]
fn a_victim_is_killed_at_once() {
    require!(Asleep);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let (injection, mut victim) = sleeper(&scene, &cgroup);
    let begun = Instant::now();
    kill(Pid::from_raw(victim.pid().cast_signed()), Signal::SIGKILL).expect("kill it");
    victim.wait();
    let took = begun.elapsed();
    println!("after SIGKILL it ended within {took:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert_eq!(injection.stop().rule().cut_short, Some(1));
}
