//! Victims of what happens to resources: a group with controllers, and a process in it that
//! is always busy.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    cgroup::{self, Cgroup},
    command::{Place, Process},
    wait,
};

/// A process that never waits for anything.
#[derive(Debug)]
pub struct Busy(Process);

impl Busy {
    /// Starts one and waits until it runs.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[must_use]
    #[track_caller]
    pub fn start(place: Place<'_>) -> Self {
        let busy = Self(place.spawn("sh", &["-c", "while :; do :; done"]));
        busy.assert_runs();
        busy
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// The process.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.0
    }

    /// How long it has run, in ticks of 10 ms.
    ///
    /// # Panics
    ///
    /// When it has ended.
    #[must_use]
    #[track_caller]
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("a process");
        let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
        // The 14th and 15th field (proc_pid_stat(5)), of which two are before `rest`.
        let fields = rest.split_whitespace().skip(11).take(2);
        fields
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum()
    }

    /// Waits until it runs.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn assert_runs(&self) {
        let before = self.ticks();
        wait::until("a busy process to run", || {
            (self.ticks() > before).then_some(())
        });
    }

    /// What share of this time it runs.
    #[must_use]
    pub fn share(&self, of: Duration) -> f64 {
        let (before, start) = (self.ticks(), Instant::now());
        thread::sleep(of);
        let ran = Duration::from_millis(10 * (self.ticks() - before));
        ran.as_secs_f64() / start.elapsed().as_secs_f64()
    }
}

/// A control file of a group.
///
/// # Panics
///
/// When it cannot be read.
#[must_use]
#[track_caller]
pub fn read(cgroup: &Cgroup, file: &str) -> String {
    let path = cgroup.path().join(file);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// Writes a control file of a group.
///
/// # Panics
///
/// When the kernel refuses.
#[track_caller]
pub fn write(cgroup: &Cgroup, file: &str, value: &str) {
    fs::write(cgroup.path().join(file), value).expect("write a control file");
}

/// Waits until a control file has a value.
///
/// # Panics
///
/// When it does not come to have it.
#[track_caller]
pub fn await_value(cgroup: &Cgroup, file: &str, value: &str) {
    let what = format!("{file} = {value}");
    wait::until(&what, || (read(cgroup, file) == value).then_some(()));
}

/// Enables a controller for the groups that tests make, where the machine has not done so.
/// It stays enabled: other tests may use it at the same time.
///
/// # Panics
///
/// When the kernel refuses.
#[track_caller]
pub fn enable(controller: &str) {
    let file: PathBuf = cgroup::mount_point().join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).expect("read the enabled controllers");
    if !enabled.split_whitespace().any(|one| one == controller) {
        fs::write(&file, format!("+{controller}")).expect("enable a controller");
    }
}

/// The guardian of an agent.
///
/// # Panics
///
/// When it has none.
#[must_use]
#[track_caller]
pub fn guardian_of(agent: u32) -> u32 {
    let children = children_of(agent);
    let is_guardian = |pid: &&u32| {
        let words = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"));
        words.is_ok_and(|words| {
            words
                .split(|&byte| byte == 0)
                .any(|word| word == b"guardian")
        })
    };
    *children.iter().find(is_guardian).expect("a guardian")
}

fn children_of(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).expect("threads");
    let lists = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter_map(|pid| pid.parse().ok())
        .collect()
}
