//! Kernels for virtual machines: where they come from and where they are kept.

mod bzimage;
mod debian;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::exec::{command, find as find_program, run};
use crate::paths;

/// A folder of kernels that is looked in before the repository's own.
const CACHE_VARIABLE: &str = "INJECTOR_KERNEL_CACHE";

/// The uncompressed kernel's name in the folder of an unpacked package.
const PLAIN: &str = "vmlinux";

/// A kernel that can be booted.
#[derive(Clone)]
pub(crate) struct Kernel {
    /// The name it was asked for by.
    pub(crate) name: String,
    /// The file to boot: a bzImage, or the kernel in it as an ELF file.
    pub(crate) image: PathBuf,
    /// Its modules; `None` when everything is built in.
    pub(crate) modules: Option<Modules>,
}

/// A kernel's modules in an unpacked package.
#[derive(Clone)]
pub(crate) struct Modules {
    /// The folder that contains `lib/modules`.
    pub(crate) root: PathBuf,
    /// The kernel's release, which is also the folder's name.
    pub(crate) version: String,
}

/// Finds a kernel by its name or path; fetches or builds it when it is not there yet.
pub(crate) fn find(name: &str) -> Result<Kernel> {
    if name.contains('/') {
        return from_path(Path::new(name));
    }
    if name == "override" {
        return match find_override() {
            Some(kernel) => Ok(kernel),
            None => bail!("there is no override kernel yet; run: cargo xtask kernel"),
        };
    }
    let Some(series) = name.strip_prefix("debian-") else {
        bail!("there is no kernel `{name}`: use override, debian-6.1, debian-6.12 or a path");
    };
    for cache in caches() {
        let folder = cache.join(name);
        if folder.join("boot").exists() {
            return unpacked(name, &folder);
        }
    }
    let folder = own_cache().join(name);
    debian::fetch(series, &folder)?;
    unpacked(name, &folder)
}

fn find_override() -> Option<Kernel> {
    let mut images = Vec::new();
    for cache in caches() {
        let entries = std::fs::read_dir(cache).into_iter().flatten().flatten();
        images.extend(entries.filter_map(|entry| {
            let image = entry.path().join("bzImage");
            let named = entry.file_name().to_string_lossy().starts_with("override-");
            (named && image.exists()).then_some(image)
        }));
    }
    let image = images.into_iter().next()?;
    Some(Kernel {
        name: "override".to_owned(),
        image,
        modules: None,
    })
}

/// The folders to look for kernels in, in this order.
fn caches() -> Vec<PathBuf> {
    let given = std::env::var_os(CACHE_VARIABLE).filter(|value| !value.is_empty());
    given
        .map(|path| paths::root().join(path))
        .into_iter()
        .chain([own_cache()])
        .collect()
}

fn own_cache() -> PathBuf {
    paths::tools().join("kernels")
}

fn from_path(path: &Path) -> Result<Kernel> {
    let image = path
        .canonicalize()
        .with_context(|| format!("no kernel {}", path.display()))?;
    let package = image
        .parent()
        .and_then(Path::parent)
        .filter(|r| r.join("lib/modules").exists());
    match package {
        // An unpacked package: boot/vmlinuz-VERSION next to lib/modules/VERSION.
        Some(root) if root != Path::new("/") => unpacked(&path.display().to_string(), root),
        _ => Ok(Kernel {
            name: path.display().to_string(),
            image,
            modules: None,
        }),
    }
}

/// The kernel of a `linux-image` package that was unpacked into `root`.
fn unpacked(name: &str, root: &Path) -> Result<Kernel> {
    let entries = std::fs::read_dir(root.join("boot"))
        .with_context(|| format!("{} is no unpacked kernel package", root.display()))?;
    let found = entries.flatten().find_map(|entry| {
        let version = entry
            .file_name()
            .to_string_lossy()
            .strip_prefix("vmlinuz-")?
            .to_owned();
        Some((entry.path(), version))
    });
    let Some((image, version)) = found else {
        bail!(
            "{} has no boot/vmlinuz-*; remove the folder and try again",
            root.display()
        );
    };
    let plain = root.join(PLAIN);
    let image = if plain.exists() { plain } else { image };
    let modules = Some(Modules {
        root: root.to_path_buf(),
        version,
    });
    Ok(Kernel {
        name: name.to_owned(),
        image,
        modules,
    })
}

/// Makes the index of modules by which they are found, which packages do not contain.
fn index_modules(root: &Path, version: &str) -> Result<()> {
    let depmod = find_program("depmod").context("no depmod; run: cargo xtask setup vm")?;
    run(command(depmod).arg("-b").arg(root).arg(version))
}
