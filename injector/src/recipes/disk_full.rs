//! `disk-full`: there is no room for what is to be written.

use super::{
    Part, RecipeDef,
    calls::{self, CONDITIONS, MAKE, MAKE_REQUESTS, OF_REQUESTS, WRITE, WRITE_REQUESTS},
};
use crate::{
    error::SpecError,
    faults::calls::call_kind,
    model::Errno,
    spec::text::Text,
};

/// The recipe.
#[derive(Debug)]
pub struct DiskFull;

call_kind! {
    /// Its options, as written.
    pub struct Raw with places, arguments, callers {
        /// The error: ENOSPC, or EDQUOT for a quota that is spent [default: ENOSPC]
        #[arg(long, value_name = "ERRNO", allow_hyphen_values = true)]
        #[serde(default)]
        pub errno: Option<Text<Errno>>,
    }
}

impl RecipeDef for DiskFull {
    const SUMMARY: &'static str = "Writes below a path find no room";
    const EXAMPLES: &'static str = "\
Examples:
  The disk of a database is full:
    injector inject disk-full --target cgroup:/db --path /var/lib/postgresql --for 1m

  A command runs out of its quota:
    injector inject disk-full --path /tmp --errno EDQUOT --for 1m -- tar xf release.tar -C /tmp";
    type Raw = Raw;

    fn manual() -> String {
        format!(
            "\
Writing to files and reserving room for them fails (NAME.data), and so does making directories,
links and other entries that need a block of their own (NAME.entries); reading, removing and
renaming go on, as on a disk without room. A file can still be made, and then not be filled: that
is what a disk does that has inodes left. Stands for two rules of sys-errno. {CONDITIONS}
{OF_REQUESTS}"
        )
    }

    fn expand(raw: &Raw) -> Result<Vec<Part>, SpecError> {
        // What is to be made has no type yet.
        let (entries, data) = calls::of_entries_and_data(raw.filter()?, "disk-full")?;
        let errno = calls::error(raw.errno.as_ref(), "ENOSPC")?;
        let writes = format!("{WRITE},fallocate,{WRITE_REQUESTS}");
        let entries_made = [MAKE, MAKE_REQUESTS].join(",");
        Ok(vec![
            calls::part("data", &writes, data, errno)?,
            calls::part("entries", &entries_made, entries, errno)?,
        ])
    }
}
