//! A victim that never stops forking: some children end at once, others stay
//! and work when they are told to.

use std::{
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    thread,
    time::Duration,
};

use super::{
    calls::{Call, MAIN},
    end_child, fork, wait_child,
};
use crate::board::{Board, QUIT};

/// Pause between two forks.
const GAP: Duration = Duration::from_millis(10);
/// How many children stay at most; later ones all end at once.
const MOST: usize = 150;
/// How often a child looks whether it is to work. Many do.
const LOOK: Duration = Duration::from_millis(50);

/// Options of a forking victim.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Address and port that each child which stays sends one packet to, from a
    /// socket that it opened at its birth
    #[arg(long)]
    pub to: SocketAddr,
    /// An empty folder, for the call that each of them makes
    #[arg(long)]
    pub folder: PathBuf,
}

/// Forks until the round begins, then waits until all children have worked.
/// Each counts one call, of `mkdir`, and one packet.
///
/// # Errors
///
/// When it cannot fork.
pub fn run(board: &Board, options: &Options) -> anyhow::Result<()> {
    let actor = &board.actors[MAIN];
    let mut stay = Vec::new();
    while board.round.load(Acquire) == 0 {
        match fork()? {
            None => end_child(0),
            Some(child) => {
                wait_child(child)?;
            }
        }
        if stay.len() < MOST {
            match fork()? {
                None => {
                    let done = work(board, options, stay.len());
                    end_child(i32::from(done.is_err()));
                }
                Some(child) => stay.push(child),
            }
            actor.thread.store(1, Release);
        }
        thread::sleep(GAP);
    }
    for child in stay {
        anyhow::ensure!(wait_child(child)? == 0, "a child failed");
    }
    actor.round.store(board.round.load(Relaxed), Release);
    Ok(())
}

/// What a child does that stays.
fn work(board: &Board, options: &Options, number: usize) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let folder = options.folder.join(number.to_string());
    let mut call = Call::prepare("mkdir", &folder)?;
    while board.round.load(Acquire) == 0 {
        thread::sleep(LOOK);
    }
    if board.round.load(Acquire) == QUIT {
        return Ok(());
    }
    socket.send_to(b"here", options.to)?;
    board.flow.sent.fetch_add(1, Relaxed);
    board.actors[MAIN].record(call.make());
    Ok(())
}
