//! Calls that the kernel asked no program about.
//!
//! It runs no program of these kinds on a processor on which the same one is at work (`recursion_misses`,
//! Linux 5.12). At the entry of a call that takes a kernel which preempts programs, as most do from
//! Linux 7.0 on.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// How often the kernel passed a program by.
///
/// # Errors
///
/// When it does not say.
pub(super) fn count(program: BorrowedFd<'_>) -> io::Result<u64> {
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    parse(&told).ok_or_else(|| io::Error::other("no recursion_misses of a program"))
}

fn parse(told: &str) -> Option<u64> {
    let mut counts = told
        .lines()
        .filter_map(|line| line.strip_prefix("recursion_misses:"));
    counts.next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_read_among_other_lines() {
        let told =
            "pos:\t0\nprog_type:\t26\nrun_cnt:\t7\nrecursion_misses:\t12\nverified_insns:\t9\n";
        assert_eq!(parse(told), Some(12));
        assert_eq!(parse("pos:\t0\nprog_type:\t26\n"), None);
    }
}
