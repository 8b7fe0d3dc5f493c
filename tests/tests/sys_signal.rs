//! `sys-signal`: system calls bring a signal to whoever makes them.

use std::{fs, path::Path};

use injector_tests::{
    agent::{self, Finished, Injection},
    cgroup::Cgroup,
    command::Place,
    require,
    residue::Snapshot,
    victim::{CallVictim, Callers},
};
use tempfile::TempDir;

/// Runs a program of Python that writes what it saw into `out`, under a rule with these options.
#[track_caller]
fn python(folder: &Path, options: &[&str], program: &str) -> Finished {
    let folder = folder.to_str().expect("a path in UTF-8");
    let program = program.replace("FOLDER", folder);
    let rest = ["--for", "60s", "--", "python3", "-S", "-c", &program];
    Injection::start(&[&["sys-signal"], options, &rest].concat()).wait()
}

fn seen(folder: &Path) -> String {
    fs::read_to_string(folder.join("out")).unwrap_or_default()
}

/// A call that no security hook stands for, and that no kernel of Debian's lets anybody fail.
#[test]
fn the_handler_runs_for_chosen_calls() {
    require!(SysSignal);
    let folder = TempDir::new().expect("a folder");
    let finished = python(
        folder.path(),
        &["--call", "getpgid", "--signal", "USR1", "--when", "3..7+2"],
        "import os, signal
calls = []
signal.signal(signal.SIGUSR1, lambda *_: calls.append(n))
for n in range(1, 11):
    assert os.getpgid(0) > 0
open('FOLDER/out', 'w').write(repr(calls))",
    );
    assert_eq!(seen(folder.path()), "[3, 5, 7]", "{finished:?}");
    let rule = finished.rule();
    assert_eq!((rule.matched, rule.injected, rule.errors), (10, 3, 0));
    assert_eq!(rule.backend, "kprobe");
}

/// A write looks for a fatal signal before it begins, so that nothing is written any more.
#[test]
fn a_process_is_killed_in_its_fourth_write() {
    require!(SysSignal);
    let folder = TempDir::new().expect("a folder");
    let finished = python(
        folder.path(),
        &["--call", "pwrite64", "--signal", "SIGKILL", "--when", "4"],
        "import os
out = os.open('FOLDER/out', os.O_CREAT | os.O_WRONLY)
for n in range(10):
    os.pwrite(out, b'x', n)",
    );
    assert_eq!(seen(folder.path()), "xxx", "{finished:?}");
    assert_eq!(finished.code(), 128 + 9);
    assert_eq!(finished.report().only().injected, 1);
}

#[test]
fn only_calls_about_a_file() {
    require!(SysSignal);
    require!(Lsm);
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("there");
    fs::create_dir(&path).expect("a folder");
    let path = path.to_str().expect("a path in UTF-8");
    let finished = python(
        folder.path(),
        &["--call", "openat,open", "--signal", "15", "--path", path],
        "import os, signal
count = [0]
def handler(*_): count[0] += 1
signal.signal(signal.SIGTERM, handler)
for name in ['there/a', 'b', 'there/c', 'd']:
    os.close(os.open('FOLDER/' + name, os.O_CREAT | os.O_WRONLY))
open('FOLDER/out', 'w').write(str(count[0]))",
    );
    assert_eq!(seen(folder.path()), "2", "{finished:?}");
    let rule = finished.rule();
    assert_eq!((rule.matched, rule.injected), (2, 2), "{rule:?}");
    assert_eq!(rule.backend, "lsm");
}

/// A rule that has the call fail does not hide one that signals, nor the other way about.
#[test]
fn a_call_that_fails_brings_its_signal_too() {
    require!(SysSignal);
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let victim = CallVictim::start(Place::cgroup(&cgroup), "mkdir", Callers::Threads(2));
    let bystander = CallVictim::start(Place::HERE, "mkdir", Callers::One);
    let target = cgroup.target();
    // A signal that is ignored by default.
    let injection = Injection::of_spec(&format!(
        "version: 1
for: 60s
rules:
- {{kind: sys-errno, call: mkdir, errno: EDQUOT, target: '{target}'}}
- {{kind: sys-signal, call: mkdir, signal: WINCH, target: '{target}', times: 5}}
"
    ));
    bystander.assert_unharmed(4);
    let seen = victim.round(4);
    let report = injection.stop().report();
    assert!(
        seen.iter()
            .all(|actor| (actor.failures, actor.errno) == (4, 122)),
        "{seen:?}"
    );
    let hits: Vec<u64> = report.rules.iter().map(|rule| rule.injected).collect();
    assert_eq!(hits, [12, 5], "{report:?}");
    victim.assert_unharmed(4);
}

/// However it ends, no program stays, and no signal comes any more.
#[test]
fn its_end_leaves_nothing() {
    require!(SysSignal);
    let cgroup = Cgroup::new("victim");
    let victim = CallVictim::start(Place::cgroup(&cgroup), "mkdir", Callers::One);
    let snapshot = Snapshot::take(&[]);
    let target = cgroup.target();
    let rule = [
        "sys-signal",
        "--call",
        "mkdir",
        "--signal",
        "WINCH",
        "--target",
        &target,
    ];
    for options in [&["--for", "2s"][..], &["--for", "60s", "--times", "4"]] {
        let injection = Injection::start(&[&rule, options].concat());
        victim.assert_unharmed(5);
        assert!(injection.wait().rule().injected >= 4);
        snapshot.assert_clean();
    }
    let injection = Injection::start(&[&rule[..], &["--for", "60s"]].concat());
    victim.assert_unharmed(5);
    let abandoned = injection.abandon();
    snapshot.assert_bpf_gone(false);
    abandoned.clean_up();
    snapshot.assert_clean();
    victim.assert_unharmed(5);
}

#[test]
fn what_stops_is_refused() {
    for signal in ["SIGSTOP", "TTIN", "0", "32", "SIGWHAT"] {
        let refused = agent::run(&[
            "inject",
            "sys-signal",
            "--call",
            "read",
            "--signal",
            signal,
            "--for",
            "1s",
            "--",
            "true",
        ]);
        assert_eq!(refused.code(), 2, "{refused:?}");
        assert!(refused.stderr.contains("signal"), "{refused:?}");
    }
}
