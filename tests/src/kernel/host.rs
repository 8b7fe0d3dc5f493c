//! What the machine itself must be able to do, from evidence.
//!
//! No table can know every machine. What stands here instead of one does not
//! come from the injector: a doctor that wrongly says "no" would otherwise turn
//! a failure into a skip. Each piece of evidence is something that the kernel
//! shows or does by itself. In the virtual machines, whose table is fixed, a
//! test holds the same evidence against that table.

use std::{env, fs, path::Path, process::Command, sync::OnceLock, thread};

use injector_common::names::SecurityHook;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use serde::{Deserialize, Serialize};

use super::Feature;
use crate::{
    bare::{self, Bare},
    cgroup,
    netns::Netns,
};

/// What was found out.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Evidence {
    /// Version and patch level of the kernel's release.
    release: (u32, u32),
    /// `tc` can put the discipline on an interface.
    fq: bool,
    /// The same of the emulator.
    netem: bool,
    /// The kernel has the helper that overrides a function's result. Built in
    /// by `CONFIG_BPF_KPROBE_OVERRIDE` alone.
    overriding: bool,
    /// A program can see a system call begin.
    seeing: bool,
    /// A program can take the place of a system call.
    replacing: bool,
    /// Security hooks are there for programs, and are asked.
    security: bool,
    /// Programs can take the place of the functions that ask at them.
    asking: bool,
    /// cgroup v2 has the controllers of processors, memory, processes and disks.
    controllers: bool,
    /// File systems in user space can be served.
    fuse: bool,
    /// Programs can write the registers of whoever enters a function.
    registers: bool,
}

impl Evidence {
    fn look() -> Self {
        Self {
            release: release().unwrap_or((0, 0)),
            fq: qdisc_exists("fq"),
            netem: qdisc_exists("netem"),
            overriding: has_override(),
            seeing: Bare::kprobe("__x64_sys_getpgid").is_ok(),
            replacing: Bare::modifying("__x64_sys_getpgid").is_ok(),
            security: has_security(),
            asking: has_asking(),
            controllers: has_controllers(),
            fuse: has_fuse(),
            registers: Bare::writes_registers(),
        }
    }

    fn expected(self, feature: Feature) -> Result<(), &'static str> {
        let since = |release, reason| self.release.ge(&release).or_reason(reason);
        let fq = self.fq.or_reason("the host's kernel has no sch_fq");
        let overriding = self
            .overriding
            .or_reason("the host's kernel has no bpf_override_return");
        let security = self
            .security
            .or_reason("the host's kernel lets no program on its security hooks");
        // Without the flags a rename cannot be told from one that exchanges.
        let renames = since((5, 19), "path_rename has flags since Linux 5.19");
        let replacing = self
            .replacing
            .or_reason("the host's kernel lets no program take the place of a system call");
        let asking = self.asking.or_reason(
            "the host's kernel lets no program take the place of its security functions",
        );
        let timed = since((5, 18), "programs can time packets since Linux 5.18");
        match feature {
            Feature::NetLoss
            | Feature::SendErrno
            | Feature::NetCorrupt
            | Feature::NetReject
            | Feature::NetReset
            | Feature::Dns => Ok(()),
            // bpf_set_retval, for programs at connect
            Feature::NetRefuse => since((6, 1), "programs choose connect's error since Linux 6.1"),
            // bpf_skb_set_tstamp
            Feature::Segments => timed,
            Feature::NetDelay => fq.and(timed),
            Feature::LoopbackDelay => fq.and(since((6, 3), super::IFB_SINCE)),
            Feature::SysErrno => overriding
                .or(replacing)
                .or(security.and(renames))
                .or(asking.and(renames)),
            Feature::SysSignal => self.seeing.or_reason("the host's kernel has no kprobes"),
            Feature::Asleep => security
                .and(since((6, 2), super::TASKS_SINCE))
                .and(self.fuse.or_reason("the host's kernel has no FUSE")),
            Feature::UserReturn => self.registers.or_reason(
                "the host's kernel lets no program write the registers of who enters a function",
            ),
            Feature::Controllers => self
                .controllers
                .or_reason("cgroup v2 lacks controllers here, which cgroup v1 has or nobody"),
            Feature::Clocks => Path::new("/proc/self/ns/time")
                .exists()
                .or_reason("the host's kernel has no time namespaces"),
            Feature::Override => overriding,
            Feature::FmodRet => replacing,
            Feature::Lsm => security.and(renames),
            Feature::FmodRetSecurity => asking.and(renames),
            Feature::Tcx => since((6, 6), super::TCX_SINCE),
            Feature::Netem => self.netem.or_reason("the host's kernel has no sch_netem"),
            Feature::Fq => fq,
        }
    }
}

/// Whether file systems in user space can be served.
fn has_fuse() -> bool {
    let open = fs::File::options().read(true).write(true).open("/dev/fuse");
    open.is_ok()
}

/// Whether the root of cgroup v2 has all of them.
fn has_controllers() -> bool {
    let file = cgroup::mount_point().join("cgroup.controllers");
    let text = fs::read_to_string(file).unwrap_or_default();
    let has = |wanted| text.split_whitespace().any(|one| one == wanted);
    ["cpu", "memory", "pids", "io"].into_iter().all(has)
}

/// A condition as a result with its reason.
trait OrReason {
    fn or_reason(self, reason: &'static str) -> Result<(), &'static str>;
}

impl OrReason for bool {
    fn or_reason(self, reason: &'static str) -> Result<(), &'static str> {
        if self { Ok(()) } else { Err(reason) }
    }
}

/// What evidence says of a feature. It is looked for once per test binary, or once for all
/// where the variable `INJECTOR_TEST_EVIDENCE` names a file for it.
pub(super) fn expected(feature: Feature) -> Result<(), &'static str> {
    static EVIDENCE: OnceLock<Evidence> = OnceLock::new();
    let look = || match env::var_os("INJECTOR_TEST_EVIDENCE") {
        Some(file) => kept(Path::new(&file)),
        None => Evidence::look(),
    };
    EVIDENCE.get_or_init(look).expected(feature)
}

/// What a file has of it, which is written if it is empty.
fn kept(file: &Path) -> Evidence {
    let text = fs::read_to_string(file).expect("read what was found out");
    if !text.is_empty() {
        return serde_json::from_str(&text).expect("what was found out");
    }
    let found = Evidence::look();
    let text = serde_json::to_string(&found).expect("numbers and yes or no");
    fs::write(file, text).expect("keep what was found out");
    found
}

fn release() -> Option<(u32, u32)> {
    parse_release(&fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
}

/// The first two numbers of a release such as `6.1.0-56-cloud-amd64`.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    Some((next()?, next()?))
}

/// Whether a queueing discipline can be used, tried out in a namespace of its
/// own. This also loads its module, if it is one.
pub(super) fn qdisc_exists(kind: &str) -> bool {
    let netns = Netns::new();
    let mut tc = Command::new("tc");
    tc.args(["qdisc", "add", "dev", "lo", "root", kind]);
    let output = netns.enter(|| tc.output()).expect("run tc");
    output.status.success()
}

/// Whether the kernel has kprobes, and the helper by which one overrides a
/// call. The list of functions that allow it lies in debugfs, which need not be
/// mounted; the helper's own name is always among the symbols.
fn has_override() -> bool {
    if !Path::new("/sys/bus/event_source/devices/kprobe").exists() {
        return false;
    }
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let helper = |line: &str| line.split(' ').nth(2) == Some("bpf_override_return");
    symbols.lines().any(helper)
}

/// Whether programs on security hooks are listed as an active module, stand for
/// every hook that most calls need, and are taken: some kernels have them and
/// let nobody load one.
fn has_security() -> bool {
    let active = active_security_modules().unwrap_or_default();
    if !active.trim().split(',').any(|module| module == "bpf") {
        return false;
    }
    let Ok(types) = bare::kernel_types() else {
        return false;
    };
    SecurityHook::COMMON
        .iter()
        .all(|hook| bare::security_function(&types, hook.attach()).is_some())
        && Bare::security("file_open").is_ok()
}

/// Whether programs are taken in the place of the function that asks at each hook that most
/// calls need.
fn has_asking() -> bool {
    SecurityHook::COMMON
        .iter()
        .all(|hook| Bare::modifying(hook.function()).is_ok())
}

/// The list that the kernel began with, as `lockdown,capability,bpf`.
fn active_security_modules() -> Option<String> {
    const FOLDER: &str = "/sys/kernel/security";
    let list = Path::new(FOLDER).join("lsm");
    if let Ok(active) = fs::read_to_string(&list) {
        return Some(active);
    }
    // Not everybody mounts the folder. This mount is seen by one thread, and
    // goes with it.
    let look = move || {
        unshare(CloneFlags::CLONE_NEWNS).ok()?;
        let here = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, here, None::<&str>).ok()?;
        let kind = Some("securityfs");
        mount(kind, FOLDER, kind, MsFlags::empty(), None::<&str>).ok()?;
        fs::read_to_string(list).ok()
    };
    thread::spawn(look).join().ok()?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that has everything.
    const RICH: Evidence = Evidence {
        release: (6, 12),
        fq: true,
        netem: true,
        overriding: true,
        seeing: true,
        replacing: true,
        security: true,
        asking: true,
        controllers: true,
        fuse: true,
        registers: true,
    };

    #[track_caller]
    fn lacks(evidence: Evidence, features: &[Feature]) {
        let lacking: Vec<_> = Feature::ALL
            .into_iter()
            .filter(|&feature| evidence.expected(feature).is_err())
            .collect();
        assert_eq!(lacking, features, "{evidence:?}");
    }

    #[test]
    fn each_piece_of_evidence_decides_its_features() {
        use Feature::{
            Asleep, Controllers, FmodRet, FmodRetSecurity, Fq, LoopbackDelay, Lsm, NetDelay,
            NetRefuse, Netem, Override, Segments, SysErrno, SysSignal, Tcx, UserReturn,
        };
        lacks(RICH, &[]);
        let release = |release| Evidence { release, ..RICH };
        lacks(release((6, 6)), &[]);
        lacks(release((6, 5)), &[Tcx]);
        lacks(release((6, 3)), &[Tcx]);
        lacks(release((6, 2)), &[LoopbackDelay, Tcx]);
        lacks(release((6, 1)), &[LoopbackDelay, Asleep, Tcx]);
        lacks(
            release((5, 15)),
            &[
                Segments,
                NetDelay,
                LoopbackDelay,
                NetRefuse,
                Asleep,
                Lsm,
                FmodRetSecurity,
                Tcx,
            ],
        );
        let fq = Evidence { fq: false, ..RICH };
        lacks(fq, &[NetDelay, LoopbackDelay, Fq]);
        let netem = Evidence {
            netem: false,
            ..RICH
        };
        lacks(netem, &[Netem]);
        let hybrid = Evidence {
            controllers: false,
            ..RICH
        };
        lacks(hybrid, &[Controllers]);
        let awake = Evidence {
            fuse: false,
            ..RICH
        };
        lacks(awake, &[Asleep]);
        let blind = Evidence {
            seeing: false,
            ..RICH
        };
        lacks(blind, &[SysSignal]);
        let reading = Evidence {
            registers: false,
            ..RICH
        };
        lacks(reading, &[UserReturn]);
        let stock = Evidence {
            overriding: false,
            replacing: false,
            ..RICH
        };
        lacks(stock, &[Override, FmodRet]);
        let unlisted = Evidence {
            security: false,
            ..stock
        };
        lacks(unlisted, &[Asleep, Override, FmodRet, Lsm]);
        let without = Evidence {
            asking: false,
            ..unlisted
        };
        lacks(
            without,
            &[SysErrno, Asleep, Override, FmodRet, Lsm, FmodRetSecurity],
        );
    }

    #[test]
    fn a_release_is_read_up_to_its_second_number() {
        assert_eq!(parse_release("6.1.0-56-cloud-amd64\n"), Some((6, 1)));
        assert_eq!(parse_release("5.15-rc3"), Some((5, 15)));
        assert_eq!(parse_release("6"), None);
    }
}
