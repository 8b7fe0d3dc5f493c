//! The kernel functions that calls enter by.

use crate::model::Syscall;

/// What the names of a kernel's functions behind calls begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `arch/x86/include/asm/syscall_wrapper.h`
    X86_64,
    /// `arch/arm64/include/asm/syscall_wrapper.h`
    Arm64,
}

impl Architecture {
    /// The one that this program was built for.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") {
        Self::Arm64
    } else {
        Self::X86_64
    };

    const fn prefix(self) -> &'static str {
        match self {
            Self::X86_64 => "__x64_sys_",
            Self::Arm64 => "__arm64_sys_",
        }
    }

    /// The kernel function behind a call.
    #[must_use]
    pub fn entry_function(self, call: &str) -> String {
        format!("{}{}", self.prefix(), function_name(call))
    }
}

/// The kernel function behind a call.
#[must_use]
pub fn entry_function(call: &str) -> String {
    Architecture::HERE.entry_function(call)
}

/// The names that the kernel's types may have for that function: one without arguments is there
/// under the second alone.
#[must_use]
pub fn typed_functions(call: &str) -> [String; 2] {
    [Architecture::HERE.prefix(), "__do_sys_"]
        .map(|prefix| format!("{prefix}{}", function_name(call)))
}

/// What the functions are named after, which is not always the call's own name
/// (`arch/x86/entry/syscalls/syscall_64.tbl`; `include/uapi/asm-generic/unistd.h`).
fn function_name(call: &str) -> &str {
    match call {
        "stat" => "newstat",
        "fstat" => "newfstat",
        "lstat" => "newlstat",
        "uname" => "newuname",
        "sendfile" => "sendfile64",
        "umount2" => "umount",
        other => other,
    }
}

/// The functions by which 32-bit callers enter what does the same as a call: for each of its twins
/// the names that it may have, of which the first that a kernel has is the one. Those that a call
/// without arguments shares with 64-bit callers are left out: whoever is there meets both.
#[must_use]
pub fn twin_functions(call: Syscall) -> Vec<Vec<String>> {
    let mut twins: Vec<_> = call.twins().map(names32).collect();
    if WITHOUT_ARGUMENTS.contains(&call.name) {
        let shared = format!("{NATIVE_32}{}", call.name);
        twins
            .iter_mut()
            .for_each(|names| names.retain(|name| *name != shared));
    }
    twins.retain(|names| !names.is_empty());
    // `socketcall` may be the twin twice.
    twins.dedup();
    twins
}

/// Those of 32-bit callers, where arguments and structures are as for others, and where they are
/// not.
const NATIVE_32: &str = "__ia32_sys_";
const COMPAT_32: &str = "__ia32_compat_sys_";

/// Calls that have twins and no arguments, and so one function for both (`SYSCALL_DEFINE0`).
const WITHOUT_ARGUMENTS: &[&str] = &[
    "fork",
    "getegid",
    "geteuid",
    "getgid",
    "getpgrp",
    "getpid",
    "getppid",
    "gettid",
    "getuid",
    "inotify_init",
    "munlockall",
    "pause",
    "restart_syscall",
    "sched_yield",
    "setsid",
    "sync",
    "vfork",
    "vhangup",
];

/// The names that the function of a call may have that i386 names so, the likeliest first
/// (`arch/x86/entry/syscalls/syscall_32.tbl`).
///
/// The table is not in the kernel's types. But a function whose name has a width in it is there for
/// that table alone, and goes before one that is everybody's: users and times of old, which have 16
/// and 32 bits, and 64-bit arguments that come in two halves.
fn names32(call: &str) -> Vec<String> {
    let own = match call {
        // What is there for others beside it is for other architectures.
        "epoll_pwait" | "sendfile64" => return vec![format!("{NATIVE_32}{call}")],
        "_llseek" => "llseek",
        "_newselect" => "select",
        "getrlimit" => "old_getrlimit",
        "mmap2" => "mmap_pgoff",
        "oldfstat" => "fstat",
        "oldlstat" => "lstat",
        "oldolduname" => "olduname",
        "oldstat" => "stat",
        "olduname" => "uname",
        "ugetrlimit" => "getrlimit",
        "umount" => "oldumount",
        "umount2" => "umount",
        "fstat" | "lstat" | "stat" | "uname" => return with_widths(&format!("new{call}")),
        other => other,
    };
    with_widths(own)
}

fn with_widths(name: &str) -> Vec<String> {
    let mut bases: Vec<String> = ["16", "_time32", "32"]
        .map(|end| format!("{name}{end}"))
        .into();
    bases.extend([format!("ia32_{name}"), name.to_owned()]);
    // Those that are new are named after what has grown, and their functions are not.
    let grown = ["_time64", "64", "32"].iter();
    let grown = grown.filter_map(|end| name.strip_suffix(end)).next();
    bases.extend(grown.map(str::to_owned));
    let names = bases.iter();
    names
        .flat_map(|base| [COMPAT_32, NATIVE_32].map(|prefix| format!("{prefix}{base}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_named_after_their_architecture() {
        for (call, function) in [
            ("openat", "openat"),
            ("fstat", "newfstat"),
            ("sendfile", "sendfile64"),
            ("umount2", "umount"),
        ] {
            let named = [Architecture::X86_64, Architecture::Arm64]
                .map(|architecture| architecture.entry_function(call));
            let expected =
                ["__x64_sys_", "__arm64_sys_"].map(|prefix| format!("{prefix}{function}"));
            assert_eq!(named, expected);
        }
    }

    /// The first of these that a kernel has, where it has these functions.
    fn twins(call: &str, kernel: &[&str]) -> Vec<String> {
        let twins = twin_functions(call.parse().expect(call)).into_iter();
        let has = |name: &String| kernel.contains(&name.trim_start_matches("__ia32_"));
        twins
            .filter_map(|names| names.into_iter().find(has))
            .collect()
    }

    /// By syscall_32.tbl of Linux 6.12.
    #[test]
    fn twins_have_the_functions_of_their_table() {
        for (call, kernel, expected) in [
            ("read", &["sys_read"][..], &["sys_read"][..]),
            (
                "openat",
                &["sys_openat", "compat_sys_openat"],
                &["compat_sys_openat"],
            ),
            (
                "pread64",
                &["sys_pread64", "sys_ia32_pread64"],
                &["sys_ia32_pread64"],
            ),
            ("mmap", &["sys_mmap", "sys_mmap_pgoff"], &["sys_mmap_pgoff"]),
            (
                "chown",
                &["sys_chown", "sys_chown16"],
                &["sys_chown16", "sys_chown"],
            ),
            (
                "futex",
                &["sys_futex", "sys_futex_time32"],
                &["sys_futex_time32", "sys_futex"],
            ),
            (
                "stat",
                &[
                    "sys_stat",
                    "sys_newstat",
                    "compat_sys_newstat",
                    "compat_sys_ia32_stat64",
                ],
                &["sys_stat", "compat_sys_newstat", "compat_sys_ia32_stat64"],
            ),
            (
                "clock_gettime",
                &["sys_clock_gettime", "sys_clock_gettime32"],
                &["sys_clock_gettime32", "sys_clock_gettime"],
            ),
            (
                "sendto",
                &["sys_sendto", "compat_sys_socketcall"],
                &["sys_sendto", "compat_sys_socketcall"],
            ),
            (
                "sendfile",
                &[
                    "sys_sendfile",
                    "compat_sys_sendfile",
                    "sys_sendfile64",
                    "compat_sys_sendfile64",
                ],
                &["compat_sys_sendfile", "sys_sendfile64"],
            ),
            // Of its own, and everybody's.
            ("getuid", &["sys_getuid", "sys_getuid16"], &["sys_getuid16"]),
            ("getpid", &["sys_getpid"], &[]),
            ("arch_prctl", &[], &[]),
        ] {
            assert_eq!(
                twins(call, kernel),
                expected
                    .iter()
                    .map(|name| format!("__ia32_{name}"))
                    .collect::<Vec<_>>(),
                "{call}"
            );
        }
    }
}
