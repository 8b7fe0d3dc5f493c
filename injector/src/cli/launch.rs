//! What `inject`, `plan` and `run` share: from an experiment to its report.

use std::{
    ffi::OsString,
    io::{IsTerminal as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitCode, ExitStatus},
};

use crate::{
    agent::{
        self, Prepared, Readiness, Source,
        ledger::{self, Ledger, LedgerFile},
    },
    cli::{Output, inject},
    error::{EXIT_CLEANUP, EXIT_UNSUPPORTED, Error, HostError},
    ledger::{Recorded, Spec},
    model::Experiment,
    report::{Report, plan as plan_report},
    resolve::{self, LinuxHost, names},
    spec::build::Entropy,
};

/// What is to be kept of each hit.
#[derive(Debug)]
pub(super) struct Keeping {
    /// The file to write.
    pub(super) file: Option<PathBuf>,
    /// What the user wrote.
    pub(super) spec: Spec,
    /// The run to repeat.
    pub(super) recorded: Option<Recorded>,
}

impl Keeping {
    /// Makes the file, once nothing else is in the way.
    fn begin(self) -> Result<Ledger, Error> {
        let create = |path| LedgerFile::create(path).map_err(inject::name_option);
        Ok(Ledger {
            file: self.file.map(create).transpose()?,
            spec: self.spec,
            recorded: self.recorded,
        })
    }
}

/// Refuses a file for a ledger that is in use.
pub(super) fn check_ledger(path: Option<&Path>) -> Result<(), Error> {
    match path {
        Some(path) => ledger::check(path).map_err(|error| inject::name_option(error).into()),
        None => Ok(()),
    }
}

/// The arguments as they were given, for a ledger.
pub(super) fn written(arguments: &[OsString]) -> Vec<String> {
    let words = arguments.iter().skip(1);
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect()
}

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
pub(super) fn prepare(experiment: &Experiment, ready: Readiness) -> Result<Prepared, Error> {
    let mut experiment = experiment.clone();
    names::resolve_names(&mut experiment, names::look_up)?;
    let scopes = resolve::resolve(&experiment, &LinuxHost::new()?)?;
    agent::prepare(&experiment, &scopes, ready)
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
    keeping: Option<Keeping>,
) -> anyhow::Result<ExitCode> {
    let path = keeping.as_ref().and_then(|keeping| keeping.file.clone());
    let made = path.filter(|path| !path.exists());
    let ledger = keeping.map(Keeping::begin).transpose()?;
    let options = agent::Options {
        live: std::io::stderr().is_terminal(),
        source,
        ledger,
    };
    let outcome = agent::run(prepared, options).inspect_err(|_| {
        if let Some(path) = &made {
            LedgerFile::discard(path);
        }
    })?;
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
