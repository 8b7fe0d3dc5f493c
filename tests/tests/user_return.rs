//! `user-return`: functions of programs and libraries do nothing, and return a chosen value.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    process::Stdio,
    time::{Duration, Instant},
};

use injector_tests::{
    agent::{self, Agent, Injection, RuleReport},
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
        "user-return",
        "--function",
        function,
        "--file",
        LIBC,
        "--return",
        value,
    ];
    [&options, rest].concat()
}

/// The same in a file.
fn rule(name: &str, function: &str, rest: &str) -> String {
    format!("- {{name: {name}, kind: user-return, function: {function}, file: {LIBC}, {rest}}}\n")
}

fn document(rules: &str) -> String {
    format!("version: 1\nfor: 90s\nrules:\n{rules}")
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

/// What is told for a function that returns 42.
const HIT: i64 = 42;

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
        Self {
            scene,
            process,
            lines: 0,
        }
    }

    /// One in the test's own cgroup.
    fn beside() -> Self {
        let scene = Victims::new();
        let mut command = Place::HERE.command("/usr/bin/python3");
        command.args(["-S", "-c", &scene.program(ASKS)]);
        let process = Process(command.stdin(Stdio::piped()).spawn().expect("Python"));
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

/// Of several rules on one function the first decides that hits, and each has its own value.
#[test]
fn each_rule_has_its_function_return_its_value() {
    require!(UserReturn);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let mut victim = scene.start(
        &cgroup,
        "import ctypes
lfind = ctypes.CDLL(None).lfind
lfind.restype = ctypes.c_uint64
pid = os.getppid()
tell('ready')
sys.stdin.readline()
heard = [os.getppid() for _ in range(6)]
tell(*heard, *('pid' if os.getppid() == pid else 'another' for _ in range(2)))
tell(hex(lfind(0, 0, 0, 0, 0)))",
    );
    scene.line(1);
    let target = format!("target: '{}'", cgroup.target());
    // A C int is the lower half.
    let values = ["0", "7", "-1", "'0x7fffffff'", "'0xffffffff00000002'"];
    let rules = (0..).zip(values).map(|(n, value)| {
        let rest = format!("return: {value}, times: 1, {target}");
        rule(&format!("r{n}"), "getppid", &rest)
    });
    let mut rules: String = rules.collect();
    rules += &rule(
        "every",
        "getppid",
        &format!("return: 42, when: 1..+2, times: 1, {target}"),
    );
    rules += &rule(
        "far",
        "lfind",
        &format!("return: '0x8123456789abcdef', {target}"),
    );
    let injection = Injection::of_spec(&document(&rules));
    go_on(&mut victim);
    let status = victim.wait();
    let report = injection.stop().report();
    assert!(status.success(), "{status:?}, {report:?}");
    assert_eq!(scene.line(2), "0 7 -1 2147483647 2 42 pid pid");
    assert_eq!(scene.line(3), "0x8123456789abcdef");
    let hits = [
        ("r0", 8, 1),
        ("r1", 7, 1),
        ("r2", 6, 1),
        ("r3", 5, 1),
        ("r4", 4, 1),
        ("every", 3, 1),
        ("far", 1, 1),
    ];
    assert_eq!(report.hits(), hits);
    assert!(
        report
            .rules
            .iter()
            .all(|rule| rule.backend == "uprobe" && rule.errors == 0)
    );
}

/// However the agent ends, whoever calls the function goes on, and nothing comes of it any more.
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

    let injection = Injection::start(&options);
    for _ in 0..5 {
        assert_eq!(victim.parent(), HIT);
        beside.assert_unharmed(1);
    }
    assert_counts(&injection.stop().rule(), (5, 5, 0, 0));
    snapshot.assert_clean();
    victim.assert_unharmed(3);

    let injection = Injection::start(&options);
    assert_eq!(victim.parent(), HIT);
    let abandoned = injection.abandon();
    snapshot.assert_bpf_gone(false);
    victim.assert_unharmed(3);
    beside.assert_unharmed(3);
    abandoned.clean_up();
    snapshot.assert_clean();

    let injection = Injection::start(&options);
    injection.agent().signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    let mut hits = 0;
    wait::until("the lease's end", || {
        let spared = victim.parent() != HIT;
        hits += u64::from(!spared);
        spared.then_some(())
    });
    let lasted = stopped.elapsed();
    assert!(
        hits > 0 && lasted < Duration::from_secs(4),
        "{hits} in {lasted:?}"
    );
    // The program is still there, and lets it go on.
    victim.assert_unharmed(5);
    beside.assert_unharmed(3);
    assert_eq!(state(injection.agent().pid()), 'T');
    injection.agent().signal(Signal::SIGCONT);
    assert_counts(&injection.stop().rule(), (hits, hits, 0, 0));
    snapshot.assert_clean();

    let deadline = returns("getppid", "42", &["--target", &target, "--for", "1s"]);
    let finished = Injection::start(&deadline).wait();
    assert_eq!(finished.report().stopped_by, "deadline");
    snapshot.assert_clean();
    victim.assert_unharmed(3);
    victim.end();
    beside.end();
}

/// Nor does a run that comes to nothing leave anything.
#[test]
fn what_ends_half_way_leaves_nothing() {
    require!(UserReturn);
    let cgroup = Cgroup::new("victim");
    let mut victim = Asked::start(&cgroup);
    victim.assert_unharmed(1);
    let snapshot = Snapshot::take(&[]);
    let target = cgroup.target();
    let options = returns("getppid", "42", &["--target", &target, "--for", "60s"]);
    let line = [&["inject"], &options[..]].concat();
    for (variable, value) in [
        // What was attached, and what was in force.
        ("INJECTOR_TEST_FAIL_PART", "4"),
        ("INJECTOR_TEST_FAIL_PART", "5"),
        ("INJECTOR_TEST_KILL_PART", "5"),
        ("INJECTOR_TEST_PANIC", "apply"),
        ("INJECTOR_TEST_PANIC", "run"),
    ] {
        let finished = Agent::start(Place::HERE, &line, &[(variable, value)]).wait();
        assert_ne!(finished.status.code(), Some(0), "{finished:?}");
        if variable == "INJECTOR_TEST_KILL_PART" {
            assert_eq!(finished.status.signal(), Some(Signal::SIGKILL as i32));
            snapshot.assert_bpf_gone(false);
            assert_eq!(agent::run(&["stop", "--all"]).code(), 0);
        } else {
            let said = format!("{variable}={value}");
            assert!(finished.stderr.contains(&said), "{finished:?}");
        }
        snapshot.assert_clean();
        victim.assert_unharmed(2);
    }
    victim.end();
}

/// A process and what it forks, thread by thread; and a rule that only counts.
#[test]
fn threads_are_counted_by_themselves() {
    require!(UserReturn);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let mut victim = scene.start(
        &cgroup,
        "pid = os.getppid()
tell('ready')
sys.stdin.read()
def work(): tell(*('hit' if os.getppid() == 42 else 'not' for _ in range(4)))
for _ in range(2): in_threads(1, work)
if os.fork() == 0:
    tell(*('hit' if os.getppid() == 42 else 'not' for _ in range(4)))
    os._exit(0)
tell('ended', os.wait()[1])",
    );
    scene.line(1);
    let target = format!("target: 'pid:{}'", victim.pid());
    let counts = rule(
        "counts",
        "getppid",
        &format!("return: 1, shadow: true, {target}"),
    );
    let hits = rule(
        "hits",
        "getppid",
        &format!("return: 42, per: thread, when: 3, {target}"),
    );
    let injection = Injection::of_spec(&document(&(counts + &hits)));
    go_on(&mut victim);
    let status = victim.wait();
    let report = injection.stop().report();
    assert!(status.success(), "{status:?}, {report:?}");
    let expected = ["not not hit not"; 3];
    assert_eq!(scene.told()[1..4], expected, "{report:?}");
    assert_eq!(scene.line(5), "ended 0");
    assert_eq!(report.hits(), [("counts", 12, 0), ("hits", 12, 3)]);
}

/// Two agents on one function: whoever is asked second knows that it is not the function any more.
#[test]
fn another_agents_hit_is_left_alone() {
    require!(UserReturn);
    let cgroup = Cgroup::new("victim");
    let mut victim = Asked::start(&cgroup);
    let target = cgroup.target();
    let rest = ["--target", &target, "--for", "60s", "--when", "1..+2"];
    let first = Injection::start(&returns("getppid", "42", &rest));
    let second = Injection::start(&returns("getppid", "43", &rest));
    let heard: Vec<i64> = (0..8).map(|_| victim.parent()).collect();
    let (first, second) = (first.stop().rule(), second.stop().rule());
    let of = |value| heard.iter().filter(|&&known| known == value).count() as u64;
    assert_eq!(
        (of(42), of(43)),
        (first.injected, second.injected),
        "{heard:?}"
    );
    // The one that the kernel asks first sees them all, and the other those that go on.
    let mut matched = [first.matched, second.matched];
    matched.sort_unstable();
    assert_eq!(matched, [4, 8], "{first:?}, {second:?}");
    victim.assert_unharmed(2);
    victim.end();
}

/// Rules that come, change their function and go while the experiment runs.
#[test]
fn rules_change_while_it_runs() {
    require!(UserReturn);
    let cgroup = Cgroup::new("victim");
    let mut victim = Asked::start(&cgroup);
    let snapshot = Snapshot::take(&[]);
    let target = format!("target: '{}'", cgroup.target());
    let file = tempfile::NamedTempFile::new().expect("make a file");
    let write = |rules: &str| {
        let new = file.path().with_extension("new");
        fs::write(&new, document(rules)).expect("write a file");
        fs::rename(&new, file.path()).expect("replace a file");
    };
    let of =
        |function: &str, value: &str| rule("r", function, &format!("return: {value}, {target}"));
    write(&of("getuid", "1"));
    let path = file.path().to_str().expect("a path in UTF-8");
    let line = ["run", path, "--watch", "--output", "json"];
    let injection = Injection::from_agent(Agent::start(Place::HERE, &line, &[]));
    victim.assert_unharmed(2);
    let mut changes = 0;
    let mut change = |rules: &str| {
        changes += 1;
        write(rules);
        wait::until("the change", || {
            (injection.agent().logged("changed: ") >= changes).then_some(())
        });
    };
    change(&of("getppid", "42"));
    assert_eq!([victim.parent(), victim.parent()], [HIT; 2]);
    change(&of("getppid", "43"));
    assert_eq!(victim.parent(), 43);
    change(&of("getuid", "1"));
    victim.assert_unharmed(2);
    change(&of("getppid", "44"));
    assert_eq!(victim.parent(), 44);
    let report = injection.stop().report();
    assert_eq!(report.hits(), [("r", 4, 4)]);
    snapshot.assert_clean();
    victim.assert_unharmed(2);
    victim.end();
}

#[test]
fn what_cannot_be_had_return_is_refused_with_the_reason() {
    let folder = Victims::new();
    let script = folder.path("there/script");
    fs::write(&script, "#!/bin/sh\n").expect("a file");
    let program = folder.path("there/x86");
    // A header of a 32-bit program.
    fs::write(
        &program,
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0",
    )
    .expect("a file");
    let missing = folder.path("none.so");
    let there = folder.path("there");
    let refused = |function: &str, file: &str, value: &str, code: i32, says: &str| {
        let line = [
            "inject",
            "user-return",
            "--function",
            function,
            "--file",
            file,
            "--return",
            value,
            "--for",
            "1s",
            "--",
            "true",
        ];
        let finished = agent::run(&line);
        assert_eq!(finished.code(), code, "{line:?}: {finished:?}");
        assert!(finished.stderr.contains(says), "{line:?}: {finished:?}");
    };
    refused("malloc", "libc.so.6", "0", 2, "is not absolute");
    refused(
        "malloc",
        &missing,
        "0",
        2,
        "cannot be read by the target: No such file",
    );
    refused("malloc", &there, "0", 2, "it is no regular file");
    refused("malloc", "/dev/zero", "0", 2, "it is no regular file");
    refused("malloc", &script, "0", 2, "is no ELF file");
    refused("malloc", &program, "0", 2, "is no ELF file of 64 bits");
    refused("mallocs", LIBC, "0", 2, "did you mean malloc");
    refused("memcpy", LIBC, "0", 2, "IFUNC");
    refused("environ", LIBC, "0", 2, "is data");
    refused("malloc@GLIBC_2.2.5", LIBC, "0", 2, "has a version in it");
    refused("malloc", LIBC, "0x10000000000000000", 2, "64 bits");
    refused("malloc", LIBC, "NULL", 2, "64 bits");
    if Feature::UserReturn.available().is_err() {
        refused(
            "malloc",
            LIBC,
            "0",
            3,
            "may write the registers of whoever comes by; found",
        );
    }
}
