//! What a hooked system call costs: those whom no rule is aimed at, and the targets, on each
//! rung; also beside other makers of failing calls, and under many rules.
//!
//! Run in a guest whose clock advances one nanosecond per instruction, the
//! figures are instructions, and the same in every run.

mod followed;
mod makers;
mod many;
mod rungs;

use super::calls::Cost;
use crate::{
    bare::Bare,
    kernel::{Feature, Where},
};

/// Options of the group.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Measure only these tables
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Table>,
    /// The guest's clock is an ordinary one: measure what can be compared by time
    #[arg(long)]
    by_clock: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Table {
    /// Calls on each rung, of bystanders and victims
    Rungs,
    /// Processes and sockets that are made while targets are followed
    Followed,
    /// Calls beside other makers of failing calls
    Makers,
    /// Calls under many rules and targets
    Many,
}

/// A call that is measured: its name, and its figure among the others.
type Call = (&'static str, fn(&Cost) -> f64);

const GETPPID: Call = ("getppid", |cost| cost.getppid);
const OPENAT: Call = ("openat + close", |cost| cost.openat);
const PREAD: Call = ("pread64", |cost| cost.pread);

/// A way to fail system calls.
struct Rung {
    /// As users name it.
    name: &'static str,
    /// What a kernel needs for it.
    feature: Feature,
    /// Whether it is one of `getppid` too: no security hook stands for that.
    getppid: bool,
    /// Attaches a program that does nothing to `openat`, and to `getppid` if it is one of that.
    attach: fn() -> anyhow::Result<Vec<Bare>>,
}

/// All of them, in the order in which an agent tries them.
const RUNGS: [Rung; 4] = [
    Rung {
        name: "kprobe",
        feature: Feature::Override,
        getppid: true,
        attach: || {
            let functions = ["__x64_sys_openat", "__x64_sys_getppid"];
            functions.into_iter().map(Bare::kprobe).collect()
        },
    },
    Rung {
        name: "fmod_ret",
        feature: Feature::FmodRet,
        getppid: true,
        // The kernel's types call a function without arguments so.
        attach: || {
            let functions = ["__x64_sys_openat", "__do_sys_getppid"];
            functions.into_iter().map(Bare::modifying).collect()
        },
    },
    Rung {
        name: "lsm",
        feature: Feature::Lsm,
        getppid: false,
        attach: || Ok(vec![Bare::security("file_open")?]),
    },
    Rung {
        name: "fmod_ret-security",
        feature: Feature::FmodRetSecurity,
        getppid: false,
        attach: || Ok(vec![Bare::modifying("security_file_open")?]),
    },
];

impl Rung {
    /// Those that this kernel has.
    fn here() -> impl Iterator<Item = &'static Self> {
        let place = Where::current();
        RUNGS
            .iter()
            .filter(move |rung| rung.feature.expected(place).is_ok())
    }

    /// Those that are measured on this kernel by themselves: what a kernel has besides is measured
    /// on one that users are more likely to have.
    fn of_this_kernel() -> impl Iterator<Item = &'static Self> {
        let entries = Feature::Override.expected(Where::current()).is_ok();
        Self::here().filter(move |rung| rung.getppid == entries)
    }

    /// The calls that the table of all rungs has.
    const fn calls(&self) -> &'static [Call] {
        if self.getppid {
            &[GETPPID, OPENAT]
        } else {
            &[OPENAT]
        }
    }

    /// The words of a rule that names these calls, and `getppid` if it can be.
    fn rule(&self, calls: &str) -> String {
        let getppid = if self.getppid { ",getppid" } else { "" };
        let name = self.name;
        format!("sys-errno --call {calls}{getppid} --errno EIO --rung {name}")
    }
}

/// Runs the group; whether every bar is met.
pub(super) fn run(options: &Options) -> bool {
    let chosen = |table| options.only.is_empty() || options.only.contains(&table);
    let makers = chosen(Table::Makers);
    if options.by_clock {
        if makers {
            return makers::by_clock();
        }
        println!("These tables are measured by instructions only.\n");
        return true;
    }
    let mut met = true;
    if chosen(Table::Rungs) {
        met &= rungs::run();
    }
    if chosen(Table::Followed) {
        met &= followed::run();
    }
    if makers {
        met &= makers::by_instructions();
    }
    if chosen(Table::Many) {
        met &= many::run();
    }
    met
}
