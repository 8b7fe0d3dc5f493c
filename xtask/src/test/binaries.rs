//! Building the integration tests and finding the binaries that cargo made of them.

use std::io::BufReader;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Message, TargetKind};

use crate::exec::cargo;
use crate::kernel;

/// One binary of integration tests.
#[derive(Clone)]
pub(crate) struct TestBinary {
    /// The name of its source file, or `lib` for the harness's own tests.
    pub(crate) name: String,
    /// The binary.
    pub(crate) path: PathBuf,
}

/// The clock of the virtual machine that tests run in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// It goes as the host's does.
    Host,
    /// It counts instructions, and does not run on while the host does something else: for tests
    /// that hold times of some milliseconds against a reference, or against a bound.
    Instructions,
    /// The same, with one processor. QEMU lets two take turns then, each long enough for packets
    /// that pass on one to be overtaken by many on the other, which a TCP flow takes for loss.
    OneProcessor,
}

impl TestBinary {
    /// The clock that its tests need.
    pub(crate) fn clock(&self) -> Clock {
        match self.name.as_str() {
            "doctor_quick" | "net_delay" | "net_delay_spread" | "net_link" | "net_rate"
            | "net_reorder" | "sys_delay" | "sys_delay_ends" | "sys_delay_exit" => {
                Clock::Instructions
            }
            "fidelity" => Clock::OneProcessor,
            _ => Clock::Host,
        }
    }

    /// Which of its tests run on the newest kernel where nobody has asked for that one: those that
    /// run nowhere else.
    pub(crate) fn part_on_newest(&self) -> Part {
        match self.name.as_str() {
            // Programs of uprobes write registers on no other.
            "user_return" => Part::Everything,
            _ => Part::Nothing,
        }
    }

    /// Which of its tests could find out anything on this kernel that they do not find out
    /// elsewhere, of the host or the other kernels.
    pub(crate) fn part_on(&self, kernel: &str) -> Part {
        let name = self.name.as_str();
        match kernel {
            // Nobody knows what one tells that was given by its path.
            _ if kernel.contains('/') => Part::Everything,
            // Millions of packets, which tell no more where they take minutes.
            _ if name == "ledger" => Part::Nothing,
            // Processes and their cgroups are the same on all kernels.
            _ if HOST_ALONE.contains(&name) => Part::Nothing,
            // The controllers, which a host may lack, are of the oldest kernel as of later ones.
            kernel::OVERRIDE | kernel::BACKPORTED | kernel::NEWEST
                if CONTROLLERS.contains(&name) =>
            {
                Part::Nothing
            }
            // The backported kernel with one option more, about system calls.
            kernel::OVERRIDE => match name {
                _ if name == "dns" || name.starts_with("net_") => Part::Nothing,
                _ if name.starts_with("hostile") => Part::Nothing,
                "fidelity" | "loopback" | "open_sockets" | "per_flow" | "peer_names"
                | "peer_target" | "queue_memory" | "segments" | "unattributed" | "workers" => {
                    Part::Nothing
                }
                // Nothing about them depends on the one option; real programs suffer by other rungs
                // elsewhere, and the same programs are verified there.
                "forks" | "parity" | "plan" | "real_victims" | "verifier" => Part::Nothing,
                "watch" => Part::Named(&["too_many"]),
                "targets" => Part::Named(&["calls"]),
                "sys_errno" => Part::Named(OF_NO_SINGLE_CALL),
                "cleanup" | "device_faults" | "devices" | "foreign" | "foreign_programs"
                | "harness" | "leftovers" | "refusals" | "terminal" => Part::Nothing,
                "half_way" | "lifecycle" => Part::Named(&["errno"]),
                "host_services" => Part::Named(&["calls"]),
                "call_chain" => Part::Named(&["entries", "in_the_place_of_calls", "wait"]),
                "call_filters" => Part::Named(&["descriptor", "below"]),
                "call_sockets" => Part::Named(&["family"]),
                "calls32" => Part::Named(&["entry"]),
                "shadow" | "user_return" => Part::Nothing,
                // Where calls can be met at their entry, and requests cannot.
                "io_uring" => Part::Named(&["waited"]),
                "sys_counts" => Part::Named(&["third", "executes"]),
                "sys_errors" => Part::Named(&["plausible"]),
                "sys_delay" => Part::Named(&["disk", "entry", "fail"]),
                "sys_delay_exit" => Part::AllBut(&["busy", "refused"]),
                "sys_delay_ends" => Part::Nothing,
                "sys_signal" => Part::Named(&["fails"]),
                "io_recipes" => Part::Named(&["full"]),
                "lease" => Part::Named(&["calls"]),
                // Only here can a sync be failed.
                "postgres" => Part::Named(&["sync", "room"]),
                "real_files" => Part::Named(&["sync"]),
                "real_backup" => Part::Nothing,
                "replay" => Part::Named(&["calls"]),
                _ => Part::Everything,
            },
            // What it has that the others lack: a verifier that walks further, and programs in the
            // place of calls without error injection.
            kernel::NEWEST => match name {
                "doctor" | "sys_calls" | "sys_rungs" | "user_return" | "verifier" => {
                    Part::Everything
                }
                "sys_errno" => Part::Named(&["open", "write", "mmap", "execve", "clone"]),
                "call_filters" => Part::Named(&["descriptor", "below"]),
                "sys_delay" => Part::Named(&["entry", "disk"]),
                "sys_signal" => Part::Named(&["fails"]),
                "lifecycle" => Part::Named(&["errno"]),
                "postgres" => Part::Named(&["sync"]),
                "net_loss" => Part::Named(&["ingress", "egress"]),
                _ => Part::Nothing,
            },
            // It attaches to packets as the host does, which runs these whole but for what it
            // need not have: queues for what is late, security programs, netem, devices. The
            // older kernel has another way to attach.
            kernel::BACKPORTED => match name {
                "dns" => Part::Named(&["delay"]),
                "devices" => Part::Named(&["tunnel", "vlans", "vrf"]),
                "foreign" => Part::Named(&["filter", "priorities"]),
                "foreign_programs" => Part::Named(&["waits"]),
                "half_way" => Part::Named(&[
                    "delayed_link::",
                    "delayed_names::",
                    "rate::",
                    "reordering::",
                ]),
                "lifecycle" => Part::Named(&[
                    "delay::",
                    "delay_with",
                    "delayed",
                    "rate::ends_orderly",
                    "reordering::ends_orderly",
                ]),
                "refusals" => Part::Named(&["durations_are_exact"]),
                "replay" => Part::Named(&["calls", "late"]),
                "segments" => Part::Named(&["late", "link"]),
                "postgres" => Part::Named(&["tables"]),
                "sys_rungs" => Part::Named(LAST_RUNG),
                "sys_counts" => Part::Named(&["times"]),
                "sys_errors" => Part::Nothing,
                "sys_delay" => Part::AllBut(&["busy", "disk", "entry"]),
                "sys_delay_exit" => Part::Named(&["busy", "refused"]),
                // Nothing but the refusals, which the host has too.
                "sys_return" | "user_return" => Part::Nothing,
                "call_chain" => Part::Named(&["functions_that_they", "wait"]),
                "call_filters" => Part::Named(&["escapes", "arguments"]),
                "call_sockets" => Part::Nothing,
                "io_uring" => Part::AllBut(&["path", "place", "refused"]),
                "shadow" => Part::Named(&["disk_full", "behind", "calls_go_on"]),
                "host_services" => Part::AllBut(&["refused", "signals"]),
                // What a host without security programs cannot show; the older kernel runs them whole.
                "targets" => Part::Named(&["calls", "command"]),
                "real_victims" => Part::Named(&["cannot", "late"]),
                "forks" => Part::Named(&["calls"]),
                // The older kernel has these with all forms of a target.
                "net_delay" | "net_rate" | "net_reorder" => Part::AllBut(&["command", "process"]),
                // What does not change from there to here, or has nothing to do with the kernel.
                "lease" => Part::Named(&["calls"]),
                "queue_memory" => Part::Named(&["loopback"]),
                "device_faults" => Part::Named(&["delays", "in_ip", "wireguard"]),
                "sys_errno" => Part::Named(OF_NO_SINGLE_CALL),
                // Where calls fail at their entry, all of them do.
                "all_calls" => Part::Named(&["kernel_threads"]),
                "real_files" => Part::Named(&["nginx", "room", "full"]),
                "sys_signal" => Part::Named(&["killed", "file"]),
                "io_recipes" => Part::Named(&["full", "only_the_target"]),
                "watch" => Part::Named(&["wait"]),
                "cleanup"
                | "harness"
                | "hostile"
                | "hostile_frames"
                | "hostile_owners"
                | "hostile_queries"
                | "leftovers"
                | "net_corrupt"
                | "net_corrupt_headers"
                | "net_duplicate"
                | "net_filter"
                | "net_filter_more"
                | "net_loss"
                | "net_loss_errno"
                | "net_loss_local"
                | "net_loss_models"
                | "net_partition"
                | "net_refuse"
                | "net_reject"
                | "net_reset"
                | "open_sockets"
                | "parity"
                | "peer_names"
                | "per_flow"
                | "peer_target"
                | "plan"
                | "protected"
                | "terminal"
                | "unattributed" => Part::Nothing,
                _ => Part::Everything,
            },
            // What does not depend on how programs are attached.
            _ => match name {
                // Their other tests differ in nothing that the older way has to do with.
                "replay" => Part::Named(&["told"]),
                "memory_pressure" => Part::Named(&["limit"]),
                "call_sockets" => Part::Named(&["family"]),
                "io_uring" => Part::Named(&["place", "path"]),
                "shadow" => Part::Named(&["errno"]),
                "host_services" => Part::Named(&["calls"]),
                "sys_delay" => Part::Named(&["busy", "refused"]),
                "sys_delay_exit" => Part::Named(&["busy"]),
                "sys_return" | "user_return" => Part::Named(&["refused"]),
                "sys_delay_ends" => Part::Nothing,
                "half_way" => Part::Named(&["reception::is_killed", "delay::", "disk_full::"]),
                "leftovers" => Part::Named(&["killed_agent", "last_agent", "filter", "removed"]),
                "lifecycle" => Part::AllBut(WITHOUT_FILTERS),
                "device_faults" => Part::Named(&["below", "delays"]),
                "devices" => Part::Named(&["lan"]),
                "dns" => Part::Named(&["delay", "cable", "tcp"]),
                "sys_rungs" => Part::Named(LAST_RUNG),
                "net_delay" => Part::AllBut(&["minute"]),
                "net_link" => Part::AllBut(&["profile", "one_link"]),
                // Of the forms of a target net_loss tells.
                "net_corrupt" | "net_duplicate" => {
                    Part::AllBut(&["command", "process", "broken::", "correlated"])
                }
                "net_refuse" => Part::Named(&["cgroup", "process", "filters", "foreign"]),
                // What an answer says, and what a victim makes of it, is the same everywhere.
                "net_reject" => Part::Named(&["cable::tcp", "cable::udp_v4", "judged", "share"]),
                "net_corrupt_headers" => Part::Named(&["tcp", "v6_egress"]),
                "net_filter" => Part::AllBut(&["peer", "port"]),
                // What comes of a connection is told by the host.
                "net_reset" => Part::Named(&["cable", "end_alone", "bytes"]),
                "net_loss_local" => Part::Named(&["asks"]),
                // Programs at sockets, and which packets a model loses, are the same everywhere.
                "net_loss_errno" => Part::Named(&["cgroup", "interface", "tcp"]),
                "net_loss_models" => Part::Nothing,
                "net_rate" => Part::AllBut(&["flows"]),
                "segments" => Part::Named(&["ingress_v4", "egress_v6", "tcp", "late"]),
                // Whose sockets are is found out by the same programs.
                "open_sockets" => Part::Named(&["of_a_group", "half_open", "to_a_process"]),
                "workers" => Part::Named(&["delay"]),
                "real_victims" => Part::Named(&["cannot", "late"]),
                "watch" => Part::AllBut(&["models", "under_way", "flows"]),
                "all_calls" | "harness" | "net_filter_more" | "net_partition" | "per_flow"
                | "plan" | "postgres" | "real_backup" | "real_files" | "refusals" | "terminal" => {
                    Part::Nothing
                }
                _ => Part::Everything,
            },
        }
    }
}

/// Tests of `sys_errno` on a kernel whose `sys_calls` tells that each call fails, and no other.
const OF_NO_SINGLE_CALL: &[&str] = &[
    "descendants",
    "hook",
    "ipv6",
    "number",
    "several",
    "share",
    "times",
    "when",
    "worker",
];
/// Tests of `sys_rungs` on a kernel whose `sys_errno` and `sys_calls` take the other rungs.
const LAST_RUNG: &[&str] = &["fmod_ret_security", "refused"];
/// Tests of what needs nothing of the kernel that a host could lack.
const HOST_ALONE: &[&str] = &[
    "cgroup_freeze",
    "clock_offset",
    "cpu_stress",
    "proc_kill",
    "proc_signal",
];

/// Tests of what needs controllers of cgroup v2.
const CONTROLLERS: &[&str] = &[
    "cpu_quota",
    "io_limit",
    "memory_limit",
    "memory_pressure",
    "pids_limit",
];

/// Tests of `lifecycle` that do not depend on how programs are attached, or of kinds for which
/// others stand: an agent that ends by itself undoes the same for all.
const WITHOUT_FILTERS: &[&str] = &[
    "corruption::ends_orderly",
    "delayed_link::",
    "denial::ends_orderly",
    "duplication::",
    "names::",
    "partition::",
    "rate::ends_orderly",
    "reception::ends_orderly",
    "refusal::",
    "rejection::",
    "reordering::ends_orderly",
    "reset::",
    "_with_a_command",
    "outlives",
    "killed_command",
    "reaches_the_command",
];

/// Some of a binary's tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of them.
    Everything,
    /// Those with one of these in their names.
    Named(&'static [&'static str]),
    /// Those with none of these in their names.
    AllBut(&'static [&'static str]),
    /// None of them.
    Nothing,
}

/// Builds the package in `tests/`.
pub(crate) fn build() -> Result<Vec<TestBinary>> {
    let mut build = cargo("test");
    build.args(["--locked", "--package", "injector-tests", "--no-run"]);
    build
        .args(["--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped());
    let mut child = build.spawn().context("cannot start cargo")?;
    let stdout = child
        .stdout
        .take()
        .context("cargo has no standard output")?;
    let mut binaries = Vec::new();
    for message in Message::parse_stream(BufReader::new(stdout)) {
        let Message::CompilerArtifact(artifact) = message.context("cannot read from cargo")? else {
            continue;
        };
        let (true, Some(path)) = (artifact.profile.test, artifact.executable) else {
            continue;
        };
        let name = if artifact.target.kind.contains(&TargetKind::Test) {
            artifact.target.name
        } else if artifact.target.kind.contains(&TargetKind::Lib) {
            "lib".to_owned()
        } else {
            // Unit tests of the package's programs; there the file name repeats.
            format!("bin {}", artifact.target.name)
        };
        binaries.push(TestBinary {
            name,
            path: path.into_std_path_buf(),
        });
    }
    let status = child.wait().context("cannot wait for cargo")?;
    if !status.success() {
        bail!("the integration tests do not build ({status})");
    }
    binaries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(binaries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_what_is_its_own() {
        let part = |name: &str, kernel| {
            let path = PathBuf::new();
            let name = name.to_owned();
            TestBinary { name, path }.part_on(kernel)
        };
        for kernel in kernel::TESTED {
            assert_eq!(part("ledger", kernel), Part::Nothing, "{kernel}");
        }
        assert_eq!(part("lifecycle", kernel::OVERRIDE), Part::Named(&["errno"]));
        assert_eq!(part("net_loss", "./bzImage"), Part::Everything);
        for name in ["lease", "net_loss"] {
            assert_eq!(part(name, "debian-6.1"), Part::Everything, "{name}");
        }
        assert_eq!(
            part("postgres", kernel::BACKPORTED),
            Part::Named(&["tables"])
        );
        assert_eq!(part("sys_errno", "debian-6.1"), Part::Everything);
        for kernel in [kernel::BACKPORTED, kernel::OVERRIDE] {
            let others = Part::Named(OF_NO_SINGLE_CALL);
            assert_eq!(part("sys_errno", kernel), others, "{kernel}");
        }
        assert_eq!(
            part("net_delay", kernel::BACKPORTED),
            Part::AllBut(&["command", "process"])
        );
        assert_eq!(part("net_reset", kernel::BACKPORTED), Part::Nothing);
        assert_eq!(part("hostile_owners", "debian-6.1"), Part::Everything);
        assert_eq!(part("hostile_owners", kernel::OVERRIDE), Part::Nothing);
        assert_eq!(part("sys_calls", kernel::NEWEST), Part::Everything);
        assert_eq!(part("net_delay", kernel::NEWEST), Part::Nothing);
        let on_newest = |name: &str| {
            let path = PathBuf::new();
            let name = name.to_owned();
            TestBinary { name, path }.part_on_newest()
        };
        assert_eq!(on_newest("user_return"), Part::Everything);
        assert_eq!(on_newest("sys_calls"), Part::Nothing);
    }
}
