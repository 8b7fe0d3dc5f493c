//! `clock-offset`: clocks that the command reads are ahead or behind.

use std::{
    fs,
    time::{Duration, Instant},
};

use injector_tests::{
    agent::{self, Agent, Finished, Injection},
    cgroup,
    command::Place,
    require,
    residue::Snapshot,
    resources::guardian_of,
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};
use tempfile::TempDir;

/// How long whoever does not answer is waited for, and some more for a machine that is busy.
const PATIENCE: Duration = Duration::from_millis(3500);

/// Prints monotonic time, boot time, time of day, uptime, and how long a second of sleep took.
const READS: &str = "import time
now = lambda clock: time.clock_gettime(clock)
print(time.monotonic(), now(time.CLOCK_BOOTTIME), time.time(), open('/proc/uptime').read().split()[0])
begun = time.monotonic(); time.sleep(1); print(time.monotonic() - begun)
";

fn seconds(clock: ClockId) -> f64 {
    Duration::from(clock_gettime(clock).expect("a clock")).as_secs_f64()
}

/// What the reads, in the output of an agent, are ahead of the clocks here; and how long it slept.
#[track_caller]
fn ahead(finished: &Finished) -> ([f64; 4], f64) {
    let words: Vec<f64> = finished
        .stdout
        .split_whitespace()
        .map_while(|word| word.parse().ok())
        .collect();
    let [monotonic, boottime, realtime, uptime, slept] = words[..] else {
        panic!("{finished:?}");
    };
    let (here, boot) = (
        seconds(ClockId::CLOCK_MONOTONIC),
        seconds(ClockId::CLOCK_BOOTTIME),
    );
    let ahead = [
        monotonic - here,
        boottime - boot,
        realtime - seconds(ClockId::CLOCK_REALTIME),
        uptime - boot,
    ];
    (ahead, slept)
}

/// They were read some seconds ago.
#[track_caller]
fn assert_about(ahead: [f64; 4], expected: [f64; 4]) {
    for (found, expected) in ahead.into_iter().zip(expected) {
        assert!((-30.0..=0.1).contains(&(found - expected)), "{ahead:?}");
    }
}

/// Both clocks, through a shell: children have them too. Nobody else has, and no sleep is longer.
#[test]
fn clocks_are_ahead_for_the_command_and_its_children() {
    require!(Clocks);
    let snapshot = Snapshot::take(&[]);
    let mut line = vec!["clock-offset", "--by", "2h", "--for", "60s"];
    line.extend(["--", "sh", "-c", "python3 -c \"$0\"; exit 7", READS]);
    let begun = Instant::now();
    let finished = Injection::start(&line).wait();
    let took = begun.elapsed();
    assert_eq!(finished.code(), 7, "{finished:?}");
    let (found, slept) = ahead(&finished);
    assert_about(found, [7200.0, 7200.0, 0.0, 7200.0]);
    assert!(
        slept >= 1.0 && slept <= took.as_secs_f64(),
        "{slept} of {took:?}"
    );
    let rule = &finished.report().rules[0];
    assert_eq!((rule.matched, rule.injected, rule.errors), (1, 1, 0));
    assert_eq!(rule.backend, "timens");
    assert!(rule.problems.is_empty(), "{rule:?}");
    snapshot.assert_clean();
}

/// Two rules for two clocks, one of them behind, and a rule on packets.
#[test]
fn each_clock_has_its_own_offset_beside_other_faults() {
    require!(Clocks);
    let snapshot = Snapshot::take(&[]);
    let spec = "version: 1\nfor: 60s\nrules:\n\
                - {kind: clock-offset, target: command, by: -5s, clock: monotonic}\n\
                - {kind: clock-offset, target: command, by: +1h, clock: boottime}\n\
                - {kind: net-loss, target: command, proto: udp, interface: lo}\n";
    let file = tempfile::NamedTempFile::new().expect("make a file");
    fs::write(file.path(), spec).expect("write a spec");
    let path = file.path().to_str().expect("a path in UTF-8");
    let send = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                for _ in range(3): s.sendto(b'?', ('127.0.0.1', 9))\n";
    let script = [READS, send].concat();
    let line = [
        "run", path, "--output", "json", "--", "python3", "-c", &script,
    ];
    let finished = agent::run(&line);
    let (found, _) = ahead(&finished);
    assert_about(found, [-5.0, 3600.0, 0.0, 3600.0]);
    let injected: Vec<u64> = finished
        .report()
        .rules
        .iter()
        .map(|rule| rule.injected)
        .collect();
    assert_eq!(injected, [1, 1, 3], "{finished:?}");
    snapshot.assert_clean();
}

/// Ignores SIGTERM, as does its child, and writes both their ids into a file.
const STAYS: &str = "trap '' TERM; sleep 1000 & echo $$ $! >\"$0.new\"; mv \"$0.new\" \"$0\"; wait";

/// A command that does so, under a rule.
struct Stays {
    injection: Injection,
    /// The shell and its child.
    pids: Vec<String>,
    snapshot: Snapshot<'static>,
    _folder: TempDir,
}

impl Stays {
    fn start(time: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pids");
        let path = path.to_str().expect("a path in UTF-8");
        let snapshot = Snapshot::take(&[]);
        let line = ["clock-offset", "--by", "2h", "--for", time];
        let injection = Injection::start(&[&line[..], &["--", "sh", "-c", STAYS, path]].concat());
        let pids = wait::until("a command", || fs::read_to_string(path).ok());
        let pids: Vec<String> = pids.split_whitespace().map(str::to_owned).collect();
        assert!(pids.len() == 2 && pids.iter().all(is_there));
        Self {
            injection,
            pids,
            snapshot,
            _folder: folder,
        }
    }
}

/// Waits for the end of processes.
fn await_end(pids: &[String]) {
    wait::until("the end of the command", || {
        (!pids.iter().any(is_there)).then_some(())
    });
}

/// Whether a process runs; one that nobody has waited for yet does not.
fn is_there(pid: &String) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned());
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

#[test]
fn the_deadline_ends_whatever_has_the_clocks() {
    require!(Clocks);
    let Stays {
        injection,
        pids,
        snapshot,
        _folder,
    } = Stays::start("5s");
    let finished = injection.wait();
    assert!(!pids.iter().any(is_there), "{finished:?}");
    assert_eq!(finished.code(), 128 + 9, "{finished:?}");
    assert_eq!(finished.report().stopped_by, "deadline");
    let told = &finished.report().rules[0].problems;
    assert!(told[0].contains("still ran at the end: 2;"), "{told:?}");
    snapshot.assert_clean();
}

/// Whoever told it to end, and however soon it does: it was the deadline.
#[test]
fn a_command_that_the_deadline_ends_at_once_did_not_end_by_itself() {
    require!(Clocks);
    let line = ["clock-offset", "--by", "2h", "--for", "1s"];
    let finished = Injection::start(&[&line[..], &["--", "sleep", "1000"]].concat()).wait();
    assert_eq!(finished.code(), 128 + 15, "{finished:?}");
    assert_eq!(finished.report().stopped_by, "deadline", "{finished:?}");
}

/// A thread that goes on when the first one has ended, as does the process then.
const HEADLESS: &str = "import ctypes, os, sys, threading, time
def stay():
    with open(sys.argv[1] + '.new', 'w') as file: file.write(f'{os.getpid()} {threading.get_native_id()}')
    os.rename(sys.argv[1] + '.new', sys.argv[1])
    time.sleep(1000)
threading.Thread(target=stay).start()
ctypes.CDLL(None).syscall(60, 0)
";

/// Such a process looks as if it had ended.
#[test]
fn a_process_without_its_first_thread_is_ended_too() {
    require!(Clocks);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("thread");
    let path = path.to_str().expect("a path in UTF-8");
    let snapshot = Snapshot::take(&[]);
    let command = ["--", "python3", "-c", HEADLESS, path];
    let line = ["clock-offset", "--by", "2h", "--for", "60s"];
    let injection = Injection::start(&[&line[..], &command].concat());
    let ids = wait::until("a thread", || fs::read_to_string(path).ok());
    let (process, thread) = ids.split_once(' ').expect("two ids");
    let (process, thread) = (process.to_owned(), thread.to_owned());
    // Until then a signal ends it like any other.
    wait::until("the end of its first thread", || {
        (!is_there(&process)).then_some(())
    });
    assert!(is_there(&thread));
    let finished = injection.stop();
    assert!(!is_there(&thread), "{finished:?}");
    let told = &finished.report().rules[0].problems;
    assert!(told[0].contains("killed"), "{told:?}");
    snapshot.assert_clean();
}

/// What ends by itself when it is told to is not killed.
#[test]
fn a_command_may_end_by_itself() {
    require!(Clocks);
    let folder = tempfile::tempdir().expect("a folder");
    let ready = folder.path().join("ready");
    let path = ready.to_str().expect("a path in UTF-8");
    let line = ["clock-offset", "--by", "2h", "--for", "60s"];
    let script = "trap 'exit 5' TERM; : >\"$0\"; while :; do sleep 0.05; done";
    let injection = Injection::start(&[&line[..], &["--", "sh", "-c", script, path]].concat());
    wait::until("a trap", || ready.exists().then_some(()));
    assert_eq!(injection.stop().code(), 5);
}

/// The guardian has seen to it, whom only the end of a pipe tells.
#[test]
fn a_killed_agent_leaves_no_such_clocks() {
    require!(Clocks);
    let Stays {
        injection,
        pids,
        snapshot,
        _folder,
    } = Stays::start("60s");
    let abandoned = injection.abandon();
    await_end(&pids);
    abandoned.clean_up();
    snapshot.assert_clean();
}

/// The guardian keeps the deadline by itself.
#[test]
fn the_deadline_holds_without_an_agent() {
    require!(Clocks);
    let Stays {
        injection,
        pids,
        snapshot,
        _folder,
    } = Stays::start("5s");
    injection.agent().signal(Signal::SIGSTOP);
    await_end(&pids);
    injection.agent().signal(Signal::SIGCONT);
    let finished = injection.wait();
    assert_eq!(finished.report().stopped_by, "deadline", "{finished:?}");
    snapshot.assert_clean();
}

/// The agent does the guardian's work when that is killed.
#[test]
fn a_killed_guardian_leaves_no_such_clocks() {
    require!(Clocks);
    let Stays {
        injection,
        pids,
        snapshot,
        _folder,
    } = Stays::start("60s");
    signal(guardian_of(injection.agent().pid()), Signal::SIGKILL);
    await_end(&pids);
    drop(injection.stop());
    snapshot.assert_clean();
}

#[track_caller]
fn signal(process: u32, signal: Signal) {
    kill(Pid::from_raw(process.cast_signed()), signal).expect("signal a process");
}

/// One that does not answer is ended, and the agent does its work.
#[test]
fn a_stopped_guardian_leaves_no_such_clocks() {
    require!(Clocks);
    let Stays {
        injection,
        pids,
        snapshot,
        _folder,
    } = Stays::start("60s");
    signal(guardian_of(injection.agent().pid()), Signal::SIGSTOP);
    await_end(&pids);
    let finished = injection.wait();
    let told = &finished.report().rules[0].problems;
    assert!(told[0].contains("guardian did not answer"), "{told:?}");
    assert_eq!(finished.code(), 128 + 9, "{finished:?}");
    snapshot.assert_clean();
}

/// Nor is the end waited for much longer.
#[test]
fn a_stopped_guardian_does_not_hold_up_the_end() {
    require!(Clocks);
    let Stays {
        injection,
        pids,
        snapshot,
        _folder,
    } = Stays::start("60s");
    signal(guardian_of(injection.agent().pid()), Signal::SIGSTOP);
    let begun = Instant::now();
    let finished = injection.stop();
    let took = begun.elapsed();
    assert!(took < PATIENCE, "{took:?}");
    assert!(!pids.iter().any(is_there), "{finished:?}");
    snapshot.assert_clean();
}

/// Unwinding ends the guardian, which ends the command as at every other end.
#[test]
fn a_panicking_agent_leaves_no_such_clocks() {
    require!(Clocks);
    let snapshot = Snapshot::take(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let name = folder.path().to_str().expect("a path in UTF-8");
    let line = ["inject", "clock-offset", "--by", "2h", "--for", "60s"];
    let command = ["--", "sh", "-c", "trap '' TERM; sleep 1000; :", name];
    let panics = [("INJECTOR_TEST_PANIC", "run")];
    let finished = Agent::start(Place::HERE, &[&line[..], &command].concat(), &panics).wait();
    let said = finished.stderr.contains("INJECTOR_TEST_PANIC=run");
    assert!(said, "{finished:?}");
    assert_ne!(finished.status.code(), Some(0), "{finished:?}");
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    for process in processes {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        assert!(!words.contains(name), "{words} still runs: {finished:?}");
    }
    snapshot.assert_clean();
}

/// Nobody is left who would end the command. It goes on, and what the injector made is removed.
#[test]
fn stopping_everything_lets_go_what_two_killed_left() {
    require!(Clocks);
    let Stays {
        injection,
        pids,
        snapshot,
        _folder,
    } = Stays::start("60s");
    let guardian = guardian_of(injection.agent().pid());
    // Stopped first, so that it cannot act when its agent dies.
    signal(guardian, Signal::SIGSTOP);
    let abandoned = injection.abandon();
    signal(guardian, Signal::SIGKILL);
    wait::until("the guardian's end", || {
        (!fs::exists(format!("/proc/{guardian}/stat")).unwrap_or(true)).then_some(())
    });
    let cgroup = || {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", pids[0])).expect("cgroups");
        let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
        unified.expect("a cgroup").to_owned()
    };
    let own = cgroup();
    assert!(own.contains("/injector-"), "{own}");
    abandoned.clean_up();
    assert!(pids.iter().all(is_there), "it has been ended");
    let (parent, _) = own.rsplit_once('/').expect("a parent");
    assert_eq!(cgroup(), if parent.is_empty() { "/" } else { parent });
    for pid in &pids {
        signal(pid.parse().expect("an id"), Signal::SIGKILL);
    }
    await_end(&pids);
    snapshot.assert_clean();
}

#[track_caller]
fn refused(line: &[&str], words: &[&str]) {
    let finished = agent::run(&[&["inject", "clock-offset"], line].concat());
    assert_eq!(finished.code(), 2, "{line:?}: {finished:?}");
    for word in words {
        assert!(
            finished.stderr.contains(word),
            "{line:?}: no {word:?} in {finished:?}"
        );
    }
}

#[test]
fn what_no_kernel_can_do_is_refused() {
    require!(Clocks);
    let snapshot = Snapshot::take(&[]);
    let command = ["--for", "1s", "--", "true"];
    let with = |options: &[&str], words: &[&str]| refused(&[options, &command].concat(), words);
    with(
        &["--by", "2h", "--clock", "realtime"],
        &["no namespace", "faketime"],
    );
    // Below 0, and above all that the kernel lets a clock show.
    with(
        &["--by", "-900000h"],
        &["--by", "below 0", "CLOCK_BOOTTIME"],
    );
    with(&["--by", "1281023h53m38s"], &["--by", "146 years"]);
    with(&["--by", "0s"], &["shifts nothing"]);
    with(&["--by", "2h", "--percent", "5"], &["--percent"]);
    let root = format!("cgroup:{}", cgroup::mount_point().display());
    for target in [root.as_str(), "pid:1"] {
        let line = ["--by", "2h", "--target", target, "--for", "1s"];
        refused(&line, &["--target", "runs already", "-- CMD"]);
    }
    snapshot.assert_clean();
}

#[track_caller]
fn file_refused(rules: &str, line: u32, words: &str) {
    let file = tempfile::NamedTempFile::new().expect("make a file");
    fs::write(
        file.path(),
        format!("version: 1\nfor: 9s\nrules:\n{rules}\n"),
    )
    .expect("write a spec");
    let path = file.path().to_str().expect("a path in UTF-8");
    let finished = agent::run(&["plan", path, "--", "true"]);
    assert_eq!(finished.code(), 2, "{finished:?}");
    for words in [words, &format!("{path}:{line}:")] {
        assert!(finished.stderr.contains(words), "{words}: {finished:?}");
    }
}

#[test]
fn rules_that_a_process_cannot_have_are_refused() {
    require!(Clocks);
    let rule = |keys: &str| format!("- {{kind: clock-offset, target: command, {keys}}}\n");
    file_refused(&rule("by: 1h, start: 1s"), 4, "rules[0].start");
    file_refused(&rule("by: 1h, for: 1s"), 4, "rules[0].for");
    let twice = rule("by: 1h") + &rule("by: 1h, clock: boottime");
    file_refused(&twice, 5, "both shift one clock");
    let one_below_0 = rule("by: 1h, clock: boottime") + &rule("by: -900000h, clock: monotonic");
    file_refused(
        &one_below_0,
        5,
        "rules[1].by: -900000h would take a clock below 0",
    );
}
