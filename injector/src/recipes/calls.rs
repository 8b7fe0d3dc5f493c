//! What recipes on calls have in common.

use super::Part;
use crate::{
    error::SpecError,
    faults::calls::named,
    model::{CallFault, CallFilter, Errno, ErrorChoice, Fault, FileType},
    spec::text::Text,
};

/// The calls that read a file's content.
pub(super) const READ: &str = "read,pread64,readv,preadv,preadv2";
/// The requests of io_uring that do, as far as they can be hit as the recipe's conditions say.
pub(super) const READ_REQUESTS: &str = "?io_uring:read";
/// The calls that write it.
pub(super) const WRITE: &str = "write,pwrite64,writev,pwritev,pwritev2";
/// The same for these, which cannot be told from those that reserve room.
pub(super) const WRITE_REQUESTS: &str = "?io_uring:write";
/// The calls that wait until it is on the disk.
pub(super) const SYNC: &str = "fsync,fdatasync,?sync_file_range,?syncfs";
/// The calls that open a file.
pub(super) const OPEN: &str = "open,openat,openat2,creat";
/// The requests that do.
pub(super) const OPEN_REQUESTS: &str = "?io_uring:openat";
/// The calls that make an entry of a directory.
pub(super) const MAKE: &str = "mkdir,mkdirat,mknod,mknodat,symlink,symlinkat,link,linkat";
/// The requests that do.
pub(super) const MAKE_REQUESTS: &str = "?io_uring:mkdirat,?io_uring:symlinkat,?io_uring:linkat";
/// The calls that remove or rename one.
pub(super) const REMOVE: &str = "unlink,unlinkat,rmdir,rename,renameat,renameat2";
/// The requests that do.
pub(super) const REMOVE_REQUESTS: &str = "?io_uring:unlinkat,?io_uring:renameat";
/// The calls that change what a file is beside its content.
pub(super) const CHANGE: &str = "chmod,fchmod,fchmodat,?fchmodat2,chown,fchown,lchown,fchownat,truncate,setxattr,lsetxattr,fsetxattr,\
     removexattr,lremovexattr,fremovexattr";

/// The requests that do.
pub(super) const CHANGE_REQUESTS: &str = "?io_uring:setxattr";

/// The same calls, each as far as it can be failed here.
pub(super) fn optional(calls: &str) -> String {
    let words = calls.split(',').map(|word| word.trim_start_matches('?'));
    words
        .map(|word| format!("?{word}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// A rule that fails these calls.
pub(super) fn part(
    name: &'static str,
    calls: &str,
    filter: CallFilter,
    errno: Errno,
) -> Result<Part, SpecError> {
    let errors = vec![ErrorChoice { errno, weight: 1 }];
    part_of(name, calls, filter, CallFault::Errno(errors))
}

/// A rule on these calls.
pub(super) fn part_of(
    name: &'static str,
    calls: &str,
    filter: CallFilter,
    fault: CallFault,
) -> Result<Part, SpecError> {
    let words = calls.split(',').map(|word| {
        let refused = |error: crate::spec::text::ValueError| {
            SpecError::new("call", error.problem, error.allowed)
        };
        word.parse().map(Text).map_err(refused)
    });
    let words: Vec<_> = words.collect::<Result<_, _>>()?;
    Ok(Part {
        name,
        fault: Fault::Call(named(&words, filter)?, fault),
        percent: None,
    })
}

/// The error of this name.
pub(super) fn error(given: Option<&Text<Errno>>, default: &str) -> Result<Errno, SpecError> {
    match given {
        Some(errno) => Ok(errno.0),
        None => default
            .parse()
            .map_err(|error: crate::spec::text::ValueError| {
                SpecError::new("errno", error.problem, error.allowed)
            }),
    }
}

/// The same conditions on what lies on a disk, if they say nothing of types: a socket or a pipe has
/// no disk that could fail.
pub(super) fn on_disk(filter: &CallFilter, types: &[FileType]) -> CallFilter {
    let mut filter = filter.clone();
    if filter.file_types.is_any() {
        filter.file_types = types.to_vec().into();
    }
    filter
}

/// Refuses conditions without a place: such a recipe would hit every file of the target.
pub(super) fn placed(filter: &CallFilter, recipe: &str) -> Result<(), SpecError> {
    if filter.paths.these.is_empty() && filter.file_names.these.is_empty() {
        let problem = format!("is missing: {recipe} is about some files");
        let allowed = "--path or --file-name; / for every file of the target";
        return Err(SpecError::new("path", problem, allowed));
    }
    Ok(())
}

/// The conditions of a recipe with rules for several kinds of calls: those on what makes or
/// changes entries of directories, and those on what a file holds.
///
/// # Errors
///
/// Where there is no place.
pub(super) fn of_entries_and_data(
    filter: CallFilter,
    recipe: &str,
) -> Result<(CallFilter, CallFilter), SpecError> {
    placed(&filter, recipe)?;
    let data = on_disk(&filter, &[FileType::Regular]);
    Ok((filter, data))
}

/// What those say that name requests of io_uring too.
pub(super) const OF_REQUESTS: &str = "\
Requests of io_uring that do the same are hit too, unless conditions are on arguments or descriptors.";

/// What every such recipe says of its conditions.
pub(super) const CONDITIONS: &str = "\
Files are those that the target sees below --path, a container's root file system included. What is
opened with O_DIRECT is hit; what is memory-mapped is read and written without a call, and is not.
Nor is what the kernel copies from one file to another by itself (copy_file_range, sendfile, splice).";
