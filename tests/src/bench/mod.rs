//! The benchmarks: what the injector costs those whom it does not disturb, how
//! soon it acts, and how true its faults are beside the kernel's own emulator.
//!
//! Every table compares conditions of one run on one machine, in turns, because
//! nothing else can be compared on a machine that does other things too.

mod calls;
mod compare;
mod fidelity;
mod packet;
mod path;
mod scale;
mod sheet;
mod startup;
mod syscall;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{agent::Injection, demo::machine};

/// Command line of the benchmarks.
#[derive(Debug, clap::Parser)]
#[command(about = "Measure what the injector costs and how true its faults are")]
struct Options {
    #[command(subcommand)]
    group: Group,
}

/// What can be measured, and the processes that the measuring needs.
#[derive(Debug, clap::Subcommand)]
enum Group {
    /// Faults beside the kernel's own queueing disciplines
    Fidelity(fidelity::Options),
    /// Instructions per system call, in a guest whose clock counts them, also beside other makers of
    /// failing calls and under many rules
    Syscall(syscall::Options),
    /// Processor time per packet
    Packet,
    /// Instructions per packet, and per exchange over TCP, beside other makers of faults, in a
    /// guest as above; elsewhere, exchanges per second
    Compare(compare::Options),
    /// The same with many rules and targets, in a guest; elsewhere, how long it takes to start
    /// them and to add one
    Scale,
    /// Time until the first hit, and memory
    Startup,
    /// Put the results of `fidelity` into a document
    #[command(hide = true)]
    FidelityDocument(fidelity::DocumentOptions),
    /// Make system calls and say how long each took
    #[command(hide = true)]
    Calls(calls::Options),
    /// Send small packets and say what each took
    #[command(hide = true)]
    Send(packet::SendOptions),
    /// Send packets to itself and say what each took
    #[command(hide = true)]
    Path(path::Options),
    /// Exchange messages over TCP and say what that took
    #[command(hide = true)]
    Exchange(compare::ExchangeOptions),
    /// Send messages back until killed
    #[command(hide = true)]
    Echo(compare::EchoOptions),
    /// Send packets at a steady pace until killed
    #[command(hide = true)]
    Tick(startup::TickOptions),
    /// Open a file at a steady pace until killed
    #[command(hide = true)]
    OpenTicks(startup::OpenTicks),
}

/// Runs a benchmark, or one of its processes.
#[must_use]
pub fn main() -> ExitCode {
    let good = match Options::parse().group {
        Group::Calls(options) => report(calls::run(&options)),
        Group::Send(options) => report(packet::send(&options)),
        Group::Path(options) => report(path::run(&options)),
        Group::Exchange(options) => report(compare::exchange_messages(&options)),
        Group::Echo(options) => report(compare::echo(&options)),
        Group::Tick(options) => report(startup::tick(&options)),
        Group::OpenTicks(options) => report(startup::open_ticks(&options)),
        Group::Fidelity(options) => measure("fidelity", || {
            let met = fidelity::run(&options);
            met.inspect_err(complain).unwrap_or(false)
        }),
        Group::FidelityDocument(options) => report(fidelity::update_document(&options)),
        Group::Syscall(options) => measure("syscall", || syscall::run(&options)),
        Group::Packet => measure("packet", packet::run),
        Group::Compare(options) => measure("compare", || compare::run(&options)),
        Group::Scale => measure("scale", scale::run),
        Group::Startup => measure("startup", startup::run),
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn report(result: anyhow::Result<()>) -> bool {
    result.inspect_err(complain).is_ok()
}

fn complain(error: &anyhow::Error) {
    eprintln!("injector-bench: {error:#}");
}

/// Runs a group; whether every bar was met.
fn measure(name: &str, group: impl FnOnce() -> bool) -> bool {
    println!("## {name}: {}\n", machine());
    let met = group();
    println!(
        "{}\n",
        if met {
            "All bars are met."
        } else {
            "Not all bars are met."
        }
    );
    met
}

/// A fault in force, with these words after `inject`.
#[track_caller]
fn inject(words: &str) -> Injection {
    let args: Vec<&str> = words.split_whitespace().collect();
    Injection::start(&args)
}
