//! Errors of usage, in the one form that all errors have.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::{error::SpecError, spec::text::ValueError};

/// Prints help and version on stdout, and what is wrong with the arguments on
/// stderr.
pub(super) fn report(error: &clap::Error, root: &clap::Command) -> anyhow::Result<ExitCode> {
    if let Some(refused) = refused_value(error) {
        return Err(crate::error::Error::from(refused).into());
    }
    error.print()?;
    if error.kind() == ErrorKind::MissingRequiredArgument {
        for (option, help) in missing(error, root) {
            eprintln!("{option}: allowed: {help}");
        }
    }
    Ok(ExitCode::from(
        u8::try_from(error.exit_code()).unwrap_or(crate::error::EXIT_USAGE),
    ))
}

/// A value that one of our own types refused.
fn refused_value(error: &clap::Error) -> Option<SpecError> {
    use std::error::Error as _;
    let refused = error.source()?.downcast_ref::<ValueError>()?;
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    // `--percent <P>`: the value's placeholder says nothing here.
    let field = argument.split_whitespace().next()?.to_owned();
    Some(SpecError::new(
        field,
        refused.problem.clone(),
        refused.allowed.clone(),
    ))
}

/// The missing arguments with their help texts.
fn missing(error: &clap::Error, root: &clap::Command) -> Vec<(String, String)> {
    let Some(ContextValue::Strings(arguments)) = error.get(ContextKind::InvalidArg) else {
        return Vec::new();
    };
    arguments
        .iter()
        .filter_map(|argument| {
            let option = argument.split_whitespace().next()?;
            let help = help_of(root, option.strip_prefix("--")?)?;
            Some((option.to_owned(), help))
        })
        .collect()
}

fn help_of(command: &clap::Command, long: &str) -> Option<String> {
    command
        .get_arguments()
        .find(|argument| argument.get_long() == Some(long))
        .and_then(|argument| argument.get_help().map(ToString::to_string))
        .or_else(|| command.get_subcommands().find_map(|sub| help_of(sub, long)))
}
