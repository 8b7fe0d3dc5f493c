//! The other tools: a tracer and a file system in user space.

use std::path::Path;

use tempfile::TempDir;

use super::NAMED;
use crate::{
    command::{Place, Process},
    wait,
};

/// So many calls of each kind pass before a tracer lets all further ones fail: a victim must be
/// able to start. Its first measurement, which does not count, makes more.
const SPARED: u32 = 1000;

/// The last number of a call that strace can be told to inject into.
const LAST: u32 = 65_535;

/// The programs, and Debian's packages that bring them.
const PROGRAMS: [&str; 2] = ["strace", "bindfs"];

/// Says which versions are measured; whether all tools are there.
pub(super) fn introduce() -> bool {
    let versions = PROGRAMS.map(|program| (program, version(program)));
    for (program, version) in &versions {
        match version {
            Some(version) => println!("{version}\n"),
            None => println!(
                "**{program} is not measured**: it is not in PATH; Debian's package {program} \
                 brings it\n"
            ),
        }
    }
    versions.iter().all(|(_, version)| version.is_some())
}

/// The first line of what a program says of its version; `None` if there is no such program.
fn version(program: &str) -> Option<String> {
    let mut command = Place::HERE.command(program);
    let output = command.arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned)
}

/// A tracer that looks at the named calls of its victim.
#[derive(Clone, Copy)]
pub(super) struct Strace {
    /// Whether a filter in the kernel spares it the other calls.
    filtered: bool,
}

impl Strace {
    /// Those that can be measured here.
    pub(super) fn here() -> impl Iterator<Item = Self> {
        let ways = [true, false].map(|filtered| Self { filtered });
        ways.into_iter().filter(|_| version("strace").is_some())
    }

    /// Its name in tables.
    pub(super) fn name(self) -> String {
        let filter = if self.filtered { " --seccomp-bpf" } else { "" };
        format!("`strace{filter}`")
    }

    /// The words that start it, before the victim's: a filter can be had from a victim's start on
    /// only. All named calls fail, but for the first ones; or, of those that are made, none.
    pub(super) fn words(self, fail: bool) -> Vec<String> {
        let when = if fail {
            format!("{SPARED}+")
        } else {
            LAST.to_string()
        };
        let calls = format!("getppid,{NAMED}");
        let mut words = vec!["strace".to_owned()];
        words.extend(["-f", "-qq", "-o", "/dev/null"].map(str::to_owned));
        words.extend(["-e".to_owned(), format!("trace={calls}")]);
        let injection = format!("inject={calls}:error=EIO:when={when}");
        words.extend(["-e".to_owned(), injection]);
        if self.filtered {
            words.push("--seccomp-bpf".to_owned());
        }
        words
    }
}

/// A file system in user space that passes everything on.
#[derive(Clone, Copy)]
pub(super) struct Bindfs {
    /// Whether it sees each read, as one must that lets reads fail. Otherwise the kernel answers
    /// from what it remembers of the file.
    each_read: bool,
}

impl Bindfs {
    /// Those that can be measured here.
    pub(super) fn here() -> impl Iterator<Item = Self> {
        let ways = [false, true].map(|each_read| Self { each_read });
        ways.into_iter().filter(|_| version("bindfs").is_some())
    }

    /// Its name in tables.
    pub(super) fn name(self) -> String {
        let option = if self.each_read { " -o direct_io" } else { "" };
        format!("`bindfs{option}`")
    }

    /// Shows a folder at another place, as long as the result lives.
    #[track_caller]
    pub(super) fn mount(self, folder: &Path) -> Mount {
        let at = TempDir::new().expect("make a folder");
        let from = folder.to_str().expect("a path in UTF-8");
        let to = at.path().to_str().expect("a path in UTF-8");
        let option = if self.each_read {
            &["-o", "direct_io"][..]
        } else {
            &[]
        };
        let server = Place::HERE.spawn("bindfs", &[&["-f"], option, &[from, to]].concat());
        let mount = Mount { server, at };
        wait::until("bindfs's file system", || {
            let entry = mount.path().read_dir().ok()?.next()?;
            entry.is_ok().then_some(())
        });
        mount
    }
}

/// A mounted file system; unmounted on drop.
pub(super) struct Mount {
    server: Process,
    at: TempDir,
}

impl Mount {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.at.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let at = self.at.path();
        let mut umount = Place::HERE.command("umount");
        match umount.arg("--lazy").arg(at).status() {
            Ok(status) if status.success() => {}
            other => eprintln!(
                "cannot unmount {} of {:?}: {other:?}",
                at.display(),
                self.server
            ),
        }
    }
}
