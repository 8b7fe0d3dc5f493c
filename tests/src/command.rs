//! Programs that a test runs, each inside a [`Place`].

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::{prctl, signal::Signal},
};

use crate::{cgroup::Cgroup, netns::Netns, wait};

/// Where a process runs: in which network namespace and control group.
///
/// By default both are the test's own.
#[derive(Clone, Copy, Default)]
pub struct Place<'a> {
    /// The network namespace; `None` for the test's.
    pub netns: Option<&'a Netns>,
    /// The control group; `None` for the test's.
    pub cgroup: Option<&'a Cgroup>,
}

impl<'a> Place<'a> {
    /// The test's own place.
    pub const HERE: Self = Self {
        netns: None,
        cgroup: None,
    };

    /// Inside a network namespace.
    #[must_use]
    pub const fn netns(netns: &'a Netns) -> Self {
        Self {
            netns: Some(netns),
            cgroup: None,
        }
    }

    /// Inside a control group.
    #[must_use]
    pub const fn cgroup(cgroup: &'a Cgroup) -> Self {
        Self {
            netns: None,
            cgroup: Some(cgroup),
        }
    }

    /// The same network namespace, but inside this control group.
    #[must_use]
    pub const fn and_cgroup(self, cgroup: &'a Cgroup) -> Self {
        Self {
            netns: self.netns,
            cgroup: Some(cgroup),
        }
    }

    /// A command that will run here from its first instruction on, without
    /// standard input.
    ///
    /// The process is killed when the thread that started it ends, so a test
    /// that is killed leaves no process behind.
    #[must_use]
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.stdin(Stdio::null());
        let netns = self.netns.map(Netns::open);
        let procs = self.cgroup.map(Cgroup::open_procs);
        // SAFETY: the closure runs between fork and exec. It makes only direct
        // system calls on descriptors that it owns and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                if let Some(mut procs) = procs.as_ref() {
                    procs.write_all(b"0")?;
                }
                if let Some(netns) = &netns {
                    setns(netns, CloneFlags::CLONE_NEWNET)?;
                }
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                Ok(())
            });
        }
        command
    }

    /// Runs a program here to its end and returns what it printed.
    ///
    /// # Panics
    ///
    /// When it cannot be started or fails.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(program, args);
        assert!(
            output.status.success(),
            "{program} {} failed ({}): {}{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a program here to its end, with this as its standard input.
    ///
    /// # Panics
    ///
    /// When it cannot be started, does not read, or fails.
    #[track_caller]
    pub fn run_with_input(&self, program: &str, args: &[&str], input: &str) {
        let output = self.output_with_input(program, args, input);
        assert!(
            output.status.success(),
            "{program} {} failed ({}): {}\n{input}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr),
        );
    }

    /// The same, whatever its status.
    ///
    /// # Panics
    ///
    /// When it cannot be started or does not read.
    #[track_caller]
    pub fn output_with_input(&self, program: &str, args: &[&str], input: &str) -> Output {
        let mut command = self.command(program);
        command.args(args).stdin(Stdio::piped());
        let mut child = match command.stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot start {program}: {error}"),
        };
        let written = child
            .stdin
            .take()
            .map(|mut stdin| stdin.write_all(input.as_bytes()));
        assert!(matches!(written, Some(Ok(()))), "{program}: {written:?}");
        child.wait_with_output().expect("wait for a child")
    }

    /// Runs a program here to its end, whatever its status.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn output(&self, program: &str, args: &[&str]) -> Output {
        match self.command(program).args(args).output() {
            Ok(output) => output,
            Err(error) => panic!("cannot start {program}: {error}"),
        }
    }

    /// Starts a program here and leaves it running, without its chatter.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(&self, program: impl AsRef<Path>, args: &[&str]) -> Process {
        let program = program.as_ref();
        match self
            .command(program)
            .args(args)
            .stdout(Stdio::null())
            .spawn()
        {
            Ok(child) => Process(child),
            Err(error) => panic!("cannot start {}: {error}", program.display()),
        }
    }
}

/// A running child process, killed and reaped on drop.
#[derive(Debug)]
pub struct Process(pub Child);

impl Process {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its status, if it has ended.
    ///
    /// # Panics
    ///
    /// When the kernel refuses to tell, which it does for no child of ours.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("wait for a child")
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not come in time.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("the end of process {}", self.pid());
        wait::until(&what, || self.ended())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill() {
            eprintln!("cannot kill process {}: {error}", self.0.id());
        }
        if let Err(error) = self.0.wait() {
            eprintln!("cannot reap process {}: {error}", self.0.id());
        }
    }
}
