//! Every call fails that can, for targets that do little else than call: what is beside them goes
//! on, nobody is hit who must not be, and all ends in time.

use std::{
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::{Place, Process},
    require,
    residue::Snapshot,
    victim::{CallVictim, Callers, failures},
    wait,
};

/// Calls in a round.
const COUNT: u64 = 10;

/// How long the calls fail. Whoever sleeps or waits in vain is busy, so that others take longer.
const FAULT: Duration = Duration::from_secs(8);

/// What the victims here call, as far as this kernel can fail it. `?all` would be some 330 programs
/// where each call has one, or all security hooks: half a minute of an emulated processor.
const CALLS: &str = "?%process,?read,?write,?openat,?close,?newfstatat,?mmap,?munmap,?brk,?futex,?socket,?getdents64,\
                     ?clock_nanosleep";

/// Threads that open, read, map memory, connect and fork, whatever becomes of it.
const BUSY: &str = "import mmap, os, socket, threading
def calls():
    while True:
        for call in (lambda: open('/proc/self/stat').read(), lambda: os.listdir('/'),
                     lambda: mmap.mmap(-1, 1 << 20).close(), lambda: socket.socket().close(),
                     lambda: os.write(1, b'x'), os.getpid):
            try: call()
            except (OSError, MemoryError): pass
for _ in range(2): threading.Thread(target=calls).start()
";

/// A shell that starts processes, or tries to.
const LOOP: &str = "while :; do cat /proc/self/stat; ls / | wc -l; done 2>/dev/null";

/// Whether a new process in this group can be started and do its work.
fn works(cgroup: &Cgroup) -> bool {
    let mut command = Place::cgroup(cgroup).command("sh");
    let output = command.args(["-c", "cat /proc/self/stat | wc -l"]).output();
    output.is_ok_and(|output| output.status.success() && output.stdout == b"1\n")
}

#[test]
fn all_that_fails_is_the_targets_and_it_ends_in_time() {
    require!(SysErrno);
    let (cgroup, other) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let place = Place::cgroup(&cgroup);
    let spawn = |program: &str, script| {
        let mut command = place.command(program);
        command.args(["-c", script]).stdout(Stdio::null());
        // What they complain of would hide what the test says.
        Process(command.stderr(Stdio::null()).spawn().expect("a victim"))
    };
    let _victims = (
        spawn("sh", LOOP),
        spawn("python3", BUSY),
        CallVictim::start(place, "openat", Callers::Threads(3)),
    );
    let beside = CallVictim::start(Place::cgroup(&other), "openat", Callers::Threads(3));
    assert!(works(&cgroup) && works(&other));
    let target = cgroup.target();
    let line = ["sys-errno", "--call", CALLS, "--errno", "EIO,ENOMEM"];
    let time = format!("{}s", FAULT.as_secs());
    let begun = Instant::now();
    let injection = Injection::start(&[&line[..], &["--target", &target, "--for", &time]].concat());
    let (in_force, took) = (Instant::now(), begun.elapsed());
    assert!(!works(&cgroup), "a new process is hit too");
    let mut rounds = 0;
    while rounds == 0 || in_force.elapsed() < FAULT {
        assert_eq!(failures(&beside.round(COUNT)), 0, "after {rounds} rounds");
        assert!(works(&other), "after {rounds} rounds");
        rounds += 1;
    }
    // By what the kernel knows: the agent has yet to detach its programs.
    let over = wait::until("the end", || works(&cgroup).then(|| in_force.elapsed()));
    let finished = injection.wait();
    let (rule, ended) = (finished.rule(), in_force.elapsed());
    println!(
        "in force after {took:?}, over after {over:?}, ended after {ended:?}: {rounds} rounds, {rule:?}"
    );
    assert_eq!(finished.report().stopped_by, "deadline");
    assert!(
        rule.injected > 20 && rule.injected == rule.matched,
        "{rule:?}"
    );
    // What is still busy, and a busy host, make whoever looks late.
    assert!(over < 5 * FAULT, "{over:?}");
    beside.assert_unharmed(COUNT);
}

/// The name of PID 1's first thread.
fn name_of_init() -> String {
    let name = std::fs::read_to_string("/proc/1/comm").expect("the name of PID 1");
    name.trim_end().to_owned()
}

/// Waits for a child in vain, under another name, and says how often that failed.
const WAITS: &str = "import ctypes, os, sys
ctypes.CDLL(None).prctl(15, sys.argv[1].encode())
failed = 0
for _ in range(10):
    try: os.waitid(os.P_ALL, 0, os.WEXITED)
    except OSError as error: failed += error.errno == 5
sys.stdout.write('failed %d\\n' % failed)
";

/// PID 1 waits for orphans, under a rule for all of the host that names its own thread: only
/// another one that is called so is hit.
#[test]
fn process_one_is_spared_by_its_id() {
    require!(Override);
    let name = name_of_init();
    let snapshot = Snapshot::take(&[]);
    let line = ["sys-errno", "--call", "wait4,waitid", "--errno", "EIO"];
    let whom = ["--target", "cgroup:/", "--whole-host", "--comm", &name];
    let injection = Injection::start(&[&line[..], &whom, &["--for", "60s"]].concat());
    let orphan = Place::HERE.run("sh", &["-c", "sleep 0.2 >/dev/null & echo $!"]);
    let stat = format!("/proc/{}", orphan.trim());
    wait::until("PID 1", || {
        (!std::path::Path::new(&stat).exists()).then_some(())
    });
    thread::sleep(Duration::from_millis(100));
    let said = Place::HERE.run("python3", &["-c", WAITS, &name]);
    assert_eq!(said, "failed 10\n");
    let rule = injection.stop().rule().clone();
    assert_eq!((rule.matched, rule.injected), (10, 10), "{rule:?}");
    snapshot.assert_clean();
}

/// Kernel threads make no calls, and nobody can name one. The tests' own host may show none.
#[test]
fn kernel_threads_are_no_targets() {
    require!(SysErrno);
    let kthreadd = std::fs::read_to_string("/proc/2/comm").unwrap_or_default();
    assert_eq!(kthreadd, "kthreadd\n");
    let line = ["inject", "sys-errno", "--call", "?all", "--errno", "EIO"];
    let refused = agent::run(&[&line[..], &["--target", "pid:2", "--for", "1s"]].concat());
    assert_eq!(refused.code(), 2, "{refused:?}");
    assert!(refused.stderr.contains("kernel thread"), "{refused:?}");
}
