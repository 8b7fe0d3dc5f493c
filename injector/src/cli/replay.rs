//! `injector run --replay LEDGER`: what a ledger tells of, once more.

use std::path::Path;

use clap::Parser as _;

use crate::{
    cli::{Cli, Command},
    error::{Error, Place, SpecError},
    ledger::{Recorded, RuleHead},
    model::Experiment,
    spec::build::Entropy,
};

/// Reads a ledger, and the experiment that it tells of.
pub(super) fn read(path: &Path, entropy: Entropy) -> Result<(Experiment, Recorded), Error> {
    let refuse = |problem: String| {
        let allowed = "a ledger that this version of the injector has written";
        SpecError::new("--replay", problem, allowed).at(Place {
            file: path.to_owned(),
            line_column: Some((1, 1)),
        })
    };
    let recorded = Recorded::read(path).map_err(|error| SpecError {
        field: "--replay".into(),
        ..error
    })?;
    let header = &recorded.header;
    let words = std::iter::once("injector").chain(header.spec.arguments.iter().map(String::as_str));
    let cli = Cli::try_parse_from(words).map_err(|error| {
        // Its first line says what is wrong.
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        refuse(format!("its arguments cannot be read ({line})"))
    })?;
    let entropy = Entropy {
        seed: header.seed,
        ..entropy
    };
    let mut experiment = match (cli.command, &header.spec.file) {
        (Command::Inject(args), None) => args.experiment(entropy)?,
        (Command::Run(args), Some(text)) => args.spec.experiment(text.as_bytes(), entropy)?,
        (
            Command::Inject(_)
            | Command::Plan(_)
            | Command::Run(_)
            | Command::Doctor(_)
            | Command::Faults(_)
            | Command::Stop(_)
            | Command::Completions(_)
            | Command::Guardian { .. }
            | Command::Waker { .. }
            | Command::Worker { .. },
            _,
        ) => return Err(refuse("its arguments are not those of a run".to_owned()).into()),
    };
    experiment.seed = header.seed;
    let rules: Vec<RuleHead> = experiment.rules.iter().map(RuleHead::of).collect();
    if rules != header.rules {
        return Err(refuse("its rules are not those of its arguments".to_owned()).into());
    }
    for rule in recorded.run.mixed() {
        let name = rules.get(rule).map_or("", |rule| &rule.name);
        tracing::warn!(
            "{name}: counts several flows together, and which of their packets are hit depends \
             on how they mix; with `per: flow` it does not"
        );
    }
    Ok((experiment, recorded))
}
