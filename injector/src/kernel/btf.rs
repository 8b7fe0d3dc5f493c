//! Where fields lie in the running kernel's structures, from its BTF.

use std::{fs::File, io, os::fd::AsRawFd as _};

use btf_rs::{Backend, Btf, BtfType as _, Type};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Where the kernel describes its own types.
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Offsets of the fields that programs read, in bytes if nothing else is said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offsets {
    /// `task_struct.tgid`.
    pub(super) task_tgid: u32,
    /// `task_struct.signal`.
    pub(super) task_signal: u32,
    /// `task_struct.real_cred`.
    pub(super) task_real_cred: u32,
    /// `task_struct.cred`.
    pub(super) task_cred: u32,
    /// `signal_struct.live`.
    pub(super) signal_live: u32,
    /// `file.f_mode`.
    pub(super) file_mode: u32,
    /// `sock.sk_kern_sock`, in bits.
    pub(super) sock_kern: u32,
}

/// Reads the offsets.
///
/// # Errors
///
/// When the kernel has no BTF, or a field is not where it has been since 5.15.
pub(super) fn offsets() -> io::Result<Offsets> {
    // Mapping instead of parsing every type takes a tenth of the time and the
    // memory, but before Linux 6.16 the file itself cannot be mapped; a copy
    // can.
    let mut copy = File::from(memfd_create("btf", MFdFlags::MFD_CLOEXEC)?);
    io::copy(&mut File::open(VMLINUX)?, &mut copy)?;
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    let btf = Btf::from_file_with_backend(path, Backend::Mmap).map_err(io::Error::other)?;
    Ok(Offsets {
        task_tgid: field(&btf, "task_struct", "tgid")?,
        task_signal: field(&btf, "task_struct", "signal")?,
        task_real_cred: field(&btf, "task_struct", "real_cred")?,
        task_cred: field(&btf, "task_struct", "cred")?,
        signal_live: field(&btf, "signal_struct", "live")?,
        file_mode: field(&btf, "file", "f_mode")?,
        sock_kern: bit_field(&btf, "sock", "sk_kern_sock")?,
    })
}

fn field(btf: &Btf, structure: &str, name: &str) -> io::Result<u32> {
    Ok(bit_field(btf, structure, name)? / 8)
}

/// Offset in bits of a field.
fn bit_field(btf: &Btf, structure: &str, name: &str) -> io::Result<u32> {
    let types = btf
        .resolve_types_by_name(structure)
        .map_err(io::Error::other)?;
    types
        .iter()
        .find_map(|kind| {
            if let Type::Struct(kind) = kind {
                member(btf, kind, name)
            } else {
                None
            }
        })
        .ok_or_else(|| io::Error::other(format!("no field {name} in struct {structure}")))
}

/// Offset in bits of a member, also of one in an unnamed member.
fn member(btf: &Btf, kind: &btf_rs::Struct, name: &str) -> Option<u32> {
    kind.members.iter().find_map(|candidate| {
        let candidate_name = btf.resolve_name(candidate).unwrap_or_default();
        if candidate_name == name {
            return Some(candidate.bit_offset());
        }
        if !candidate_name.is_empty() {
            return None;
        }
        let inner = btf.resolve_type_by_id(candidate.get_type_id()?).ok()?;
        if let Type::Struct(inner) | Type::Union(inner) = inner {
            member(btf, &inner, name).map(|bits| candidate.bit_offset() + bits)
        } else {
            None
        }
    })
}
