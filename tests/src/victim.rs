//! The test's end of a victim: starting it, ordering rounds, reading results.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};

use tempfile::{NamedTempFile, TempDir};

use crate::{
    actor::{
        calls::{CHILD, GRANDCHILD, MAIN, THREADS},
        udp::READY,
    },
    board::{ACTORS, Board, QUIT, Shared},
    command::{Place, Process},
    wait,
};

/// The victim program, which lies beside the tests of its package.
///
/// # Panics
///
/// When it is not there.
#[must_use]
pub fn program() -> PathBuf {
    // Integration tests know it from CARGO_BIN_EXE_injector-victim, but the
    // harness is a library and does not: test binaries lie in `deps`, programs
    // one folder above.
    let test = env::current_exe().expect("the path of the running test");
    let folder = test.parent().expect("a folder");
    let found = [folder, folder.parent().unwrap_or(folder)]
        .map(|folder| folder.join("injector-victim"))
        .into_iter()
        .find(|path| path.exists());
    found.expect("injector-victim beside the test binaries")
}

/// A board with its file.
#[derive(Debug)]
pub struct BoardFile {
    file: NamedTempFile,
    board: Shared,
}

impl BoardFile {
    /// Makes an empty board.
    ///
    /// # Panics
    ///
    /// When there is no room for its file.
    #[must_use]
    pub fn new() -> Self {
        let file = NamedTempFile::new().expect("make a board");
        let board = Shared::map(file.path()).expect("map a board");
        Self { file, board }
    }

    /// The board.
    #[must_use]
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The arguments with which the victim program uses this board.
    ///
    /// # Panics
    ///
    /// When the folder for temporary files has a strange name.
    #[must_use]
    pub fn args(&self, work: &[&str]) -> Vec<String> {
        let path = self.file.path().to_str().expect("a path in UTF-8");
        let mut args = vec!["--board".into(), path.into()];
        args.extend(work.iter().map(|&word| word.into()));
        args
    }

    /// The whole command line of a victim that ends after one round, for an
    /// injector that starts it.
    ///
    /// # Panics
    ///
    /// When the victim program has a strange path.
    #[must_use]
    pub fn command(&self, work: &[&str]) -> Vec<String> {
        let program = program().to_str().expect("a path in UTF-8").to_owned();
        let mut command = vec![program, "--rounds".into(), "1".into()];
        command.extend(self.args(work));
        command
    }

    /// Starts the victim program with this board.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn spawn(&self, place: Place<'_>, work: &[&str]) -> Process {
        let args = self.args(work);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        place.spawn(program(), &args)
    }

    /// Waits until whoever uses the board listens.
    ///
    /// # Panics
    ///
    /// When it does not.
    #[track_caller]
    pub fn await_ready(&self) {
        let ready = &self.board.flow.receiver_round;
        wait::until("a listening victim", || {
            (ready.load(Acquire) == READY).then_some(())
        });
    }
}

/// A victim that a test starts, or has an injector start.
#[derive(Debug)]
pub struct Prepared {
    /// Its board.
    pub file: BoardFile,
    work: Vec<String>,
    process: Option<Process>,
}

impl Prepared {
    /// With a board, and what it is to do.
    #[must_use]
    pub fn new(file: BoardFile, work: &[&str]) -> Self {
        Self {
            file,
            work: work.iter().map(|&word| word.into()).collect(),
            process: None,
        }
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub fn start(&mut self, place: Place<'_>) {
        self.process = Some(self.file.spawn(place, &self.words()));
    }

    /// The command line with which an injector starts it.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        self.file.command(&self.words())
    }

    /// The option that names the process.
    ///
    /// # Panics
    ///
    /// When the test did not start it.
    #[must_use]
    pub fn target(&self) -> String {
        let process = self.process.as_ref().expect("a started victim");
        format!("pid:{}", process.pid())
    }

    fn words(&self) -> Vec<&str> {
        self.work.iter().map(String::as_str).collect()
    }
}

impl Default for BoardFile {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for BoardFile {
    fn drop(&mut self) {
        self.board.round.store(QUIT, Release);
    }
}

/// What one actor of a victim saw in one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its place on the board.
    pub actor: usize,
    /// Calls it made.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Error number of its failures; 0 without one.
    pub errno: u32,
    /// Which of its first calls failed, from 1.
    pub failed_calls: Vec<u64>,
}

impl Seen {
    /// Reads what the actor in this place of the board saw.
    ///
    /// # Panics
    ///
    /// When it saw more than one error number.
    #[must_use]
    #[track_caller]
    pub fn read(board: &Board, index: usize) -> Self {
        let actor = &board.actors[index];
        assert_eq!(
            actor.errno_changes.load(Relaxed),
            0,
            "actor {index} saw several error numbers, {} last",
            actor.errno.load(Relaxed)
        );
        Self {
            actor: index,
            calls: actor.calls.load(Relaxed),
            failures: actor.failures.load(Relaxed),
            errno: actor.errno.load(Relaxed),
            failed_calls: actor.failed_calls(),
        }
    }
}

/// Which threads and processes of a victim make calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// The first thread alone.
    One,
    /// The first thread and so many others.
    Threads(usize),
    /// The first thread, others, and a child and grandchild from the start.
    EarlyFamily,
    /// The same, but child and grandchild are made in each round.
    LateFamily,
}

impl Callers {
    /// Number of threads beside the first.
    const fn threads(self) -> usize {
        match self {
            Self::One => 0,
            Self::Threads(threads) => threads,
            Self::EarlyFamily | Self::LateFamily => 2,
        }
    }

    /// Places on the board that are in use.
    fn actors(self) -> Vec<usize> {
        let family = matches!(self, Self::EarlyFamily | Self::LateFamily);
        (0..ACTORS.min(THREADS + self.threads()))
            .filter(|&actor| family || !matches!(actor, CHILD | GRANDCHILD))
            .collect()
    }
}

/// A victim that makes system calls.
#[derive(Debug)]
pub struct CallVictim {
    file: BoardFile,
    folder: TempDir,
    call: String,
    callers: Callers,
    process: Option<Process>,
}

impl CallVictim {
    /// Starts a victim and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    #[must_use]
    #[track_caller]
    pub fn start(place: Place<'_>, call: &str, callers: Callers) -> Self {
        let mut victim = Self::prepare(call, callers);
        let work = victim.work();
        let work: Vec<&str> = work.iter().map(String::as_str).collect();
        victim.process = Some(victim.file.spawn(place, &work));
        wait::until("the victim", || {
            let actors = victim.callers.actors();
            let late = victim.callers == Callers::LateFamily;
            let expected = actors
                .iter()
                .filter(|&&actor| !late || !matches!(actor, CHILD | GRANDCHILD));
            let board = victim.file.board();
            expected
                .into_iter()
                .all(|&actor| board.actors[actor].thread.load(Acquire) != 0)
                .then_some(())
        });
        victim
    }

    /// Prepares a victim that an injector will start, with its command line.
    ///
    /// # Panics
    ///
    /// When there is no room for its files.
    #[must_use]
    pub fn prepare(call: &str, callers: Callers) -> Self {
        Self {
            file: BoardFile::new(),
            folder: TempDir::new().expect("make a folder"),
            call: call.to_owned(),
            callers,
            process: None,
        }
    }

    /// The folder that its files are in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn work(&self) -> Vec<String> {
        let children = match self.callers {
            Callers::One | Callers::Threads(_) => "none",
            Callers::EarlyFamily => "early",
            Callers::LateFamily => "late",
        };
        let folder = self.folder.path().to_str().expect("a path in UTF-8");
        let threads = self.callers.threads().to_string();
        [
            "calls",
            "--call",
            &self.call,
            "--folder",
            folder,
            "--threads",
            &threads,
            "--children",
            children,
        ]
        .map(String::from)
        .into()
    }

    /// The command line with which an injector starts this victim.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        let work = self.work();
        let work: Vec<&str> = work.iter().map(String::as_str).collect();
        self.file.command(&work)
    }

    /// The victim's process id.
    ///
    /// # Panics
    ///
    /// When the victim was not started by the test.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a started victim").pid()
    }

    /// The target option that names this victim's process.
    ///
    /// # Panics
    ///
    /// When the victim was not started by the test.
    #[must_use]
    pub fn target(&self) -> String {
        format!("pid:{}", self.pid())
    }

    /// Orders a round in which every actor makes `count` calls.
    pub fn begin(&self, count: u64) {
        let board = self.file.board();
        for actor in &board.actors {
            actor.reset();
        }
        board.count.store(count, Relaxed);
        board.round.fetch_add(1, Release);
    }

    /// Waits for the end of the round and returns what each actor saw.
    ///
    /// # Panics
    ///
    /// When it does not end, or an actor saw more than one error number.
    #[track_caller]
    pub fn finish(&self) -> Vec<Seen> {
        let board = self.file.board();
        let round = board.round.load(Relaxed);
        let actors = self.callers.actors();
        wait::until("the victim's calls", || {
            let done = |&actor: &usize| board.actors[actor].round.load(Acquire) == round;
            actors.iter().all(done).then_some(())
        });
        actors
            .into_iter()
            .map(|index| Seen::read(board, index))
            .collect()
    }

    /// Orders a round and waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end.
    #[track_caller]
    pub fn round(&self, count: u64) -> Vec<Seen> {
        self.begin(count);
        self.finish()
    }

    /// Does a round in which no call may fail.
    ///
    /// # Panics
    ///
    /// When one does.
    #[track_caller]
    pub fn assert_unharmed(&self, count: u64) {
        for seen in self.round(count) {
            assert_eq!((seen.calls, seen.failures), (count, 0), "{seen:?}");
        }
    }
}

/// Failures of all actors together.
#[must_use]
pub fn failures(seen: &[Seen]) -> u64 {
    seen.iter().map(|actor| actor.failures).sum()
}

/// Checks that every call of every thread and process failed with one error.
///
/// # Panics
///
/// When one did not, or none was made.
#[track_caller]
pub fn assert_all_failed(seen: &[Seen], errno: u32) {
    for actor in seen {
        let all = (actor.failures, actor.errno) == (actor.calls, errno) && actor.calls > 0;
        assert!(all, "actor {} escaped: {actor:?}", actor.actor);
    }
}

/// What the first thread saw.
///
/// # Panics
///
/// When it is not among them.
#[must_use]
pub fn main_thread(seen: &[Seen]) -> &Seen {
    let main = seen.iter().find(|seen| seen.actor == MAIN);
    main.expect("every victim has a first thread")
}

/// The working folder of a process, which tells whether it is alive.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok()
}
