//! The attachment alone: programs that do nothing but return, loaded without
//! any help, to tell what hooking a call costs before the injector's programs do
//! anything.

use std::{
    ffi::{CString, c_long},
    fs,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::Context as _;
use nix::errno::Errno;

/// `BPF_PROG_LOAD`
const PROG_LOAD: c_long = 5;
/// `BPF_LINK_CREATE`
const LINK_CREATE: c_long = 28;
/// `BPF_PROG_TYPE_KPROBE`
const TYPE_KPROBE: u32 = 2;
/// `BPF_PERF_EVENT`, as the injector's own library attaches.
const ATTACH_PERF_EVENT: u32 = 41;

/// `PERF_FLAG_FD_CLOEXEC`
const FD_CLOEXEC: c_long = 8;

/// `r0 = 0; exit`
const NOTHING: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`, padded to what every
/// kernel here knows; the rest is zero.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    rest: [u64; 12],
}

/// The same for `BPF_LINK_CREATE`.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 4],
}

/// The head of `struct perf_event_attr` (`PERF_ATTR_SIZE_VER1`).
#[repr(C)]
#[derive(Default)]
struct PerfEvent {
    r#type: u32,
    size: u32,
    config: u64,
    between: [u64; 5],
    config1: u64,
    config2: u64,
}

/// A program that does nothing, on a function of the kernel.
#[derive(Debug)]
pub(super) struct Bare {
    _descriptors: [OwnedFd; 3],
}

impl Bare {
    /// Attaches it by a kprobe.
    ///
    /// # Errors
    ///
    /// When the kernel has no kprobes or no such function.
    pub(super) fn kprobe(function: &str) -> anyhow::Result<Self> {
        let program = load()?;
        let name = CString::new(function)?;
        let kind = fs::read_to_string("/sys/bus/event_source/devices/kprobe/type")
            .context("this kernel has no kprobes")?;
        let event = PerfEvent {
            r#type: kind.trim().parse()?,
            size: u32::try_from(size_of::<PerfEvent>())?,
            config1: name.as_ptr() as u64,
            ..PerfEvent::default()
        };
        // SAFETY: the structure has the size that it states, and the name that
        // it points to outlives the call.
        let event = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const event,
                -1,
                0,
                -1,
                FD_CLOEXEC,
            )
        };
        let event = descriptor(event).with_context(|| format!("cannot probe {function}"))?;
        let attribute = LinkCreate {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_fd: event.as_raw_fd().cast_unsigned(),
            attach_type: ATTACH_PERF_EVENT,
            ..LinkCreate::default()
        };
        // SAFETY: the structure begins as the kernel expects it.
        let link = unsafe { bpf(LINK_CREATE, &attribute) };
        let link = link.with_context(|| format!("cannot attach to {function}"))?;
        Ok(Self {
            _descriptors: [link, event, program],
        })
    }
}

fn load() -> anyhow::Result<OwnedFd> {
    let attribute = ProgLoad {
        prog_type: TYPE_KPROBE,
        insn_cnt: u32::try_from(NOTHING.len())?,
        insns: NOTHING.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    // SAFETY: the structure begins as the kernel expects it, and what it points
    // to lives as long as the program.
    unsafe { bpf(PROG_LOAD, &attribute) }.context("cannot load a program that does nothing")
}

/// # Safety
///
/// `attribute` is what the kernel reads for `command`.
unsafe fn bpf<T>(command: c_long, attribute: &T) -> anyhow::Result<OwnedFd> {
    // SAFETY: the caller vouches for the structure; its size is stated.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attribute),
            size_of::<T>(),
        )
    };
    descriptor(result)
}

/// The descriptor that a call has returned.
fn descriptor(result: c_long) -> anyhow::Result<OwnedFd> {
    let descriptor = Errno::result(result)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(descriptor)?) })
}
