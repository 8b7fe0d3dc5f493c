//! Building the integration tests and finding the binaries that cargo made of them.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Message, TargetKind};

use crate::exec::cargo;

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
