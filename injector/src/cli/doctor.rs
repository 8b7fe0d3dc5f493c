//! `injector doctor`: what this kernel can do.

use std::{io::Write as _, process::ExitCode};

use crate::{
    cli::Output,
    kernel::features,
    report::doctor::Diagnosis,
    resolve::{Host as _, LinuxHost},
};

/// Arguments of `doctor`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  injector doctor
  injector doctor --output json | jq '.kinds[] | select(.supported | not)'

Every line is the result of a try: load, attach, detach. The first supported rung of a kind serves
it; without one, the kind is not supported. What a rung is only for needs that rung as well: an
option, or packets on the loopback interface.

Needed are root in the host's user namespace and at least the capabilities CAP_SYS_ADMIN (it
includes CAP_BPF and CAP_PERFMON), CAP_NET_ADMIN and CAP_SYS_PTRACE.")]
pub struct Args {
    /// How to print the result
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
}

pub(super) fn exec(args: &Args) -> anyhow::Result<ExitCode> {
    let host = LinuxHost::new()?;
    let diagnosis = Diagnosis {
        kernel: host.kernel_release(),
        capabilities_missing: host.missing_capabilities(),
        probes: features::probe_all(),
    };
    let mut stdout = std::io::stdout().lock();
    match args.output {
        Output::Human => write!(stdout, "{}", diagnosis.to_table())?,
        Output::Json => writeln!(stdout, "{}", diagnosis.to_json()?)?,
    }
    Ok(ExitCode::SUCCESS)
}
