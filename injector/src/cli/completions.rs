//! `injector completions SHELL`.

use std::process::ExitCode;

use clap::CommandFactory as _;

/// Arguments of `completions`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  injector completions bash > /etc/bash_completion.d/injector
  injector completions zsh > /usr/local/share/zsh/site-functions/_injector
  injector completions fish > ~/.config/fish/completions/injector.fish")]
pub struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

pub(super) fn exec(args: &Args) -> anyhow::Result<ExitCode> {
    // Into memory first: the generator panics on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut super::Cli::command(),
        "injector",
        &mut script,
    );
    std::io::Write::write_all(&mut std::io::stdout(), &script)?;
    Ok(ExitCode::SUCCESS)
}
