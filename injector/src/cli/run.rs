//! `injector run FILE`: several rules on one timeline.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    agent::Prepared,
    cli::{Output, inject, launch},
    error::{ConflictError, Error, Place},
    spec::{build::build, document, duration::Span, number::Seed, text::Text},
};

/// Arguments of `run`.
#[derive(clap::Args, Debug)]
// `plan` takes them too, beside a kind.
#[group(id = "file_arguments")]
#[command(after_help = "\
Examples:
  injector run outage.yaml
  injector run outage.yaml --seed 7 --output json -- ./app --port 8080

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
        let mut input = document::read(&self.file)?;
        // What was not read from the file.
        let mut own = Vec::new();
        if let Some(Text(seed)) = self.seed {
            input.seed = Some(seed);
        }
        if let Some(Text(duration)) = self.duration {
            input.duration = Some(duration);
            own.push("for");
        }
        input.whole_host |= self.whole_host;
        if !self.command.is_empty() {
            input.command = Some(self.command);
            own.push("command");
        }
        let place = Place {
            file: self.file,
            line_column: None,
        };
        let in_file = |error: Error| match error {
            Error::Spec(error) if own.contains(&error.field.as_ref()) => {
                inject::name_option(error).into()
            }
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
        };
        let prepared = build(input, launch::entropy()?)
            .and_then(|experiment| launch::prepare(&experiment))
            .map_err(in_file)?;
        Ok((prepared, self.output))
    }
}

pub(super) fn exec(args: Args) -> anyhow::Result<ExitCode> {
    let (prepared, output) = args.prepare()?;
    launch::run(prepared, output)
}
