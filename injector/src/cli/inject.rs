//! `injector inject KIND`: one rule from the command line.

use std::process::ExitCode;

use crate::{
    agent::Prepared,
    cli::{Output, launch, rule_args::RuleArgs},
    error::{Error, SpecError},
    model::Experiment,
    spec::{build::build, kind::RuleCommand},
};

/// Arguments of `inject`.
#[derive(clap::Args, Debug)]
#[command(
    subcommand_value_name = "KIND",
    subcommand_help_heading = "Kinds",
    after_help = "\
Examples:
  injector inject net-loss --target cgroup:/web --percent 5 --for 1m
  injector inject net-delay --target pid:4242 --delay 100ms --jitter 20ms --for 30s
  injector inject sys-errno --call openat --errno EIO --when 3..9+2 --for 30s -- ./app
  injector plan net-loss --target cgroup:/web --percent 5 --for 1m

`injector inject KIND --help` lists the options of a kind, `injector faults KIND` describes it."
)]
pub struct Args {
    /// The fault.
    #[command(subcommand)]
    pub kind: RuleCommand<RuleArgs>,
}

impl Args {
    /// The experiment, with the chosen output.
    pub(super) fn experiment(self) -> Result<(Experiment, Output), Error> {
        let (what, args) = self.kind.split();
        let output = args.output;
        let experiment = build(args.into_experiment(what), launch::entropy()?)
            .map_err(|error| error.map_spec(name_option))?;
        Ok((experiment, output))
    }

    /// Everything up to the first change.
    pub(super) fn prepare(self) -> Result<(Prepared, Output), Error> {
        let (experiment, output) = self.experiment()?;
        let prepared =
            launch::prepare(&experiment, false).map_err(|error| error.map_spec(name_option))?;
        Ok((prepared, output))
    }
}

/// A field `jitter` of the one rule is written `--jitter` here.
pub(super) fn name_option(error: SpecError) -> SpecError {
    let field = match error.field.strip_prefix("rules[0].") {
        Some(option) => format!("--{option}"),
        None if error.field == "command" => "-- CMD".to_owned(),
        None => format!("--{}", error.field),
    };
    SpecError {
        field: field.into(),
        ..error
    }
}

pub(super) fn exec(args: Args) -> anyhow::Result<ExitCode> {
    let (prepared, output) = args.prepare()?;
    launch::run(prepared, output, None)
}
