//! What this machine's kernel must be able to do, and what it says it can.
//!
//! A test that needs a feature asks for it with [`require!`](crate::require).
//! Whether the feature has to be there is decided without asking the injector:
//! a probe that wrongly says "no" would otherwise turn a failure into a skip.
//! For the kernels of the virtual machines a table says it; for the machine
//! itself, evidence that the kernel gives. The injector's own opinion,
//! `injector doctor`, is compared with that, and any difference fails the test,
//! whichever way it goes.

mod host;

use std::{env, fmt, fs, io::Write as _, sync::OnceLock, thread};

use serde_json::Value;

use crate::agent;

/// A machine that the tests know, from the variable `INJECTOR_TEST_WHERE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// The machine itself, whatever kernel it runs.
    Host,
    /// Our own kernel, with error injection and override.
    Override,
    /// Debian 12's backported kernel, as shipped.
    Debian612,
    /// Debian 12's kernel, as shipped.
    Debian61,
    /// The newest kernel in Debian's archives, as shipped.
    DebianNewest,
    /// A virtual machine with a kernel that was given by its path.
    Given,
}

impl Where {
    /// Where this test runs.
    ///
    /// # Panics
    ///
    /// When the variable holds a name that the table does not know.
    #[must_use]
    pub fn current() -> Self {
        match env::var("INJECTOR_TEST_WHERE").as_deref() {
            Err(_) | Ok("host") => Self::Host,
            Ok("override") => Self::Override,
            Ok("debian-6.12") => Self::Debian612,
            Ok("debian-6.1") => Self::Debian61,
            Ok("debian-newest") => Self::DebianNewest,
            Ok(path) if path.contains('/') => Self::Given,
            Ok(other) => panic!("INJECTOR_TEST_WHERE={other} is no machine of the tests"),
        }
    }

    /// Whether it is a virtual machine, whose processor is emulated.
    #[must_use]
    pub const fn is_virtual(self) -> bool {
        !matches!(self, Self::Host)
    }
}

/// Why earlier kernels lack [`Feature::Tcx`].
const TCX_SINCE: &str = "TCX came with Linux 6.6";
/// Why earlier kernels lack [`Feature::Asleep`].
const TASKS_SINCE: &str = "programs get hold of a task by its id since Linux 6.2";
/// Why earlier kernels lack [`Feature::LoopbackDelay`].
const IFB_SINCE: &str = "an ifb gives back the packets of programs since Linux 6.3";

/// Why earlier kernels lack [`Feature::UserReturn`].
const REGISTERS_SINCE: &str = "programs of uprobes write registers on later kernels alone";

/// Something that a test needs of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Rules of kind `net-loss`.
    NetLoss,
    /// Rules of kind `net-loss` that let the call fail which sends.
    SendErrno,
    /// Rules on the segments of super-packets.
    Segments,
    /// Rules of kind `net-delay`.
    NetDelay,
    /// Rules of kind `net-delay` on the loopback interface, where packets wait
    /// in an ifb.
    LoopbackDelay,
    /// Rules of kind `net-corrupt`.
    NetCorrupt,
    /// Rules of kind `net-reject`.
    NetReject,
    /// Rules of kind `net-reset`.
    NetReset,
    /// Rules of kind `dns`, whose answers are not late.
    Dns,
    /// Rules of kind `net-refuse`, with an error of choice.
    NetRefuse,
    /// Rules of kind `sys-errno`, on whichever rung.
    SysErrno,
    /// Rules of kind `sys-signal`.
    SysSignal,
    /// Rules of kind `sys-delay` under which calls wait asleep, at security hooks.
    Asleep,
    /// Rules of kind `user-return`.
    UserReturn,
    /// The cpu, memory, pids and io controllers of cgroup v2.
    Controllers,
    /// Rules of kind `clock-offset`.
    Clocks,
    /// Overriding a system call's result at its entry, which reaches all calls.
    Override,
    /// Programs in the place of system calls.
    FmodRet,
    /// BPF programs on security hooks.
    Lsm,
    /// Programs in the place of the functions that ask at security hooks.
    FmodRetSecurity,
    /// Attaching to traffic by links that go with their owner.
    Tcx,
    /// The kernel's own network emulator, for comparison.
    Netem,
    /// The fair queueing discipline, as a discipline that was there before.
    Fq,
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 23] = [
        Self::NetLoss,
        Self::SendErrno,
        Self::Segments,
        Self::NetDelay,
        Self::LoopbackDelay,
        Self::NetCorrupt,
        Self::NetReject,
        Self::NetReset,
        Self::Dns,
        Self::NetRefuse,
        Self::SysErrno,
        Self::SysSignal,
        Self::Asleep,
        Self::UserReturn,
        Self::Controllers,
        Self::Clocks,
        Self::Override,
        Self::FmodRet,
        Self::Lsm,
        Self::FmodRetSecurity,
        Self::Tcx,
        Self::Netem,
        Self::Fq,
    ];

    /// What the table or, for a kernel that it does not know, evidence says: `Err` with the
    /// reason why a kernel lacks the feature by its nature.
    ///
    /// # Errors
    ///
    /// When this kernel does not have it.
    pub fn expected(self, place: Where) -> Result<(), &'static str> {
        match (self, place) {
            (_, Where::Host | Where::Given) => host::expected(self),
            (Self::UserReturn, Where::Override | Where::Debian612 | Where::Debian61) => {
                Err(REGISTERS_SINCE)
            }
            (
                Self::NetLoss
                | Self::SendErrno
                | Self::Segments
                | Self::NetCorrupt
                | Self::NetReject
                | Self::NetReset
                | Self::Dns
                | Self::NetRefuse
                | Self::Controllers
                | Self::Clocks,
                _,
            )
            | (_, Where::Override)
            | (
                Self::Tcx | Self::LoopbackDelay | Self::Asleep,
                Where::Debian612 | Where::DebianNewest,
            )
            // Without CONFIG_FUNCTION_ERROR_INJECTION.
            | (Self::FmodRet | Self::UserReturn, Where::DebianNewest)
            | (
                Self::NetDelay
                | Self::SysErrno
                | Self::SysSignal
                | Self::Lsm
                | Self::FmodRetSecurity
                | Self::Netem
                | Self::Fq,
                Where::Debian612 | Where::Debian61 | Where::DebianNewest,
            ) => Ok(()),
            (Self::Override, Where::Debian612 | Where::Debian61 | Where::DebianNewest) => {
                Err("Debian builds its kernels without CONFIG_BPF_KPROBE_OVERRIDE")
            }
            (Self::FmodRet, Where::Debian612 | Where::Debian61) => {
                Err("Debian builds its kernels without CONFIG_FUNCTION_ERROR_INJECTION")
            }
            (Self::Tcx, Where::Debian61) => Err(TCX_SINCE),
            (Self::Asleep, Where::Debian61) => Err(TASKS_SINCE),
            (Self::LoopbackDelay, Where::Debian61) => Err(IFB_SINCE),
        }
    }

    /// What [`Feature::expected`] would say of this kernel if no table knew it.
    ///
    /// # Errors
    ///
    /// When there is no evidence that this kernel has it.
    pub fn by_evidence(self) -> Result<(), &'static str> {
        host::expected(self)
    }

    /// What this machine itself says; `None` if it has nothing to say.
    fn observed(self) -> Option<bool> {
        match self {
            // The rungs of options do not make up for the others.
            Self::NetLoss => {
                any_rung_supported("net-loss", |rung| !["cgroup", SEGMENT].contains(&rung))
            }
            Self::Segments => rung_supported("net-loss", SEGMENT),
            Self::SendErrno => rung_supported("net-loss", "cgroup"),
            Self::NetDelay => {
                any_rung_supported("net-delay", |rung| ![LOOPBACK, SEGMENT].contains(&rung))
            }
            Self::LoopbackDelay => rung_supported("net-delay", LOOPBACK),
            Self::NetCorrupt => kind_supported("net-corrupt"),
            Self::NetReject => kind_supported("net-reject"),
            Self::NetReset => kind_supported("net-reset"),
            // The rung of late answers does not make up for the others.
            Self::Dns => any_rung_supported("dns", |rung| rung != "delay"),
            Self::NetRefuse => rung_supported("net-refuse", "cgroup"),
            Self::SysErrno => kind_supported("sys-errno"),
            Self::SysSignal => kind_supported("sys-signal"),
            Self::Asleep => rung_supported("sys-delay", "asleep"),
            Self::UserReturn => kind_supported("user-return"),
            Self::Controllers => {
                let all =
                    ["cpu-quota", "memory-limit", "pids-limit", "io-limit"].map(kind_supported);
                all.into_iter().try_fold(true, |all, one| Some(all && one?))
            }
            Self::Clocks => kind_supported("clock-offset"),
            Self::Override => rung_supported("sys-errno", "kprobe"),
            Self::FmodRet => rung_supported("sys-errno", "fmod_ret"),
            Self::Lsm => rung_supported("sys-errno", "lsm"),
            Self::FmodRetSecurity => rung_supported("sys-errno", "fmod_ret-security"),
            Self::Tcx => rung_supported("net-loss", "tcx"),
            Self::Netem => Some(host::qdisc_exists("netem")),
            Self::Fq => Some(host::qdisc_exists("fq")),
        }
    }

    /// Whether tests of this feature can run here.
    ///
    /// # Errors
    ///
    /// The reason why they cannot.
    ///
    /// # Panics
    ///
    /// When expectation and machine disagree.
    pub fn available(self) -> Result<(), &'static str> {
        let expected = self.expected(Where::current());
        let observed = self.observed();
        assert_eq!(
            observed,
            Some(expected.is_ok()),
            "{self:?} on {:?}: expected {expected:?}, found {observed:?}; \
             the doctor says {}",
            Where::current(),
            doctor(),
        );
        expected
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What `injector doctor` says, asked once per test binary, or once for all of
/// them and kept in the file that the variable `INJECTOR_TEST_DOCTOR` names.
pub fn doctor() -> &'static Value {
    static DOCTOR: OnceLock<Value> = OnceLock::new();
    DOCTOR.get_or_init(|| {
        let answer = match env::var_os("INJECTOR_TEST_DOCTOR") {
            Some(file) => fs::read_to_string(file).expect("read the doctor's answer"),
            None => agent::run(&["doctor", "--output", "json"]).stdout,
        };
        serde_json::from_str(&answer).unwrap_or_else(|error| {
            panic!("the doctor's answer is no JSON ({error}): {answer}");
        })
    })
}

/// The rung of `net-delay` that the loopback needs besides.
const LOOPBACK: &str = "loopback";
/// The rung of all rules on packets that says whether they can be split.
const SEGMENT: &str = "segment";

/// Whether the doctor calls a kind supported.
fn kind_supported(kind: &str) -> Option<bool> {
    find_kind(kind)?.get("supported")?.as_bool()
}

/// Whether the doctor calls a rung of a kind supported.
fn rung_supported(kind: &str, rung: &str) -> Option<bool> {
    let rung = rungs(kind)?.iter().find(|entry| entry["rung"] == rung)?;
    Some(rung.get("state")? == "supported")
}

/// Whether the doctor calls any of these rungs of a kind supported.
fn any_rung_supported(kind: &str, wanted: impl Fn(&str) -> bool) -> Option<bool> {
    let mut wanted = rungs(kind)?
        .iter()
        .filter(|entry| entry["rung"].as_str().is_some_and(&wanted));
    Some(wanted.any(|entry| entry["state"] == "supported"))
}

fn rungs(kind: &str) -> Option<&'static Vec<Value>> {
    find_kind(kind)?.get("rungs")?.as_array()
}

fn find_kind(kind: &str) -> Option<&'static Value> {
    let kinds = doctor().get("kinds")?.as_array()?;
    kinds.iter().find(|entry| entry["kind"] == kind)
}

/// Name of the running test.
#[must_use]
pub fn test_name() -> String {
    thread::current().name().unwrap_or("test").to_owned()
}

/// Says loudly that the running test does not run here.
///
/// It goes past the test runner's capturing, which hides what a passing test
/// prints.
pub fn report_skip(feature: Feature, reason: &str) {
    // The test runner's own line is unfinished at this point.
    let line = format!("\nSKIP {}: {feature}: {reason}\n", test_name());
    if let Err(error) = std::io::stdout().write_all(line.as_bytes()) {
        eprintln!("cannot report a skip: {error}");
    }
}

/// Returns from the running test, loudly, when this kernel lacks a feature by
/// its nature; fails it when expectation and machine disagree about that.
#[macro_export]
macro_rules! require {
    ($feature:ident) => {
        $crate::require_for!($crate::kernel::Feature::$feature)
    };
}

/// The same for a feature that is only known when the test runs.
#[macro_export]
macro_rules! require_for {
    ($feature:expr) => {
        let feature = $feature;
        if let Err(reason) = feature.available() {
            $crate::kernel::report_skip(feature, reason);
            return;
        }
    };
}
