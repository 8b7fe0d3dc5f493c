//! The program under test: run to its end, or as an injection in force.

mod reader;
mod report;

pub use report::{Finished, Replayed, Report, RuleReport, Unattributed, Undelivered, Value};

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use reader::Reader;

use crate::{
    command::{Place, Process},
    wait,
};

/// What the agent logs once its rules are in force.
const IN_FORCE: &str = "in force";

/// The program under test, from the variable `INJECTOR_BIN`.
///
/// # Panics
///
/// When the variable is not set.
#[must_use]
pub fn binary() -> PathBuf {
    match env::var_os("INJECTOR_BIN") {
        Some(path) => path.into(),
        None => panic!("INJECTOR_BIN must name the injector (`cargo xtask test` sets it)"),
    }
}

/// Runs the injector to its end in the test's own place.
///
/// # Panics
///
/// When it cannot be started or does not end in time.
#[track_caller]
pub fn run(args: &[&str]) -> Finished {
    Agent::start(Place::HERE, args, &[]).wait()
}

/// A running injector, killed on drop.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    started: Instant,
    stdout: Reader,
    stderr: Reader,
}

impl Agent {
    /// Starts the injector with these arguments and environment variables.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn start(place: Place<'_>, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = place.command(binary());
        command
            .args(args)
            // The line that says "in force" is not a warning.
            .env("INJECTOR_LOG", "info")
            .envs(variables.iter().copied());
        Self::from_command(command)
    }

    /// Starts the injector through a command that ends in it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn from_command(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child: Child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {}: {error}", binary().display()),
        };
        Self {
            stdout: Reader::start(child.stdout.take()),
            stderr: Reader::start(child.stderr.take()),
            process: Process(child),
            started: Instant::now(),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its standard error so far, without the middle of a long message: a
    /// verifier's log hides what it is about.
    #[must_use]
    pub fn stderr(&self) -> String {
        let text = self.stderr.text();
        let lines: Vec<&str> = text.lines().collect();
        let (head, tail) = (4, 8);
        if lines.len() <= head + tail {
            return text;
        }
        let (first, rest) = lines.split_at(head);
        let last = &rest[rest.len() - tail..];
        format!("{}\n[…]\n{}", first.join("\n"), last.join("\n"))
    }

    /// How often it has logged something so far.
    #[must_use]
    pub fn logged(&self, what: &str) -> usize {
        self.stderr.text().matches(what).count()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it is gone.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed());
        if let Err(error) = kill(pid, signal) {
            panic!("cannot signal the agent: {error}");
        }
    }

    /// Whether it has ended.
    pub fn ended(&mut self) -> bool {
        self.process.ended().is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not come in time.
    #[must_use]
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        let status = wait::poll(wait::DEADLINE, || self.process.ended());
        let took = self.started.elapsed();
        let Some(status) = status else {
            panic!("the agent does not end: {}", self.stderr());
        };
        Finished {
            status,
            stdout: self.stdout.end(),
            stderr: self.stderr.end(),
            took,
        }
    }
}

/// A fault in force. When dropped without having been stopped, as in a failing
/// test, the agent is killed and its leftovers are removed.
#[derive(Debug)]
pub struct Injection {
    agent: Option<Agent>,
}

impl Injection {
    /// Runs `injector inject` with these arguments, and waits until its rules
    /// are in force.
    ///
    /// # Panics
    ///
    /// When that does not happen.
    #[must_use]
    #[track_caller]
    pub fn start(args: &[&str]) -> Self {
        Self::start_in(Place::HERE, args, &[])
    }

    /// The same in another place, with environment variables.
    ///
    /// # Panics
    ///
    /// When the rules do not come in force.
    #[must_use]
    #[track_caller]
    pub fn start_in(place: Place<'_>, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut all = vec!["inject"];
        // Options of ours must come before the victim's command.
        let (options, command) = args.split_at(
            args.iter()
                .position(|arg| *arg == "--")
                .unwrap_or(args.len()),
        );
        all.extend(options);
        all.extend(["--output", "json"]);
        all.extend(command);
        Self::from_agent(Agent::start(place, &all, variables))
    }

    /// Runs `injector run` with a file of this text, and waits until its rules are in
    /// force.
    ///
    /// # Panics
    ///
    /// When that does not happen.
    #[must_use]
    #[track_caller]
    pub fn of_spec(spec: &str) -> Self {
        Self::of_spec_with(spec, &[])
    }

    /// The same, with a ledger in this file.
    ///
    /// # Panics
    ///
    /// When the rules do not come in force.
    #[must_use]
    #[track_caller]
    pub fn of_spec_told(spec: &str, ledger: &Path) -> Self {
        let ledger = ledger.to_str().expect("a path in UTF-8");
        Self::of_spec_with(spec, &["--ledger", ledger])
    }

    #[track_caller]
    fn of_spec_with(spec: &str, options: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().expect("make a file");
        fs::write(file.path(), spec).expect("write a spec");
        let path = file.path().to_str().expect("a path in UTF-8");
        let line = [&["run", path, "--output", "json"], options].concat();
        Self::from_agent(Agent::start(Place::HERE, &line, &[]))
    }

    /// Waits until the rules of an agent are in force.
    ///
    /// # Panics
    ///
    /// When that does not happen.
    #[must_use]
    #[track_caller]
    pub fn from_agent(agent: Agent) -> Self {
        Self::try_from_agent(agent)
            .unwrap_or_else(|log| panic!("the rules do not come in force: {log}"))
    }

    /// Waits until the rules of an agent are in force.
    ///
    /// # Errors
    ///
    /// What the agent said when that did not happen.
    #[track_caller]
    pub fn try_from_agent(agent: Agent) -> Result<Self, String> {
        let mut injection = Self { agent: Some(agent) };
        match wait::poll(wait::DEADLINE, || injection.progress()) {
            Some(true) => Ok(injection),
            _ => Err(injection.agent().stderr()),
        }
    }

    /// Whether the rules are in force; `None` while that is open.
    fn progress(&mut self) -> Option<bool> {
        let agent = self.agent.as_mut()?;
        if agent.stderr.text().contains(IN_FORCE) {
            Some(true)
        } else if agent.ended() {
            // Its last lines may still be on their way through the pipe.
            Some(agent.stderr.end().contains(IN_FORCE))
        } else {
            None
        }
    }

    /// The running agent.
    ///
    /// # Panics
    ///
    /// Never: it is taken out only by methods that consume `self`.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        self.agent.as_ref().expect("an agent")
    }

    /// Asks the agent to stop, as by Ctrl-C, and waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.agent().signal(Signal::SIGINT);
        self.wait()
    }

    /// Waits until the agent ends by itself.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn wait(mut self) -> Finished {
        self.agent.take().expect("an agent").wait()
    }

    /// Kills the agent and leaves behind whatever that leaves behind.
    ///
    /// # Panics
    ///
    /// When it does not die.
    #[must_use]
    #[track_caller]
    pub fn abandon(mut self) -> Abandoned {
        let mut agent = self.agent.take().expect("an agent");
        agent.signal(Signal::SIGKILL);
        agent.process.wait();
        Abandoned(())
    }
}

/// What a killed agent left behind, removed on drop at the latest.
#[derive(Debug)]
pub struct Abandoned(());

impl Abandoned {
    /// Runs `injector stop --all`.
    ///
    /// # Panics
    ///
    /// When it does not succeed.
    #[track_caller]
    pub fn clean_up(&self) {
        let finished = run(&["stop", "--all"]);
        assert_eq!(finished.code(), 0, "{finished:?}");
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        stop_all();
    }
}

/// Removes what a failing test leaves behind.
fn stop_all() {
    let stop = Place::HERE
        .command(binary())
        .args(["stop", "--all"])
        .output();
    match stop {
        Ok(output) if output.status.success() => {}
        other => eprintln!("cannot clean up after the agent: {other:?}"),
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.take() {
            drop(agent);
            stop_all();
        }
    }
}
