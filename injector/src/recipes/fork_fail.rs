//! `fork-fail`: no process or thread can be made.

use super::{Part, RecipeDef, calls};
use crate::{error::SpecError, faults::calls::call_kind, model::Errno, spec::text::Text};

/// The recipe.
#[derive(Debug)]
pub struct ForkFail;

/// The calls that fail.
const CALLS: &str = "clone,clone3,fork,vfork";

call_kind! {
    /// Its options, as written.
    pub struct Raw with arguments, callers {
        /// The error: EAGAIN, as at a limit of processes, or ENOMEM [default: EAGAIN]
        #[arg(long, value_name = "ERRNO", allow_hyphen_values = true)]
        #[serde(default)]
        pub errno: Option<Text<Errno>>,
    }
}

impl RecipeDef for ForkFail {
    const SUMMARY: &'static str = "No further process or thread can be made";
    const EXAMPLES: &'static str = "\
Examples:
  A server cannot start workers:
    injector inject fork-fail --target cgroup:/web --for 30s";
    type Raw = Raw;

    fn manual() -> String {
        format!(
            "\
As at RLIMIT_NPROC or a limit of pids: fork and pthread_create fail with EAGAIN. Stands for one rule of
sys-errno. Processes and threads that are there go on. The calls: {CALLS}."
        )
    }

    fn expand(raw: &Raw) -> Result<Vec<Part>, SpecError> {
        let errno = calls::error(raw.errno.as_ref(), "EAGAIN")?;
        Ok(vec![calls::part("", CALLS, raw.filter()?, errno)?])
    }
}
