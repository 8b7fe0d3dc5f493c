//! Building the integration tests and finding the binaries that cargo made of them.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Message, TargetKind};

use crate::exec::cargo;
use crate::kernel;

/// One binary of integration tests.
#[derive(Clone)]
pub(crate) struct TestBinary {
    /// The name of its source file, or `lib` for the harness's own tests.
    pub(crate) name: String,
    /// The binary.
    pub(crate) path: PathBuf,
}

/// The clock of the virtual machine that tests run in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// It goes as the host's does.
    Host,
    /// It counts instructions, and does not run on while the host does something else: for tests
    /// that hold times of some milliseconds against a reference.
    Instructions,
    /// The same, with one processor. QEMU lets two take turns then, each long enough for packets
    /// that pass on one to be overtaken by many on the other, which a TCP flow takes for loss.
    OneProcessor,
}

impl TestBinary {
    /// The clock that its tests need.
    pub(crate) fn clock(&self) -> Clock {
        match self.name.as_str() {
            "net_delay" | "net_delay_spread" | "net_rate" | "net_reorder" => Clock::Instructions,
            "fidelity" => Clock::OneProcessor,
            _ => Clock::Host,
        }
    }

    /// Whether its tests could find out anything on this kernel that the others do not tell. The
    /// override kernel is the backported one with one option more, about system calls: packets
    /// take the same way in both.
    pub(crate) fn runs_on(&self, kernel: &str) -> bool {
        let of_packets_alone = self.name.starts_with("net_")
            || matches!(
                self.name.as_str(),
                "fidelity" | "loopback" | "open_sockets" | "workers"
            );
        !(of_packets_alone && kernel == kernel::OVERRIDE)
    }
}

/// Builds the package in `tests/`.
pub(crate) fn build() -> Result<Vec<TestBinary>> {
    let mut build = cargo("test");
    build.args(["--locked", "--package", "injector-tests", "--no-run"]);
    build
        .args(["--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped());
    let mut child = build.spawn().context("cannot start cargo")?;
    let stdout = child
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let mut binaries = Vec::new();
    for message in Message::parse_stream(BufReader::new(stdout)) {
        let Message::CompilerArtifact(artifact) = message.context("cannot read from cargo")? else {
            continue;
        };
        let (true, Some(path)) = (artifact.profile.test, artifact.executable) else {
            continue;
        };
        let name = if artifact.target.kind.contains(&TargetKind::Test) {
            artifact.target.name
        } else if artifact.target.kind.contains(&TargetKind::Lib) {
            "lib".to_owned()
        } else {
            // Unit tests of the package's programs; there the file name repeats.
            format!("bin {}", artifact.target.name)
        };
        binaries.push(TestBinary {
            name,
            path: path.into_std_path_buf(),
        });
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("the integration tests do not build ({status})");
    }
    binaries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(binaries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_override_kernel_leaves_packets_to_another() {
        let binary = |name: &str| TestBinary {
            name: name.to_owned(),
            path: PathBuf::new(),
        };
        for kernel in kernel::TESTED {
            assert!(binary("sys_errno").runs_on(kernel), "{kernel}");
            let others = *kernel != kernel::OVERRIDE;
            assert_eq!(binary("net_loss").runs_on(kernel), others, "{kernel}");
        }
    }
}
