//! `sys-delay`: system calls take longer, for the thread that makes them.
//!
//! Times are held against bounds of milliseconds, in virtual machines whose clock counts
//! instructions.

use std::{
    fs::{self, File},
    time::{Duration, Instant},
};

use injector_tests::{
    agent::{self, Injection, RuleReport},
    cgroup::Cgroup,
    python::{Victims, go_on, next},
    require,
};

/// The opens of the file.
fn opens<'a>(there: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["--call", "openat", "--path", there], rest].concat()
}

#[track_caller]
fn assert_all_hit(rule: &RuleReport, hits: u64) {
    let counts = (rule.matched, rule.injected, rule.errors, rule.cut_short);
    assert_eq!(counts, (hits, hits, 0, Some(0)), "{rule:?}");
}

fn sorted(mut times: Vec<f64>) -> Vec<f64> {
    times.sort_by(f64::total_cmp);
    times
}

#[test]
fn a_call_takes_as_long_as_was_asked_for() {
    require!(Asleep);
    for (delay, ms, count) in [
        ("1ms", 1.0, 100),
        ("5ms", 5.0, 60),
        ("50ms", 50.0, 20),
        ("500ms", 500.0, 4),
    ] {
        let scene = Victims::new();
        let there = scene.path("there/x");
        let finished = scene.run(
            "sys-delay",
            &opens(&there, &["--delay", delay]),
            &format!("for _ in range({count}): tell(timed(opens))"),
        );
        let times = sorted(scene.numbers());
        let rule = finished.rule();
        assert_eq!(rule.backend, "asleep");
        assert_all_hit(&rule, count);
        let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        println!("{delay}: {least:.3}, {median:.3}, {most:.3} ms");
        assert!(least >= ms, "{least} ms of {delay}");
        assert!(median < ms + 1.5, "{median} ms of {delay}");
        assert!(most < ms + 10.0, "{most} ms of {delay}");
    }
}

/// Many threads on few processors: each waits by itself, and takes no processor time.
#[test]
fn every_thread_waits_and_nobody_else() {
    require!(Asleep);
    let scene = Victims::new();
    let there = scene.path("there/x");
    let beside = scene.path("there/new");
    let cgroup = Cgroup::new("victim");
    let mut victim = scene.start(
        &cgroup,
        "tell('ready')
sys.stdin.read()
times = []
def work():
    for _ in range(10): times.append(timed(opens))
begun, busy = time.monotonic(), time.process_time()
in_threads(8, work)
tell(len(times), min(times), time.monotonic() - begun, time.process_time() - busy)",
    );
    scene.line(1);
    let target = cgroup.target();
    let options = opens(
        &there,
        &["--delay", "100ms", "--target", &target, "--for", "60s"],
    );
    let injection = Injection::start(&[&["sys-delay"], &options[..]].concat());
    go_on(&mut victim);
    // In the same folder and with the same file, all the while.
    let mut longest = Duration::ZERO;
    while victim.ended().is_none() {
        let begun = Instant::now();
        File::open(&there).expect("open");
        File::create(&beside).expect("make");
        fs::rename(&beside, scene.path("there/other")).expect("rename");
        fs::remove_file(scene.path("there/other")).expect("remove");
        longest = longest.max(begun.elapsed());
    }
    let line = scene.line(2);
    let seen: Vec<f64> = line
        .split(' ')
        .map(|word| word.parse().expect(word))
        .collect();
    assert_all_hit(&injection.stop().rule(), 80);
    assert_eq!(seen[0], 80.0);
    assert!(seen[1] >= 100.0, "{line}");
    assert!((1.0..1.5).contains(&seen[2]), "all at once: {line}");
    assert!(seen[3] < 0.5, "of 8 s that they waited: {line}");
    println!("{line}, a bystander's round took {longest:?} at most");
    assert!(longest < Duration::from_millis(60), "{longest:?}");
}

/// Who is due later lies down again when it is woken with others.
#[test]
fn different_waits_do_not_mix() {
    require!(Asleep);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let mut victim = scene.start(
        &cgroup,
        "tell('ready')
sys.stdin.read()
def work(name, count):
    def opens(): os.close(os.open('FOLDER/there/' + name, os.O_RDONLY))
    for _ in range(count): tell(name, timed(opens))
threads = [threading.Thread(target=work, args=('xy'[n % 2], [3, 30][n % 2])) for n in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()",
    );
    scene.line(1);
    let (x, y, target) = (
        scene.path("there/x"),
        scene.path("there/y"),
        cgroup.target(),
    );
    let injection = Injection::of_spec(&format!(
        "version: 1
for: 60s
rules:
- {{name: x, kind: sys-delay, call: openat, path: ['{x}'], delay: 400ms, target: '{target}'}}
- {{name: y, kind: sys-delay, call: openat, path: ['{y}'], delay: 20ms, target: '{target}'}}
"
    ));
    go_on(&mut victim);
    victim.wait();
    let report = injection.stop().report();
    assert_eq!(report.hits(), [("x", 9, 9), ("y", 90, 90)]);
    for line in &scene.told()[1..] {
        let (name, time) = line.split_once(' ').expect("two words");
        let wanted = if name == "x" { 400.0 } else { 20.0 };
        let time: f64 = time.parse().expect("a number");
        assert!((wanted..wanted + 15.0).contains(&time), "{line}");
    }
}

#[test]
fn a_jittery_delay_is_spread() {
    require!(Asleep);
    let scene = Victims::new();
    let there = scene.path("there/x");
    let options = ["--delay", "20ms", "--jitter", "15ms", "--seed", "7"];
    let finished = scene.run(
        "sys-delay",
        &opens(&there, &options),
        "for _ in range(60): tell(timed(opens))",
    );
    assert_all_hit(&finished.rule(), 60);
    let times = sorted(scene.numbers());
    assert!(times[0] >= 5.0 && times[0] < 9.0, "{times:?}");
    assert!(times[59] < 40.0 && times[59] > 31.0, "{times:?}");
    assert!((15.0..25.0).contains(&times[30]), "{times:?}");
}

#[test]
fn no_signal_but_a_fatal_one_ends_a_wait() {
    require!(Asleep);
    let scene = Victims::new();
    let there = scene.path("there/x");
    let finished = scene.run(
        "sys-delay",
        &opens(&there, &["--delay", "300ms"]),
        "count = [0]
def handler(*_): count[0] += 1
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.02)
time = timed(opens)
signal.setitimer(signal.ITIMER_REAL, 0)
tell(time, count[0])",
    );
    assert_all_hit(&finished.rule(), 1);
    let seen = scene.numbers();
    assert!((300.0..310.0).contains(&seen[0]), "{seen:?}");
    assert!(seen[1] >= 1.0, "no signal came: {seen:?}");
}

#[test]
fn nobody_waits_beyond_the_end_of_a_rule() {
    require!(Asleep);
    let scene = Victims::new();
    let there = scene.path("there/x");
    let program = scene.program("tell(timed(opens))\ntell(timed(opens))");
    let options = opens(&there, &["--delay", "10s", "--for", "2s"]);
    let rest = ["--", "python3", "-S", "-c", &program];
    let rule = Injection::start(&[&["sys-delay"], &options[..], &rest].concat())
        .wait()
        .rule();
    assert_eq!((rule.injected, rule.cut_short), (1, Some(1)), "{rule:?}");
    let told = scene.line(1);
    assert!(told.parse::<f64>().expect("a time") < 2_100.0, "{told}");
}

/// Neither while it waits nor afterwards.
#[test]
fn the_victims_cgroup_pays_no_memory() {
    require!(Asleep);
    require!(Controllers);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let mut victim = scene.start(
        &cgroup,
        "together = threading.Barrier(17)
def work():
    for count in (20, 20, 1):
        together.wait()
        for _ in range(count): opens()
        together.wait()
threads = [threading.Thread(target=work) for _ in range(16)]
for thread in threads: thread.start()
for phase in range(3):
    tell(phase)
    sys.stdin.readline()
    together.wait()
    together.wait()
tell('done')",
    );
    let used = || {
        // Small changes get into the file every two seconds only.
        std::thread::sleep(Duration::from_millis(2500));
        let stat = fs::read_to_string(cgroup.path().join("memory.stat")).expect("memory.stat");
        let of = |key: &str| {
            let line = stat.lines().find_map(|line| line.strip_prefix(key));
            line.map_or(0, |value| value.trim().parse::<i64>().expect("a number"))
        };
        [of("file "), of("pagetables ")]
    };
    let (there, target) = (scene.path("there/x"), cgroup.target());
    let delayed = |delay| {
        let options = opens(
            &there,
            &["--delay", delay, "--target", &target, "--for", "60s"],
        );
        Injection::start(&[&["sys-delay"], &options[..]].concat())
    };
    scene.line(1);
    next(&mut victim);
    scene.line(2);
    let before = used();
    let injection = delayed("10ms");
    next(&mut victim);
    scene.line(3);
    assert_all_hit(&injection.stop().rule(), 320);
    let after = used();
    let injection = delayed("6s");
    next(&mut victim);
    let meanwhile = used();
    assert_eq!(scene.told().len(), 3, "they do not wait");
    scene.line(4);
    assert_all_hit(&injection.stop().rule(), 16);
    println!("file and page tables: {before:?}, {after:?} afterwards, {meanwhile:?} meanwhile");
    assert_eq!(after, before);
    assert_eq!(meanwhile, before);
}

/// First it waits, then it fails.
#[test]
fn a_call_can_wait_and_fail() {
    require!(Asleep);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let mut victim = scene.start(
        &cgroup,
        "tell('ready')
sys.stdin.read()
def fails():
    try: opens()
    except OSError as error: tell(error.errno)
tell(timed(fails))",
    );
    scene.line(1);
    let (there, target) = (scene.path("there/x"), cgroup.target());
    let injection = Injection::of_spec(&format!(
        "version: 1
for: 60s
rules:
- {{kind: sys-delay, call: openat, path: ['{there}'], delay: 80ms, target: '{target}'}}
- {{kind: sys-errno, call: openat, path: ['{there}'], errno: EIO, target: '{target}'}}
"
    ));
    go_on(&mut victim);
    victim.wait();
    let report = injection.stop().report();
    let hits: Vec<u64> = report.rules.iter().map(|rule| rule.injected).collect();
    assert_eq!(hits, [1, 1], "{report:?}");
    assert_eq!(scene.line(2), "5");
    let took: f64 = scene.line(3).parse().expect("a time");
    assert!((80.0..95.0).contains(&took), "{took} ms");
}

/// Other hooks than that of an open.
#[test]
fn calls_on_sockets_and_others_wait_too() {
    require!(Asleep);
    for (calls, program) in [
        ("connect", "ours.connect(address)"),
        ("sendto,sendmsg", "ours.sendto(b'x', address)"),
        (
            "bind",
            "socket.socket(socket.AF_INET).bind(('127.0.0.1', 0))",
        ),
        ("newfstatat,stat,statx", "os.stat(there)"),
        ("mmap", "mmap.mmap(-1, 1 << 22)"),
        ("flock", "fcntl.flock(out, fcntl.LOCK_SH)"),
        ("readlink,readlinkat", "os.readlink('/proc/self/exe')"),
    ] {
        let scene = Victims::new();
        let finished = scene.run(
            "sys-delay",
            &["--call", calls, "--delay", "40ms", "--comm", "victim"],
            &format!(
                "import fcntl, mmap, socket
theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
theirs.bind(('127.0.0.1', 0))
address = theirs.getsockname()
ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def call(): {program}
call()
named = os.open('/proc/self/comm', os.O_WRONLY)
os.write(named, b'victim')
time = timed(call)
os.write(named, b'python3')
tell(time)"
            ),
        );
        let rule = finished.rule();
        assert_eq!(
            (rule.matched, rule.injected, rule.errors),
            (1, 1, 0),
            "{calls}: {rule:?}"
        );
        let took = scene.numbers()[0];
        assert!((40.0..52.0).contains(&took), "{calls}: {took} ms");
    }
}

/// Where programs may take the place of calls, every call can wait: as many threads at once as
/// there are programs in which they do.
#[test]
fn calls_wait_at_their_entry() {
    require!(FmodRet);
    let scene = Victims::new();
    let there = scene.path("there");
    let finished = scene.run(
        "sys-delay",
        &["--call", "fsync", "--delay", "50ms", "--path", &there],
        "times = []
def work():
    file = os.open(there, os.O_RDWR)
    for _ in range(10): times.append(timed(lambda: os.fsync(file)))
begun, busy = time.monotonic(), time.process_time()
in_threads(8, work)
tell(len(times), min(times), max(times), time.monotonic() - begun, time.process_time() - busy)
os.fsync(out)",
    );
    let rule = finished.rule();
    assert_eq!(rule.backend, "asleep");
    assert_all_hit(&rule, 80);
    let seen = scene.numbers();
    println!("{seen:?}");
    assert!(seen[1] >= 50.0 && seen[2] < 75.0, "{seen:?}");
    assert!(seen[3] < 0.8 && seen[4] < 0.4, "{seen:?}");
}

/// Those for which there is no program any more go on, and count as errors.
#[test]
fn too_many_at_an_entry_are_told() {
    require!(FmodRet);
    let scene = Victims::new();
    let finished = scene.run(
        "sys-delay",
        &["--call", "fdatasync", "--delay", "500ms"],
        "times = []
def work():
    for _ in range(2): times.append(timed(lambda: os.fdatasync(out)))
in_threads(100, work)
tell(sum(time >= 500 for time in times))",
    );
    assert_eq!(finished.code(), 0, "{finished:?}");
    let report = finished.report();
    let rule = report.only();
    let waited: u64 = scene.line(1).parse().expect("a number");
    assert_eq!(rule.matched, 200);
    assert!(rule.errors > 0, "{rule:?}");
    // What is left over from a thread's last call is not known to be.
    assert!(
        rule.injected >= waited && rule.injected + rule.errors == 200,
        "{rule:?}, {waited}"
    );
    assert!(waited >= 64, "{waited}");
}

#[test]
fn every_call_can_wait_busy() {
    require!(SysSignal);
    let scene = Victims::new();
    let options = ["--call", "getpgid", "--delay", "700us", "--wait", "busy"];
    let finished = scene.run(
        "sys-delay",
        &options,
        "for _ in range(50): tell(timed(lambda: os.getpgid(0)))",
    );
    let rule = finished.rule();
    assert_eq!(rule.backend, "busy");
    assert_all_hit(&rule, 50);
    let times = sorted(scene.numbers());
    println!("{:.3} to {:.3} ms", times[0], times[49]);
    assert!(times[0] >= 0.7 && times[25] < 1.5, "{times:?}");
}

#[test]
fn what_cannot_wait_is_refused_with_the_reason() {
    let refused = |words: &str| {
        let mut args = vec!["inject", "sys-delay"];
        args.extend(words.split(' '));
        args.extend(["--for", "1s", "--", "true"]);
        agent::run(&args)
    };
    for (words, says) in [
        ("--call openat --delay 0s", "out of range"),
        ("--call openat --delay 11s", "out of range"),
        (
            "--call openat --delay 5ms --wait busy",
            "nothing else would run",
        ),
        (
            "--call openat --delay 5ms --jitter 6ms",
            "more than the delay",
        ),
        ("--call openat --delay 5ms --wait around", "asleep, busy"),
    ] {
        let finished = refused(words);
        assert_eq!(finished.code(), 2, "{finished:?}");
        assert!(finished.stderr.contains(says), "{words}: {finished:?}");
    }
    if injector_tests::kernel::Feature::FmodRet.available().is_ok() {
        return;
    }
    // No security hook, and too long for a processor.
    let finished = refused("--call fsync --delay 5ms");
    assert_eq!(finished.code(), 3, "{finished:?}");
    for says in ["asleep: ", "busy: it is longer than 1ms"] {
        assert!(finished.stderr.contains(says), "{finished:?}");
    }
}

/// A slow disk: what lies elsewhere is not, nor a pipe.
#[test]
fn io_delay_makes_a_disk_slow() {
    require!(FmodRet);
    let scene = Victims::new();
    let there = scene.path("there");
    let finished = scene.run(
        "io-delay",
        &["--path", &there, "--delay", "30ms"],
        "file = os.open(there, os.O_RDWR)
ends = os.pipe()
def elsewhere():
    os.write(ends[1], b'x')
    os.read(ends[0], 1)
for call in (lambda: os.write(file, b'x'), lambda: os.pread(file, 1, 0), lambda: os.fsync(file), elsewhere):
    tell(timed(call))",
    );
    assert_all_hit(&finished.rule(), 3);
    let times = scene.numbers();
    assert!(
        times[..3].iter().all(|time| (30.0..42.0).contains(time)),
        "{times:?}"
    );
    assert!(times[3] < 20.0, "{times:?}");
}
