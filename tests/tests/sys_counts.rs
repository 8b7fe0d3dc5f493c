//! Which calls of which process or thread a rule hits, counted exactly while many threads race.

use std::{collections::BTreeMap, fs};

use aya::maps::{HashMap, Map, MapData, loaded_maps};
use injector_common::names::{MAP_TURNS, MAX_TURNS};
use injector_tests::{
    agent::{Injection, RuleReport},
    cgroup::Cgroup,
    command::Place,
    ledger::Ledger,
    require,
    victim::{CallVictim, Callers, Seen, failures},
};
use nix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

/// Threads of a victim, on the two processors of a virtual machine.
const THREADS: u64 = 64;

/// A victim in a group of its own, under a rule on its calls of `mkdir`.
fn inject(cgroup: &Cgroup, trigger: &[&str]) -> Injection {
    let target = cgroup.target();
    let rule = ["sys-errno", "--call", "mkdir", "--errno", "EDQUOT"];
    let whom = ["--target", &target, "--for", "60s"];
    Injection::start(&[&rule[..], &whom, trigger].concat())
}

/// A victim of 64 threads, in a group of its own.
fn threads() -> (Cgroup, CallVictim) {
    let cgroup = Cgroup::new("victim");
    let callers = Callers::Threads(63);
    let victim = CallVictim::start(Place::cgroup(&cgroup), "mkdir", callers);
    (cgroup, victim)
}

/// Which calls of each failed.
fn failed(seen: &[Seen]) -> Vec<&[u64]> {
    seen.iter().map(|actor| &*actor.failed_calls).collect()
}

#[test]
fn each_thread_is_hit_at_its_third_call() {
    require!(SysErrno);
    let (cgroup, victim) = threads();
    let folder = TempDir::new().expect("a folder");
    let ledger = folder.path().join("hits.jsonl");
    let path = ledger.to_str().expect("a path in UTF-8");
    let injection = inject(
        &cgroup,
        &["--when", "3", "--per", "thread", "--ledger", path],
    );
    let seen = victim.round(20);
    assert!(failed(&seen).iter().all(|calls| *calls == [3]), "{seen:?}");
    // It goes on where it was.
    victim.assert_unharmed(20);
    let rule = injection.stop().rule();
    let counted = (rule.matched, rule.injected, rule.errors);
    assert_eq!(counted, (2 * 20 * THREADS, THREADS, 0), "{rule:?}");
    let mut told = BTreeMap::new();
    for hit in Ledger::read(&ledger).hits {
        assert_eq!(hit["n"], 3, "{hit}");
        *told.entry(hit["tid"].as_u64()).or_insert(0) += 1;
    }
    assert_eq!(told.len() as u64, THREADS, "{told:?}");
}

/// What a kernel that preempts programs asks no rule about is told, of all callers together.
#[test]
fn every_call_is_counted_or_told_to_be_missed() {
    require!(SysErrno);
    let (cgroup, victim) = threads();
    let injection = inject(&cgroup, &["--when", "1000"]);
    let seen = victim.round(200);
    let made = 200 * seen.len() as u64;
    let finished = injection.stop();
    let (rule, missed) = (finished.rule(), finished.report().missed_calls);
    println!("of {made} calls {missed:?} were missed");
    let told = rule.matched..=rule.matched + missed.unwrap_or(0);
    assert!(told.contains(&made), "{made}: {rule:?}, {missed:?}");
}

#[test]
fn each_process_is_hit_at_its_third_call() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let callers = Callers::EarlyFamily;
    let victim = CallVictim::start(Place::cgroup(&cgroup), "mkdir", callers);
    let bystander = CallVictim::start(Place::HERE, "mkdir", callers);
    let injection = inject(&cgroup, &["--when", "3", "--per", "process"]);
    let seen = victim.round(20);
    bystander.assert_unharmed(20);
    let rule = injection.stop().rule();
    let counted = (rule.matched, rule.injected);
    // The first thread and two others; a child; a grandchild.
    assert_eq!(counted, (20 * seen.len() as u64, 3), "{rule:?}");
    let [_, child, grandchild, ..] = &failed(&seen)[..] else {
        panic!("{seen:?}");
    };
    assert_eq!((*child, *grandchild), (&[3][..], &[3][..]), "{seen:?}");
    assert_eq!(failures(&seen), 3, "{seen:?}");
}

/// Processes that are forked under the rule begin with their first call, and the one that has
/// forked them does not begin again.
#[test]
fn the_first_call_of_each_process() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let callers = Callers::LateFamily;
    let victim = CallVictim::start(Place::cgroup(&cgroup), "mkdir", callers);
    let injection = inject(&cgroup, &["--when", "1", "--per", "process"]);
    let hits: Vec<u64> = (0..3).map(|_| failures(&victim.round(5))).collect();
    // The first process is hit in the first round, its child and grandchild in each.
    assert_eq!(hits, [3, 2, 2]);
    assert_eq!(injection.stop().rule().injected, 7);
}

/// The budget is the rule's, whoever spends it.
#[test]
fn times_is_exact_with_64_threads() {
    require!(SysErrno);
    let (cgroup, victim) = threads();
    for trigger in [
        &["--times", "50"][..],
        &["--times", "50", "--when", "2+", "--per", "thread"],
    ] {
        let injection = inject(&cgroup, trigger);
        let seen = victim.round(20);
        let finished = injection.wait();
        assert_eq!(failures(&seen), 50, "{trigger:?}");
        assert_eq!(finished.report().stopped_by, "budget");
        assert_eq!(finished.rule().injected, 50);
    }
}

/// Runs a command that says what became of its calls, and what the rule counted.
fn told(program: &str, trigger: &[&str]) -> (String, RuleReport) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().to_str().expect("a path in UTF-8");
    let text = format!(
        "import os, sys, threading
def tried():
    try:
        os.mkdir('{path}/%d' % threading.get_native_id())
        os.rmdir('{path}/%d' % threading.get_native_id())
        return '.'
    except OSError as error:
        return 'x'
def say(text):
    open('{path}/said', 'a').write(text)
{program}"
    );
    let script = folder.path().join("program.py");
    fs::write(&script, text).expect("a script");
    let script = script.to_str().expect("a path in UTF-8");
    let rule = [
        "sys-errno",
        "--call",
        "mkdir",
        "--errno",
        "EDQUOT",
        "--for",
        "60s",
    ];
    let command = ["--", "python3", "-SB", script];
    let finished = Injection::start(&[&rule[..], trigger, &command].concat()).wait();
    let said = fs::read_to_string(folder.path().join("said"));
    let said = said.unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    (said, finished.rule())
}

/// Each thread begins with its first call, whichever id it has got.
#[test]
fn threads_that_follow_each_other_are_others() {
    require!(SysErrno);
    let (said, rule) = told(
        "for number in range(300):
    thread = threading.Thread(target=lambda: say(tried() + tried() + tried()))
    thread.start()
    thread.join()",
        &["--when", "2", "--per", "thread"],
    );
    assert_eq!(said, ".x.".repeat(300));
    assert_eq!((rule.matched, rule.injected), (900, 300), "{rule:?}");
}

/// A process stays the same when it executes a program, also from a thread that is not its
/// first.
#[test]
fn a_process_goes_on_counting_when_it_executes() {
    require!(SysErrno);
    for by in ["again()", "threading.Thread(target=again).start()"] {
        let (said, rule) = told(
            &format!(
                "def again():
    os.execv(sys.executable, ['python3', '-SB', sys.argv[0], 'again'])
say(tried() + tried())
if len(sys.argv) == 1:
    {by}"
            ),
            &["--when", "3", "--per", "process"],
        );
        assert_eq!(said, "..x.", "{by}");
        assert_eq!((rule.matched, rule.injected), (4, 1), "{rule:?}");
    }
}

/// A process begins anew with each program, by its `execve`, and so does one that was forked.
#[test]
fn a_program_begins_anew_in_the_same_process() {
    require!(SysErrno);
    for (by, hits) in [
        ("again()", 1),
        ("threading.Thread(target=again).start()", 1),
    ] {
        let (said, rule) = told(
            &format!(
                "def again():
    os.execv(sys.executable, ['python3', '-SB', sys.argv[0], 'again'])
say(tried() + tried())
if len(sys.argv) == 1:
    {by}
else:
    say(tried())"
            ),
            &["--when", "3", "--per", "program"],
        );
        assert_eq!(said, "....x", "{by}");
        assert_eq!((rule.matched, rule.injected), (5, hits), "{rule:?}");
    }
    let (said, rule) = told(
        "count = int(sys.argv[1]) if len(sys.argv) > 1 else 0
say(tried() + tried())
if count < 5: os.execv(sys.executable, ['python3', '-SB', sys.argv[0], str(count + 1)])
if os.fork(): os.wait()
else: say(tried() + tried())",
        &["--when", "1", "--per", "program"],
    );
    assert_eq!(said, "x.".repeat(7));
    assert_eq!((rule.matched, rule.injected), (14, 7), "{rule:?}");
}

/// The turns of the newest injector.
fn turns() -> HashMap<MapData, u64, u64> {
    let maps = loaded_maps().map(|map| map.expect("a map's description"));
    let ours = maps.filter(|map| map.name_as_str() == Some(MAP_TURNS));
    // The kernel frees those of earlier agents when it finds the time.
    let newest = ours.map(|map| map.id()).max().expect("turns");
    let map = MapData::from_id(newest).expect("turns");
    Map::HashMap(map).try_into().expect("a hash table")
}

/// Whoever has ended takes no room, and those that live go on counting.
#[test]
fn who_ends_is_forgotten() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let callers = Callers::LateFamily;
    let victim = CallVictim::start(Place::cgroup(&cgroup), "mkdir", callers);
    for (per, living) in [("thread", 3), ("process", 1)] {
        let injection = inject(&cgroup, &["--when", "1", "--per", per]);
        for _ in 0..10 {
            let _ = victim.round(2);
        }
        // Those that live, and how many there were; the last child may not have ended yet.
        let kept = turns().keys().count();
        assert!((living + 1..=living + 3).contains(&kept), "{per}: {kept}");
        assert_eq!(
            injection.stop().rule().injected,
            living as u64 + 20,
            "{per}"
        );
    }
}

/// Nor does a program whose process has left it for another.
#[test]
fn a_program_that_is_left_is_forgotten() {
    require!(SysErrno);
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().to_str().expect("a path in UTF-8");
    let script = format!(
        "import os, sys, time
count = int(sys.argv[1])
try: os.mkdir('{path}/x')
except OSError: open('{path}/%d' % count, 'w')
if count < 7: os.execv(sys.executable, ['python3', '-SB', sys.argv[0], str(count + 1)])
time.sleep(1000)"
    );
    fs::write(folder.path().join("script"), script).expect("a script");
    let cgroup = Cgroup::new("victim");
    let injection = inject(&cgroup, &["--when", "1", "--per", "program"]);
    let script = format!("{path}/script");
    let _victim = Place::cgroup(&cgroup).spawn("python3", &["-SB", &script, "1"]);
    injector_tests::wait::until("the last program", || {
        folder.path().join("7").exists().then_some(())
    });
    // The last one, and how many there were.
    assert_eq!(turns().keys().count(), 2);
    assert_eq!(injection.stop().rule().injected, 7);
}

/// Whoever cannot be counted is not hit, and that is told.
#[test]
fn a_caller_without_room_is_an_error() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let known = CallVictim::start(Place::cgroup(&cgroup), "mkdir", Callers::One);
    let late = CallVictim::start(Place::cgroup(&cgroup), "mkdir", Callers::One);
    let injection = inject(&cgroup, &["--when", "6", "--per", "process"]);
    known.assert_unharmed(5);
    let mut turns = turns();
    // Keys are hashes: small ones are nobody's.
    let filled = (1..=u64::from(MAX_TURNS)).take_while(|key| turns.insert(key, 0, 0).is_ok());
    assert!(filled.count() + 2 >= MAX_TURNS as usize);
    late.assert_unharmed(10);
    let seen = known.round(2);
    assert_eq!(failed(&seen), [&[1]], "{seen:?}");
    let report = injection.stop().report();
    let rule = report.only();
    let counted = (rule.matched, rule.injected, rule.errors, rule.passed);
    assert_eq!(counted, (17, 1, 10, 6), "{rule:?}");
}

/// Nanoseconds since the system started.
fn boot_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the time");
    u64::try_from(now.tv_sec() * 1_000_000_000 + now.tv_nsec()).expect("after the start")
}

/// 64 threads that note the time around each call that fails: none fails before the rule could be
/// on, and none after it is off.
#[test]
fn no_hit_before_the_rule_and_none_after() {
    require!(SysErrno);
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().to_str().expect("a path in UTF-8");
    let program = format!(
        "import os, threading, time
boot = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
calls, hits = [0] * {THREADS}, [[] for _ in range({THREADS})]
def work(number):
    folder = '{path}/%d' % number
    while not os.path.exists('{path}/end'):
        before = boot()
        try:
            os.mkdir(folder)
        except OSError:
            hits[number].append((before, boot()))
        else:
            os.rmdir(folder)
        calls[number] += 1
threads = [threading.Thread(target=work, args=(number,)) for number in range({THREADS})]
for thread in threads: thread.start()
while not all(calls): time.sleep(0.01)
open('{path}/begun', 'w')
for thread in threads: thread.join()
hits = sum(hits, [])
first, last = min(hits, default=(0, 0)), max(hits, default=(0, 0))
open('{path}/said.new', 'w').write('%d %d %d %d' % (len(hits), first[1], last[0], sum(calls)))
os.rename('{path}/said.new', '{path}/said')"
    );
    let cgroup = Cgroup::new("victim");
    let _victim = Place::cgroup(&cgroup).spawn("python3", &["-SB", "-c", &program]);
    let there = |name: &str| {
        injector_tests::wait::until(name, || folder.path().join(name).exists().then_some(()));
    };
    there("begun");
    let on = boot_ns();
    let injection = inject(&cgroup, &["--when", "2+3", "--per", "thread"]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let rule = injection.stop().rule();
    let off = boot_ns();
    // The victim goes on, and would see more.
    std::thread::sleep(std::time::Duration::from_millis(300));
    fs::write(folder.path().join("end"), "").expect("the end");
    there("said");
    let said = fs::read_to_string(folder.path().join("said")).expect("what it saw");
    let said: Vec<u64> = said.split(' ').filter_map(|n| n.parse().ok()).collect();
    let [hits, first, last, calls] = said[..] else {
        panic!("{said:?}");
    };
    assert!(
        rule.injected > 0 && calls > rule.matched,
        "{said:?} {rule:?}"
    );
    assert_eq!(hits, rule.injected, "{rule:?}");
    assert!(
        on <= first && last <= off,
        "{on} <= {first}, {last} <= {off}"
    );
}
