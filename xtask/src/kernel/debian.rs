//! Debian's own kernels: downloaded and unpacked, not installed.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt;
use crate::apt::lists::Lists;
use crate::exec::{command, is_root, output, run, step};
use crate::kernel::{self, bzimage, numbers};

/// Where kernels are that are newer than those of the releases that people run.
const NEWER: &[&str] = &["trixie-backports", "sid"];

/// What begins the names of the packages of a kernel. Before Linux 7.2 the first one has all of it.
const PARTS: &[&str] = &[
    "linux-image-",
    "linux-binary-",
    "linux-modules-",
    "linux-base-",
];

/// Where a newer kernel has its modules and its image.
const NEWER_MODULES: &str = "usr/lib/modules";

/// What apt knows.
enum Known {
    /// By the system's own lists.
    Here,
    /// By lists of releases that the system gets no packages from.
    Elsewhere(Lists),
}

/// In place of a series: whatever is the newest of all.
const NEWEST: &str = "newest";

/// Fetches the newest kernel of a series such as `6.1`, or of all (`newest`), into `folder`.
///
/// It is the flavour for PCs and not the one for clouds, which lacks 9p and so cannot see the
/// host's files.
pub(crate) fn fetch(series: &str, folder: &Path) -> Result<()> {
    if !apt::is_available() {
        bail!("Debian's kernels need apt, which is not here; use --kernel with a bzImage's path");
    }
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (known, version) = find(series, scratch.path())?;
    step(
        &format!("fetching Debian's Linux {version} into .tools/kernels"),
        || unpack(&known, &version, folder),
    )
}

/// The newest version of a series, and who knows it.
fn find(series: &str, scratch: &Path) -> Result<(Known, String)> {
    if series == NEWEST {
        let known = Known::Elsewhere(Lists::fetch(scratch, NEWER)?);
        let version = known.newest("")?;
        let version = version.with_context(|| format!("no kernel in {}", NEWER.join(" and ")))?;
        return Ok((known, version));
    }
    let known = Known::Here;
    if let Some(version) = known.newest(series)? {
        return Ok((known, version));
    }
    if is_root() {
        apt::update()?;
        if let Some(version) = known.newest(series)? {
            return Ok((known, version));
        }
    }
    let known = Known::Elsewhere(Lists::fetch(scratch, NEWER)?);
    if let Some(version) = known.newest(series)? {
        return Ok((known, version));
    }
    let newest = known.newest("")?;
    bail!(
        "apt knows no linux-image-{series}* package, neither by this system's lists nor by those \
         of {}, where the newest kernel is {}",
        NEWER.join(" and "),
        newest.as_deref().unwrap_or("unknown")
    )
}

fn unpack(known: &Known, version: &str, folder: &Path) -> Result<()> {
    let parent = folder.parent().context("a kernel needs a folder")?;
    std::fs::create_dir_all(parent)
        .with_context(|| format!("cannot make the folder {}", parent.display()))?;
    // Renamed when complete, so that an interrupted run leaves nothing that looks finished.
    let scratch = tempfile::tempdir_in(parent).context("cannot make a temporary folder")?;
    let mut download = known.command("apt-get");
    download.current_dir(scratch.path());
    // apt would drop to a user who may not write here, and warn about it.
    download.args(["-q", "-o", "APT::Sandbox::User=root", "download"]);
    run(download.args(known.packages(version)?))?;
    let root = scratch.path().join("root");
    let entries = std::fs::read_dir(scratch.path()).context("cannot read the temporary folder")?;
    let entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    let is_archive = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    for archive in entries.iter().filter(is_archive) {
        run(command("dpkg").arg("-x").arg(archive).arg(&root))?;
    }
    arrange(&root, version)?;
    kernel::index_modules(&root, version)?;
    unpack_kernel(&root, version)?;
    std::fs::rename(&root, folder)
        .with_context(|| format!("cannot move the kernel to {}", folder.display()))
}

/// Puts a newer kernel's image and modules where older ones have them, and where those who load
/// modules look for them.
fn arrange(root: &Path, version: &str) -> Result<()> {
    let modules = root.join(NEWER_MODULES);
    let image = modules.join(version).join("vmlinuz");
    if !image.exists() {
        return Ok(());
    }
    for part in ["boot", "lib"] {
        std::fs::create_dir_all(root.join(part)).context("cannot make a kernel's folders")?;
    }
    std::fs::rename(image, root.join("boot").join(format!("vmlinuz-{version}")))
        .and_then(|()| std::fs::rename(modules, root.join("lib/modules")))
        .context("cannot arrange the kernel's files")
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

impl Known {
    /// A program of apt's.
    fn command(&self, program: &str) -> Command {
        match self {
            Self::Here => command(program),
            Self::Elsewhere(lists) => lists.command(program),
        }
    }

    /// The newest version of a series, or of all of them for an empty one.
    fn newest(&self, series: &str) -> Result<Option<String>> {
        let dot = if series.is_empty() { "" } else { "\\." };
        let pattern = format!("^{}{}{dot}[0-9]", PARTS[0], series.replace('.', "\\."));
        let mut search = self.command("apt-cache");
        let found = output(search.args(["search", "--names-only", &pattern]))?;
        let names = found
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        let plain = names.filter(|name| is_plain(name));
        let versions = plain.filter_map(|name| name.strip_prefix(PARTS[0]));
        Ok(versions
            .max_by_key(|version| numbers(version))
            .map(str::to_owned))
    }

    /// The packages of a kernel.
    fn packages(&self, version: &str) -> Result<Vec<String>> {
        let mut packages = Vec::new();
        for part in PARTS {
            let package = format!("{part}{version}");
            let mut names = self.command("apt-cache");
            let names = output(names.args(["pkgnames", &package]))?;
            if names.lines().any(|name| name == package) {
                packages.push(package);
            }
        }
        Ok(packages)
    }
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
    fn a_newer_kernel_is_arranged_as_older_ones_are() {
        let folder = tempfile::tempdir().expect("make a folder");
        let version = "7.3.4+deb13-amd64";
        let modules = folder.path().join(NEWER_MODULES).join(version);
        std::fs::create_dir_all(&modules).expect("make a folder");
        for name in ["vmlinuz", "modules.builtin"] {
            std::fs::write(modules.join(name), name).expect("write a file");
        }
        // What is arranged already stays as it is.
        for _ in 0..2 {
            arrange(folder.path(), version).expect("arrange the files");
            for path in [
                "boot/vmlinuz-7.3.4+deb13-amd64",
                "lib/modules/7.3.4+deb13-amd64/modules.builtin",
            ] {
                assert!(folder.path().join(path).exists(), "{path}");
            }
        }
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(numbers("linux-image-6.1.0-100-amd64") > numbers("linux-image-6.1.0-56-amd64"));
        assert!(
            numbers("linux-image-6.12.117+deb12-amd64") > numbers("linux-image-6.12.9+deb12-amd64")
        );
    }
}
