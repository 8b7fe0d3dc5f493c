//! `cargo xtask vm`: a command in a virtual machine that sees the host's files.
//!
//! The guest's root is the host's root, read-only, with an overlay in memory: each program of
//! the host runs unchanged and nothing it does reaches the host. The guest has no network but
//! its own loopback.

pub(crate) mod emulator;
pub(crate) mod initramfs;
pub(crate) mod qemu;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::kernel::{self, Kernel};
use crate::vm::emulator::Emulator;
use crate::vm::qemu::Outcome;
use crate::{paths, setup};

/// Run a command in a virtual machine that sees the host's files
///
/// The exit status is the command's; 124 when the time was over, 125 when the machine died,
/// 126 when the emulator did.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// override, debian-6.1, debian-6.12, debian-newest, another debian-SERIES, or the path of a bzImage
    #[arg(long, default_value = "override")]
    kernel: String,
    /// Number of processors [default: 2, and 1 with --icount]
    #[arg(long)]
    cpus: Option<u32>,
    /// Memory in MiB
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// Seconds until the machine is ended
    #[arg(long, default_value_t = 300)]
    timeout: u64,
    /// Let the guest's clock count instructions: slow, but measurements repeat exactly
    #[arg(long)]
    icount: bool,
    /// A folder that the guest may write to, at the same path
    #[arg(long, value_name = "DIR")]
    rw_share: Option<PathBuf>,
    /// More kernel parameters
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
    /// Keep the kernel's console output in this file
    #[arg(long, value_name = "FILE")]
    console: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// A virtual machine.
pub(crate) struct Machine {
    /// What it boots.
    pub(crate) kernel: Kernel,
    /// Number of processors.
    pub(crate) cpus: u32,
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
    /// How long it may run.
    pub(crate) limit: Duration,
    /// Whether its clock counts instructions.
    pub(crate) icount: bool,
    /// A folder that it may write to.
    pub(crate) rw_share: Option<PathBuf>,
    /// More kernel parameters.
    pub(crate) append: String,
    /// Where to keep the kernel's console output.
    pub(crate) console: Option<PathBuf>,
}

/// Runs the subcommand.
pub(crate) fn run_command(options: &Options) -> Result<ExitCode> {
    setup::vm()?;
    let rw_share = options.rw_share.as_ref().map(|folder| {
        folder
            .canonicalize()
            .with_context(|| format!("cannot share {}", folder.display()))
    });
    let machine = Machine {
        cpus: options.cpus.unwrap_or(if options.icount { 1 } else { 2 }),
        memory_mib: options.memory,
        limit: Duration::from_secs(options.timeout),
        icount: options.icount,
        rw_share: rw_share.transpose()?,
        append: options.append.clone(),
        console: options.console.clone(),
        ..Machine::new(kernel::find(&options.kernel)?)
    };
    let words: Vec<_> = options
        .command
        .iter()
        .map(|word| initramfs::quote(word))
        .collect();
    let folder = std::env::current_dir().context("cannot read the current folder")?;
    let folder = initramfs::quote(&folder.display().to_string());
    let script = format!(
        "cd {folder} 2>/dev/null || cd /\nexec {}\n",
        words.join(" ")
    );
    let outcome = machine.run(&script, &mut print)?;
    Ok(ExitCode::from(outcome.report()))
}

/// A script that runs a program of the tests package, which wants to know where it runs and
/// where the injector is.
pub(crate) fn program_script(place: &str, program: &Path, arguments: &[String]) -> String {
    let path = |path: &Path| initramfs::quote(&path.display().to_string());
    let arguments: Vec<_> = arguments
        .iter()
        .map(|word| initramfs::quote(word))
        .collect();
    format!(
        "cd {} || exit\nexport INJECTOR_BIN={} INJECTOR_TEST_WHERE={}\nexec {} {}\n",
        path(&paths::root()),
        path(&paths::injector()),
        initramfs::quote(place),
        path(program),
        arguments.join(" ")
    )
}

/// Passes on what a guest prints.
pub(crate) fn print(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    // A reader that has gone away is no reason to end the machine before its command.
    drop(stdout.write_all(bytes).and_then(|()| stdout.flush()));
}

impl Machine {
    /// A machine of the usual size with this kernel.
    pub(crate) fn new(kernel: Kernel) -> Self {
        Self {
            kernel,
            cpus: 2,
            memory_mib: 2048,
            limit: Duration::from_secs(300),
            icount: false,
            rw_share: None,
            append: String::new(),
            console: None,
        }
    }

    /// Boots, runs a shell script as root, and ends the machine. What the script prints goes to
    /// `sink` as it comes.
    pub(crate) fn run(&self, script: &str, sink: &mut dyn FnMut(&[u8])) -> Result<Outcome> {
        let scratch = tempfile::Builder::new()
            .prefix("injector-vm-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        let initramfs = scratch.path().join("initramfs");
        let file = std::fs::File::create(&initramfs).context("cannot make the initramfs")?;
        let guest = initramfs::Guest {
            visible: &paths::root(),
            share: self.rw_share.as_deref(),
            modules: self.kernel.modules.as_ref(),
            script,
        };
        initramfs::write(&guest, std::io::BufWriter::new(file))?;
        let emulator = Emulator::ensure()?;
        let hardware = qemu::Hardware {
            emulator: &emulator,
            kernel: &self.kernel.image,
            initramfs,
            cpus: self.cpus,
            memory_mib: self.memory_mib,
            icount: self.icount,
            share: self.rw_share.as_deref(),
            append: &self.append,
            console: scratch.path().join("console"),
            status: scratch.path().join("status"),
        };
        let outcome = hardware.run(self.limit, sink)?;
        if let Some(copy) = &self.console {
            std::fs::copy(&hardware.console, copy)
                .with_context(|| format!("cannot write the console to {}", copy.display()))?;
        }
        Ok(outcome)
    }
}

impl Outcome {
    /// Says what went wrong, if anything, and returns the status to exit with.
    pub(crate) fn report(&self) -> u8 {
        match self {
            Self::Exited(status) => *status,
            Self::TimedOut(console) => {
                eprintln!("{console}\nxtask: the time for the virtual machine is over");
                124
            }
            Self::Died(console) => {
                eprintln!("{console}\nxtask: the virtual machine died (its console is above)");
                125
            }
            Self::Broke(console, how) => {
                eprintln!("{console}\nxtask: the emulator {how}");
                126
            }
        }
    }
}
