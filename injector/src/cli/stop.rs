//! `injector stop --all`.

use std::{io::Write as _, process::ExitCode};

use crate::{error::Error, kernel};

/// Arguments of `stop`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  injector stop --all

An agent that ends, however it ends, takes its programs with it. What no kernel object can own,
such as a qdisc, may outlive an agent that was killed: this removes it. Values that were set in
control files of cgroups are put back, unless somebody else has changed them meanwhile.")]
pub struct Args {
    /// Everything that any earlier run left; required, so that nothing is removed by mistake
    #[arg(long, required = true)]
    pub all: bool,
}

pub(super) fn exec(_args: &Args) -> anyhow::Result<ExitCode> {
    let report = kernel::stop_all().map_err(Error::from)?;
    let mut stdout = std::io::stdout().lock();
    if report.stopped.is_empty() && report.removed.is_empty() && report.restored.is_empty() {
        writeln!(stdout, "nothing was left")?;
    }
    for pid in &report.stopped {
        writeln!(stdout, "stopped the injector with process id {pid}")?;
    }
    for what in &report.removed {
        writeln!(stdout, "removed {what}")?;
    }
    for what in &report.restored {
        writeln!(stdout, "{what}")?;
    }
    Ok(ExitCode::SUCCESS)
}
