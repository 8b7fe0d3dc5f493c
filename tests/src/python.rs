//! Victims written in Python, which time their own calls.

use std::{
    fs::{self, File},
    io::Write as _,
    process::Stdio,
};

use tempfile::TempDir;

use crate::{
    agent::{Finished, Injection},
    cgroup::Cgroup,
    command::{Place, Process},
    wait,
};

/// What every victim begins with: `timed(call)` makes a call and gives its time in ms, and `tell`
/// writes a line into a file that is open already.
const PRELUDE: &str = "import os, signal, sys, threading, time
there = 'FOLDER/there/x'
out = os.open('FOLDER/out', os.O_WRONLY | os.O_APPEND)
def tell(*words): os.write(out, (' '.join(map(str, words)) + '\\n').encode())
def timed(call):
    begun = time.monotonic()
    call()
    return (time.monotonic() - begun) * 1000
def opens(): os.close(os.open(there, os.O_RDONLY))
def in_threads(count, work):
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
";

/// A folder with a file in `there`, and one that a victim writes into.
#[derive(Debug)]
pub struct Victims {
    folder: TempDir,
}

impl Default for Victims {
    fn default() -> Self {
        Self::new()
    }
}

impl Victims {
    /// Makes the folder.
    ///
    /// # Panics
    ///
    /// When there is no room for it.
    #[must_use]
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::create_dir(folder.path().join("there")).expect("a folder");
        for file in ["there/x", "there/y", "out"] {
            File::create(folder.path().join(file)).expect("a file");
        }
        Self { folder }
    }

    /// The path of a file in it.
    ///
    /// # Panics
    ///
    /// When the folder for temporary files has a strange name.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    /// A whole program, of which `FOLDER` is the folder.
    ///
    /// # Panics
    ///
    /// When the folder for temporary files has a strange name.
    #[must_use]
    pub fn program(&self, program: &str) -> String {
        let folder = self.folder.path().to_str().expect("a path in UTF-8");
        format!("{PRELUDE}{program}").replace("FOLDER", folder)
    }

    /// Runs a program to its end, under a rule of this kind and with these options.
    ///
    /// # Panics
    ///
    /// When the rule does not come in force.
    #[track_caller]
    pub fn run(&self, kind: &str, options: &[&str], program: &str) -> Finished {
        let program = self.program(program);
        let rest = ["--for", "60s", "--", "python3", "-S", "-c", &program];
        Injection::start(&[&[kind], options, &rest].concat()).wait()
    }

    /// Starts one in a cgroup, with an input of its own.
    ///
    /// # Panics
    ///
    /// When there is no Python.
    #[must_use]
    #[track_caller]
    pub fn start(&self, cgroup: &Cgroup, program: &str) -> Process {
        let mut command = Place::cgroup(cgroup).command("/usr/bin/python3");
        command.args(["-S", "-c", &self.program(program)]);
        Process(command.stdin(Stdio::piped()).spawn().expect("Python"))
    }

    /// What it told so far, line by line.
    ///
    /// # Panics
    ///
    /// When that cannot be read.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("out")).expect("what it told");
        text.lines().map(str::to_owned).collect()
    }

    /// The numbers that it told.
    ///
    /// # Panics
    ///
    /// When it told anything else.
    #[must_use]
    pub fn numbers(&self) -> Vec<f64> {
        let told = self.told();
        let words = told.iter().flat_map(|line| line.split(' '));
        words.map(|word| word.parse().expect(word)).collect()
    }

    /// Waits until it has told so many lines; the last one of these.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn line(&self, count: usize) -> String {
        wait::until("a line", || self.told().get(count - 1).cloned())
    }
}

/// Ends a victim's input, which it reads to the end.
pub fn go_on(victim: &mut Process) {
    drop(victim.0.stdin.take());
}

/// Gives it a line, when it reads one.
///
/// # Panics
///
/// When it has no input, or does not read.
#[track_caller]
pub fn next(victim: &mut Process) {
    let stdin = victim.0.stdin.as_mut().expect("its input");
    stdin.write_all(b"\n").expect("write to it");
}
