//! `fd-exhaustion`: no further descriptor can be had.

use super::{Part, RecipeDef, calls};
use crate::{error::SpecError, faults::calls::call_kind, model::Errno, spec::text::Text};

/// The recipe.
#[derive(Debug)]
pub struct FdExhaustion;

/// The calls that fail.
const CALLS: &str = "open,openat,openat2,creat,socket,socketpair,accept,accept4,?pipe,?pipe2,?dup,?dup2,?dup3,eventfd,eventfd2,\
     epoll_create,epoll_create1,timerfd_create,signalfd,signalfd4,memfd_create,inotify_init,inotify_init1,\
     ?io_uring:openat,?io_uring:socket,?io_uring:accept";

call_kind! {
    /// Its options, as written.
    pub struct Raw with arguments, callers {
        /// The error: EMFILE for the process's own limit, or ENFILE for the host's [default: EMFILE]
        #[arg(long, value_name = "ERRNO", allow_hyphen_values = true)]
        #[serde(default)]
        pub errno: Option<Text<Errno>>,
    }
}

impl RecipeDef for FdExhaustion {
    const SUMMARY: &'static str = "No further descriptor can be had: open, accept, socket and the like fail";
    const EXAMPLES: &'static str = "\
Examples:
  A server has used up its descriptors:
    injector inject fd-exhaustion --target cgroup:/web --for 30s

  Every tenth time it has:
    injector inject fd-exhaustion --target cgroup:/web --percent 10 --for 1m";
    type Raw = Raw;

    fn manual() -> String {
        format!(
            "\
Stands for one rule of sys-errno with the calls that give out a new descriptor; pipes and duplicates
are among them where the kernel lets them be failed. Descriptors that are open stay so. A connection
that cannot be accepted stays in the queue, and a server that tries again at once is kept busy, as in
a real shortage. The calls: {CALLS}."
        )
    }

    fn expand(raw: &Raw) -> Result<Vec<Part>, SpecError> {
        let errno = calls::error(raw.errno.as_ref(), "EMFILE")?;
        Ok(vec![calls::part("", CALLS, raw.filter()?, errno)?])
    }
}
