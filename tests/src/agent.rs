//! The program under test: run to its end, or as an injection in force.

use std::{
    env,
    io::{BufRead as _, BufReader, Read},
    path::PathBuf,
    process::{Child, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;

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

/// The report that `--output json` prints when an injection has ended.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// Short name of the run.
    pub experiment: String,
    /// Seed of its decisions.
    pub seed: u64,
    /// Why it ended.
    pub stopped_by: String,
    /// What each rule did.
    pub rules: Vec<RuleReport>,
}

/// What one rule did.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RuleReport {
    /// Name of the rule.
    pub name: String,
    /// Name of its kind.
    pub kind: String,
    /// Rung that served it.
    pub backend: String,
    /// Operations that matched.
    pub matched: u64,
    /// Of those, operations that suffered.
    pub injected: u64,
    /// Of those, operations that the trigger let through.
    pub passed: u64,
    /// Of those, operations let through because the budget was spent.
    pub exhausted: u64,
    /// Of those, operations that the kernel refused to harm.
    pub errors: u64,
}

impl Report {
    /// The report of the only rule.
    ///
    /// # Panics
    ///
    /// When there are more or fewer.
    #[must_use]
    #[track_caller]
    pub fn only(&self) -> &RuleReport {
        match self.rules.as_slice() {
            [rule] => rule,
            rules => panic!("one rule expected: {rules:?}"),
        }
    }
}

/// What the program printed and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Finished {
    /// The exit code.
    ///
    /// # Panics
    ///
    /// When a signal ended the program.
    #[must_use]
    #[track_caller]
    pub fn code(&self) -> i32 {
        match self.status.code() {
            Some(code) => code,
            None => panic!("ended by a signal: {self:?}"),
        }
    }

    /// The JSON report, which is the last line of the standard output. Its
    /// counters must add up in every test, whatever it is about.
    ///
    /// # Panics
    ///
    /// When there is none or the counters do not add up.
    #[must_use]
    #[track_caller]
    pub fn report(&self) -> Report {
        let last = self.stdout.lines().next_back().unwrap_or_default();
        let report: Report = match serde_json::from_str(last) {
            Ok(report) => report,
            Err(error) => panic!("no report ({error}): {self:?}"),
        };
        for rule in &report.rules {
            assert_eq!(
                rule.matched,
                rule.injected + rule.passed + rule.exhausted + rule.errors,
                "the counters do not add up: {rule:?}"
            );
        }
        report
    }

    /// The report of an injection that ended well with only one rule, which met
    /// no error.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[must_use]
    #[track_caller]
    pub fn rule(&self) -> RuleReport {
        assert_eq!(self.code(), 0, "{}", self.stderr);
        let rule = self.report().only().clone();
        assert_eq!(rule.errors, 0, "{rule:?}\n{}", self.stderr);
        rule
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
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
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

    /// Its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
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
        let mut injection = Self {
            agent: Some(Agent::start(place, &all, variables)),
        };
        let in_force = wait::poll(wait::DEADLINE, || injection.progress());
        assert_eq!(
            in_force,
            Some(true),
            "`injector {}` does not come in force: {}",
            all.join(" "),
            injection.agent().stderr.text(),
        );
        injection
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
    #[track_caller]
    pub fn abandon(mut self) {
        let mut agent = self.agent.take().expect("an agent");
        agent.signal(Signal::SIGKILL);
        agent.process.wait();
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        let Some(agent) = self.agent.take() else {
            return;
        };
        drop(agent);
        let cleaned = Place::HERE
            .command(binary())
            .args(["stop", "--all"])
            .output();
        match cleaned {
            Ok(output) if output.status.success() => {}
            other => eprintln!("cannot clean up after the agent: {other:?}"),
        }
    }
}

/// Collects what a child prints, so that the child never blocks on a full pipe.
#[derive(Debug)]
struct Reader {
    text: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(stream: Option<impl Read + Send + 'static>) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let thread = stream.map(|stream| {
            let text = Arc::clone(&text);
            thread::spawn(move || {
                let mut lines = BufReader::new(stream);
                let mut line = Vec::new();
                while lines.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                    if let Ok(mut text) = text.lock() {
                        text.push_str(&String::from_utf8_lossy(&line));
                    }
                    line.clear();
                }
            })
        });
        Self { text, thread }
    }

    /// What has come so far.
    fn text(&self) -> String {
        self.text
            .lock()
            .map(|text| text.clone())
            .unwrap_or_default()
    }

    /// All that came, once the child has closed its end. A grandchild that
    /// holds the pipe open is not waited for.
    fn end(&mut self) -> String {
        if let Some(thread) = self.thread.take() {
            wait::poll(Duration::from_secs(5), || {
                thread.is_finished().then_some(())
            });
        }
        self.text()
    }
}
