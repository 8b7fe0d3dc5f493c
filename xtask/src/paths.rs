//! Where things lie in the repository.

use std::path::{Path, PathBuf};

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable for `cargo run`; the compiled-in value serves a binary that is
    // started by hand.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map(Path::to_path_buf).unwrap_or(manifest)
}

/// Cargo's output folder. It is always the one in the repository, whatever `CARGO_TARGET_DIR`
/// says, because `injector/build.rs` and the VM look for files there.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// The compiled BPF programs, as `injector/build.rs` embeds them.
pub(crate) fn bpf_object() -> PathBuf {
    target().join("bpf/injector-ebpf.o")
}

/// The `injector` command, built for release.
pub(crate) fn injector() -> PathBuf {
    target().join("release/injector")
}

/// A program of the tests package, built for release.
pub(crate) fn test_program(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// Tools and kernels that belong to this repository alone; git ignores the folder.
pub(crate) fn tools() -> PathBuf {
    root().join(".tools")
}

/// The pinned BPF linker.
pub(crate) fn bpf_linker() -> PathBuf {
    tools().join("bin/bpf-linker")
}
