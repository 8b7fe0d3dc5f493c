//! `injector plan`: what `inject` or `run` would do, without doing it.

use std::process::ExitCode;

use crate::{
    cli::{inject, launch, rule_args::RuleArgs, run},
    error::{Error, SpecError},
    spec::kind::RuleCommand,
};

/// Arguments of `plan`: those of `inject` or those of `run`.
#[derive(clap::Args, Debug)]
#[command(
    subcommand_value_name = "KIND",
    subcommand_help_heading = "Kinds",
    override_usage = "injector plan KIND --target TARGET… --for DURATION …\n       \
                      injector plan FILE.yaml …",
    // A kind brings arguments of its own, and needs no file.
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  injector plan net-loss --target cgroup:/web --percent 5 --for 1m
  injector plan sys-errno --call openat --errno EIO --for 30s -- ./app
  injector plan outage.yaml
  injector plan outage.yaml --output json

The kernel is asked by trying: programs are loaded, attached in a network namespace made for that,
and detached. Nothing else is changed."
)]
pub struct Args {
    /// The fault.
    #[command(subcommand)]
    pub kind: Option<RuleCommand<RuleArgs>>,

    /// A spec file.
    #[command(flatten)]
    pub file: Option<run::Args>,
}

pub(super) fn exec(args: Args) -> anyhow::Result<ExitCode> {
    let (prepared, output) = match (args.kind, args.file) {
        (Some(kind), None) => {
            let (prepared, chosen) = inject::Args { kind }.prepare()?;
            (prepared, chosen.output)
        }
        (None, Some(file)) => file.prepare()?,
        (Some(_), Some(_)) => return Err(refuse("a kind and a file are given together")),
        (None, None) => return Err(refuse("neither a kind nor a file is given")),
    };
    launch::show(&prepared, output)
}

fn refuse(problem: &'static str) -> anyhow::Error {
    let allowed = "`injector plan KIND` with the arguments of inject, or `injector plan FILE` with those of run";
    Error::from(SpecError::new("plan", problem, allowed)).into()
}
