//! `injector plan KIND`: what `inject` would do, without doing it.

use std::process::ExitCode;

use crate::cli::{inject, launch};

pub(super) fn exec(args: inject::Args) -> anyhow::Result<ExitCode> {
    let (prepared, _) = args.prepare()?;
    launch::show(&prepared)
}
