//! Programs that aya 0.14 cannot load: those that take the place of a kernel function
//! (`fmod_ret`), where what they return other than 0 is what the function returns, and it does
//! not run; and those that call kernel functions (kfuncs), as programs do that sleep.
//!
//! aya has no type for the former and no name for their section. So they are compiled for
//! sections that it knows, as `lsm` or `fentry`, which read their arguments the same way. Here
//! the object is parsed once more, by aya's own parser, linked to the maps that aya has made, and
//! loaded as what they are. Nothing is pinned: programs and links go with their descriptors.

use std::{
    collections::{BTreeMap, HashSet},
    io, mem,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr,
};

use aya::{
    Btf, BtfError, Ebpf,
    maps::{Map, MapData},
    programs::ProgramError,
    sys::SyscallError,
};
use aya_obj::{
    Object, ProgramSection, VerifierLog,
    btf::BtfKind,
    generated::{
        BPF_ALU64, BPF_CALL, BPF_EXIT, BPF_F_SLEEPABLE, BPF_JMP, BPF_K, BPF_MOV,
        BPF_PSEUDO_KFUNC_CALL,
        bpf_attach_type::{BPF_LSM_MAC, BPF_MODIFY_RETURN, BPF_TRACE_FENTRY, BPF_TRACE_FEXIT},
        bpf_attr, bpf_cmd, bpf_insn,
        bpf_prog_type::{BPF_PROG_TYPE_LSM, BPF_PROG_TYPE_TRACING},
    },
};
use injector_common::names;
use nix::libc;

/// How a program is attached to a kernel function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// It takes the function's place.
    ModifyReturn,
    /// The same, and it may sleep.
    ModifyReturnAsleep,
    /// It runs before the function.
    Entry,
    /// It runs behind the function.
    Return,
    /// The same, and it may sleep.
    ReturnAsleep,
    /// It is asked at a security hook, and may sleep.
    SecurityAsleep,
}

/// Descriptors of the maps that programs may use, by name.
pub(super) type MapFds = BTreeMap<String, OwnedFd>;

/// Descriptors of all maps that are there, which stay open when the maps are taken.
///
/// # Errors
///
/// When the process has too many open files.
pub(super) fn map_fds(ebpf: &Ebpf) -> io::Result<MapFds> {
    let fds = ebpf.maps().map(|(name, map)| {
        let fd = data(map).fd().as_fd().try_clone_to_owned()?;
        Ok((name.to_owned(), fd))
    });
    fds.collect()
}

const fn data(map: &Map) -> &MapData {
    match map {
        Map::Array(data)
        | Map::ArrayOfMaps(data)
        | Map::BloomFilter(data)
        | Map::CgroupArray(data)
        | Map::CgroupStorage(data)
        | Map::CgrpStorage(data)
        | Map::CpuMap(data)
        | Map::DevMap(data)
        | Map::DevMapHash(data)
        | Map::HashMap(data)
        | Map::HashOfMaps(data)
        | Map::InodeStorage(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuCgroupStorage(data)
        | Map::PerCpuHashMap(data)
        | Map::PerCpuLruHashMap(data)
        | Map::PerfEventArray(data)
        | Map::ProgramArray(data)
        | Map::Queue(data)
        | Map::ReusePortSockArray(data)
        | Map::RingBuf(data)
        | Map::SockHash(data)
        | Map::SockMap(data)
        | Map::SkStorage(data)
        | Map::Stack(data)
        | Map::StackTraceMap(data)
        | Map::Unsupported(data)
        | Map::XskMap(data) => data,
    }
}

/// The programs of an object, linked, to be loaded in the place of kernel functions.
pub(super) struct Linked {
    object: Object,
    /// The object's own types, which the kernel wants with programs that pass it callbacks.
    types: OwnedFd,
}

impl Linked {
    /// Parses an object and links its programs of sections `lsm` and `fentry` to the maps.
    ///
    /// # Errors
    ///
    /// When it is no object, uses a map that is not there, or has types that the kernel refuses.
    pub(super) fn new(elf: &[u8], maps: &MapFds) -> Result<Self, ProgramError> {
        let mut object = Object::parse(elf).map_err(other)?;
        object.programs.retain(|_, program| {
            matches!(
                program.section,
                ProgramSection::Lsm { .. } | ProgramSection::FEntry { .. }
            )
        });
        let features = aya::features();
        let types = match features.btf() {
            Some(features) => object.fixup_and_sanitize_btf(features)?,
            None => None,
        };
        let types = types.ok_or_else(|| other("no types in the object"))?;
        let types = load_types(&types.to_bytes())?;
        let text: HashSet<usize> = object
            .functions
            .keys()
            .map(|&(section, _)| section)
            .collect();
        // What they hold is in the kernel already; the relocation only asks where they are.
        let definitions = mem::take(&mut object.maps);
        let known: Vec<(&str, RawFd, &aya_obj::Map)> = definitions
            .iter()
            .filter_map(|(name, map)| Some((&**name, maps.get(name)?.as_raw_fd(), map)))
            .collect();
        object
            .relocate_maps(known.into_iter(), &text)
            .map_err(other)?;
        object.relocate_calls(&text).map_err(other)?;
        object.sanitize_functions(features);
        Ok(Self { object, types })
    }

    /// Loads a program for the first of these functions that the kernel has types of.
    ///
    /// # Errors
    ///
    /// [`ProgramError::LoadError`], with the verifier's log, when the kernel refuses it;
    /// [`ProgramError::NotLoaded`] when there is no such program; [`ProgramError::Btf`] when the
    /// kernel has none of the functions, or not one that the program calls.
    pub(super) fn load(
        &self,
        program: &str,
        functions: &[String],
        by: By,
        kernel: &Btf,
    ) -> Result<OwnedFd, ProgramError> {
        let function = function_id(kernel, functions)?;
        let linked = self.object.programs.get(program);
        let (linked, code) = linked
            .and_then(|linked| Some((linked, self.object.functions.get(&linked.function_key())?)))
            .ok_or(ProgramError::NotLoaded)?;
        // Here and not below, so that they outlive the call.
        let mut instructions = code.instructions.clone();
        call_kernel_functions(&mut instructions, kernel)?;
        let functions = code.func_info.func_info_bytes();
        let lines = code.line_info.line_info_bytes();
        let mut attr = attributes(&instructions, program, function, by);
        // SAFETY: the fields of BPF_PROG_LOAD, all of them integers.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.license = linked.license.as_ptr() as u64;
        load.prog_btf_fd = fd(self.types.as_fd());
        load.func_info = functions.as_ptr() as u64;
        load.func_info_cnt = count(code.func_info.len());
        load.func_info_rec_size = count(code.func_info_rec_size);
        load.line_info = lines.as_ptr() as u64;
        load.line_info_cnt = count(code.line_info.len());
        load.line_info_rec_size = count(code.line_info_rec_size);
        load_program(attr)
    }
}

/// Makes calls of kernel functions of those that are marked as such
/// ([`names::KERNEL_FUNCTIONS`]), by the functions' ids in the kernel's types.
fn call_kernel_functions(code: &mut [bpf_insn], kernel: &Btf) -> Result<(), BtfError> {
    const CALL: u32 = BPF_JMP | BPF_CALL;
    // The second half of a load of 64 bits has no code, and so is no call.
    let calls = (code.iter_mut())
        .filter(|instruction| u32::from(instruction.code) == CALL && instruction.src_reg() == 0);
    for call in calls {
        let place = usize::try_from(call.imm.wrapping_sub(names::KERNEL_CALL)).ok();
        let Some(function) = place.and_then(|place| names::KERNEL_FUNCTIONS.get(place)) else {
            continue;
        };
        call.imm = kernel
            .id_by_type_name_kind(function, BtfKind::Func)?
            .cast_signed();
        call.set_src_reg(u8::try_from(BPF_PSEUDO_KFUNC_CALL).unwrap_or_default());
        // The kernel's own types, not those of a module.
        call.off = 0;
    }
    Ok(())
}

/// Whether programs can be attached to a function in this way: loads and attaches one that does
/// nothing, and lets the function run.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn try_on(function: u32, by: By) -> Result<(), ProgramError> {
    // r0 = 0; exit
    let code = [BPF_ALU64 | BPF_MOV | BPF_K, BPF_JMP | BPF_EXIT].map(|code| {
        // SAFETY: an instruction of zeros is one.
        let mut instruction: bpf_insn = unsafe { mem::zeroed() };
        instruction.code = u8::try_from(code).unwrap_or_default();
        instruction
    });
    let mut attr = attributes(&code, "inj_fmod_trial", function, by);
    // SAFETY: the fields of BPF_PROG_LOAD, all of them integers.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.license = c"Dual MIT/GPL".as_ptr() as u64;
    attach(load_program(attr)?.as_fd()).map(drop)
}

/// Id of the first of these functions that the kernel has types of.
///
/// # Errors
///
/// When it has none of them.
pub(super) fn function_id(kernel: &Btf, functions: &[String]) -> Result<u32, BtfError> {
    let mut refused = None;
    for function in functions {
        match kernel.id_by_type_name_kind(function, BtfKind::Func) {
            Ok(id) => return Ok(id),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(BtfError::UnknownBtfTypeName {
        type_name: String::new(),
    }))
}

/// Attaches a program where it was loaded for; closing the descriptor detaches it.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn attach(program: BorrowedFd<'_>) -> Result<OwnedFd, ProgramError> {
    let mut attr = nothing();
    // Without a name, the kernel attaches it by what was said at its load. BPF_LINK_CREATE would
    // do the same from Linux 5.18 on.
    attr.raw_tracepoint.prog_fd = fd(program);
    let link = bpf(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &mut attr);
    link.map_err(|io_error| {
        let call = "bpf_raw_tracepoint_open";
        SyscallError { call, io_error }.into()
    })
}

/// What is to be said of any program for a kernel function.
fn attributes(code: &[bpf_insn], name: &str, function: u32, by: By) -> bpf_attr {
    let mut attr = nothing();
    // SAFETY: the fields of BPF_PROG_LOAD, all of them integers.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    let (kind, attach, flags) = match by {
        By::ModifyReturn => (BPF_PROG_TYPE_TRACING, BPF_MODIFY_RETURN, 0),
        By::ModifyReturnAsleep => (BPF_PROG_TYPE_TRACING, BPF_MODIFY_RETURN, BPF_F_SLEEPABLE),
        By::Entry => (BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY, 0),
        By::Return => (BPF_PROG_TYPE_TRACING, BPF_TRACE_FEXIT, 0),
        By::ReturnAsleep => (BPF_PROG_TYPE_TRACING, BPF_TRACE_FEXIT, BPF_F_SLEEPABLE),
        By::SecurityAsleep => (BPF_PROG_TYPE_LSM, BPF_LSM_MAC, BPF_F_SLEEPABLE),
    };
    load.prog_type = kind as u32;
    load.expected_attach_type = attach as u32;
    load.prog_flags = flags;
    load.attach_btf_id = function;
    load.insns = code.as_ptr() as u64;
    load.insn_cnt = count(code.len());
    // The last byte stays 0.
    let room = load.prog_name.len() - 1;
    for (to, &from) in load.prog_name[..room].iter_mut().zip(name.as_bytes()) {
        *to = from.cast_signed();
    }
    attr
}

/// Loads a program: first without a log, as most are accepted, and then with one, as long as the
/// kernel finds it too short.
fn load_program(mut attr: bpf_attr) -> Result<OwnedFd, ProgramError> {
    let mut log = Vec::new();
    let mut result = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr);
    for size in [1 << 14, 1 << 18, 1 << 22] {
        let Err(error) = &result else { break };
        if !log.is_empty() && error.raw_os_error() != Some(libc::ENOSPC) {
            break;
        }
        log = vec![0; size];
        // SAFETY: the fields of BPF_PROG_LOAD, all of them integers.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.log_level = 1;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = count(log.len());
        result = bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr);
    }
    result.map_err(|io_error| {
        log.truncate(log.iter().position(|&byte| byte == 0).unwrap_or(log.len()));
        ProgramError::LoadError {
            io_error,
            verifier_log: VerifierLog::new(String::from_utf8_lossy(&log).into_owned()),
        }
    })
}

fn load_types(types: &[u8]) -> Result<OwnedFd, ProgramError> {
    let mut attr = nothing();
    // SAFETY: the fields of BPF_BTF_LOAD, all of them integers.
    let load = unsafe { &mut attr.__bindgen_anon_7 };
    load.btf = types.as_ptr() as u64;
    load.btf_size = count(types.len());
    let fd = bpf(bpf_cmd::BPF_BTF_LOAD, &mut attr);
    fd.map_err(|io_error| {
        let call = "bpf_btf_load";
        SyscallError { call, io_error }.into()
    })
}

/// Attributes without any. The kernel takes more of them than it knows, if these are 0.
const fn nothing() -> bpf_attr {
    // SAFETY: a union of structures of integers.
    unsafe { mem::zeroed() }
}

/// A command of bpf(2) that gives a descriptor. Whatever the attributes point to must outlive
/// the call.
fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let size = size_of::<bpf_attr>();
    // SAFETY: the attributes are as large as said.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command as u32, ptr::from_mut(attr), size) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ProgramError {
    io::Error::other(error).into()
}

/// A descriptor as the attributes hold it.
fn fd(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
