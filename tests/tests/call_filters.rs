//! Conditions on calls: which file they are about, what their arguments are, and who makes them.

use std::{fs, path::Path};

use injector_tests::{
    actor::paths::{self, Outcomes},
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    require,
    victim::{BoardFile, CallVictim, Callers},
};
use tempfile::TempDir;

const EROFS: u32 = 30;

/// The calls by which the victim goes to files.
const CALLS: &str = "open,openat,openat2,mkdir,rename";

/// Those of them that are about a file that is there.
const OPENS: &str = "open,openat,openat2";

/// What becomes of a victim that goes every way, under a rule with these conditions. `FOLDER` in
/// them stands for the folder that the victim is in.
#[track_caller]
fn outcomes_under(calls: &str, conditions: &[&str]) -> Outcomes {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().to_str().expect("a path in UTF-8");
    paths::prepare(folder.path()).expect("files");
    let place = TempDir::new().expect("a folder");
    let written = place.path().join("outcomes");
    let conditions: Vec<String> = conditions
        .iter()
        .map(|word| word.replace("FOLDER", path))
        .collect();
    let mut args = vec![
        "sys-errno",
        "--call",
        calls,
        "--errno",
        "EROFS",
        "--for",
        "60s",
    ];
    args.extend(conditions.iter().map(String::as_str));
    let file = BoardFile::new();
    let command = file.command(&[
        "paths",
        "--folder",
        path,
        "--outcomes",
        written.to_str().expect("a path in UTF-8"),
    ]);
    args.push("--");
    args.extend(command.iter().map(String::as_str));
    let finished = Injection::start(&args).wait();
    let rule = finished.rule();
    let text = fs::read(&written).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    let outcomes: Outcomes = serde_json::from_slice(&text).expect("JSON");
    let failed = outcomes.values().filter(|&&errno| errno != 0).count();
    assert!(
        outcomes.values().all(|errno| [0, EROFS].contains(errno)),
        "{outcomes:?}"
    );
    // Each of them was counted, and nothing else.
    assert_eq!(
        (rule.matched, rule.injected),
        (failed as u64, failed as u64),
        "{outcomes:?}"
    );
    outcomes
}

/// Checks that these ways fail, and no other.
#[track_caller]
fn check(conditions: &[&str], wanted: &[&str]) {
    check_calls(CALLS, conditions, wanted);
}

#[track_caller]
fn check_calls(calls: &str, conditions: &[&str], wanted: &[&str]) {
    require!(Lsm);
    let outcomes = outcomes_under(calls, conditions);
    let failed = outcomes.iter().filter(|(_, errno)| **errno != 0);
    let failed: Vec<&str> = failed.map(|(way, _)| way.as_str()).collect();
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    assert_eq!(failed, wanted);
}

/// The ways that lead below the folder, as long as nothing in it moves.
const INSIDE: [&str; 14] = [
    "a directory in it",
    "a file below it",
    "a file in it",
    "a new file in it",
    "by a bind mount",
    "by a link to the folder",
    "by a symbolic link",
    "by dots",
    "by the link of a descriptor",
    "from its descriptor",
    "from it as root",
    "moving one in",
    "moving one out",
    "up from the other's",
];

#[test]
fn no_way_below_a_folder_escapes() {
    check(&["--path", "FOLDER/in"], &INSIDE);
}

#[test]
fn a_file_is_itself_by_whatever_link() {
    check(
        &["--path", "FOLDER/in/a.wal"],
        &[
            "a file in it",
            "by a hard link",
            "by a link to the folder",
            "by a symbolic link",
            "by dots",
            "from its descriptor",
            "from it as root",
            "up from the other's",
        ],
    );
}

#[test]
fn what_is_left_out_is_not_hit() {
    check(
        &[
            "--path",
            "FOLDER",
            "--path",
            "!FOLDER/in",
            "--file-name",
            "*.log",
        ],
        // By then what has moved is beside it.
        &["another beside it", "what may have moved out"],
    );
}

#[test]
fn files_by_their_names() {
    check(
        &["--file-name", "c.wal", "--path", "FOLDER"],
        &["a file beside it"],
    );
    check_calls(
        OPENS,
        &[
            "--file-name",
            "!*.wal",
            "--path",
            "FOLDER/out",
            "--file-type",
            "file",
        ],
        // The new file is made before it is refused, so that its name is one.
        &[
            "a new file beside it",
            "another beside it",
            "by a hard link",
            "what may have moved out",
        ],
    );
}

/// Of the two entries of a rename one has the path and the other the name.
#[test]
fn one_entry_has_to_meet_all_conditions() {
    check(&["--path", "FOLDER/out", "--file-name", "moved"], &[]);
}

#[test]
fn the_effective_user_counts() {
    require!(Lsm);
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().to_str().expect("a path in UTF-8");
    let program = format!(
        "import os
os.chmod('{path}', 0o777)
def tried():
    try:
        os.mkdir('{path}/a')
        os.rmdir('{path}/a')
        return 'made'
    except OSError as error:
        return error.errno
before = tried()
os.seteuid(65534)
during = tried()
os.seteuid(0)
open('{path}/said', 'w').write(repr([before, during, tried()]))"
    );
    let finished = Injection::start(&[
        "sys-errno",
        "--call",
        "mkdir",
        "--errno",
        "EROFS",
        "--uid",
        "65534",
        "--for",
        "60s",
        "--",
        "python3",
        "-S",
        "-c",
        &program,
    ])
    .wait();
    let said = fs::read_to_string(folder.path().join("said")).unwrap_or_default();
    assert_eq!(said, "['made', 30, 'made']", "{finished:?}");
}

#[test]
fn files_by_what_they_are_open_for() {
    check_calls(
        OPENS,
        &[
            "--path",
            "FOLDER/out",
            "--access",
            "write",
            "--arg",
            "2&O_CREAT",
        ],
        &["a new file beside it"],
    );
}

#[test]
fn calls_by_their_arguments_and_callers() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let victim = CallVictim::start(Place::cgroup(&cgroup), "write", Callers::Threads(2));
    let conditions = [
        ("arg: '2==16'", true),
        ("arg: '2>16'", false),
        ("arg: ['2&0x30', '2<=16', '2>=16', '2!&O_WRONLY']", true),
        ("arg: ['2==16', '0==AT_FDCWD']", false),
        ("uid: '0'", true),
        ("uid: 70000..80000", false),
        ("uid: '!0'", false),
        ("comm: injector-victim", true),
        ("comm: '!injector-victim'", false),
        ("comm: injector", false),
    ];
    // Rules that match and never hit, so that none hides what the next one matches.
    let rule = |(condition, _): &(&str, bool)| {
        let target = cgroup.target();
        format!(
            "- {{kind: sys-errno, call: write, errno: EIO, target: '{target}', when: '100000', {condition}}}\n"
        )
    };
    let rules: String = conditions.iter().map(rule).collect();
    let injection = Injection::of_spec(&format!("version: 1\nfor: 60s\nrules:\n{rules}"));
    victim.assert_unharmed(10);
    let report = injection.stop().report();
    for ((condition, matches), rule) in conditions.iter().zip(&report.rules) {
        let expected = if *matches { 30 } else { 0 };
        assert_eq!((rule.matched, rule.injected), (expected, 0), "{condition}");
    }
}

/// Where calls can be overridden, a call that no security hook stands for is known by its
/// descriptor.
#[test]
fn a_descriptor_leads_to_its_file() {
    require!(Override);
    require!(Lsm);
    let cgroup = Cgroup::new("victim");
    let victim = CallVictim::start(Place::cgroup(&cgroup), "fsync", Callers::EarlyFamily);
    let target = cgroup.target();
    for (path, fails) in [(victim.folder(), true), (Path::new("/proc"), false)] {
        let path = path.to_str().expect("a path in UTF-8");
        let injection = Injection::start(&[
            "sys-errno",
            "--call",
            "fsync",
            "--errno",
            "EIO",
            "--for",
            "60s",
            "--target",
            &target,
            "--path",
            path,
        ]);
        let seen = victim.round(5);
        let rule = injection.stop().rule();
        let calls = 5 * seen.len() as u64;
        let failed: u64 = seen.iter().map(|actor| actor.failures).sum();
        assert_eq!(failed, if fails { calls } else { 0 }, "{path}: {seen:?}");
        assert_eq!((rule.matched, rule.backend.as_str()), (failed, "kprobe"));
    }
}
