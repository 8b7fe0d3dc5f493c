//! The names of every map and program, stated once.
//!
//! The kernel keeps 15 characters of a name, and `injector stop --all` and the
//! user's `bpftool` find ours by them: all begin with `inj_`.

/// Prefix of every map, program and device name of ours.
pub const PREFIX: &str = "inj_";

/// Upper bound of rules in force at once: one bit each in a rule mask.
pub const MAX_RULES: u32 = 64;

/// One past the highest system call number that a rule can name.
pub const MAX_CALLS: u32 = 512;

/// How many cgroups and processes the rules of one agent can target.
pub const MAX_SCOPES: u32 = 16_384;

/// How many interfaces the rules of one agent can act on.
pub const MAX_SITES: u32 = 1_024;

/// How many flows have their packets' order kept under delay at once.
pub const MAX_FLOWS: u32 = 65_536;

/// How many ancestors of a cgroup are looked at, the root being level 0.
pub const MAX_CGROUP_LEVEL: u32 = 32;
