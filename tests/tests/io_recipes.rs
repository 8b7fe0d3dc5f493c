//! Recipes for what goes wrong with files and resources, as the programs that suffer see it.

use std::{fs, path::Path};

use injector_tests::{
    agent::{self, Finished, Injection},
    cgroup::Cgroup,
    command::Place,
    require,
    victim::{CallVictim, Callers},
    wait,
};
use tempfile::TempDir;

/// A folder with a `disk` in it that is to go wrong, and an `elsewhere`.
struct Bed(TempDir);

impl Bed {
    fn new() -> Self {
        let bed = Self(TempDir::new().expect("a folder"));
        for folder in ["disk/old", "elsewhere"] {
            fs::create_dir_all(bed.path().join(folder)).expect("a folder");
        }
        for file in ["disk/file", "disk/old/file", "elsewhere/file"] {
            fs::write(bed.path().join(file), "text\n").expect("a file");
        }
        bed
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Runs a script of the shell in the folder, under a recipe on the disk.
    #[track_caller]
    fn run(&self, recipe: &[&str], script: &str) -> Finished {
        let disk = self.path().join("disk");
        let disk = disk.to_str().expect("a path in UTF-8");
        let folder = self.path().to_str().expect("a path in UTF-8");
        let script = format!("cd {folder}; export LC_ALL=C; {script}");
        let rest = ["--path", disk, "--for", "60s", "--", "sh", "-c", &script];
        Injection::start(&[recipe, &rest].concat()).wait()
    }

    /// What a command of the script has said.
    fn said(&self, name: &str) -> String {
        fs::read_to_string(self.path().join("elsewhere").join(name)).unwrap_or_default()
    }

    #[track_caller]
    fn assert_said(&self, name: &str, what: &str) {
        let said = self.said(name);
        assert!(said.contains(what), "{name}: {said:?}");
    }
}

#[test]
fn a_disk_that_is_full() {
    require!(Lsm);
    let bed = Bed::new();
    let finished = bed.run(
        &["disk-full"],
        "dd if=/dev/zero of=disk/new bs=1k count=3 2>elsewhere/dd
         mkdir disk/folder 2>elsewhere/mkdir
         ln -s file disk/link 2>elsewhere/ln
         cat disk/file >elsewhere/cat
         mv disk/file disk/moved && rm -r disk/old && echo ok >elsewhere/mv
         dd if=/dev/zero of=elsewhere/new bs=1k count=3 2>elsewhere/dd-there",
    );
    for name in ["dd", "mkdir", "ln"] {
        bed.assert_said(name, "No space left on device");
    }
    bed.assert_said("cat", "text");
    bed.assert_said("mv", "ok");
    bed.assert_said("dd-there", "3072 bytes");
    let report = finished.report();
    let expected = [("disk-full.data", 1, 1), ("disk-full.entries", 2, 2)];
    assert_eq!(report.hits(), expected);
}

#[test]
fn a_file_system_that_became_read_only() {
    require!(Lsm);
    let bed = Bed::new();
    let finished = bed.run(
        &["read-only"],
        "exec 3<disk/file
         echo more 2>elsewhere/append >>disk/file
         echo new 2>elsewhere/create >disk/new
         rm disk/file 2>elsewhere/rm
         mv disk/old disk/older 2>elsewhere/mv
         chmod 700 disk/file 2>elsewhere/chmod
         cat <&3 >elsewhere/cat; ls disk/old >elsewhere/ls
         echo more >>elsewhere/file",
    );
    // The shell says of its own redirections where standard error was, which is not there.
    for name in ["rm", "mv", "chmod"] {
        bed.assert_said(name, "Read-only file system");
    }
    bed.assert_said("cat", "text");
    bed.assert_said("ls", "file");
    bed.assert_said("file", "text\nmore");
    let disk = |name: &str| fs::read_to_string(bed.path().join("disk").join(name)).ok();
    assert_eq!(disk("file").as_deref(), Some("text\n"));
    assert!(!bed.path().join("disk/older").exists());
    // What `open` makes is made before its hook is asked.
    assert_eq!(disk("new").as_deref(), Some(""));
    let report = finished.report();
    let hits = report.hits();
    assert_eq!(
        hits[..2],
        [("read-only.open", 2, 2), ("read-only.data", 0, 0)]
    );
    assert!(hits[2].2 >= 3, "{hits:?}");
}

#[test]
fn reading_fails() {
    require!(Lsm);
    let bed = Bed::new();
    let finished = bed.run(
        &[
            "io-errno",
            "--op",
            "read",
            "--file-name",
            "file",
            "--times",
            "1",
        ],
        "cat disk/file 2>elsewhere/first; cat disk/file >elsewhere/second
         cat elsewhere/file >elsewhere/third; cp disk/old/file disk/copy",
    );
    bed.assert_said("first", "Input/output error");
    bed.assert_said("second", "text");
    bed.assert_said("third", "text");
    let rule = finished.rule();
    assert_eq!((rule.name.as_str(), rule.injected), ("io-errno", 1));
}

/// A target's own root and mounts are where its paths begin.
#[test]
fn files_that_only_the_target_sees() {
    require!(Lsm);
    let bed = Bed::new();
    let disk = bed.path().join("disk");
    let disk = disk.to_str().expect("a path in UTF-8");
    let elsewhere = bed.path().join("elsewhere");
    let elsewhere = elsewhere.to_str().expect("a path in UTF-8");
    let script = format!(
        "mount -t tmpfs mine {disk} && echo own >{disk}/own && touch {elsewhere}/ready
         until [ -e {elsewhere}/go ]; do sleep 0.1; done
         LC_ALL=C cat {disk}/own >{elsewhere}/said 2>&1; touch {elsewhere}/done
         until [ -e {elsewhere}/end ]; do sleep 0.1; done"
    );
    let process = Place::HERE.spawn("unshare", &["-m", "sh", "-c", &script]);
    let is_there = |name: &'static str| {
        wait::until(name, || bed.path().join(name).exists().then_some(()));
    };
    is_there("elsewhere/ready");
    let target = format!("pid:{}", process.pid());
    let injection = Injection::start(&[
        "io-errno",
        "--target",
        &target,
        "--path",
        &format!("{disk}/own"),
        "--for",
        "60s",
    ]);
    fs::write(bed.path().join("elsewhere/go"), "").expect("a file");
    is_there("elsewhere/done");
    let rule = injection.stop().rule();
    fs::write(bed.path().join("elsewhere/end"), "").expect("a file");
    bed.assert_said("said", "Input/output error");
    assert_eq!(rule.injected, 1, "{rule:?}");
}

/// Recipes for resources, on a victim that runs already.
#[track_caller]
fn check_resource(recipe: &str, call: &str, errno: u32) {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let victim = CallVictim::start(Place::cgroup(&cgroup), call, Callers::Threads(2));
    let bystander = CallVictim::start(Place::HERE, call, Callers::One);
    let target = cgroup.target();
    let injection = Injection::start(&[
        recipe, "--target", &target, "--for", "60s", "--when", "1..6+2",
    ]);
    bystander.assert_unharmed(4);
    let seen = victim.round(4);
    let rule = injection.stop().rule();
    assert_eq!((rule.injected, rule.matched >= 12), (3, true), "{rule:?}");
    assert_eq!(
        seen.iter().map(|actor| actor.failures).sum::<u64>(),
        3,
        "{seen:?}"
    );
    assert!(
        seen.iter().all(|actor| [0, errno].contains(&actor.errno)),
        "{seen:?}"
    );
    victim.assert_unharmed(4);
}

#[test]
fn no_further_descriptor() {
    check_resource("fd-exhaustion", "openat", 24);
}

#[test]
fn no_further_memory() {
    check_resource("oom", "mmap", 12);
}

#[test]
fn no_further_process() {
    check_resource("fork-fail", "clone", 11);
}

#[test]
fn recipes_without_a_place_are_refused() {
    for recipe in ["io-errno", "disk-full", "read-only"] {
        let refused = agent::run(&["inject", recipe, "--for", "1s", "--", "true"]);
        assert_eq!(refused.code(), 2, "{refused:?}");
        let said = &refused.stderr;
        assert!(
            said.contains("--path: is missing") && said.contains(recipe),
            "{said}"
        );
    }
}
