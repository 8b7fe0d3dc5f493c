//! What a user sees while an experiment runs on a terminal.

use std::{fs, process::Stdio};

use injector_tests::{
    agent::{self, Finished},
    command::{Place, Process},
    require,
    scene::{Harm, Kind, Scene},
    terminal::Terminal,
    wait,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::NamedTempFile;

/// An agent whose standard error is a terminal.
struct Watched {
    terminal: Terminal,
    process: Process,
    _spec: NamedTempFile,
}

impl Watched {
    /// Runs two rules on the scene's flow: one from the start, one later.
    fn start(scene: &Scene, log: &str) -> Self {
        let target = scene.target();
        let rule = format!("kind: net-loss, target: '{target}', proto: udp");
        let spec = format!(
            "version: 1\nfor: 5m\nrules:\n- {{name: now, {rule}, peer-port: 7001}}\n\
             - {{name: later, {rule}, peer-port: 7002, start: 2m, for: 1m}}\n"
        );
        let file = NamedTempFile::new().expect("make a file");
        fs::write(file.path(), spec).expect("write a file");
        let mut terminal = Terminal::open();
        let mut command = Place::HERE.command(agent::binary());
        command
            .arg("run")
            .arg(file.path())
            .args(["--output", "json"])
            .env("INJECTOR_LOG", log)
            .stdout(Stdio::piped());
        terminal.attach(&mut command);
        let child = command.spawn().expect("start the injector");
        Self {
            terminal,
            process: Process(child),
            _spec: file,
        }
    }

    /// Waits until the terminal shows what is wanted.
    #[track_caller]
    fn until<T>(&self, what: &str, wanted: impl Fn(&[String]) -> Option<T>) -> T {
        let seen = wait::poll(wait::DEADLINE, || wanted(&self.terminal.rows()));
        match seen {
            Some(seen) => seen,
            None => panic!("no {what} on the terminal: {:#?}", self.terminal.rows()),
        }
    }

    fn stop(mut self) -> (Finished, Vec<String>) {
        let pid = Pid::from_raw(self.process.pid().cast_signed());
        kill(pid, Signal::SIGINT).expect("signal the agent");
        let mut stdout = self.process.0.stdout.take().expect("a pipe");
        let text = std::io::read_to_string(&mut stdout).expect("read the report");
        let finished = Finished {
            status: self.process.wait(),
            stdout: text,
            stderr: String::new(),
            took: std::time::Duration::ZERO,
        };
        (finished, self.terminal.rows())
    }
}

/// The row of a rule, if there is exactly one.
fn row<'a>(rows: &'a [String], rule: &str) -> Option<&'a str> {
    let mut found = rows
        .iter()
        .filter(|row| row.starts_with(&format!("{rule} ")));
    let row = found.next()?;
    assert!(found.next().is_none(), "{rule} is there twice: {rows:#?}");
    Some(row)
}

/// The seconds in a row that says so much of its time.
fn seconds(row: &str, time: &str) -> Option<u64> {
    let words: Vec<&str> = row.split(' ').collect();
    let unit = words.iter().position(|word| *word == "s")?;
    words[unit - 1].parse().ok().filter(|_| row.contains(time))
}

#[test]
fn counts_and_time_left_of_each_rule() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let watched = Watched::start(&scene, "warn");
    watched.until("live line", |rows| row(rows, "now").map(drop));
    assert_eq!(scene.harm(Kind::Loss), Harm::Everything);
    let (first, second) = watched.until("hit", |rows| {
        let now = row(rows, "now").filter(|row| row.contains(" 10 injected of 10 matched "))?;
        let later = row(rows, "later").filter(|row| row.contains(" 0 injected of 0 matched "))?;
        Some((seconds(now, "left")?, seconds(later, "starts in")?))
    });
    // The second rule begins two minutes after the start, the first lasts five.
    assert!((1..=300).contains(&first), "{first} s are left");
    assert_eq!(first - second, 180);
    watched.until("passing time", |rows| {
        (seconds(row(rows, "now")?, "left")? < first).then_some(())
    });
    let (finished, rows) = watched.stop();
    assert_eq!(finished.code(), 0, "{rows:#?}");
    assert_eq!(finished.report().rules[0].injected, 10);
    assert_eq!(rows, [""; 0], "the live lines go with the run");
    snapshot.assert_clean();
}

#[test]
fn log_lines_stay_whole_above_the_live_ones() {
    require!(NetLoss);
    let scene = Scene::new();
    let watched = Watched::start(&scene, "injector=debug");
    let said = |rows: &[String]| rows.iter().filter(|row| row.contains("renewed")).count();
    watched.until("log", |rows| (said(rows) > 4).then_some(()));
    let (finished, rows) = watched.stop();
    assert_eq!(finished.code(), 0, "{rows:#?}");
    let logged: Vec<_> = rows.iter().filter(|row| row.contains("renewed")).collect();
    assert!(logged.len() > 4, "log lines were overwritten: {rows:#?}");
    for row in rows {
        assert!(!row.contains("matched"), "a torn row: {row:?}");
        assert!(
            !row.contains("renewed") || row.ends_with(" lease renewed"),
            "{row:?}"
        );
    }
}
