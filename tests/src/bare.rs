//! Programs of the tests' own, loaded without any help.
//!
//! The attachment alone: programs that do nothing but return, loaded without
//! any help. They tell what a kernel lets a program hook, whatever the injector
//! says, and what hooking costs before the injector's programs do anything.

use std::{
    ffi::{CString, c_long},
    fs::{self, File},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

use anyhow::Context as _;
use btf_rs::{Btf, Type};
use nix::errno::Errno;

/// `BPF_PROG_LOAD`
const PROG_LOAD: c_long = 5;
/// `BPF_RAW_TRACEPOINT_OPEN`, which also attaches to a function that the program
/// was loaded for.
const RAW_TRACEPOINT_OPEN: c_long = 17;
/// `BPF_LINK_CREATE`
const LINK_CREATE: c_long = 28;
/// `BPF_PROG_TYPE_KPROBE`
const TYPE_KPROBE: u32 = 2;
/// `BPF_PROG_TYPE_LSM`
const TYPE_LSM: u32 = 29;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`
const TYPE_SOCK_ADDR: u32 = 18;
/// `BPF_PROG_TYPE_CGROUP_SKB`
const TYPE_CGROUP_SKB: u32 = 8;
/// `BPF_CGROUP_INET_EGRESS`
const ATTACH_EGRESS: u32 = 1;
/// `BPF_CGROUP_INET4_CONNECT`
const ATTACH_CONNECT4: u32 = 10;
/// `BPF_PROG_TYPE_TRACING`
const TYPE_TRACING: u32 = 26;
/// `BPF_MODIFY_RETURN`
const ATTACH_MODIFY_RETURN: u32 = 26;
/// `BPF_LSM_MAC`
const ATTACH_LSM: u32 = 27;
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
    between: [u32; 11],
    expected_attach_type: u32,
    more: [u32; 9],
    attach_btf_id: u32,
    rest: [u32; 2],
}

/// The same for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
#[derive(Default)]
struct RawTracepoint {
    name: u64,
    prog_fd: u32,
    rest: [u32; 3],
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
pub(crate) struct Bare {
    _descriptors: Vec<OwnedFd>,
}

impl Bare {
    /// Attaches it by a kprobe.
    ///
    /// # Errors
    ///
    /// When the kernel has no kprobes or no such function.
    pub(crate) fn kprobe(function: &str) -> anyhow::Result<Self> {
        let program = load(TYPE_KPROBE, 0, 0)?;
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
            _descriptors: vec![link, event, program],
        })
    }

    /// Whether the kernel takes a program that writes the registers of whoever it is asked for, as
    /// those at the entry of functions do.
    pub(crate) fn writes_registers() -> bool {
        // regs->ax = 0; r0 = 0; exit
        let program = [0x0000_0000_0050_017a, NOTHING[0], NOTHING[1]];
        Path::new("/sys/bus/event_source/devices/uprobe").exists()
            && load_program(&program, TYPE_KPROBE, 0, 0).is_ok()
    }

    /// Attaches it to a security hook, where it lets everything pass.
    ///
    /// # Errors
    ///
    /// When the kernel has no such hook for programs, or takes none there.
    pub(crate) fn security(hook: &str) -> anyhow::Result<Self> {
        let function = security_function(&kernel_types()?, hook)
            .with_context(|| format!("this kernel has no {hook} for programs"))?;
        let program = load(TYPE_LSM, ATTACH_LSM, function)?;
        Self::attach(program).with_context(|| format!("cannot attach to {hook}"))
    }

    /// Attaches it in the place of a function, which it lets run.
    ///
    /// # Errors
    ///
    /// When the kernel has no such function, or takes no program there.
    pub(crate) fn modifying(function: &str) -> anyhow::Result<Self> {
        let id = function_id(&kernel_types()?, function)
            .with_context(|| format!("this kernel has no {function}"))?;
        let program = load(TYPE_TRACING, ATTACH_MODIFY_RETURN, id)?;
        Self::attach(program).with_context(|| format!("cannot attach to {function}"))
    }

    /// Attaches a program where it was loaded for.
    fn attach(program: OwnedFd) -> anyhow::Result<Self> {
        let attribute = RawTracepoint {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            ..RawTracepoint::default()
        };
        // SAFETY: the structure begins as the kernel expects it.
        let link = unsafe { bpf(RAW_TRACEPOINT_OPEN, &attribute) }?;
        Ok(Self {
            _descriptors: vec![link, program],
        })
    }
}

/// A program of somebody else's that lets calls fail.
#[derive(Debug)]
pub struct Denial {
    _descriptors: [OwnedFd; 2],
}

impl Denial {
    /// Lets every call fail that sends a packet below a control group.
    ///
    /// # Errors
    ///
    /// When the kernel takes no such program.
    pub fn sends(cgroup: &Path) -> anyhow::Result<Self> {
        Self::attach(&NOTHING, TYPE_CGROUP_SKB, ATTACH_EGRESS, cgroup)
    }

    /// Lets `connect` to one IPv4 port fail below a control group.
    ///
    /// # Errors
    ///
    /// When the kernel takes no such program.
    pub fn connect4(cgroup: &Path, port: u16) -> anyhow::Result<Self> {
        // r0 = 1; r2 = call->user_port; if r2 == port { r0 = 0 }; exit
        let port = u64::from(port.to_be());
        let program = [
            0x0000_0001_0000_00b7,
            0x0000_0000_0018_1261,
            0x0000_0000_0001_0255 | port << 32,
            0x0000_0000_0000_00b7,
            0x0000_0000_0000_0095,
        ];
        Self::attach(&program, TYPE_SOCK_ADDR, ATTACH_CONNECT4, cgroup)
    }

    /// Attaches a program beside others.
    fn attach(
        program: &[u64],
        prog_type: u32,
        attach_type: u32,
        cgroup: &Path,
    ) -> anyhow::Result<Self> {
        let program = load_program(program, prog_type, attach_type, 0)?;
        let cgroup = File::open(cgroup)?;
        let attribute = LinkCreate {
            prog_fd: program.as_raw_fd().cast_unsigned(),
            target_fd: cgroup.as_raw_fd().cast_unsigned(),
            attach_type,
            ..LinkCreate::default()
        };
        // SAFETY: the structure begins as the kernel expects it.
        let link = unsafe { bpf(LINK_CREATE, &attribute) };
        let link = link.context("cannot attach to a control group")?;
        Ok(Self {
            _descriptors: [link, program],
        })
    }
}

/// The kernel's description of its own types and functions.
///
/// # Errors
///
/// When it has none.
pub(crate) fn kernel_types() -> anyhow::Result<Btf> {
    Btf::from_file("/sys/kernel/btf/vmlinux").context("this kernel has no BTF")
}

/// Number of the function that stands for a security hook, which programs are
/// attached to.
pub(crate) fn security_function(types: &Btf, hook: &str) -> Option<u32> {
    function_id(types, &format!("bpf_lsm_{hook}"))
}

/// Number of a function of the kernel.
fn function_id(types: &Btf, name: &str) -> Option<u32> {
    let ids = types.resolve_ids_by_name(name).ok()?;
    ids.into_iter()
        .find(|&id| matches!(types.resolve_type_by_id(id), Ok(Type::Func(_))))
}

/// A program that does nothing.
fn load(prog_type: u32, expected_attach_type: u32, attach_btf_id: u32) -> anyhow::Result<OwnedFd> {
    load_program(&NOTHING, prog_type, expected_attach_type, attach_btf_id)
}

/// Loads a program of these instructions.
///
/// # Errors
///
/// When the kernel refuses it.
pub(crate) fn load_program(
    instructions: &[u64],
    prog_type: u32,
    expected_attach_type: u32,
    attach_btf_id: u32,
) -> anyhow::Result<OwnedFd> {
    let attribute = ProgLoad {
        prog_type,
        expected_attach_type,
        attach_btf_id,
        insn_cnt: u32::try_from(instructions.len())?,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    // SAFETY: the structure begins as the kernel expects it, and what it points
    // to lives as long as the program.
    unsafe { bpf(PROG_LOAD, &attribute) }.context("cannot load a program of the test's own")
}

/// A call of `bpf` that returns a descriptor.
///
/// # Errors
///
/// When the kernel refuses.
///
/// # Safety
///
/// As [`call`].
pub(crate) unsafe fn bpf<T>(command: c_long, attribute: &T) -> anyhow::Result<OwnedFd> {
    // SAFETY: the caller vouches for it.
    descriptor(unsafe { call(command, attribute) }?)
}

/// A call of `bpf`, and what it returns.
///
/// # Errors
///
/// When the kernel refuses.
///
/// # Safety
///
/// `attribute` is what the kernel reads for `command`.
pub(crate) unsafe fn call<T>(command: c_long, attribute: &T) -> anyhow::Result<c_long> {
    // SAFETY: the caller vouches for the structure; its size is stated.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attribute),
            size_of::<T>(),
        )
    };
    Ok(Errno::result(result)?)
}

/// The descriptor that a call has returned.
fn descriptor(result: c_long) -> anyhow::Result<OwnedFd> {
    let descriptor = Errno::result(result)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(descriptor)?) })
}
