//! `injector plan KIND`: what `inject` would do, without doing it.

use std::{io::Write as _, process::ExitCode};

use crate::{agent, cli::inject, cli::launch};

pub(super) fn exec(args: inject::Args) -> anyhow::Result<ExitCode> {
    let (experiment, _) = args.experiment()?;
    let scopes =
        launch::resolve(&experiment).map_err(|error| error.map_spec(inject::name_option))?;
    let text = agent::plan(&experiment, &scopes)?;
    writeln!(std::io::stdout(), "{}", text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
