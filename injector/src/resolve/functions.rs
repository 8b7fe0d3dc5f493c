//! Functions that rules name, in files as their targets see them.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use injector_common::Tgid;
use object::ReadCache;

use super::{
    elf,
    files::{self, Roots},
    host::Host,
};
use crate::{error::SpecError, model::Function};

/// A function in a file of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionPlace {
    /// Its name.
    pub name: String,
    /// A process whose root directory the path starts at; `None` for the agent's own.
    pub process: Option<Tgid>,
    /// The path there.
    pub path: PathBuf,
    /// Which file that is.
    pub file: FileId,
    /// Where it begins: an offset in the file.
    pub entry: u64,
    /// Where a `ret` is, in what is mapped with it.
    pub back: u64,
}

/// A file, by its device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId(pub [u64; 2]);

impl FunctionPlace {
    /// Which function it is, by whatever name and path.
    #[must_use]
    pub const fn which(&self) -> (FileId, u64) {
        (self.file, self.entry)
    }

    /// Opens the file, if it still is the one that was looked into.
    ///
    /// # Errors
    ///
    /// Where it is not there any more, or has changed.
    pub fn open(&self) -> io::Result<File> {
        let (file, id) = open(self.process, &self.path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, self.back)?;
        if id != self.file || byte != [elf::RET] {
            return Err(io::Error::other(format!(
                "{} is not the file any more that it was",
                self.path.display()
            )));
        }
        Ok(file)
    }
}

impl fmt::Display for FunctionPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.name, self.path.display())?;
        match self.process {
            Some(process) => write!(f, " of process {process}"),
            None => Ok(()),
        }
    }
}

/// Finds a function in each of these roots.
///
/// # Errors
///
/// Where it is not there, cannot be had return, or is not the same for all.
pub(super) fn find(
    function: &Function,
    roots: &Roots,
    host: &impl Host,
) -> Result<FunctionPlace, SpecError> {
    let path = &function.file;
    let mut found: BTreeMap<FileId, FunctionPlace> = BTreeMap::new();
    let mut refused = None;
    for process in roots.each() {
        match host.function(process, path, &function.name) {
            Ok(place) => {
                found.entry(place.file).or_insert(place);
            }
            Err(error) => refused = Some(error),
        }
    }
    let mut places = found.into_values();
    match (places.next(), places.len(), refused) {
        (Some(place), 0, _) => Ok(place),
        (Some(_), more, _) => {
            let problem = format!(
                "{} is {} different files for the target's processes, each in a root directory of \
                 its own",
                path.display(),
                more + 1
            );
            let allowed = "a rule for each, such as one for each container's cgroup";
            Err(SpecError::new("file", problem, allowed))
        }
        (None, _, Some(error)) => Err(error),
        (None, _, None) => Err(SpecError::new(
            "file",
            "cannot be looked for: the target has ended",
            "a target that runs",
        )),
    }
}

/// Finds a function in a file as a process sees it.
pub(super) fn look_up(
    process: Option<Tgid>,
    path: &Path,
    name: &str,
) -> Result<FunctionPlace, SpecError> {
    let opened = open(process, path);
    let (file, id) = opened.map_err(|error| {
        let problem = format!("{} cannot be read by the target: {error}", path.display());
        SpecError::new("file", problem, "a program or shared library that is there")
    })?;
    let cache = ReadCache::new(file);
    let elf::Place { entry, back } = elf::find(&cache, name).map_err(|error| SpecError {
        problem: format!("{}: {}", path.display(), error.problem).into(),
        ..error
    })?;
    Ok(FunctionPlace {
        name: name.to_owned(),
        process,
        path: path.to_owned(),
        file: id,
        entry,
        back,
    })
}

/// Opens a regular file to read it.
fn open(process: Option<Tgid>, path: &Path) -> io::Result<(File, FileId)> {
    let file = files::readable(&files::open(process, path)?)?;
    let meta = file.metadata()?;
    Ok((file, FileId([meta.dev(), meta.ino()])))
}
