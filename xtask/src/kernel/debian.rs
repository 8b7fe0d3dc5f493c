//! Debian's own kernels: downloaded and unpacked, not installed.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::apt;
use crate::exec::{command, is_root, output, run, step};
use crate::kernel::{self, bzimage, numbers};

/// Fetches the newest kernel of a series such as `6.1` into `folder`.
///
/// It is the flavour for PCs and not the one for clouds, which lacks 9p and so cannot see the
/// host's files.
pub(crate) fn fetch(series: &str, folder: &Path) -> Result<()> {
    if !apt::is_available() {
        bail!("Debian's kernels need apt, which is not here; use --kernel with a bzImage's path");
    }
    let mut package = newest(series)?;
    if package.is_none() && is_root() {
        apt::update()?;
        package = newest(series)?;
    }
    let Some(package) = package else {
        bail!(
            "apt knows no linux-image-{series}* package; run `apt-get update`, or add the \
             Debian release that has it (Debian 12 has 6.1, and 6.12 in its security archive)"
        );
    };
    step(&format!("fetching {package} into .tools/kernels"), || {
        unpack(&package, folder)
    })
}

fn unpack(package: &str, folder: &Path) -> Result<()> {
    let parent = folder.parent().context("a kernel needs a folder")?;
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot make the folder {}", parent.display()))?;
    // Renamed when complete, so that an interrupted run leaves nothing that looks finished.
    let scratch = tempfile::tempdir_in(parent).context("cannot make a temporary folder")?;
    let mut download = command("apt-get");
    download.current_dir(scratch.path());
    // apt would drop to a user who may not write here, and warn about it.
    download.args(["-q", "-o", "APT::Sandbox::User=root", "download", package]);
    run(&mut download)?;
    let archive = std::fs::read_dir(scratch.path())
        .context("cannot read the temporary folder")?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    let root = scratch.path().join("root");
    run(command("dpkg").arg("-x").arg(archive).arg(&root))?;
    let version = package.trim_start_matches("linux-image-");
    kernel::index_modules(&root, version)?;
    unpack_kernel(&root, version)?;
    std::fs::rename(&root, folder)
        .with_context(|| format!("cannot move the kernel to {}", folder.display()))
}

/// Stores the kernel unpacked as well, which boots in half the time.
fn unpack_kernel(root: &Path, version: &str) -> Result<()> {
    let image = std::fs::read(root.join("boot").join(format!("vmlinuz-{version}")))
        .with_context(|| format!("the package has no kernel of version {version}"))?;
    let payload = bzimage::payload(&image)?;
    let mut compressed = tempfile::tempfile_in(root).context("cannot make a temporary file")?;
    compressed
        .write_all(payload.data)
        .and_then(|()| compressed.rewind())
        .context("cannot write a temporary file")?;
    let plain = File::create(root.join(kernel::PLAIN)).context("cannot write the kernel")?;
    run(command(payload.unpacker)
        .arg("-dc")
        .stdin(compressed)
        .stdout(plain))
}

/// The name of the newest package of a series, if apt knows one.
fn newest(series: &str) -> Result<Option<String>> {
    let pattern = format!("^linux-image-{}\\.[0-9]", series.replace('.', "\\."));
    let found = output(command("apt-cache").args(["search", "--names-only", &pattern]))?;
    let names = found
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let plain = names.filter(|name| is_plain(name));
    let mut plain: Vec<_> = plain.map(str::to_owned).collect();
    plain.sort_by_key(|name| numbers(name));
    Ok(plain.pop())
}

/// Whether this is a signed kernel of the flavour for PCs, without debug symbols.
fn is_plain(name: &str) -> bool {
    let version = name
        .trim_start_matches("linux-image-")
        .strip_suffix("-amd64");
    version.is_some_and(|version| !version.ends_with("-cloud") && !version.ends_with("-rt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_kernels_are_told_from_others() {
        assert!(is_plain("linux-image-6.1.0-56-amd64"));
        assert!(is_plain("linux-image-6.12.117+deb12-amd64"));
        assert!(!is_plain("linux-image-6.1.0-56-cloud-amd64"));
        assert!(!is_plain("linux-image-6.1.0-56-rt-amd64"));
        assert!(!is_plain("linux-image-6.1.0-56-amd64-dbg"));
        assert!(!is_plain("linux-image-6.1.0-56-amd64-unsigned"));
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("linux-image-6.1.0-100-amd64") > numbers("linux-image-6.1.0-56-amd64"));
        assert!(
            numbers("linux-image-6.12.117+deb12-amd64") > numbers("linux-image-6.12.9+deb12-amd64")
        );
    }
}
