//! The embedded BPF object, loaded.

use std::io;

use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel, programs::ProgramError};
use injector_common::ABI_VERSION;

use super::btf;

/// The compiled programs; empty in a build without the BPF toolchain.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/injector-ebpf.o"));

/// Why the object could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum ObjectError {
    /// This binary has no programs in it.
    #[error("this binary was built without its BPF programs; build it with `cargo xtask build`")]
    Missing,
    /// The kernel's types could not be read.
    #[error("{}: {source}", btf::VMLINUX)]
    Btf {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a map, or the object does not fit.
    #[error(transparent)]
    Load(#[from] aya::EbpfError),
}

/// Creates the maps and readies the programs; none is in the kernel yet.
///
/// # Errors
///
/// See [`ObjectError`].
pub(super) fn open() -> Result<Ebpf, ObjectError> {
    if OBJECT.is_empty() {
        return Err(ObjectError::Missing);
    }
    let offsets = btf::offsets().map_err(|source| ObjectError::Btf { source })?;
    let ebpf = EbpfLoader::new()
        .verifier_log_level(VerifierLogLevel::DEBUG)
        .btf(None)
        .override_global("INJ_ABI", &ABI_VERSION, true)
        .override_global("INJ_TASK_TGID", &offsets.task_tgid, true)
        .override_global("INJ_TASK_SIGNAL", &offsets.task_signal, true)
        .override_global("INJ_SIGNAL_LIVE", &offsets.signal_live, true)
        .override_global("INJ_FILE_MODE", &offsets.file_mode, true)
        .load(OBJECT)?;
    // Parsing the kernel's types took far more memory than is needed from now
    // on; give it back.
    // SAFETY: malloc_trim has no preconditions.
    unsafe { nix::libc::malloc_trim(0) };
    Ok(ebpf)
}

/// The kernel's types, for programs that are loaded against a hook's.
///
/// # Errors
///
/// When the kernel has no BTF.
pub(super) fn kernel_types() -> Result<Btf, aya::BtfError> {
    Btf::from_sys_fs()
}

/// The last lines of a verifier's log, which say what it did not accept.
pub(super) fn verifier_tail(error: &ProgramError) -> Vec<String> {
    const LINES: usize = 12;
    let ProgramError::LoadError { verifier_log, .. } = error else {
        return Vec::new();
    };
    let text = verifier_log.to_string();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].iter().map(|line| (*line).to_owned()).collect()
}
