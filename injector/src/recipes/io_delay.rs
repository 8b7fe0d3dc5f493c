//! `io-delay`: reading, writing and syncing of files takes longer.

use super::{
    Part, RecipeDef,
    calls::{self, CONDITIONS},
    io_errno::{self, Operation},
};
use crate::{
    error::SpecError,
    faults::{calls::call_kind, sys_delay},
    model::{CallFault, FileType, Manner},
    spec::{duration::Span, text::Text},
};

/// The recipe.
#[derive(Debug)]
pub struct IoDelay;

call_kind! {
    /// Its options, as written.
    pub struct Raw with places, types, arguments, descriptor, callers {
        /// What takes longer: read, write, sync or open; may repeat [default: read, write and, where it can be, sync]
        #[arg(long, value_name = "OP", value_delimiter = ',')]
        #[serde(default, deserialize_with = "crate::spec::text::comma_list")]
        pub op: Vec<Text<Operation>>,

        /// How much longer, such as 50ms; at most 10s, and at most 1ms where calls wait busy
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        pub delay: Text<Span>,

        /// Spread around the delay, at most the delay [default: none]
        #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
        #[serde(default)]
        pub jitter: Option<Text<Span>>,

        /// How calls wait: asleep or busy [default: asleep where the kernel lets them, else busy]
        #[arg(long, value_name = "MANNER")]
        #[serde(default)]
        pub wait: Option<Text<Manner>>,
    }
}

impl RecipeDef for IoDelay {
    const SUMMARY: &'static str = "Reading, writing and syncing of files below a path takes longer";
    const EXAMPLES: &'static str = "\
Examples:
  A slow disk under a database, where calls can be made to wait at their entry:
    injector inject io-delay --target cgroup:/db --path /var/lib/postgresql --delay 20ms --for 1m

  Opening takes its time, as on a network file system:
    injector inject io-delay --target cgroup:/web --path /srv --op open --delay 80ms --jitter 40ms --for 1m";
    type Raw = Raw;

    fn manual() -> String {
        format!(
            "\
A slow disk: the calls wait, and then do what they do. Stands for one rule of sys-delay, which says
where calls can wait: opens asleep since Linux 6.2, reads, writes and syncs asleep where programs may
take the place of calls, and else for 1 ms at most. {CONDITIONS} Pipes and terminals are left alone,
unless --file-type names them."
        )
    }

    fn expand(raw: &Raw) -> Result<Vec<Part>, SpecError> {
        let filter = raw.filter()?;
        calls::placed(&filter, "io-delay")?;
        let types = [FileType::Regular, FileType::Directory, FileType::Block];
        let filter = calls::on_disk(&filter, &types);
        let delay = sys_delay::checked(&raw.delay, raw.jitter.as_ref(), raw.wait.as_ref())?;
        let words = io_errno::words(&raw.op);
        Ok(vec![calls::part_of("", &words, filter, CallFault::Delay(delay))?])
    }
}
