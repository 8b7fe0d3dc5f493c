//! What cannot be removed is named, with a command that removes it.

use std::{fs, path::PathBuf};

use injector_tests::{
    agent::{self, Injection},
    cgroup,
    command::Place,
    require,
    residue::Snapshot,
    wait,
};

/// The control group of a running injection's command, which cannot be removed
/// because something is mounted there.
struct Busy(PathBuf);

impl Busy {
    #[track_caller]
    fn make(injection: &Injection) -> Self {
        let agent = injection.agent().pid();
        let path = wait::until("the command's control group", || group_of_child(agent));
        let text = path.to_str().expect("a path in UTF-8");
        Place::HERE.run("mount", &["--bind", text, text]);
        Self(path)
    }

    fn release(&self) {
        let path = self.0.to_str().expect("a path in UTF-8");
        Place::HERE.run("umount", &[path]);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // Left by a test that failed; otherwise nothing is mounted any more.
        let _ = Place::HERE
            .command("umount")
            .arg("-q")
            .arg(&self.0)
            .output();
    }
}

/// The control group that the agent made for its child, once the child is in it.
fn group_of_child(agent: u32) -> Option<PathBuf> {
    let children = fs::read_to_string(format!("/proc/{agent}/task/{agent}/children")).ok()?;
    let child = children.split_whitespace().next()?;
    let groups = fs::read_to_string(format!("/proc/{child}/cgroup")).ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let name = group.rsplit('/').next()?;
    name.starts_with("injector-")
        .then(|| cgroup::mount_point().join(group))
}

/// The commands that a message offers, without which nothing should be said to
/// remain.
#[track_caller]
fn remedies(stderr: &str) -> Vec<&str> {
    let remedies: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains(" remains: "))
        .filter_map(|line| line.split_once("; to remove it: "))
        .map(|(_, remedy)| remedy)
        .collect();
    assert!(!remedies.is_empty(), "no remedy in: {stderr}");
    remedies
}

/// Runs the commands as a user would who copies them into a shell.
#[track_caller]
fn follow(remedies: &[&str]) {
    let folder = agent::binary();
    let folder = folder.parent().expect("a folder").display();
    for remedy in remedies {
        let output = Place::HERE
            .command("sh")
            .env("PATH", format!("{folder}:/usr/sbin:/usr/bin:/sbin:/bin"))
            .args(["-ec", remedy])
            .output()
            .expect("run a shell");
        assert!(output.status.success(), "{remedy}: {output:?}");
    }
}

const LINE: [&str; 4] = ["net-loss", "--for", "60s", "--"];

#[test]
fn an_agent_names_the_group_that_it_cannot_remove() {
    require!(NetLoss);
    let snapshot = Snapshot::take(&[]);
    let injection = Injection::start(&[&LINE[..], &["sh", "-c", "sleep 5; exit 7"]].concat());
    let busy = Busy::make(&injection);
    let finished = injection.wait();
    // Not the command's own 7: something is left, which nobody must overlook.
    assert_eq!(finished.code(), 4, "{finished:?}");
    assert_eq!(finished.report().stopped_by, "command_exit");
    let path = busy.0.display().to_string();
    assert!(
        finished
            .stderr
            .contains(&format!("cgroup {path} remains: ")),
        "{}",
        finished.stderr
    );
    assert!(busy.0.is_dir());
    busy.release();
    follow(&remedies(&finished.stderr));
    snapshot.assert_clean();
}

#[test]
fn stop_names_the_group_that_it_cannot_remove() {
    require!(NetLoss);
    let snapshot = Snapshot::take(&[]);
    let injection = Injection::start(&[&LINE[..], &["sleep", "1000"]].concat());
    let busy = Busy::make(&injection);
    let abandoned = injection.abandon();
    let stopped = agent::run(&["stop", "--all"]);
    assert_eq!(stopped.code(), 4, "{stopped:?}");
    let path = busy.0.display().to_string();
    assert!(
        stopped.stderr.contains(&format!("cgroup {path} remains: ")),
        "{}",
        stopped.stderr
    );
    busy.release();
    follow(&remedies(&stopped.stderr));
    assert!(!busy.0.exists(), "the remedy removes it");
    // The journal still names it, which is no error.
    abandoned.clean_up();
    snapshot.assert_clean();
}
