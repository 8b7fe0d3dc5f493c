//! Processes that end with a rule, since what they were started with cannot be taken back.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use injector_common::{Tgid, Trigger};
use nix::{libc, sys::signal::Signal};

use super::{
    protocol::{Choice, Status},
    signals::{Count, Signals},
};
use crate::{kernel::cgroup, report::resource::ResourceReport};

/// How long they have to end by themselves after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// How often it is looked whether they have.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// The processes of a cgroup, to be ended.
pub(super) struct Ending {
    cgroup: PathBuf,
    begun: Option<Instant>,
    killed: bool,
    found: u64,
    problem: Option<String>,
}

impl Ending {
    pub(super) const fn new(cgroup: PathBuf) -> Self {
        Self {
            cgroup,
            begun: None,
            killed: false,
            found: 0,
            problem: None,
        }
    }

    /// Whether some were told to end and have not.
    pub(super) fn is_under_way(&self) -> bool {
        self.begun.is_some() && self.is_populated()
    }

    /// Whether anything runs there. The kernel says so itself: the list of processes can miss one
    /// that has just been forked, and a process can go on without its first thread.
    pub(super) fn is_populated(&self) -> bool {
        match fs::read_to_string(self.cgroup.join("cgroup.events")) {
            Ok(events) => events.lines().any(|line| line == "populated 1"),
            Err(error) => {
                error.kind() != ErrorKind::NotFound && error.raw_os_error() != Some(libc::ENODEV)
            }
        }
    }

    /// Those that still run, as far as they can be listed.
    pub(super) fn running(&self) -> Vec<Tgid> {
        if !self.is_populated() {
            return Vec::new();
        }
        cgroup::processes(&self.cgroup).unwrap_or_default()
    }

    /// The cgroup that they are in.
    pub(super) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Tells all to end, the first time, and kills those that have not done so in time.
    pub(super) fn step(&mut self, spared: &[Tgid]) {
        match self.begun {
            None => {
                self.begun = Some(Instant::now());
                self.tell(spared);
            }
            // Again and again, since more may come in.
            Some(begun) if begun.elapsed() >= GRACE && self.is_populated() => {
                if self.found == 0 {
                    self.found = self.running().len().max(1) as u64;
                }
                match kill(&self.cgroup) {
                    Ok(()) => (self.killed, self.problem) = (true, None),
                    Err(error) => self.problem = Some(error),
                }
            }
            Some(_) => {}
        }
    }

    fn tell(&mut self, spared: &[Tgid]) {
        let choice = Choice::new(&Trigger::ALWAYS, 0);
        let whom = Ok(self.cgroup.clone());
        let Ok(mut signals) = Signals::new(choice, (whom, false), Signal::SIGTERM as i32, None, 0)
        else {
            return;
        };
        signals.step(0, &mut Count::default(), spared);
        self.found = signals.status(0).injected;
    }

    /// How it stands.
    pub(super) fn status(&self, rule: u32) -> Status {
        let mut problems: Vec<String> = self.problem.iter().cloned().collect();
        if self.found > 0 {
            let how = if self.killed {
                ", and killed 2 s later"
            } else {
                ""
            };
            problems.push(format!(
                "processes that still ran at the end: {}; they were told to end{how}, since their \
                 clocks cannot be put back",
                self.found
            ));
        }
        Status {
            rule,
            report: ResourceReport {
                problems,
                ..ResourceReport::default()
            },
            ..Status::default()
        }
    }
}

/// Kills all in a cgroup at once, also what is being forked. One that is gone is no error.
pub(super) fn kill(cgroup: &Path) -> Result<(), String> {
    let file = cgroup.join("cgroup.kill");
    match fs::write(&file, "1") {
        Err(error) if cgroup.exists() => Err(format!("{}: {error}", file.display())),
        Ok(()) | Err(_) => Ok(()),
    }
}
