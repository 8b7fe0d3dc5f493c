//! The `injector` command: parses, runs, and maps an error to its exit code.

use std::process::ExitCode;

use injector::{cli, error};

fn main() -> ExitCode {
    match cli::main(std::env::args_os()) {
        Ok(code) => code,
        Err(failure) if is_closed_pipe(&failure) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = if let Some(error) = failure.downcast_ref::<error::Error>() {
                eprintln!("error: {error}");
                error::exit_code(error)
            } else {
                // One of this process, such as a closed stdout: nothing was
                // found unsupported, but nothing more can be done here either.
                eprintln!("error: {failure:#}");
                error::EXIT_UNSUPPORTED
            };
            ExitCode::from(code)
        }
    }
}

/// Whoever read the output has seen enough, as in `injector faults | head -1`.
fn is_closed_pipe(failure: &anyhow::Error) -> bool {
    failure
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
