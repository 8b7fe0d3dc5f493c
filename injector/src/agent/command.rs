//! The command that an experiment starts.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    runtime::Handle,
    time::timeout,
};

use super::watch::Watch;
use crate::{
    error::SpecError,
    kernel::timens::{self, ClockError, Offsets},
};

/// Exit status of a shell for a program that cannot be run.
const CANNOT_RUN: i32 = 126;

/// A command, found and not started.
pub(super) struct Victim {
    program: PathBuf,
    argv: Vec<String>,
}

impl Victim {
    /// Finds the program, so that starting it takes one `execve` and not one
    /// for each directory of `PATH`, which a rule on that call would count.
    pub(super) fn find(argv: &[String]) -> Result<Self, SpecError> {
        let none = || SpecError::new("command", "no program", "a program and its arguments");
        let name = argv.first().ok_or_else(none)?;
        let candidates: Vec<PathBuf> = if name.contains('/') {
            vec![PathBuf::from(name)]
        } else {
            let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
            env::split_paths(&path)
                .map(|directory| directory.join(name))
                .collect()
        };
        let program = candidates
            .into_iter()
            .find(|path| is_executable(path))
            .ok_or_else(|| {
                SpecError::new(
                    "command",
                    format!("no executable program {name}"),
                    "the path of a program, or its name if it lies in PATH",
                )
            })?;
        Ok(Self {
            program,
            argv: argv.to_vec(),
        })
    }

    /// Starts the command in `cgroup`, with these clocks if any. Its first act there is the
    /// `execve` of the program.
    pub(super) fn start(self, cgroup: Option<&Path>, clocks: Option<Offsets>) -> Running {
        let started = match clocks {
            None => self.spawn(cgroup).map_err(ClockError::Start),
            Some(clocks) => {
                let runtime = Handle::current();
                timens::with(clocks, || {
                    let _entered = runtime.enter();
                    self.spawn(cgroup)
                })
            }
        };
        match started {
            Ok(child) => Running::Started(child),
            Err(error) => {
                tracing::error!("{} cannot be started: {error}", self.program.display());
                Running::Failed
            }
        }
    }

    fn spawn(&self, cgroup: Option<&Path>) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.args(&self.argv[1..]).arg0(&self.argv[0]);
        let procs = cgroup.map(|cgroup| {
            let mut file = OpenOptions::new();
            file.write(true).open(cgroup.join("cgroup.procs"))
        });
        let mut procs = procs.transpose()?;
        let join = move || procs.as_mut().map_or(Ok(()), |procs| procs.write_all(b"0"));
        // SAFETY: between fork and exec at most a write to an open file
        // happens; nothing is allocated and no lock is taken.
        unsafe { command.pre_exec(join) };
        command.spawn()
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// A command that was started, or could not be.
pub(super) enum Running {
    /// It runs or has run.
    Started(Child),
    /// Its program could not be executed; a rule on `execve` does that too.
    Failed,
}

impl Running {
    /// Whether it was started.
    pub(super) const fn has_started(&self) -> bool {
        matches!(self, Self::Started(_))
    }

    /// Returns when it has ended.
    pub(super) async fn ended(&mut self) {
        if let Self::Started(child) = self
            && let Err(error) = child.wait().await
        {
            tracing::error!("the command cannot be waited for: {error}");
        }
    }

    /// Passes a signal on, and kills after `patience`.
    pub(super) async fn tell(&mut self, signal: Signal, patience: Duration) {
        let Self::Started(child) = self else {
            return;
        };
        let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else {
            return;
        };
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(pid), signal);
        if timeout(patience, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }

    /// How it ended, once it has. Signals to the agent are passed on.
    pub(super) async fn wait(&mut self, watch: &mut Watch) -> ExitStatus {
        loop {
            let Self::Started(child) = self else {
                return ExitStatus::from_raw(CANNOT_RUN << 8);
            };
            let signal = tokio::select! {
                status = child.wait() => {
                    return status.unwrap_or_else(|_| ExitStatus::from_raw(CANNOT_RUN << 8));
                }
                signal = watch.signal() => signal,
            };
            self.tell(signal, super::COMMAND_PATIENCE).await;
        }
    }
}
