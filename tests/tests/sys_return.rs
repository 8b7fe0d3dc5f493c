//! `sys-return`: system calls do nothing, and succeed.

use std::fs;

use aya::maps::{Array, Map, MapData, loaded_maps};
use injector_common::{RuleSlot, names::MAP_RULES};
use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::Feature,
    python::{Victims, go_on},
    require,
    residue::Snapshot,
    victim::{CallVictim, Callers},
};

/// What a rule is asked for here: a kind, a call, a value.
fn lies<'a>(call: &'a str, value: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["--call", call, "--value", value], rest].concat()
}

#[track_caller]
fn assert_counts(rule: &agent::RuleReport, counts: (u64, u64, u64, u64)) {
    let found = (rule.matched, rule.injected, rule.passed, rule.errors);
    assert_eq!(found, counts, "{rule:?}");
}

/// Its caller is told that it is gone, every other time.
#[test]
fn a_file_that_was_removed_is_still_there() {
    require!(Override);
    let scene = Victims::new();
    let finished = scene.run(
        "sys-return",
        &lies("unlink", "0", &["--when", "2..+2"]),
        "names = [f'FOLDER/there/{n}' for n in range(10)]
for name in names: os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
for name in names: os.unlink(name)
tell(*(n for n in range(10) if os.path.exists(names[n])))",
    );
    assert_eq!(scene.line(1), "1 3 5 7 9", "{finished:?}");
    let rule = finished.rule();
    assert_counts(&rule, (10, 5, 5, 0));
    assert_eq!(rule.backend, "kprobe");
}

/// All of it, or as much as the rule says, and never more than there was to write.
#[test]
fn a_write_is_lost() {
    require!(Override);
    for (rung, value, told) in [
        ("kprobe", "length", "1000 7"),
        ("kprobe", "100", "100 7"),
        ("kprobe", "0", "0 0"),
        ("fmod_ret", "length", "1000 7"),
        ("fmod_ret", "2147479552", "1000 7"),
    ] {
        let scene = Victims::new();
        let there = scene.path("there");
        let options = ["--path", &there, "--rung", rung];
        let finished = scene.run(
            "sys-return",
            &lies("pwrite64", value, &options),
            "file = os.open(there, os.O_WRONLY)
tell(os.pwrite(file, b'x' * 1000, 0), os.pwrite(file, b'x' * 7, 0))
tell(os.pwrite(out, b'', 0), os.pwrite(file, b'', 0))",
        );
        assert_eq!(scene.told(), [told, "0 0"], "{value}: {finished:?}");
        assert_eq!(
            fs::read(scene.path("there/x")).expect("a file"),
            b"",
            "{value}"
        );
        // One for no byte at all has nothing to lose, unless 0 is what it returns.
        let hits = if value == "0" { 3 } else { 2 };
        let rule = finished.rule();
        assert_counts(&rule, (hits, hits, 0, 0));
        assert_eq!(rule.backend, rung);
    }
}

/// The end of a file that has not ended, for one thread and by its own count.
#[test]
fn a_reader_is_told_that_there_is_no_more() {
    require!(Override);
    let scene = Victims::new();
    fs::write(scene.path("there/x"), "0123456789").expect("a file");
    let there = scene.path("there/x");
    let options = ["--path", &there, "--per", "thread", "--when", "4"];
    let finished = scene.run(
        "sys-return",
        &lies("read", "0", &options),
        "seen = []
def work():
    file, text = os.open(there, os.O_RDONLY), b''
    while byte := os.read(file, 1): text += byte
    seen.append(text.decode())
in_threads(3, work)
tell(*seen)",
    );
    assert_eq!(scene.line(1), "012 012 012", "{finished:?}");
    assert_counts(&finished.rule(), (12, 3, 9, 0));
}

/// Beside one that does the same, for as long as the rule lasts, and no more often than it may.
#[test]
fn nobody_else_is_misled() {
    require!(Override);
    let cgroup = Cgroup::new("victim");
    let snapshot = Snapshot::take(&[]);
    let victim = CallVictim::start(Place::cgroup(&cgroup), "mkdir", Callers::Threads(2));
    let bystander = CallVictim::start(Place::HERE, "mkdir", Callers::One);
    let target = cgroup.target();
    let options = lies(
        "mkdir",
        "0",
        &["--times", "4", "--target", &target, "--for", "60s"],
    );
    let injection = Injection::start(&[&["sys-return"], &options[..]].concat());
    bystander.assert_unharmed(3);
    let rounds = victim.round(5);
    // Each makes the folder and removes it: what was not made is missed then.
    let missed: u64 = rounds.iter().map(|actor| actor.failures).sum();
    let report = injection.wait().report();
    let rule = report.only();
    assert_eq!(
        (rule.injected, rule.errors, missed),
        (4, 0, 4),
        "{rule:?}, {rounds:?}"
    );
    victim.assert_unharmed(3);
    drop((victim, bystander));
    snapshot.assert_clean();
}

/// The first rule that hits decides.
#[test]
fn of_several_rules_the_first_decides() {
    require!(Override);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let mut victim = scene.start(
        &cgroup,
        "tell('ready')
sys.stdin.read()
def call():
    try: os.fsync(out)
    except OSError as error: return error.errno
    return 0
tell(*(call() for _ in range(6)))",
    );
    scene.line(1);
    let target = cgroup.target();
    let injection = Injection::of_spec(&format!(
        "version: 1
for: 60s
rules:
- {{name: lies, kind: sys-return, call: fsync, value: 0, when: 2..+2, target: '{target}'}}
- {{name: fails, kind: sys-errno, call: fsync, errno: EIO, target: '{target}'}}
"
    ));
    go_on(&mut victim);
    victim.wait();
    let report = injection.stop().report();
    assert_eq!(report.hits(), [("lies", 6, 3), ("fails", 3, 3)]);
    assert_eq!(scene.line(2), "5 0 5 0 5 0");
}

/// Whatever lies in the map, nobody gets an address or an error of the kernel's own.
#[test]
fn garbage_for_a_rule_is_no_more_than_was_asked_for() {
    require!(Override);
    let scene = Victims::new();
    let cgroup = Cgroup::new("victim");
    let mut victim = scene.start(
        &cgroup,
        "tell('ready')
sys.stdin.read()
file = os.open(there, os.O_WRONLY)
tell(os.pwrite(file, b'x' * 1000, 0))",
    );
    scene.line(1);
    let target = cgroup.target();
    let options = lies("pwrite64", "3", &["--target", &target, "--for", "60s"]);
    let injection = Injection::start(&[&["sys-return"], &options[..]].concat());
    let maps = loaded_maps().map(|map| map.expect("a map's description"));
    let ours = maps.filter(|map| map.name_as_str() == Some(MAP_RULES));
    let newest = ours.map(|map| map.id()).max().expect("a table of rules");
    let map = MapData::from_id(newest).expect("the table of rules");
    let mut rules: Array<_, RuleSlot> = Map::Array(map).try_into().expect("an array");
    let mut slot = rules.get(&0, 0).expect("a rule");
    for version in &mut slot.versions {
        version.params = [u64::MAX; 4];
    }
    rules.set(0, slot, 0).expect("write a rule");
    go_on(&mut victim);
    victim.wait();
    assert_eq!(scene.line(2), "1000");
    assert_counts(&injection.stop().rule(), (1, 1, 0, 0));
}

#[test]
fn what_cannot_be_pretended_is_refused_with_the_reason() {
    let refused = |words: &str, code: i32, says: &str| {
        let mut args = vec!["inject", "sys-return"];
        args.extend(words.split(' '));
        args.extend(["--for", "1s", "--", "true"]);
        let finished = agent::run(&args);
        assert_eq!(finished.code(), code, "{words}: {finished:?}");
        assert!(finished.stderr.contains(says), "{words}: {finished:?}");
    };
    refused("--call mmap --value 0", 2, "as an address");
    refused("--call openat --value 3", 2, "as a descriptor");
    refused("--call fork --value 0", 2, "takes itself for the child");
    refused("--call setuid --value 0", 2, "rights");
    refused("--call fsync --value 1", 2, "nothing but 0");
    refused("--call write --value short", 2, "caller's registers");
    refused(
        "--call write --value 2147479553",
        2,
        "0 to 2147479552, or length",
    );
    refused("--call write --value -1", 2, "0 to 2147479552, or length");
    // What no kernel could do.
    refused(
        "--call fsync --value 0 --rung lsm",
        2,
        "--rung: `lsm` is not for fsync on any kernel: at a security hook a call can fail, and not succeed",
    );
    refused("--call fsync --value 0 --rung fmod_ret", 2, "lets it go on");
    refused("--call ?mmap,?fork --value 0", 2, "as an address");
    refused(
        "--call unlink --value 0 --path /tmp",
        2,
        "--path: is not for unlink on any kernel",
    );
    if Feature::Override.available().is_err() {
        refused(
            "--call fsync --value 0",
            3,
            "a call can fail, and not succeed",
        );
        refused(
            "--call fsync --value 0 --rung kprobe",
            3,
            "kprobe, or fmod_ret",
        );
    }
}
