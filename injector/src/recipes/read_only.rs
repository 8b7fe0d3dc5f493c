//! `read-only`: a file system that takes no changes any more.

use super::{
    Part, RecipeDef,
    calls::{
        self, CHANGE, CHANGE_REQUESTS, CONDITIONS, MAKE, MAKE_REQUESTS, OF_REQUESTS, OPEN, OPEN_REQUESTS,
        REMOVE, REMOVE_REQUESTS, WRITE, WRITE_REQUESTS,
    },
};
use crate::{
    error::SpecError,
    faults::calls::call_kind,
    model::{Access, CallFilter},
};

/// The recipe.
#[derive(Debug)]
pub struct ReadOnly;

call_kind! {
    /// Its options, as written.
    pub struct Raw with places, arguments, callers {}
}

impl RecipeDef for ReadOnly {
    const SUMMARY: &'static str = "Nothing below a path can be changed, as on a file system that became read-only";
    const EXAMPLES: &'static str = "\
Examples:
  The volume of a container became read-only after an error:
    injector inject read-only --target cgroup:/web --path /var/www --for 1m";
    type Raw = Raw;

    fn manual() -> String {
        format!(
            "\
What ext4 does with errors=remount-ro: opening files to write fails with EROFS (NAME.open), and so
does writing to files that are open already (NAME.data), and making, removing, renaming and changing
entries of directories (NAME.entries). Reading goes on, and so does writing to devices and pipes.
Stands for three rules of sys-errno. Unlike there, a file that `open` makes is made, though the call
fails and nothing can be written to it, and times and flags of files can be set. {CONDITIONS}
{OF_REQUESTS}"
        )
    }

    fn expand(raw: &Raw) -> Result<Vec<Part>, SpecError> {
        let (entries, files) = calls::of_entries_and_data(raw.filter()?, "read-only")?;
        let errno = calls::error(None, "EROFS")?;
        let to_write = CallFilter {
            access: Some(Access::Write),
            ..files.clone()
        };
        let writes = format!("{WRITE},fallocate,ftruncate,{WRITE_REQUESTS},?io_uring:ftruncate");
        let opens = [OPEN, OPEN_REQUESTS].join(",");
        let requests = [MAKE_REQUESTS, REMOVE_REQUESTS, CHANGE_REQUESTS];
        let changes = [&[MAKE, REMOVE, CHANGE][..], &requests].concat().join(",");
        Ok(vec![
            calls::part("open", &opens, to_write, errno)?,
            calls::part("data", &writes, files, errno)?,
            calls::part("entries", &changes, entries, errno)?,
        ])
    }
}
