//! Ends on purpose in the middle of an effect, for the tests that prove that
//! one leaves nothing that is not undone or written down.
//!
//! A *part* of an effect is one change of the kernel or the journal.
//! `INJECTOR_TEST_FAIL_PART=N` makes part N of all (from 1) fail after it was
//! done, the hardest case to revert; `INJECTOR_TEST_KILL_PART=N` kills the agent
//! there, which nothing can catch. With `INJECTOR_TEST_FAIL_DETACH` no filter can
//! be removed.

use std::{env, io};

use nix::sys::signal::{Signal, raise};

/// Counts the parts of one agent's effects.
#[derive(Debug)]
pub(super) struct Parts {
    done: usize,
    fail_at: Option<usize>,
    kill_at: Option<usize>,
    fail_detach: bool,
}

impl Parts {
    pub(super) fn new() -> Self {
        let number = |name| env::var(name).ok().and_then(|number| number.parse().ok());
        Self {
            done: 0,
            fail_at: number("INJECTOR_TEST_FAIL_PART"),
            kill_at: number("INJECTOR_TEST_KILL_PART"),
            fail_detach: env::var_os("INJECTOR_TEST_FAIL_DETACH").is_some(),
        }
    }

    /// Called after each part.
    ///
    /// # Errors
    ///
    /// Only where a test wants one.
    pub(super) fn done(&mut self) -> io::Result<()> {
        self.done += 1;
        if self.kill_at == Some(self.done) {
            raise(Signal::SIGKILL)?;
        }
        if self.fail_at == Some(self.done) {
            let what = format!("INJECTOR_TEST_FAIL_PART={}", self.done);
            return Err(io::Error::other(what));
        }
        Ok(())
    }

    /// Called before a filter is removed.
    ///
    /// # Errors
    ///
    /// Only where a test wants one.
    pub(super) fn detaching(&self) -> io::Result<()> {
        if self.fail_detach {
            return Err(io::Error::other("INJECTOR_TEST_FAIL_DETACH"));
        }
        Ok(())
    }
}
