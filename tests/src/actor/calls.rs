//! Victims that make system calls, each from several threads and processes.

use std::{
    path::PathBuf,
    sync::atomic::Ordering::{Relaxed, Release},
    thread,
};

use super::{end_child, fork, wait_child};
use crate::board::{Actor, Board};

mod call;

pub use call::Call;

/// Place of the first thread on the board.
pub const MAIN: usize = 0;
/// Place of the child process on the board.
pub const CHILD: usize = 1;
/// Place of the grandchild process on the board.
pub const GRANDCHILD: usize = 2;
/// Place of the first further thread on the board.
pub const THREADS: usize = 3;

/// Options of a calling victim.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The system call to make
    #[arg(long)]
    pub call: String,
    /// An empty folder of the victim's own, for calls on files
    #[arg(long)]
    pub folder: PathBuf,
    /// How many threads call, besides the first
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Whether a child and a grandchild call, and since when they exist
    #[arg(long, value_enum, default_value = "none")]
    pub children: Children,
}

/// Since when a victim's child and grandchild exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Children {
    /// There are none.
    None,
    /// Since the victim's start, before any fault.
    Early,
    /// Since the start of the round, after the fault was put in force.
    Late,
}

/// Makes calls, one round after the other.
///
/// # Errors
///
/// When the call is unknown or cannot be prepared.
pub fn run(board: &Board, rounds: u32, options: &Options) -> anyhow::Result<()> {
    let mut calls = (0..THREADS + options.threads)
        .map(|actor| Call::prepare(&options.call, &options.folder.join(actor.to_string())))
        .collect::<anyhow::Result<Vec<_>>>()?
        .into_iter();
    let mut next = || calls.next().ok_or_else(|| anyhow::anyhow!("no call left"));
    let (mut main, mut child, mut grandchild) = (next()?, next()?, next()?);

    // Forked before any thread exists: a child has only the thread that forked.
    if options.children == Children::Early && fork()?.is_none() {
        let ok = fork().map(|inner| match inner {
            None => rounds_of(board, rounds, GRANDCHILD, &mut grandchild),
            Some(_) => rounds_of(board, rounds, CHILD, &mut child),
        });
        end_child(i32::from(ok.is_err()));
    }
    let first = &board.actors[MAIN];
    thread::scope(|scope| {
        for (index, mut call) in calls.enumerate() {
            scope.spawn(move || rounds_of(board, rounds, THREADS + index, &mut call));
        }
        first.thread.store(thread_id(), Release);
        let mut last = 0;
        for _ in 0..rounds {
            let Some(round) = board.next_round(last) else {
                break;
            };
            if options.children == Children::Late {
                let [at_child, at_grandchild] = [CHILD, GRANDCHILD].map(|at| &board.actors[at]);
                if let Some(forked) = fork()? {
                    anyhow::ensure!(wait_child(forked)? == 0, "the child failed");
                } else {
                    let inner = fork();
                    if let Ok(None) = inner {
                        round_of(board, round, at_grandchild, &mut grandchild);
                        end_child(0);
                    }
                    round_of(board, round, at_child, &mut child);
                    end_child(match inner {
                        Ok(Some(inner)) => wait_child(inner).unwrap_or(1),
                        _ => 1,
                    });
                }
            }
            round_of(board, round, first, &mut main);
            last = round;
        }
        Ok(())
    })
}

/// Makes calls as one actor, one round after the other.
fn rounds_of(board: &Board, rounds: u32, index: usize, call: &mut Call) {
    let actor = &board.actors[index];
    actor.thread.store(thread_id(), Release);
    let mut last = 0;
    for _ in 0..rounds {
        let Some(round) = board.next_round(last) else {
            break;
        };
        round_of(board, round, actor, call);
        last = round;
    }
}

/// Makes the round's calls as one actor.
fn round_of(board: &Board, round: u32, actor: &Actor, call: &mut Call) {
    for _ in 0..board.count.load(Relaxed) {
        actor.record(call.make());
    }
    actor.round.store(round, Release);
}

fn thread_id() -> u32 {
    nix::unistd::gettid().as_raw().unsigned_abs()
}

impl Options {
    /// Whether the actor in this place of the board exists.
    #[must_use]
    pub fn has(&self, actor: usize) -> bool {
        match actor {
            MAIN => true,
            CHILD | GRANDCHILD => self.children != Children::None,
            other => other < THREADS + self.threads,
        }
    }
}
