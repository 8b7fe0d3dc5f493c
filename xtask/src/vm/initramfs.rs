//! The guest's first file system: busybox, two scripts and the modules that mounting takes.

use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::exec::{command, find, output};
use crate::kernel::Modules;

const INIT: &str = include_str!("init.sh");
const RUN: &str = include_str!("run.sh");

/// What the kernel may have as modules and the guest needs before it sees the host's files.
/// Dependencies follow; everything else is loaded on demand from the real root.
const EARLY_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "virtio-rng",
    "9pnet_virtio",
    "9p",
    "overlay",
];

/// What the guest's scripts are told.
pub(crate) struct Guest<'a> {
    /// A folder that must be visible at the same path as on the host.
    pub(crate) visible: &'a Path,
    /// A folder that is shared for reading and writing.
    pub(crate) share: Option<&'a Path>,
    /// The kernel's modules, if it has any.
    pub(crate) modules: Option<&'a Modules>,
    /// The shell script to run.
    pub(crate) script: &'a str,
}

/// Writes the initramfs for this guest.
pub(crate) fn write(guest: &Guest<'_>, into: impl Write) -> Result<()> {
    let mut archive = Archive {
        out: into,
        inode: 0,
    };
    let busybox = find("busybox").context("no busybox; run: cargo xtask setup vm")?;
    for folder in ["bin", "dev", "lib"] {
        archive.folder(folder)?;
    }
    archive.file("bin/busybox", 0o755, &read(&busybox)?)?;
    archive.file("init", 0o755, INIT.as_bytes())?;
    archive.file("run.sh", 0o644, RUN.as_bytes())?;
    archive.file("command.sh", 0o644, guest.script.as_bytes())?;

    let share = guest
        .share
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let mut config = format!(
        "repo={}\nshare={}\n",
        quote(&guest.visible.display().to_string()),
        quote(&share)
    );
    if let Some(modules) = guest.modules {
        let folder = modules.root.join("lib/modules").display().to_string();
        config.push_str(&format!("modules={}\n", quote(&folder)));
        let order = early_modules(modules, &mut archive)?;
        archive.file("modules.order", 0o644, order.as_bytes())?;
    }
    archive.file("config", 0o644, config.as_bytes())?;
    cpio::newc::trailer(archive.out).context("cannot write the initramfs")?;
    Ok(())
}

/// Quotes a word for a shell.
pub(crate) fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Adds the early modules to the archive and returns their paths there in loading order.
fn early_modules(modules: &Modules, archive: &mut Archive<impl Write>) -> Result<String> {
    let modprobe = find("modprobe").context("no modprobe; run: cargo xtask setup vm")?;
    let mut show = command(modprobe);
    show.arg("--dirname").arg(&modules.root);
    show.args(["--set-version", &modules.version, "--show-depends", "--all"]);
    let lines = output(show.args(EARLY_MODULES))?;

    let mut order = String::new();
    for line in lines.lines() {
        // The other kind of line is `builtin NAME`.
        let Some(path) = line.strip_prefix("insmod ") else {
            continue;
        };
        let path = Path::new(path.trim());
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let (name, content) = match name.strip_suffix(".xz") {
            Some(name) => (name, unpack(path)?),
            None => (name, read(path)?),
        };
        let entry = format!("lib/{name}");
        if !order.lines().any(|line| line == format!("/{entry}")) {
            archive.file(&entry, 0o644, &content)?;
            order.push_str(&format!("/{entry}\n"));
        }
    }
    Ok(order)
}

fn unpack(path: &Path) -> Result<Vec<u8>> {
    let output = command("xz")
        .arg("-dc")
        .arg(path)
        .output()
        .context("cannot start xz")?;
    if !output.status.success() {
        bail!(
            "xz cannot unpack {}: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output.stdout)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

struct Archive<W: Write> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn folder(&mut self, path: &str) -> Result<()> {
        self.entry(path, 0o040_755, &[])
    }

    fn file(&mut self, path: &str, permissions: u32, content: &[u8]) -> Result<()> {
        self.entry(path, 0o100_000 | permissions, content)
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len())
            .with_context(|| format!("{path} is too large for an initramfs"))?;
        let entry = cpio::NewcBuilder::new(path)
            .ino(self.inode)
            .mode(mode)
            .nlink(1);
        let mut writer = entry.write(&mut self.out, size);
        writer
            .write_all(content)
            .and_then(|()| writer.finish().map(drop))
            .with_context(|| format!("cannot write {path} into the initramfs"))
    }
}
