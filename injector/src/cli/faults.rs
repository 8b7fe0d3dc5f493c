//! `injector faults [KIND]`.

use std::{io::Write as _, process::ExitCode};

use injector_common::FaultKind;

use crate::{faults, report::table, spec::text::Text, spec::text::ValueError};

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

/// The name of a fault kind.
#[derive(Clone, Copy, Debug)]
pub struct KindName(pub FaultKind);

impl std::str::FromStr for KindName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        FaultKind::from_name(text).map(Self).ok_or_else(|| {
            let names: Vec<&str> = FaultKind::ALL.iter().map(|kind| kind.name()).collect();
            ValueError::new(text, "is not a fault kind", names.join(", "))
        })
    }
}

pub(super) fn exec(args: &Args) -> anyhow::Result<ExitCode> {
    let text = match &args.kind {
        Some(Text(KindName(kind))) => faults::manual(*kind),
        None => overview(),
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

fn overview() -> String {
    let rows = FaultKind::ALL.iter().map(|&kind| {
        let options: Vec<String> = faults::options(kind)
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
            faults::summary(kind).to_owned(),
            options.join(", "),
        ]
    });
    let table = table::render(&["KIND", "WHAT HAPPENS", "OPTIONS"], rows);
    format!("{table}\n`injector faults KIND` describes a kind in full.")
}
