//! What happens to a target's resources, by values of its cgroup's control files, to its
//! processes, and to the clocks that they read.

use std::{fmt, path::PathBuf, time::Duration};

use injector_common::FaultKind;
use nix::sys::signal::Signal;

/// What happens to what a target is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceFault {
    /// Nothing in it runs.
    Freeze,
    /// It gets so much processor time.
    CpuQuota(CpuQuota),
    /// It gets so much memory.
    MemoryLimit(MemoryLimit),
    /// It has so many processes and threads: at most this many.
    PidsLimit(u64),
    /// It reads and writes a disk so fast.
    IoLimit(IoLimit),
    /// Its processes get signals.
    Signal(Signals),
    /// Busy processes run beside its own.
    CpuStress {
        /// How many, at least 1.
        workers: u64,
        /// For how many millionths of the time each, 1 to 1 000 000.
        load_ppm: u64,
    },
    /// A process beside its own holds memory.
    MemoryPressure {
        /// In bytes, whole mebibytes.
        bytes: u64,
    },
    /// Clocks that it reads are ahead or behind.
    Clock(ClockShift),
}

/// Clocks that are ahead or behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockShift {
    /// Which.
    pub clocks: Clocks,
    /// By how much they are ahead, in ns; behind, if negative. Never 0, and at most
    /// 4 611 686 018 s either way.
    pub by_ns: i64,
}

/// Clocks that a namespace can shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocks {
    /// Both of them.
    Both,
    /// `CLOCK_MONOTONIC`, with `CLOCK_MONOTONIC_RAW` and `CLOCK_MONOTONIC_COARSE`.
    Monotonic,
    /// `CLOCK_BOOTTIME`, with `CLOCK_BOOTTIME_ALARM`.
    Boottime,
}

impl Clocks {
    /// Whether `CLOCK_MONOTONIC` is one of them, and whether `CLOCK_BOOTTIME` is.
    #[must_use]
    pub const fn which(self) -> [bool; 2] {
        match self {
            Self::Both => [true, true],
            Self::Monotonic => [true, false],
            Self::Boottime => [false, true],
        }
    }

    /// Their names, as in clock_gettime(2).
    #[must_use]
    pub const fn names(self) -> &'static str {
        match self {
            Self::Both => "CLOCK_MONOTONIC and CLOCK_BOOTTIME",
            Self::Monotonic => "CLOCK_MONOTONIC",
            Self::Boottime => "CLOCK_BOOTTIME",
        }
    }
}

/// Signals to processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signals {
    /// Which one; none that stops a process.
    pub signal: Signal,
    /// How often; `None` for once, when the rule starts.
    pub every: Option<Duration>,
}

/// How much processor time: `cpu.max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuQuota {
    /// In each period, in µs; at least 1000, which is what the kernel takes.
    pub quota_us: u64,
    /// The period in µs, 1000 to 1 000 000.
    pub period_us: u64,
}

/// How much memory: `memory.max` or `memory.high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// In bytes. The kernel counts whole pages, and takes what is over for nothing.
    pub bytes: u64,
    /// Whether more slows the target down instead of ending processes.
    pub soft: bool,
}

/// How fast: `io.max`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoLimit {
    /// Of which disk.
    pub device: Device,
    /// Bytes that are read per second.
    pub read_bps: Option<u64>,
    /// Bytes that are written per second.
    pub write_bps: Option<u64>,
    /// Reads per second.
    pub read_iops: Option<u64>,
    /// Writes per second.
    pub write_iops: Option<u64>,
}

impl IoLimit {
    /// What is limited, as `io.max` has it, without the device.
    #[must_use]
    pub fn keys(&self) -> String {
        let keys = [
            ("rbps", self.read_bps),
            ("wbps", self.write_bps),
            ("riops", self.read_iops),
            ("wiops", self.write_iops),
        ];
        let given = keys
            .into_iter()
            .filter_map(|(key, limit)| Some((key, limit?)));
        let words: Vec<String> = given.map(|(key, limit)| format!("{key}={limit}")).collect();
        words.join(" ")
    }
}

/// A block device, as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// By its numbers.
    Numbers {
        /// Of its driver.
        major: u64,
        /// Among those of the driver.
        minor: u64,
    },
    /// By its node.
    Node(PathBuf),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numbers { major, minor } => write!(f, "{major}:{minor}"),
            Self::Node(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A control file, and what is written there. For `io.max` without the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Name of the file in the cgroup's directory.
    pub file: &'static str,
    /// The controller that the file belongs to; `None` for one that every cgroup but the
    /// root has.
    pub controller: Option<&'static str>,
    /// What is written.
    pub value: String,
}

impl ResourceFault {
    /// The parameterless name of the fault.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Freeze => FaultKind::CgroupFreeze,
            Self::CpuQuota(_) => FaultKind::CpuQuota,
            Self::MemoryLimit(_) => FaultKind::MemoryLimit,
            Self::PidsLimit(_) => FaultKind::PidsLimit,
            Self::IoLimit(_) => FaultKind::IoLimit,
            Self::Signal(Signals {
                signal: Signal::SIGKILL,
                ..
            }) => FaultKind::ProcKill,
            Self::Signal(_) => FaultKind::ProcSignal,
            Self::CpuStress { .. } => FaultKind::CpuStress,
            Self::MemoryPressure { .. } => FaultKind::MemoryPressure,
            Self::Clock(_) => FaultKind::ClockOffset,
        }
    }

    /// The control file that it writes, if it is one's value.
    #[must_use]
    pub fn setting(&self) -> Option<Setting> {
        let setting = match self {
            Self::Freeze => Setting {
                file: "cgroup.freeze",
                controller: None,
                value: "1".to_owned(),
            },
            Self::CpuQuota(CpuQuota {
                quota_us,
                period_us,
            }) => Setting {
                file: "cpu.max",
                controller: Some("cpu"),
                value: format!("{quota_us} {period_us}"),
            },
            Self::MemoryLimit(MemoryLimit { bytes, soft }) => Setting {
                file: if *soft { "memory.high" } else { "memory.max" },
                controller: Some("memory"),
                value: bytes.to_string(),
            },
            Self::PidsLimit(max) => Setting {
                file: "pids.max",
                controller: Some("pids"),
                value: max.to_string(),
            },
            Self::IoLimit(limit) => Setting {
                file: "io.max",
                controller: Some("io"),
                value: limit.keys(),
            },
            Self::Signal(_)
            | Self::CpuStress { .. }
            | Self::MemoryPressure { .. }
            | Self::Clock(_) => return None,
        };
        Some(setting)
    }

    /// Whether it happens to processes, one after the other, and not to a cgroup.
    #[must_use]
    pub const fn is_for_processes(&self) -> bool {
        matches!(self, Self::Signal(_))
    }

    /// The disk that it limits, if it does.
    #[must_use]
    pub const fn device(&self) -> Option<&Device> {
        match self {
            Self::IoLimit(limit) => Some(&limit.device),
            Self::Freeze
            | Self::CpuQuota(_)
            | Self::MemoryLimit(_)
            | Self::PidsLimit(_)
            | Self::Signal(_)
            | Self::CpuStress { .. }
            | Self::MemoryPressure { .. }
            | Self::Clock(_) => None,
        }
    }

    /// The clocks that it shifts, if it does.
    #[must_use]
    pub const fn clock(&self) -> Option<ClockShift> {
        match self {
            Self::Clock(shift) => Some(*shift),
            Self::Freeze
            | Self::CpuQuota(_)
            | Self::MemoryLimit(_)
            | Self::PidsLimit(_)
            | Self::IoLimit(_)
            | Self::Signal(_)
            | Self::CpuStress { .. }
            | Self::MemoryPressure { .. } => None,
        }
    }
}
