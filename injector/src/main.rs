//! The `injector` command: parses, runs, and maps an error to its exit code.

use std::process::ExitCode;

use injector::{cli, error};

fn main() -> ExitCode {
    match cli::main(std::env::args_os()) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure:#}");
            // What is no error of the library's is one of this process, such
            // as a closed stdout: nothing was found unsupported, but nothing
            // more can be done here either.
            let code = failure
                .downcast_ref::<error::Error>()
                .map_or(error::EXIT_UNSUPPORTED, error::exit_code);
            ExitCode::from(code)
        }
    }
}
