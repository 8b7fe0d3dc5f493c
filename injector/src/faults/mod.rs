//! What each fault kind says of itself: its options, their validation and its
//! description. One module per kind, with the stem of its name.
//!
//! One `Raw` struct serves the command line and the spec file alike, so that
//! an option can neither be missing from one of them nor mean two things.

pub(crate) mod calls;
pub(crate) mod packet;
pub(crate) mod plausible;
pub(crate) mod pretended;

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use injector_common::FaultKind;
use serde::{Deserialize, Deserializer};

use crate::{
    error::SpecError,
    model::{CallFault, Fault, PacketFault, ResourceFault},
    spec::loss::Share,
};

/// All that a fault kind must say of itself.
pub trait FaultKindDef {
    /// The kind.
    const KIND: FaultKind;
    /// What it does, in one line.
    const SUMMARY: &'static str;
    /// What exactly the target sees and what it does not, for `injector faults KIND`.
    const MANUAL: &'static str;
    /// Command lines, for the help text.
    const EXAMPLES: &'static str;
    /// Its options, as written.
    type Raw: Args + serde::de::DeserializeOwned;

    /// Checks the options against each other.
    ///
    /// # Errors
    ///
    /// Where the options do not fit together; the error's field is the option's
    /// bare name, such as `jitter`.
    fn validate(raw: Self::Raw) -> Result<Fault, SpecError>;
}

macro_rules! kinds {
    ($($module:ident::$kind:ident),+ $(,)?) => {
        $(pub mod $module;)+

        /// A kind with its options, as written.
        #[derive(Debug)]
        pub enum RawFault {
            $(
                #[doc = concat!("[`", stringify!($module), "`].")]
                $kind($module::Raw),
            )+
        }

        impl RawFault {
            /// The kind.
            #[must_use]
            pub const fn kind(&self) -> FaultKind {
                match self { $(Self::$kind(_) => FaultKind::$kind,)+ }
            }

            /// Checks the options against each other.
            ///
            /// # Errors
            ///
            /// As [`FaultKindDef::validate`].
            pub fn validate(self) -> Result<Fault, SpecError> {
                match self { $(Self::$kind(raw) => $module::$kind::validate(raw),)+ }
            }

            /// Reads the options of a kind from a mapping of a spec file.
            ///
            /// # Errors
            ///
            /// Where the mapping does not fit the kind.
            pub fn deserialize<'de, D>(kind: FaultKind, options: D) -> Result<Self, D::Error>
            where
                D: Deserializer<'de>,
            {
                match kind {
                    $(FaultKind::$kind => $module::Raw::deserialize(options).map(Self::$kind),)+
                }
            }
        }

        /// A kind as a subcommand, with its own options and those of every rule.
        #[derive(Subcommand, Debug)]
        pub enum KindCommand<R: Args> {
            $(
                #[command(
                    about = $module::$kind::SUMMARY,
                    long_about = None,
                    after_help = $module::$kind::EXAMPLES
                )]
                #[doc = concat!("[`", stringify!($module), "`].")]
                $kind(KindArgs<$module::Raw, R>),
            )+
        }

        impl<R: Args> KindCommand<R> {
            /// The rule's options.
            pub const fn rule(&self) -> &R {
                match self {
                    $(Self::$kind(args) => &args.rule,)+
                }
            }

            /// The kind's options and the rule's.
            pub fn split(self) -> (RawFault, R) {
                match self {
                    $(Self::$kind(args) => (RawFault::$kind(args.fault), args.rule),)+
                }
            }
        }

        /// What the kind does, in one line.
        #[must_use]
        pub const fn summary(kind: FaultKind) -> &'static str {
            match kind { $(FaultKind::$kind => $module::$kind::SUMMARY,)+ }
        }

        /// The kind's options.
        #[must_use]
        pub fn options(kind: FaultKind) -> Vec<FaultOption> {
            match kind { $(FaultKind::$kind => options_of::<$module::Raw>(),)+ }
        }

        const fn manual_and_examples(kind: FaultKind) -> (&'static str, &'static str) {
            match kind {
                $(FaultKind::$kind => ($module::$kind::MANUAL, $module::$kind::EXAMPLES),)+
            }
        }
    };
}

kinds! {
    net_loss::NetLoss,
    net_delay::NetDelay,
    net_corrupt::NetCorrupt,
    net_duplicate::NetDuplicate,
    net_reorder::NetReorder,
    net_rate::NetRate,
    net_partition::NetPartition,
    net_refuse::NetRefuse,
    net_reject::NetReject,
    net_reset::NetReset,
    dns::Dns,
    sys_errno::SysErrno,
    sys_signal::SysSignal,
    sys_delay::SysDelay,
    sys_return::SysReturn,
    user_return::UserReturn,
    cgroup_freeze::CgroupFreeze,
    cpu_quota::CpuQuota,
    memory_limit::MemoryLimit,
    pids_limit::PidsLimit,
    io_limit::IoLimit,
    proc_signal::ProcSignal,
    proc_kill::ProcKill,
    cpu_stress::CpuStress,
    memory_pressure::MemoryPressure,
    clock_offset::ClockOffset,
}

/// The options of a kind beside those of every rule.
#[derive(Args, Debug)]
pub struct KindArgs<F: Args, R: Args> {
    /// The kind's own.
    #[command(flatten)]
    pub fault: F,
    /// Those of every rule.
    #[command(flatten)]
    pub rule: R,
}

/// An option of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultOption {
    /// Its name, the same in spec files and, after `--`, on the command line.
    pub name: String,
    /// The placeholder of its value; `None` for one that is just there or not.
    pub value: Option<String>,
    /// What it does.
    pub help: String,
    /// Whether it must be given.
    pub required: bool,
}

pub(crate) fn options_of<R: Args>() -> Vec<FaultOption> {
    R::augment_args(clap::Command::new(""))
        .get_arguments()
        .filter_map(|argument| {
            let takes_value = argument.get_action().takes_values();
            let names = argument.get_value_names().filter(|_| takes_value);
            Some(FaultOption {
                name: argument.get_long()?.to_owned(),
                value: names.and_then(<[_]>::first).map(ToString::to_string),
                help: argument
                    .get_help()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                required: argument.is_required_set(),
            })
        })
        .collect()
}

/// The full description of a kind: what it does, its options, examples.
#[must_use]
pub fn manual(kind: FaultKind) -> String {
    let (manual, examples) = manual_and_examples(kind);
    manual_of(kind.name(), summary(kind), manual, options(kind), examples)
}

/// A full description from its parts.
pub(crate) fn manual_of(
    name: &str,
    summary: &str,
    manual: &str,
    options: Vec<FaultOption>,
    examples: &str,
) -> String {
    let mut text = format!("{name}: {summary}\n\n{manual}\n\nOptions:\n");
    for option in options {
        let required = if option.required { " (required)" } else { "" };
        let value = option.value.map(|value| format!(" <{value}>"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  --{}{}{required}\n      {}",
            option.name,
            value.unwrap_or_default(),
            option.help
        );
    }
    text.push('\n');
    text.push_str(examples);
    text
}

impl RawFault {
    /// The correlation of neighbouring draws that its options ask for; 0 for a kind
    /// that takes none.
    ///
    /// These are the kinds that have one with netem.
    #[must_use]
    pub fn correlation(&self) -> Share {
        let given = match self {
            Self::NetLoss(raw) => &raw.correlation,
            Self::NetCorrupt(raw) => &raw.correlation,
            Self::NetDuplicate(raw) => &raw.correlation,
            Self::NetReorder(raw) => &raw.correlation,
            // That of a delay is not of draws, but of jitter.
            Self::NetDelay(_)
            | Self::NetRate(_)
            | Self::NetPartition(_)
            | Self::NetRefuse(_)
            | Self::NetReject(_)
            | Self::NetReset(_)
            | Self::Dns(_)
            | Self::SysErrno(_)
            | Self::SysDelay(_)
            | Self::SysReturn(_)
            | Self::SysSignal(_)
            | Self::UserReturn(_)
            | Self::CgroupFreeze(_)
            | Self::CpuQuota(_)
            | Self::MemoryLimit(_)
            | Self::PidsLimit(_)
            | Self::IoLimit(_)
            | Self::ProcSignal(_)
            | Self::ProcKill(_)
            | Self::CpuStress(_)
            | Self::MemoryPressure(_)
            | Self::ClockOffset(_) => &None,
        };
        given.as_ref().map_or(Share(0), |text| text.0)
    }
}

/// What a fault does, in one sentence, for plans and reports.
#[must_use]
pub fn explain(fault: &Fault) -> String {
    match fault {
        Fault::Packet(filter, fault) => match fault {
            PacketFault::Loss { model, visibility } => {
                net_loss::explain(filter, *model, *visibility)
            }
            PacketFault::Delay(delay) => net_delay::explain(filter, delay),
            PacketFault::Duplicate { copies } => net_duplicate::explain(filter, *copies),
            PacketFault::Reorder { delay, gap, memory } => {
                net_reorder::explain(filter, *delay, *gap, *memory)
            }
            PacketFault::Rate(link) => net_rate::explain(filter, link),
            PacketFault::Partition => net_partition::explain(filter),
            PacketFault::Corrupt(damage) => net_corrupt::explain(filter, *damage),
            PacketFault::Reject { by, code } => net_reject::explain(filter, *by, *code),
            PacketFault::Dns(dns) => dns::explain(filter, dns),
            PacketFault::Reset { end, after } => net_reset::explain(filter, *end, *after),
        },
        Fault::Call(calls, fault) => match fault {
            CallFault::Errno(errors) => sys_errno::explain(calls, errors),
            CallFault::Plausible => sys_errno::explain_plausible(calls),
            CallFault::Signal(signal) => sys_signal::explain(calls, *signal),
            CallFault::Delay(delay) => sys_delay::explain(calls, delay),
            CallFault::Return(value) => sys_return::explain(calls, *value),
        },
        Fault::Refuse { filter, errno } => net_refuse::explain(filter, *errno),
        Fault::Function(function) => user_return::explain(function),
        Fault::Resource(fault) => match fault {
            ResourceFault::Freeze => cgroup_freeze::explain(),
            ResourceFault::CpuQuota(quota) => cpu_quota::explain(*quota),
            ResourceFault::MemoryLimit(limit) => memory_limit::explain(*limit),
            ResourceFault::PidsLimit(max) => pids_limit::explain(*max),
            ResourceFault::IoLimit(limit) => io_limit::explain(limit),
            ResourceFault::Signal(signals) => proc_signal::explain(signals),
            ResourceFault::CpuStress { workers, load_ppm } => {
                cpu_stress::explain(*workers, *load_ppm)
            }
            ResourceFault::MemoryPressure { bytes } => memory_pressure::explain(*bytes),
            ResourceFault::Clock(shift) => clock_offset::explain(*shift),
        },
    }
}

#[cfg(test)]
mod texts;

/// The options of a kind from a command line.
#[cfg(test)]
fn raw<R: Args>(line: &str) -> R {
    let command = R::augment_args(clap::Command::new("").no_binary_name(true));
    let matches = command.try_get_matches_from(line.split_whitespace());
    R::from_arg_matches(&matches.expect(line)).expect(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_describes_itself() {
        for &kind in FaultKind::ALL {
            assert!(!summary(kind).is_empty());
            let manual = manual(kind);
            assert!(
                manual.contains(&format!("injector inject {}", kind.name())),
                "{manual}"
            );
            // A cgroup is frozen, or it is not.
            assert_eq!(options(kind).is_empty(), kind == FaultKind::CgroupFreeze);
            for option in options(kind) {
                assert!(
                    !option.help.is_empty(),
                    "{} of {}",
                    option.name,
                    kind.name()
                );
                let flag = matches!(
                    (kind, option.name.as_str()),
                    (FaultKind::NetDelay, "reorder") | (FaultKind::MemoryLimit, "soft")
                );
                assert_eq!(
                    option.value.is_none_or(|value| value.is_empty()),
                    flag,
                    "{} of {}",
                    option.name,
                    kind.name()
                );
            }
        }
    }

    #[test]
    fn every_kind_has_an_integration_test() {
        for &kind in FaultKind::ALL {
            let stem = kind.name().replace('-', "_");
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("../tests/tests/{stem}.rs"));
            assert!(path.is_file(), "{} needs {}", kind.name(), path.display());
        }
    }
}
