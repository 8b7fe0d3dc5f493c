//! `io-limit`: the target reads and writes a disk so fast and no faster.

use std::{
    fs::File,
    path::PathBuf,
    time::{Duration, Instant},
};

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    require,
    residue::Snapshot,
    resources::{await_value, enable, read, write},
};
use tempfile::NamedTempFile;

/// A disk whose content is a file, gone on drop.
struct Disk {
    node: String,
    _file: NamedTempFile,
}

impl Disk {
    fn new() -> Self {
        let file = NamedTempFile::new().expect("make a file");
        File::set_len(file.as_file(), 16 << 20).expect("a file of zeros");
        let path = file.path().to_str().expect("a path in UTF-8");
        let node = Place::HERE.run("losetup", &["--find", "--show", path]);
        Self {
            node: node.trim().to_owned(),
            _file: file,
        }
    }

    /// Reads half a mebibyte around the page cache; how long that takes.
    fn read(&self, cgroup: &Cgroup) -> Duration {
        let from = format!("if={}", self.node);
        let begun = Instant::now();
        let line = [&from, "of=/dev/null", "iflag=direct", "bs=64k", "count=8"];
        let done = Place::cgroup(cgroup).output("dd", &line);
        assert!(done.status.success(), "{done:?}");
        begun.elapsed()
    }

    /// Its numbers, as `io.max` has them.
    fn numbers(&self) -> String {
        let name = PathBuf::from(&self.node);
        let name = name.file_name().expect("a name").to_str().expect("a name");
        let text = std::fs::read_to_string(format!("/sys/block/{name}/dev")).expect("numbers");
        text.trim().to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Place::HERE.output("losetup", &["--detach", &self.node]);
    }
}

#[track_caller]
fn limit(cgroup: &Cgroup, disk: &str) -> Injection {
    let target = cgroup.target();
    let line = [
        "io-limit",
        "--target",
        &target,
        "--device",
        disk,
        "--read-bps",
        "256kib",
    ];
    Injection::start(&[&line[..], &["--for", "60s"]].concat())
}

#[test]
fn reads_take_their_time() {
    require!(Controllers);
    enable("io");
    let disk = Disk::new();
    let (cgroup, other) = (Cgroup::new("victim"), Cgroup::new("bystander"));
    let snapshot = Snapshot::take(&[]);
    let numbers = disk.numbers();
    // A limit of somebody else's for what the rule does not name.
    write(&cgroup, "io.max", &format!("{numbers} wiops=1000"));
    let before = read(&cgroup, "io.max");
    let injection = limit(&cgroup, &disk.node);
    let set = format!("{numbers} rbps=262144 wbps=max riops=max wiops=1000");
    assert_eq!(read(&cgroup, "io.max"), set);
    // Half a mebibyte at a quarter per second, of which some may go ahead at once.
    let slow = disk.read(&cgroup);
    assert!(slow > Duration::from_millis(1200), "it took {slow:?}");
    let beside = disk.read(&other);
    assert!(beside < slow / 2, "the bystander took {beside:?}");
    let finished = injection.stop();
    assert_eq!(read(&cgroup, "io.max"), before);
    let after = disk.read(&cgroup);
    assert!(after < slow / 2, "after the stop it took {after:?}");
    let rule = finished.rule();
    assert_eq!(rule.kernel["rbytes"], 8 << 16, "{rule:?}");
    assert_eq!(
        (rule.injected, rule.matched),
        (rule.kernel["rios"], rule.kernel["rios"])
    );
    assert_eq!(rule.values[0].outcome, "restored");
    snapshot.assert_clean();
}

/// What somebody else limits meanwhile stays.
#[test]
fn limits_are_put_back_one_by_one() {
    require!(Controllers);
    enable("io");
    let disk = Disk::new();
    let cgroup = Cgroup::new("victim");
    let numbers = disk.numbers();
    let injection = limit(&cgroup, &disk.node);
    write(&cgroup, "io.max", &format!("{numbers} wiops=1000"));
    let finished = injection.stop();
    assert_eq!(finished.rule().values[0].outcome, "restored");
    let left = format!("{numbers} rbps=max wbps=max riops=max wiops=1000");
    assert_eq!(read(&cgroup, "io.max"), left);
}

#[test]
fn a_killed_agent_leaves_no_limit() {
    require!(Controllers);
    enable("io");
    let disk = Disk::new();
    let cgroup = Cgroup::new("victim");
    let abandoned = limit(&cgroup, &disk.numbers()).abandon();
    await_value(&cgroup, "io.max", "");
    abandoned.clean_up();
}

/// Whatever two rules call it, and without anything being set.
#[test]
fn one_disk_has_one_rule_at_a_time() {
    require!(Controllers);
    enable("io");
    let disk = Disk::new();
    let cgroup = Cgroup::new("victim");
    let snapshot = Snapshot::take(&[]);
    let rule = |name: &str, device: &str| {
        format!(
            "  - {{name: {name}, kind: io-limit, target: '{}', device: '{device}', read-iops: 100}}\n",
            cgroup.target()
        )
    };
    let (one, two) = (rule("one", &disk.node), rule("two", &disk.numbers()));
    let file = NamedTempFile::new().expect("make a file");
    let text = format!("version: 1\nfor: 1s\nrules:\n{one}{two}");
    std::fs::write(file.path(), text).expect("write a file");
    let refused = agent::run(&["run", file.path().to_str().expect("a path in UTF-8")]);
    assert_eq!(refused.code(), 3, "{refused:?}");
    assert!(refused.stderr.contains("at one time"), "{refused:?}");
    assert_eq!(read(&cgroup, "io.max"), "");
    snapshot.assert_clean();
}

#[test]
fn what_is_no_disk_is_refused() {
    require!(Controllers);
    enable("io");
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    for disk in ["/dev/null", "/dev/no-such-disk", "4095:7"] {
        let line = [
            "inject",
            "io-limit",
            "--target",
            &target,
            "--device",
            disk,
            "--read-iops",
            "1",
        ];
        let refused = agent::run(&[&line[..], &["--for", "1s"]].concat());
        assert_eq!(refused.code(), 2, "{refused:?}");
        assert!(refused.stderr.contains("--device"), "{refused:?}");
    }
}
