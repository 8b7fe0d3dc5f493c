//! `io-errno`: reading, writing and syncing of files fails.

use super::{
    Part, RecipeDef,
    calls::{
        self, CONDITIONS, OF_REQUESTS, OPEN, OPEN_REQUESTS, READ, READ_REQUESTS, SYNC, WRITE, WRITE_REQUESTS,
    },
};
use crate::{
    error::SpecError,
    faults::calls::call_kind,
    model::{Errno, FileType},
    spec::{
        text::{Text, ValueError},
        text,
    },
};

/// The recipe.
#[derive(Debug)]
pub struct IoErrno;

call_kind! {
    /// Its options, as written.
    pub struct Raw with places, types, arguments, descriptor, callers {
        /// What fails: read, write, sync or open; may repeat [default: read, write and, where it can be, sync]
        #[arg(long, value_name = "OP", value_delimiter = ',')]
        #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
        pub op: Vec<Text<Operation>>,

        /// The error, by name as in errno(3) or by number [default: EIO]
        #[arg(long, value_name = "ERRNO", allow_hyphen_values = true)]
        #[serde(default)]
        pub errno: Option<Text<Errno>>,
    }
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Its content is read.
    Read,
    /// Its content is written.
    Write,
    /// What was written is brought to the disk.
    Sync,
    /// It is opened.
    Open,
}

impl std::str::FromStr for Operation {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let words = [
            ("read", Self::Read),
            ("write", Self::Write),
            ("sync", Self::Sync),
            ("open", Self::Open),
        ];
        text::word(text, &words, "read, write, sync or open")
    }
}

impl Operation {
    /// The calls that do it.
    const fn calls(self) -> &'static str {
        match self {
            Self::Read => READ,
            Self::Write => WRITE,
            Self::Sync => SYNC,
            Self::Open => OPEN,
        }
    }

    /// The requests of io_uring that do it, if a hook sees them.
    const fn requests(self) -> Option<&'static str> {
        match self {
            Self::Read => Some(READ_REQUESTS),
            Self::Write => Some(WRITE_REQUESTS),
            Self::Sync => None,
            Self::Open => Some(OPEN_REQUESTS),
        }
    }
}

impl RecipeDef for IoErrno {
    const SUMMARY: &'static str = "Reading, writing and syncing of files below a path fails";
    const EXAMPLES: &'static str = "\
Examples:
  One of a hundred accesses to a database's files fails:
    injector inject io-errno --target cgroup:/db --path /var/lib/postgresql --percent 1 --for 1m

  The third fsync of a write-ahead log fails, where calls can be overridden:
    injector inject io-errno --target cgroup:/db --path /var/lib/postgresql --file-name '*.wal' \\
      --op sync --when 3 --for 1m";
    type Raw = Raw;

    fn manual() -> String {
        format!(
            "\
A disk with bad sectors: reads and writes of files return the error, and nothing is transferred.
Stands for one rule of sys-errno with the calls that do so; what waits until data are on the disk
(fsync) is among them where the kernel lets it be failed, and is refused elsewhere if --op asks for
it. {CONDITIONS}
{OF_REQUESTS} Pipes and terminals are left alone, unless --file-type names them."
        )
    }

    fn expand(raw: &Raw) -> Result<Vec<Part>, SpecError> {
        let filter = raw.filter()?;
        calls::placed(&filter, "io-errno")?;
        let types = [FileType::Regular, FileType::Directory, FileType::Block];
        let filter = calls::on_disk(&filter, &types);
        let errno = calls::error(raw.errno.as_ref(), "EIO")?;
        let named = words(&raw.op);
        let all = [&[named.as_str()], &requests(&raw.op)[..]].concat();
        Ok(vec![calls::part("", &all.join(","), filter, errno)?])
    }
}

/// The requests that do what is said; reads and writes if nothing is.
fn requests(operations: &[Text<Operation>]) -> Vec<&'static str> {
    if operations.is_empty() {
        return vec![READ_REQUESTS, WRITE_REQUESTS];
    }
    let each = operations.iter().filter_map(|op| op.0.requests());
    each.collect()
}

/// The calls that do what is said; reads, writes and, where they can be hit, syncs if nothing is.
pub(super) fn words(operations: &[Text<Operation>]) -> String {
    if operations.is_empty() {
        return [READ, WRITE, &calls::optional(SYNC)].join(",");
    }
    let each: Vec<&str> = operations.iter().map(|op| op.0.calls()).collect();
    each.join(",")
}
