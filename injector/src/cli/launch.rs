//! What `inject`, `plan` and `run` share: from an experiment to its report.

use std::{
    io::{IsTerminal as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{ExitCode, ExitStatus},
};

use crate::{
    agent::{self, Prepared, Source},
    cli::Output,
    error::{EXIT_CLEANUP, EXIT_UNSUPPORTED, Error, HostError},
    model::Experiment,
    report::{Report, plan as plan_report},
    resolve::{self, LinuxHost, names},
    spec::build::Entropy,
};

/// Draws what an experiment starts from.
pub(super) fn entropy() -> Result<Entropy, Error> {
    let draw = || -> Result<Entropy, getrandom::Error> {
        // 53 bits: a seed in a JSON report survives readers that keep numbers
        // as doubles.
        Ok(Entropy {
            id: getrandom::u32()?,
            seed: getrandom::u64()? >> 11,
        })
    };
    draw().map_err(|error| {
        HostError {
            path: "getrandom(2)".into(),
            source: std::io::Error::other(error),
        }
        .into()
    })
}

/// All that comes before the first change: resolves the targets on this host,
/// tries what its kernel can do, and plans.
/// With `changes`, all is readied for rules that may come later.
pub(super) fn prepare(experiment: &Experiment, changes: bool) -> Result<Prepared, Error> {
    let mut experiment = experiment.clone();
    names::resolve_names(&mut experiment, names::look_up)?;
    let scopes = resolve::resolve(&experiment, &LinuxHost::new()?)?;
    agent::prepare(&experiment, &scopes, changes)
}

/// Prints what would be done.
pub(super) fn show(prepared: &Prepared, output: Output) -> anyhow::Result<ExitCode> {
    let mut stdout = std::io::stdout().lock();
    match output {
        Output::Human => write!(stdout, "{}", prepared.plan())?,
        Output::Json => writeln!(stdout, "{}", plan_report::to_json(prepared.plan())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs the experiment, with the changes of its source if there is one, and prints its
/// report.
pub(super) fn run(
    prepared: Prepared,
    output: Output,
    source: Option<Source>,
) -> anyhow::Result<ExitCode> {
    let options = agent::Options {
        live: std::io::stderr().is_terminal(),
        source,
    };
    let outcome = agent::run(prepared, options)?;
    // Whether the report could be printed must not hide how the run ended.
    let printed = print(&outcome.report, output);
    if let Some(errors) = outcome.cleanup {
        // Printed here and not returned, so that the report came first.
        eprintln!("error: {errors}");
        return Ok(ExitCode::from(EXIT_CLEANUP));
    }
    printed?;
    Ok(outcome
        .command_status
        .map_or(ExitCode::SUCCESS, command_code))
}

fn print(report: &Report, output: Output) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match output {
        Output::Human => write!(stdout, "{}", report.to_table())?,
        Output::Json => writeln!(stdout, "{}", report.to_json()?)?,
    }
    Ok(())
}

/// The command's own status, in the form that shells give it.
fn command_code(status: ExitStatus) -> ExitCode {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => i32::from(EXIT_UNSUPPORTED),
    };
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(EXIT_UNSUPPORTED))
}
