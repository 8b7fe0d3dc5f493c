//! Copies the BPF object to where the crate embeds it from.
//!
//! The object is built by `cargo xtask build`. Without it an empty file is
//! embedded instead, so that lints and tests of pure logic need no BPF
//! toolchain; the agent then refuses to start.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

const OBJECT: &str = "injector-ebpf.o";
const OVERRIDE: &str = "INJECTOR_BPF_OBJECT";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let manifest_dir =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?);
    let object = env::var_os(OVERRIDE).map_or_else(
        || target_dir(&out_dir, &manifest_dir).join("bpf").join(OBJECT),
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", object.display());
    let embedded = out_dir.join(OBJECT);
    if object.is_file() {
        fs::copy(&object, &embedded)?;
    } else {
        println!(
            "cargo::warning={} is missing: this build can inject nothing; run `cargo xtask build`",
            object.display()
        );
        fs::write(&embedded, [])?;
    }
    Ok(())
}

/// The workspace's target directory: `OUT_DIR` lies in it at
/// `[TRIPLE/]PROFILE/build/injector-HASH/out`.
fn target_dir(out_dir: &Path, manifest_dir: &Path) -> PathBuf {
    let default = manifest_dir.join("../target");
    out_dir
        .ancestors()
        // Cargo marks the directory, whatever it is called.
        .find(|ancestor| ancestor.join("CACHEDIR.TAG").is_file())
        .map_or(default, Path::to_path_buf)
}
