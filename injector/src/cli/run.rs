//! `injector run FILE`: several rules on one timeline.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::{
    agent::{Prepared, Readiness, Source},
    cli::{
        Output, inject,
        launch::{self, Keeping},
        replay,
    },
    error::{ConflictError, Error, Place, SpecError},
    ledger::{Recorded, Spec},
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
  injector run outage.yaml --ledger hits.jsonl
  injector run --replay hits.jsonl

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
      percent: 20            # or `when: 3..9+2`; and `times: 7`, `per: flow`
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
    #[arg(long, conflicts_with = "replay")]
    pub watch: bool,
}

/// A spec file, and what is said instead of it: arguments of `run` and of `plan`.
#[derive(clap::Args, Clone, Debug)]
// `plan` takes them beside a kind.
#[group(id = "file_arguments")]
pub struct Args {
    /// The spec file
    #[arg(value_name = "FILE", required_unless_present = "replay")]
    pub file: Option<PathBuf>,

    /// Instead of FILE: run again what this ledger tells of, with its seed, and compare what is hit
    #[arg(
        long,
        value_name = "LEDGER",
        conflicts_with_all = ["file", "seed", "duration", "whole_host", "command"]
    )]
    pub replay: Option<PathBuf>,

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

    /// Write each hit as a line of JSON into this file, which must not be there yet, or be empty
    #[arg(long = "ledger", value_name = "LEDGER", id = "ledger_file")]
    pub ledger: Option<PathBuf>,

    /// The command to start, instead of the file's
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<String>,
}

/// An experiment as it was read.
struct Found {
    experiment: Experiment,
    /// The text of the file.
    text: String,
    /// The run that it repeats.
    recorded: Option<Recorded>,
}

impl Args {
    /// Everything up to the first change.
    pub(super) fn prepare(self) -> Result<(Prepared, Output), Error> {
        let found = self.read(launch::entropy()?)?;
        Ok((self.prepare_for(&found, false)?, self.output))
    }

    /// With `changes`, all is readied for rules that may come later.
    fn prepare_for(&self, found: &Found, changes: bool) -> Result<Prepared, Error> {
        launch::check_ledger(self.ledger.as_deref())?;
        let ready = Readiness {
            changes,
            hits: self.ledger.is_some() || self.replay.is_some(),
        };
        let rules = found.experiment.rules.len();
        launch::prepare(&found.experiment, ready)
            .map_err(|error| self.locate(error, &found.text, Some(rules)))
    }

    /// Where the experiment is written.
    fn path(&self) -> &Path {
        let path = self.file.as_deref().or(self.replay.as_deref());
        path.unwrap_or_else(|| Path::new(""))
    }

    /// Reads the file, or the ledger.
    fn read(&self, entropy: Entropy) -> Result<Found, Error> {
        if let Some(path) = &self.replay {
            let (experiment, recorded) = replay::read(path, entropy)?;
            return Ok(Found {
                experiment,
                text: String::new(),
                recorded: Some(recorded),
            });
        }
        let bytes = document::read(self.path())?;
        let experiment = self.experiment(&bytes, entropy)?;
        Ok(Found {
            experiment,
            // It was read as UTF-8.
            text: String::from_utf8_lossy(&bytes).into_owned(),
            recorded: None,
        })
    }

    /// The experiment of a file with this content.
    pub(super) fn experiment(&self, bytes: &[u8], entropy: Entropy) -> Result<Experiment, Error> {
        let mut input = document::parse(self.path(), bytes)?;
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
        // It was read as UTF-8.
        let text = String::from_utf8_lossy(bytes);
        build(input, entropy).map_err(|error| self.locate(error, &text, None))
    }

    /// Says of an error where in the file what is wrong was written. With a number of rules, it
    /// numbers those of the experiment, and a recipe is several of them.
    fn locate(&self, error: Error, text: &str, rules: Option<usize>) -> Error {
        let place = |field: &str, rules| Place {
            file: self.path().to_owned(),
            line_column: document::find(text, field, rules),
        };
        // What was not read from the file.
        let own = |field: &str| {
            field == "for" && self.duration.is_some()
                || field == "command" && !self.command.is_empty()
        };
        match error {
            Error::Spec(error) if own(&error.field) => inject::name_option(error).into(),
            Error::Spec(error) if error.place.is_none() => {
                let place = place(&error.field, rules);
                error.at(place).into()
            }
            Error::Conflict(error) => {
                let (number, rules) = error.number;
                let place = place(&format!("rules[{number}]"), Some(rules));
                ConflictError {
                    place: Some(place.into()),
                    ..error
                }
                .into()
            }
            other @ (Error::Spec(_)
            | Error::Unsupported(_)
            | Error::Permission(_)
            | Error::Host(_)
            | Error::Apply(_)
            | Error::Cleanup(_)) => other,
        }
    }
}

pub(super) fn exec(args: RunArgs, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let RunArgs { spec, watch } = args;
    if watch && spec.ledger.is_some() {
        return Err(Error::from(SpecError::new(
            "--ledger",
            "tells what ran by the file as it was at the start, which --watch lets change",
            "one of the two: --ledger or --watch",
        ))
        .into());
    }
    // An id and a seed that were drawn stay what they are.
    let entropy = launch::entropy()?;
    let source = watch.then(|| {
        let again = spec.clone();
        Source::new(spec.path().to_owned(), move || {
            Ok(again.read(entropy)?.experiment)
        })
    });
    let found = spec.read(entropy)?;
    let prepared = spec.prepare_for(&found, watch)?;
    let output = spec.output;
    let keeping = (spec.ledger.is_some() || found.recorded.is_some()).then(|| Keeping {
        file: spec.ledger.clone(),
        // What repeats a run tells of it as that did.
        spec: found.recorded.as_ref().map_or_else(
            || Spec {
                arguments: launch::written(arguments),
                file: Some(found.text),
            },
            |recorded| recorded.header.spec.clone(),
        ),
        recorded: found.recorded.clone(),
    });
    launch::run(prepared, output, source, keeping)
}
