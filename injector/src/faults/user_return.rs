//! `user-return`: a function of a program or library does nothing, and returns a chosen value.

use clap::Args;
use injector_common::FaultKind;
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{Fault, Function, FunctionValue},
    spec::{
        function::{BinaryPath, FunctionName},
        text::Text,
    },
};

/// The kind.
#[derive(Debug)]
pub struct UserReturn;

/// Its options, as written.
#[derive(Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// The function, by its name in the file's tables of symbols, as nm and nm -D print it
    #[arg(long, value_name = "NAME")]
    pub function: Text<FunctionName>,

    /// The program or library that it is in: an absolute path, as the target sees it
    #[arg(long, value_name = "PATH")]
    pub file: Text<BinaryPath>,

    /// What it returns: a whole number of 64 bits, such as 0, -1 or 0xffffffff
    #[arg(long = "return", value_name = "VALUE", allow_hyphen_values = true)]
    #[serde(rename = "return")]
    pub value: Text<FunctionValue>,
}

impl FaultKindDef for UserReturn {
    const KIND: FaultKind = FaultKind::UserReturn;
    const SUMMARY: &'static str =
        "A function of a program or library does nothing and returns a chosen value";
    const MANUAL: &'static str = "\
Whoever enters the function is sent to a return instruction of the same file at once, with the value in
rax, where functions return integers and addresses: nothing of it runs, and its caller goes on. For a C
int the lower 32 bits count, and -1 and 0xffffffff are the same to it. errno stays what it was. A value
that the function returns by memory or in another register (a float, a large struct) is whatever was there.

It is met where it is entered, by whoever has mapped the file: the program, its libraries, what it loads
later. A call that the compiler has put the function's code in the place of (inlined), or a copy of the
function in another file, is not met. An allocator calls itself by other names (calloc, realloc,
aligned_alloc): each is a function of its own.

The file is looked up once, when the rule is put in force, in the root directory of the target's processes.
A file that takes its place afterwards is another one. Processes that see different files there need a rule
each. Of a stripped file only what it exports has a name. Refused are functions that the loader chooses the
code of (IFUNC, as memcpy), data, and names that mean several functions.

Every process that has mapped the file stops for a moment when it enters the function, also those that are
no target; those go on as if nothing was there. This needs a kernel that lets programs write the registers of
whoever they are asked for (`injector doctor` tries it), and x86-64 files.";
    const EXAMPLES: &'static str = "\
Examples:
  A tenth of all memory that a service asks for is not there:
    injector inject user-return --target cgroup:/web --function malloc \\
      --file /usr/lib/x86_64-linux-gnu/libc.so.6 --return 0 --percent 10 --for 1m

  TLS connections break while they are read, from the third read of each thread on:
    injector inject user-return --target pid:4242 --function SSL_read \\
      --file /usr/lib/x86_64-linux-gnu/libssl.so.3 --return -1 --per thread --when 3+ --for 1m

  A command takes itself for root:
    injector inject user-return --function geteuid --file /usr/lib/x86_64-linux-gnu/libc.so.6 \\
      --return 0 --for 1m -- ./app";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let (FunctionName(name), BinaryPath(file)) = (raw.function.0, raw.file.0);
        let value = raw.value.0;
        Ok(Fault::Function(Function { name, file, value }))
    }
}

pub(super) fn explain(function: &Function) -> String {
    let Function { name, file, value } = function;
    format!(
        "has {name} of {} do nothing and return {value}",
        file.display()
    )
}
