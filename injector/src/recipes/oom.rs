//! `oom`: no memory can be had.

use super::{Part, RecipeDef, calls};
use crate::{error::SpecError, faults::calls::call_kind, model::Errno, spec::text::Text};

/// The recipe.
#[derive(Debug)]
pub struct Oom;

/// The calls that fail.
const CALLS: &str = "mmap,?brk,?mremap";

call_kind! {
    /// Its options, as written.
    pub struct Raw with places, types, arguments, callers {
        /// The error: ENOMEM, or EAGAIN as for what is locked in memory [default: ENOMEM]
        #[arg(long, value_name = "ERRNO", allow_hyphen_values = true)]
        #[serde(default)]
        pub errno: Option<Text<Errno>>,
    }
}

impl RecipeDef for Oom {
    const SUMMARY: &'static str = "No further memory can be had: mmap, brk and mremap fail";
    const EXAMPLES: &'static str = "\
Examples:
  A running server gets no memory:
    injector inject oom --target pid:4242 --for 10s

  Every tenth request fails:
    injector inject oom --target pid:4242 --percent 10 --for 1m";
    type Raw = Raw;

    fn manual() -> String {
        format!(
            "\
The kernel refuses new memory, as under a strict limit of address space: malloc returns NULL once its
own reserve is used up. Nothing is killed, and memory that the target has stays as it is. Stands for
one rule of sys-errno; brk and mremap are among its calls where the kernel lets them be failed, and
malloc falls back on mmap, which is. A program that is started under it cannot map its libraries.
The calls: {CALLS}."
        )
    }

    fn expand(raw: &Raw) -> Result<Vec<Part>, SpecError> {
        let errno = calls::error(raw.errno.as_ref(), "ENOMEM")?;
        Ok(vec![calls::part("", CALLS, raw.filter()?, errno)?])
    }
}
