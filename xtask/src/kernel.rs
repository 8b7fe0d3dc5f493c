//! `cargo xtask kernel`, and kernels for virtual machines in general: where they come from and
//! where they are kept.

mod bzimage;
mod compile;
mod debian;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use crate::exec::{command, find as find_program, run, say};
use crate::paths;

/// The kernels that the integration tests run on: one that can do everything but what is new, what
/// Debian ships, and the newest, on which only what no other can do is tested unless somebody asks
/// for it (`TestBinary::part_on_newest`). Every call is tried on all of them.
///
/// The one with the most tests comes first, so that machines that run side by side end together.
pub(crate) const TESTED: &[&str] = &["debian-6.1", BACKPORTED, OVERRIDE, NEWEST];

/// The one that lets programs override system calls.
pub(crate) const OVERRIDE: &str = "override";

/// The newer of Debian 12's two.
pub(crate) const BACKPORTED: &str = "debian-6.12";

/// The newest that Debian's archives have, of whatever series. Its verifier takes several times as
/// long as those of the others, so that the other tests run there only if they are asked to.
pub(crate) const NEWEST: &str = "debian-newest";

/// A folder of kernels that is looked in before the repository's own.
const CACHE_VARIABLE: &str = "INJECTOR_KERNEL_CACHE";

/// The override kernel's name in its folder.
const IMAGE: &str = "bzImage";

/// The uncompressed kernel's name in the folder of an unpacked package.
const PLAIN: &str = "vmlinux";

/// Build the kernel that lets BPF override system calls (xtask/kernel/override.config)
///
/// Does nothing when there is one: in the folder that INJECTOR_KERNEL_CACHE names, or in
/// .tools/kernels with the same configuration.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build it even so
    #[arg(long)]
    force: bool,
    /// Number of compilers that run at the same time [default: one per processor]
    #[arg(long, short)]
    jobs: Option<usize>,
}

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

/// Runs the subcommand.
pub(crate) fn run_command(options: &Options) -> Result<ExitCode> {
    let jobs = options.jobs.unwrap_or_else(available_processors);
    let kernel = match find_override() {
        Some(kernel) if !options.force => kernel,
        _ => build_override(jobs)?,
    };
    say(format!("the override kernel is {}", kernel.image.display()));
    Ok(ExitCode::SUCCESS)
}

/// Finds a kernel by its name or path; fetches or builds it when it is not there yet.
pub(crate) fn ensure(name: &str) -> Result<Kernel> {
    if name == "override" && find_override().is_none() {
        return build_override(available_processors());
    }
    find(name)
}

/// Finds a kernel by its name or path; fetches it when it is not there yet, but starts no build,
/// which takes longer than who wants to run one command expects.
pub(crate) fn find(name: &str) -> Result<Kernel> {
    if name.contains('/') {
        return from_path(Path::new(name));
    }
    if name == "override" {
        return find_override().with_context(|| {
            format!(
                "there is no override kernel yet; build it with `cargo xtask kernel`, or set \
                 {CACHE_VARIABLE} to a folder that has override-VERSION/{IMAGE}"
            )
        });
    }
    let Some(series) = name.strip_prefix("debian-") else {
        bail!(
            "there is no kernel `{name}`: use override, debian-6.1, debian-6.12, {NEWEST}, another \
             debian-SERIES or a path"
        );
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

/// The kernel of the cache that was given; or our own, if it has today's configuration.
fn find_override() -> Option<Kernel> {
    let given = given_cache()
        .into_iter()
        .flat_map(|cache| overrides(&cache));
    let own = overrides(&own_cache()).into_iter().filter(|folder| {
        let stamp = std::fs::read_to_string(folder.join(compile::STAMP));
        stamp.is_ok_and(|stamp| stamp == compile::CONFIG)
    });
    given.chain(own).next().map(|folder| override_in(&folder))
}

/// The folders in a cache that contain an override kernel, the newest first.
fn overrides(cache: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("override-"))
        .map(|entry| entry.path())
        .filter(|folder| folder.join(IMAGE).exists())
        .collect();
    folders.sort_by_key(|folder| std::cmp::Reverse(numbers(&folder.to_string_lossy())));
    folders
}

fn build_override(jobs: usize) -> Result<Kernel> {
    Ok(override_in(&compile::build(&own_cache(), jobs)?))
}

fn override_in(folder: &Path) -> Kernel {
    Kernel {
        name: "override".to_owned(),
        image: folder.join(IMAGE),
        modules: None,
    }
}

fn available_processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The numbers in a name, by which versions compare.
fn numbers(name: &str) -> Vec<u32> {
    let numbers = name.split(|c: char| !c.is_ascii_digit());
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// The folders to look for kernels in, in this order.
fn caches() -> impl Iterator<Item = PathBuf> {
    given_cache().into_iter().chain([own_cache()])
}

fn given_cache() -> Option<PathBuf> {
    let given = std::env::var_os(CACHE_VARIABLE).filter(|value| !value.is_empty())?;
    Some(paths::root().join(given))
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
    // A guest finds its modules by this path before links lead where they do on the host.
    let root = &root
        .canonicalize()
        .with_context(|| format!("cannot find {}", root.display()))?;
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
        root: root.clone(),
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
