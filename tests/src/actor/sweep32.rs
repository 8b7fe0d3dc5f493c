//! A victim that makes calls as 32-bit programs do, by their numbers, with arguments that mean
//! nothing.

use std::{
    hint,
    sync::atomic::Ordering::{Acquire, Release},
};

use super::calls32::int_80;
use crate::board::{Board, QUIT};

/// Options of such a victim.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The numbers of the calls, as in syscall_32.tbl
    #[arg(long, value_delimiter = ',', required = true)]
    pub numbers: Vec<u32>,
}

/// Makes the calls of one round, each once, and between its begin and its end no others.
pub fn run(board: &Board, options: &Options) {
    let actor = &board.actors[0];
    actor.thread.store(std::process::id(), Release);
    while board.round.load(Acquire) == 0 {
        hint::spin_loop();
    }
    for &number in &options.numbers {
        // So that whoever waits in vain knows for which.
        actor.calls.store(number.into(), Release);
        // SAFETY: no argument points to memory that anything has.
        let result = unsafe { int_80(number, [u32::MAX; 5]) };
        hint::black_box(result);
    }
    actor.round.store(1, Release);
    while board.round.load(Acquire) != QUIT {
        hint::spin_loop();
    }
}
