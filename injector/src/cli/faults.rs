//! `injector faults [KIND]`.

use std::{io::Write as _, process::ExitCode};

use crate::{
    report::table,
    spec::{
        kind::Kind,
        text::{Text, ValueError},
    },
};

/// Arguments of `faults`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  injector faults
  injector faults net-delay")]
pub struct Args {
    /// Describe this kind in full
    #[arg(value_name = "KIND")]
    pub kind: Option<Text<KindName>>,
}

/// The name of a fault kind or a recipe.
#[derive(Clone, Copy, Debug)]
pub struct KindName(pub Kind);

impl std::str::FromStr for KindName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Kind::from_name(text)
            .map(Self)
            .ok_or_else(|| ValueError::new(text, "is not a fault kind", Kind::names()))
    }
}

pub(super) fn exec(args: &Args) -> anyhow::Result<ExitCode> {
    let text = match &args.kind {
        Some(Text(KindName(kind))) => kind.manual(),
        None => overview(),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

fn overview() -> String {
    let rows = Kind::all().map(|kind| {
        let options: Vec<String> = kind
            .options()
            .into_iter()
            .map(|option| {
                if option.required {
                    format!("--{} (required)", option.name)
                } else {
                    format!("--{}", option.name)
                }
            })
            .collect();
        vec![
            kind.name().to_owned(),
            kind.summary().to_owned(),
            options.join(", "),
        ]
    });
    let table = table::render(&["KIND", "WHAT HAPPENS", "OPTIONS"], rows);
    format!("{table}\n`injector faults KIND` describes a kind in full.")
}
