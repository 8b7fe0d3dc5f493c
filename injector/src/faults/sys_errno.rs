//! `sys-errno`: system calls fail.

use injector_common::FaultKind;
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{Errno, Fault, Syscall},
    spec::text::{self, Text},
};

/// The kind.
#[derive(Debug)]
pub struct SysErrno;

/// Its options, as written.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// The system calls that fail, by name as in syscalls(2), separated by commas
    #[arg(
        long,
        value_name = "CALL[,CALL…]",
        value_delimiter = ',',
        required = true
    )]
    #[serde(deserialize_with = "text::comma_list")]
    pub call: Vec<Text<Syscall>>,

    /// The error that they fail with, by name as in errno(3) or by number, 1 to 133
    #[arg(long, value_name = "ERRNO", allow_hyphen_values = true)]
    pub errno: Text<Errno>,
}

impl FaultKindDef for SysErrno {
    const KIND: FaultKind = FaultKind::SysErrno;
    const SUMMARY: &'static str = "System calls fail with a chosen error";
    const MANUAL: &'static str = "\
A failing call returns the error and has no effect: no file is opened, no byte written. Every
thread and every child of the target is hit. Which calls can fail depends on the kernel; see
`injector doctor`. A rule names calls exactly: `open` and `openat` are two, and most programs
use `openat`.";
    const EXAMPLES: &'static str = "\
Examples:
  Every open in a cgroup fails:
    injector inject sys-errno --target cgroup:/web --call openat --errno EIO --for 30s

  The disk is full, for every fifth write:
    injector inject sys-errno --target pid:4242 --call write,pwrite64 --errno ENOSPC \\
      --percent 20 --for 1m

  The third connect of a command is refused:
    injector inject sys-errno --call connect --errno ECONNREFUSED --when 3 --for 1m -- ./app";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let mut calls: Vec<Syscall> = Vec::new();
        for Text(call) in raw.call {
            if !calls.contains(&call) {
                calls.push(call);
            }
        }
        if calls.is_empty() {
            return Err(SpecError::new(
                "call",
                "names no call",
                "at least one system call",
            ));
        }
        Ok(Fault::SysErrno {
            calls,
            errno: raw.errno.0,
        })
    }
}

pub(super) fn explain(calls: &[Syscall], errno: Errno) -> String {
    let names: Vec<&str> = calls.iter().map(|call| call.name).collect();
    format!("fails {} with {}", names.join(", "), errno.name)
}
