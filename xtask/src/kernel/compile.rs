//! The kernel with error injection by BPF, built from Debian's kernel source.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::apt::{self, Package};
use crate::exec::{command, is_root, output, run, say, step};

/// What the kernel is made of; the file explains itself.
pub(crate) const CONFIG: &str = include_str!("../../kernel/override.config");

/// The file that says which configuration a finished kernel was built from.
pub(crate) const STAMP: &str = "config.fragment";

const SOURCE: &str = "linux-source-6.12";

const NEEDED: &[Package] = &[
    apt::program("gcc", "gcc"),
    apt::program("make", "make"),
    apt::program("flex", "flex"),
    apt::program("bison", "bison"),
    apt::program("bc", "bc"),
    apt::file("libelf-dev", "/usr/include/gelf.h"),
    apt::program("dwarves", "pahole"),
    apt::program("zstd", "zstd"),
    apt::program("xz-utils", "xz"),
];

/// Builds the kernel below `cache` and returns its folder.
pub(crate) fn build(cache: &Path, jobs: usize) -> Result<PathBuf> {
    if !apt::is_available() {
        bail!(
            "the override kernel is built from Debian's source, and apt is not here; set \
             INJECTOR_KERNEL_CACHE to a folder with override-VERSION/bzImage"
        );
    }
    apt::ensure("building a kernel", NEEDED)?;
    if !apt::has_candidates(&[SOURCE]) && is_root() {
        apt::update()?;
    }
    let version = candidate()?;
    std::fs::create_dir_all(cache)
        .with_context(|| format!("cannot make the folder {}", cache.display()))?;
    say("building the override kernel: about 20 minutes of processor time and 4 GB of disk, once");
    let work = WorkFolder::claim(&cache.join("override-in-the-making"))?;
    let work = work.path();
    let source = step(&format!("unpacking {SOURCE} {version}"), || unpack(work))?;
    let objects = work.join("objects");
    step("configuring the kernel", || {
        configure(&source, &objects, work)
    })?;
    step("compiling the kernel", || {
        run(make(&source, &objects)
            .arg(format!("-j{jobs}"))
            .arg("bzImage"))
    })?;
    let finished = work.join("finished");
    collect(&objects, &finished)?;
    // 6.12.117-1~deb12u1 is Linux 6.12.117.
    let release = version.split('-').next().unwrap_or(&version);
    let folder = cache.join(format!("override-{release}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove the old {}", folder.display()))?;
    }
    std::fs::rename(&finished, &folder)
        .with_context(|| format!("cannot move the kernel to {}", folder.display()))?;
    Ok(folder)
}

/// The folder that a kernel is built in: thrown away in any case, since only a finished kernel
/// is moved into place. It always has the same name, so that a build that was killed leaves its
/// four gigabytes only until the next one.
struct WorkFolder {
    path: PathBuf,
    _lock: Flock<File>,
}

impl WorkFolder {
    fn claim(path: &Path) -> Result<Self> {
        let lock = File::create(path.with_extension("lock"))
            .with_context(|| format!("cannot lock {}", path.display()))?;
        let Ok(lock) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else {
            bail!(
                "the override kernel is being built already, in {}",
                path.display()
            );
        };
        let folder = Self {
            path: path.to_path_buf(),
            _lock: lock,
        };
        folder.remove();
        std::fs::create_dir(path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(folder)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) {
        // What cannot be removed makes the next build fail, with its name.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The version of the source that apt would fetch.
fn candidate() -> Result<String> {
    let policy = output(command("apt-cache").args(["policy", SOURCE]))?;
    let version = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "));
    match version {
        Some(version) if version != "(none)" => Ok(version.to_owned()),
        _ => bail!(
            "apt knows no {SOURCE}; run `apt-get update`, or add the Debian release that has it \
             (Debian 12 has it in its security archive, Debian 13 in the main one)"
        ),
    }
}

/// Unpacks the source and returns its folder.
fn unpack(work: &Path) -> Result<PathBuf> {
    let mut download = command("apt-get");
    download
        .current_dir(work)
        .args(["-q", "-o", "APT::Sandbox::User=root", "download", SOURCE]);
    run(&mut download)?;
    let entries = std::fs::read_dir(work).context("cannot read the temporary folder")?;
    let archive = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    run(command("dpkg").arg("-x").arg(&archive).arg(work))?;
    let tarball = work.join("usr/src").join(format!("{SOURCE}.tar.xz"));
    run(command("tar").arg("-xJf").arg(&tarball).arg("-C").arg(work))?;
    for used_up in [&archive, &tarball] {
        std::fs::remove_file(used_up)
            .with_context(|| format!("cannot remove {}", used_up.display()))?;
    }
    Ok(work.join(SOURCE))
}

fn configure(source: &Path, objects: &Path, work: &Path) -> Result<()> {
    std::fs::create_dir_all(objects).context("cannot make the kernel's build folder")?;
    let wanted = work.join(STAMP);
    std::fs::write(&wanted, CONFIG).context("cannot write the kernel's configuration")?;
    let mut configure = make(source, objects);
    run(configure
        .env("KCONFIG_ALLCONFIG", &wanted)
        .arg("allnoconfig")
        .stdout(Stdio::null()))?;
    let got = std::fs::read_to_string(objects.join(".config"))
        .context("the kernel's build left no configuration")?;
    let dropped = dropped(CONFIG, &got);
    if !dropped.is_empty() {
        bail!(
            "kconfig dropped lines of xtask/kernel/override.config, because something that they \
             depend on is missing there: {}",
            dropped.join(", ")
        );
    }
    Ok(())
}

/// The lines that were asked for and are not in the result: kconfig drops them silently.
fn dropped<'a>(wanted: &'a str, got: &str) -> Vec<&'a str> {
    let wanted = wanted.lines().filter(|line| line.starts_with("CONFIG_"));
    wanted
        .filter(|line| !got.lines().any(|got| got == *line))
        .collect()
}

fn make(source: &Path, objects: &Path) -> std::process::Command {
    // Without setpriv make would go on for a quarter of an hour when this process is killed.
    let mut make = command("setpriv");
    make.args(["--pdeathsig", "TERM", "make"]);
    make.arg("-s")
        .arg("-C")
        .arg(source)
        .arg(format!("O={}", objects.display()));
    make.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01");
    make.env("KBUILD_BUILD_USER", "injector")
        .env("KBUILD_BUILD_HOST", "injector");
    // An outer make would pass its own options on.
    make.env_remove("MAKEFLAGS")
        .env_remove("MFLAGS")
        .env_remove("CARGO_MAKEFLAGS");
    make
}

/// Gathers what is worth keeping.
fn collect(objects: &Path, folder: &Path) -> Result<()> {
    std::fs::create_dir(folder).context("cannot make the kernel's folder")?;
    let mut dump = command("objcopy");
    dump.arg(format!(
        "--dump-section=.BTF={}",
        folder.join("vmlinux.btf").display()
    ));
    // Without an output objcopy rewrites its input; and as root it would replace /dev/null.
    run(dump
        .arg(objects.join("vmlinux"))
        .arg(objects.join("vmlinux.copy")))?;
    for (from, to) in [("arch/x86/boot/bzImage", "bzImage"), (".config", "config")] {
        std::fs::copy(objects.join(from), folder.join(to))
            .with_context(|| format!("the kernel's build left no {from}"))?;
    }
    std::fs::write(folder.join(STAMP), CONFIG).context("cannot write the kernel's stamp")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_lines_are_noticed() {
        let wanted = "# comment\nCONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n";
        assert_eq!(
            dropped(wanted, "CONFIG_A=y\n# CONFIG_B is not set\n"),
            ["CONFIG_B=y"]
        );
    }

    #[test]
    fn the_kernel_lets_bpf_override_functions() {
        assert!(
            CONFIG
                .lines()
                .any(|line| line == "CONFIG_BPF_KPROBE_OVERRIDE=y")
        );
        assert!(
            CONFIG
                .lines()
                .any(|line| line == "CONFIG_FUNCTION_ERROR_INJECTION=y")
        );
    }
}
