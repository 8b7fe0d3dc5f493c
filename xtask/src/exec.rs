//! Running other programs, and saying what is done and how long it took.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// Variables that `cargo run` sets for this program and that would mislead the programs it
/// starts: library paths of one toolchain make the other toolchain's compiler crash, and
/// `CARGO_MANIFEST_DIR` names the wrong package.
const SET_BY_CARGO_RUN: &[&str] = &[
    "LD_LIBRARY_PATH",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
];

/// A command that starts in the repository's root with the caller's environment, without what
/// `cargo run` added to it.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(paths::root());
    for name in SET_BY_CARGO_RUN {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_BIN_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The cargo this program was started by, with the repository's own target folder.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = command(cargo);
    command
        .arg(subcommand)
        .env("CARGO_TARGET_DIR", paths::target());
    command
}

/// Runs a command to its end; a status other than 0 is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start `{}`", show(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", show(command));
    }
    Ok(())
}

/// Runs a command and returns what it printed; its stderr is shown only in the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start `{}`", show(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}): {}",
            show(command),
            output.status,
            stderr.trim()
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` printed something that is not UTF-8", show(command)))
}

/// Whether a command can be started and ends with status 0; its output is thrown away.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Finds a program in `PATH` and in the administrator's folders, which `PATH` lacks for plain
/// users on Debian.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Prints a line about what is going on. All such lines go to stderr: stdout belongs to the
/// programs that are run.
pub(crate) fn say(text: impl AsRef<str>) {
    eprintln!("xtask: {}", text.as_ref());
}

/// Says what is done next, does it, and says how long it took.
pub(crate) fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(format!("{title} ..."));
    let start = Instant::now();
    let result = work();
    let verdict = if result.is_ok() { "done" } else { "FAILED" };
    say(format!(
        "{title}: {verdict} after {:.1} s",
        start.elapsed().as_secs_f64()
    ));
    result
}

/// Writes a file unless it has this content already, so that what depends on it is not rebuilt.
/// Returns whether it was written.
pub(crate) fn write_if_changed(path: &Path, content: &[u8]) -> Result<bool> {
    if std::fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(true)
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
