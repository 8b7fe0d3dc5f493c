//! `injector run FILE`: several rules on one timeline.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    cli::{Output, inject, launch},
    error::{ConflictError, Error, Place},
    spec::{build::build, document, duration::Span, number::Seed, text::Text},
};

/// Arguments of `run`.
#[derive(clap::Args, Debug)]
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

pub(super) fn exec(args: Args) -> anyhow::Result<ExitCode> {
    let mut input = document::read(&args.file)?;
    let own_duration = args.duration.is_some();
    if let Some(Text(seed)) = args.seed {
        input.seed = Some(seed);
    }
    if let Some(Text(duration)) = args.duration {
        input.duration = Some(duration);
    }
    input.whole_host |= args.whole_host;
    if !args.command.is_empty() {
        input.command = Some(args.command);
    }
    let place = Place {
        file: args.file,
        line_column: None,
    };
    let in_file = |error: Error| match error {
        Error::Spec(error) if own_duration && error.field == "for" => {
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
        .and_then(|experiment| Ok((launch::resolve(&experiment)?, experiment)));
    let (scopes, experiment) = prepared.map_err(in_file)?;
    launch::run(experiment, scopes, args.output)
}
