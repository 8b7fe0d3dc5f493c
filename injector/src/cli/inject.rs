//! `injector inject KIND`: one rule from the command line.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use crate::{
    agent::{Prepared, Readiness},
    cli::{
        Output,
        launch::{self, Keeping},
        rule_args::RuleArgs,
    },
    error::{Error, SpecError},
    ledger::Spec,
    model::Experiment,
    spec::{
        build::{Entropy, build},
        kind::RuleCommand,
    },
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
  injector inject net-loss --target cgroup:/web --percent 5 --per flow --ledger hits.jsonl --for 1m
  injector plan net-loss --target cgroup:/web --percent 5 --for 1m

`injector inject KIND --help` lists the options of a kind, `injector faults KIND` describes it."
)]
pub struct Args {
    /// The fault.
    #[command(subcommand)]
    pub kind: RuleCommand<RuleArgs>,
}

impl Args {
    /// The experiment.
    pub(super) fn experiment(self, entropy: Entropy) -> Result<Experiment, Error> {
        let (what, args) = self.kind.split();
        build(args.into_experiment(what), entropy).map_err(|error| error.map_spec(name_option))
    }

    /// Everything up to the first change, and what else was chosen.
    pub(super) fn prepare(self) -> Result<(Prepared, Chosen), Error> {
        let args = self.kind.rule();
        let chosen = Chosen {
            output: args.output,
            ledger: args.ledger.clone(),
        };
        let experiment = self.experiment(launch::entropy()?)?;
        launch::check_ledger(chosen.ledger.as_deref())?;
        let ready = Readiness {
            hits: chosen.ledger.is_some(),
            ..Readiness::default()
        };
        let prepared =
            launch::prepare(&experiment, ready).map_err(|error| error.map_spec(name_option))?;
        Ok((prepared, chosen))
    }
}

/// What was chosen beside the experiment.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) output: Output,
    pub(super) ledger: Option<PathBuf>,
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

pub(super) fn exec(args: Args, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let (prepared, Chosen { output, ledger }) = args.prepare()?;
    let keeping = ledger.map(|file| Keeping {
        file: Some(file),
        spec: Spec {
            arguments: launch::written(arguments),
            file: None,
        },
        recorded: None,
    });
    launch::run(prepared, output, None, keeping)
}
