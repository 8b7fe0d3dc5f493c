//! The command line: one module per command, arguments and a few calls each.

pub mod completions;
pub mod doctor;
pub mod faults;
pub mod inject;
mod launch;
pub mod plan;
mod replay;
pub mod rule_args;
pub mod run;
pub mod stop;
mod usage;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::{
    kernel::{guardian, waker},
    report::live::LogWriter,
};

/// Makes chosen cgroups and processes suffer exactly the fault you ask for: packets lost, delayed or corrupted, system calls failed.
#[derive(Parser, Debug)]
#[command(name = "injector", version, after_help = AFTER_HELP)]
pub struct Cli {
    /// Say more on stderr; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  injector doctor
  injector inject net-loss --target cgroup:/web --percent 5 --for 1m
  injector inject sys-errno --call openat --errno EIO --for 30s -- ./app
  injector plan net-delay --target pid:4242 --delay 100ms --for 30s
  injector plan outage.yaml
  injector run outage.yaml
  injector stop --all

Exit codes:
  0  done, and nothing of the injector is left
  2  bad usage or spec; nothing was changed
  3  unsupported here or no permission; nothing is left changed
  4  clean-up incomplete; the message says what remains and how to remove it
  With a command after `--`, its own exit status, or 128+N if signal N ended it.";

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Inject one fault
    Inject(inject::Args),
    /// Print what `inject` or `run` would do with the same arguments, and change nothing
    Plan(plan::Args),
    /// Run an experiment of several rules from a file
    Run(run::RunArgs),
    /// Show what this kernel can do, by trying
    Doctor(doctor::Args),
    /// Describe the fault kinds
    Faults(faults::Args),
    /// Remove whatever an earlier crash left behind
    Stop(stop::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Set values and put them back, for an agent that starts this
    #[command(name = guardian::COMMAND, hide = true)]
    Guardian {
        /// The agent's experiment.
        id: String,
    },
    /// Wake calls that wait asleep, for an agent that starts this
    #[command(name = waker::COMMAND, hide = true)]
    Waker {
        /// Id of the map of those that sleep.
        sleepers: u32,
        /// Id of the map that tells where they do.
        dormitory: u32,
    },
    /// Take what a cgroup has, for a guardian that starts this
    #[command(name = guardian::WORKER, hide = true)]
    Worker {
        /// `cpu` or `memory`.
        work: String,
        /// Millionths of the time, or bytes.
        amount: u64,
        /// Process id of the guardian.
        guardian: u32,
    },
}

/// How to print results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Human,
    /// One JSON object on stdout, at the end.
    Json,
}

/// Parses the arguments and runs the command.
///
/// # Errors
///
/// Whatever the command fails with; [`crate::error::Error`] where it decides
/// the exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<ExitCode> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, &Cli::command()),
    };
    init_logging(cli.verbose);
    match cli.command {
        Command::Inject(args) => inject::exec(args, &arguments),
        Command::Plan(args) => plan::exec(args),
        Command::Run(args) => run::exec(args, &arguments),
        Command::Doctor(args) => doctor::exec(&args),
        Command::Faults(args) => faults::exec(&args),
        Command::Stop(args) => stop::exec(&args),
        Command::Completions(args) => completions::exec(&args),
        Command::Guardian { id } => {
            guardian::serve(&id)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Waker {
            sleepers,
            dormitory,
        } => {
            waker::serve(sleepers, dormitory)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Worker {
            work,
            amount,
            guardian,
        } => {
            guardian::work(&work, amount, guardian);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Logs go to stderr: stdout belongs to results.
fn init_logging(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "injector=info",
        _ => "injector=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("INJECTOR_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    // Fails only if a subscriber is set already, as in tests.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogWriter)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false)
        .try_init();
}

#[cfg(test)]
mod tests;
