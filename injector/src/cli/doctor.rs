//! `injector doctor`: what this kernel can do.

use std::{io::Write as _, process::ExitCode};

use crate::{
    cli::Output,
    error::Error,
    kernel::features,
    report::doctor::{CallDiagnosis, Diagnosis},
    resolve::{Host as _, LinuxHost},
    spec::{
        calls::{self, CallWord, Selected},
        text::Text,
    },
};

/// Arguments of `doctor`.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  injector doctor
  injector doctor --call fsync,chmod
  injector doctor --call %file
  injector doctor --output json | jq '.kinds[] | select(.supported | not)'

Every line is the result of a try: load, attach, detach. The first supported rung of a kind serves
it; without one, the kind is not supported. What a rung is only for needs that rung as well: an
option, or packets on the loopback interface.

Needed are root in the host's user namespace and at least the capabilities CAP_SYS_ADMIN (it
includes CAP_BPF and CAP_PERFMON), CAP_NET_ADMIN and CAP_SYS_PTRACE.")]
pub struct Args {
    /// Try how these system calls can be made to fail here, and nothing else
    #[arg(long, value_name = "CALL[,CALL…]", value_delimiter = ',')]
    pub call: Vec<Text<CallWord>>,

    /// How to print the result
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Output,
}

pub(super) fn exec(args: &Args) -> anyhow::Result<ExitCode> {
    let host = LinuxHost::new()?;
    let (kernel, capabilities_missing) = (host.kernel_release(), host.missing_capabilities());
    let (table, json) = if args.call.is_empty() {
        let diagnosis = Diagnosis {
            kernel,
            capabilities_missing,
            probes: features::probe_all(),
        };
        (diagnosis.to_table(), diagnosis.to_json()?)
    } else {
        let words: Vec<CallWord> = args.call.iter().map(|text| text.0.clone()).collect();
        let Selected { wanted, optional } = calls::select(&words).map_err(Error::from)?;
        let calls = [wanted, optional].concat();
        let diagnosis = CallDiagnosis {
            kernel,
            capabilities_missing,
            probes: features::probe_calls(&calls)?,
        };
        (diagnosis.to_table(), diagnosis.to_json()?)
    };
    let mut stdout = std::io::stdout().lock();
    match args.output {
        Output::Human => write!(stdout, "{table}")?,
        Output::Json => writeln!(stdout, "{json}")?,
    }
    Ok(ExitCode::SUCCESS)
}
