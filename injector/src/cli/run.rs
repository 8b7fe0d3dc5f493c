//! `injector run FILE`: several rules on one timeline.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use crate::{
    agent::{Prepared, Source},
    cli::{Output, inject, launch},
    error::{ConflictError, Error, Place},
    model::Experiment,
    spec::{
        build::{Entropy, build},
        document,
        duration::Span,
        number::Seed,
        text::Text,
    },
};

/// Arguments of `run`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  injector run outage.yaml
  injector run outage.yaml --seed 7 --output json -- ./app --port 8080
  injector run outage.yaml --watch

A file:
  version: 1
  name: a bad day            # optional
  for: 2m                    # optional if every rule has its own
  seed: 42                   # optional
  rules:
    - kind: net-delay        # see `injector faults`
      target: cgroup:/web    # or a list; without one, the command
      delay: 100ms
      jitter: 20ms
    - name: disk full        # optional
      kind: sys-errno
      target: [cgroup:/web, pid:4242]
      start: 30s             # optional
      for: 1m                # optional
      call: [write, pwrite64]
      errno: ENOSPC
      percent: 20            # or `when: 3..9+2`; and `times: 7`
  command: [./app, --port, '8080']   # optional")]
pub struct RunArgs {
    /// What to run.
    #[command(flatten)]
    pub spec: Args,

    /// Put changes of FILE in force while it runs
    ///
    /// Rules are known by their names. Those whose values change go on with their counts,
    /// and no packet or call meets neither the old values nor the new ones. New rules come
    /// behind the others; those that are gone stop. A change that cannot be had is logged,
    /// and all stays as it is. Kind and target of a rule, the order, name, seed and command
    /// stay what they are.
    #[arg(long)]
    pub watch: bool,
}

/// A spec file, and what is said instead of it: arguments of `run` and of `plan`.
#[derive(clap::Args, Clone, Debug)]
// `plan` takes them beside a kind.
#[group(id = "file_arguments")]
pub struct Args {
    /// The spec file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Seed of the decisions, instead of the file's
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub seed: Option<Text<Seed>>,

    /// How long, instead of the file's
    #[arg(long = "for", value_name = "DURATION", allow_hyphen_values = true)]
    pub duration: Option<Text<Span>>,

    /// Allow a target that is the whole host (the root cgroup)
    #[arg(long)]
    pub whole_host: bool,

    /// How to print the report
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,

    /// The command to start, instead of the file's
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

impl Args {
    /// Everything up to the first change.
    pub(super) fn prepare(self) -> Result<(Prepared, Output), Error> {
        let prepared = self.prepare_with(launch::entropy()?, false)?;
        Ok((prepared, self.output))
    }

    /// With `changes`, all is readied for rules that may come later.
    fn prepare_with(&self, entropy: Entropy, changes: bool) -> Result<Prepared, Error> {
        let experiment = self.read(entropy)?;
        launch::prepare(&experiment, changes).map_err(|error| self.locate(error))
    }

    /// Reads the file.
    fn read(&self, entropy: Entropy) -> Result<Experiment, Error> {
        let mut input = document::read(&self.file)?;
        if let Some(Text(seed)) = self.seed {
            input.seed = Some(seed);
        }
        if let Some(Text(duration)) = self.duration {
            input.duration = Some(duration);
        }
        input.whole_host |= self.whole_host;
        if !self.command.is_empty() {
            input.command = Some(self.command.clone());
        }
        build(input, entropy).map_err(|error| self.locate(error))
    }

    /// Says of an error where what is wrong was written.
    fn locate(&self, error: Error) -> Error {
        let place = Place {
            file: self.file.clone(),
            line_column: None,
        };
        // What was not read from the file.
        let own = |field: &str| {
            field == "for" && self.duration.is_some()
                || field == "command" && !self.command.is_empty()
        };
        match error {
            Error::Spec(error) if own(&error.field) => inject::name_option(error).into(),
            Error::Spec(error) if error.place.is_none() => error.at(place).into(),
            Error::Conflict(error) => ConflictError {
                place: Some(place.into()),
                ..error
            }
            .into(),
            other @ (Error::Spec(_)
            | Error::Unsupported(_)
            | Error::Permission(_)
            | Error::Host(_)
            | Error::Apply(_)
            | Error::Cleanup(_)) => other,
        }
    }
}

pub(super) fn exec(args: RunArgs) -> anyhow::Result<ExitCode> {
    let RunArgs { spec, watch } = args;
    // An id and a seed that were drawn stay what they are.
    let entropy = launch::entropy()?;
    let prepared = spec.prepare_with(entropy, watch)?;
    let output = spec.output;
    let source = watch.then(|| Source {
        file: spec.file.clone(),
        read: Arc::new(move || spec.read(entropy)),
    });
    launch::run(prepared, output, source)
}
