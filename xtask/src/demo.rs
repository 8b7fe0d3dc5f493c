//! `cargo xtask demo`: the injector at work, on this machine if it can, else in a virtual one.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::exec::{command, is_root, output, say};
use crate::vm::{self, Machine};
use crate::{build, kernel, paths, setup};

/// The program that shows the faults.
const PROGRAM: &str = "injector-demo";

/// The faults that it shows.
const SHOWN: &[&str] = &["net-loss", "net-delay", "sys-errno"];

/// Show the injector at work
///
/// Runs on this machine when its kernel can do all the faults that are shown, else in a virtual
/// machine. Nothing outside the demo's own processes is disturbed either way.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Use a virtual machine even if this machine could do it
    #[arg(long)]
    vm: bool,
    /// The virtual machine's kernel: debian-6.12, debian-6.1, override, or the path of a bzImage
    /// [default: debian-6.12]
    ///
    /// It is used even if this machine could do it.
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
    /// Arguments for the demo
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Runs the subcommand.
pub(crate) fn run_command(options: &Options) -> Result<ExitCode> {
    setup::victims()?;
    build::bpf()?;
    build::injector()?;
    build::test_programs()?;
    let obstacle = if options.vm || options.kernel.is_some() {
        Some("you asked for it".to_owned())
    } else {
        obstacle()?
    };
    match obstacle {
        None => {
            say("the demo runs on this machine: its kernel can do all the faults that are shown");
            on_host(options)
        }
        Some(why) => {
            say(format!("the demo runs in a virtual machine: {why}"));
            in_vm(options)
        }
    }
}

/// Why the demo cannot run on this machine.
fn obstacle() -> Result<Option<String>> {
    if !is_root() {
        return Ok(Some(
            "this is not root, who alone may change what the kernel does".to_owned(),
        ));
    }
    let report = output(command(paths::injector()).args(["doctor", "--output", "json"]))
        .context("the injector cannot tell what this kernel can do")?;
    let lacking = lacking(&report)?;
    if lacking.is_empty() {
        return Ok(None);
    }
    Ok(Some(format!(
        "this kernel cannot do {}; `target/release/injector doctor` tells why",
        lacking.join(", ")
    )))
}

/// The faults to be shown that a doctor's report does not list as supported.
fn lacking(report: &str) -> Result<Vec<&'static str>> {
    let report: serde_json::Value =
        serde_json::from_str(report).context("the doctor's report is no JSON")?;
    let Some(kinds) = report["kinds"].as_array() else {
        bail!("the doctor's report has no list of kinds");
    };
    let supported = |name: &&&str| {
        kinds
            .iter()
            .any(|kind| kind["kind"] == **name && kind["supported"] == true)
    };
    Ok(SHOWN
        .iter()
        .filter(|name| !supported(name))
        .copied()
        .collect())
}

fn on_host(options: &Options) -> Result<ExitCode> {
    let status = command(paths::test_program(PROGRAM))
        .args(&options.arguments)
        .env("INJECTOR_BIN", paths::injector())
        .env("INJECTOR_TEST_WHERE", "host")
        .status()
        .context("cannot start the demo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn in_vm(options: &Options) -> Result<ExitCode> {
    setup::vm()?;
    // One that people run, and that need not be built.
    let name = options.kernel.as_deref().unwrap_or(kernel::BACKPORTED);
    let machine = Machine::new(kernel::ensure(name)?);
    let script = vm::program_script(name, &paths::test_program(PROGRAM), &options.arguments);
    let outcome = machine.run(&script, &mut vm::print)?;
    Ok(ExitCode::from(outcome.report()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_lacking_unless_the_doctor_says_supported() {
        let report = r#"{"kinds":[{"kind":"net-loss","supported":true},
            {"kind":"net-delay","supported":true},{"kind":"sys-errno","supported":false}]}"#;
        assert_eq!(lacking(report).expect("a report"), ["sys-errno"]);
        assert!(lacking("{}").is_err());
    }
}
