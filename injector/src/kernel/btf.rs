//! Where fields lie in the running kernel's structures, from its BTF.

use std::{fs::File, io, os::fd::AsRawFd as _};

use btf_rs::{Backend, Btf, BtfType as _, Type};
use injector_common::fields::Fields;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Where the kernel describes its own types.
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Reads where fields lie.
///
/// # Errors
///
/// When the kernel has no BTF, or a field is not where it has been since 5.15.
pub(super) fn fields() -> io::Result<Fields> {
    // Mapping instead of parsing every type takes a tenth of the time and the
    // memory, but before Linux 6.16 the file itself cannot be mapped; a copy
    // can.
    let mut copy = File::from(memfd_create("btf", MFdFlags::MFD_CLOEXEC)?);
    io::copy(&mut File::open(VMLINUX)?, &mut copy)?;
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    let btf = Btf::from_file_with_backend(path, Backend::Mmap).map_err(io::Error::other)?;
    let at = |structure, name| field(&btf, structure, name);
    Ok(Fields {
        task_flags: at("task_struct", "flags")?,
        task_io_uring: at("task_struct", "io_uring").or_else(|_| at("task_struct", "files"))?,
        task_tgid: at("task_struct", "tgid")?,
        task_pid: at("task_struct", "pid")?,
        task_leader: at("task_struct", "group_leader")?,
        task_started: at("task_struct", "start_boottime")?,
        task_execs: at("task_struct", "self_exec_id")?,
        task_signal: at("task_struct", "signal")?,
        task_real_cred: at("task_struct", "real_cred")?,
        task_cred: at("task_struct", "cred")?,
        cred_euid: at("cred", "euid")?,
        task_mm: at("task_struct", "mm")?,
        mm_exe: at("mm_struct", "exe_file")?,
        task_files: at("task_struct", "files")?,
        signal_live: at("signal_struct", "live")?,
        sock_kern: bit_field(&btf, "sock", "sk_kern_sock")?,
        files_fdt: at("files_struct", "fdt")?,
        fdtable_max: at("fdtable", "max_fds")?,
        fdtable_fd: at("fdtable", "fd")?,
        file_mode: at("file", "f_mode")?,
        file_path: at("file", "f_path")?,
        file_inode: at("file", "f_inode")?,
        file_private: at("file", "private_data")?,
        socket_sock: at("socket", "sk")?,
        sock_family: at("sock_common", "skc_family")?,
        sock_peer_port: at("sock_common", "skc_dport")?,
        sock_peer_v4: at("sock_common", "skc_daddr")?,
        // A kernel without IPv6 has no such socket either.
        sock_peer_v6: at("sock_common", "skc_v6_daddr").unwrap_or(0),
        path_dentry: at("path", "dentry")?,
        bprm_file: at("linux_binprm", "file")?,
        dentry_parent: at("dentry", "d_parent")?,
        dentry_inode: at("dentry", "d_inode")?,
        dentry_name: at("dentry", "d_name")?,
        name_length: at("qstr", "len")?,
        name_text: at("qstr", "name")?,
        inode_number: at("inode", "i_ino")?,
        inode_mode: at("inode", "i_mode")?,
        inode_sb: at("inode", "i_sb")?,
        sb_device: at("super_block", "s_dev")?,
        mapping_start: at("vm_area_struct", "vm_start")?,
        mapping_end: at("vm_area_struct", "vm_end")?,
        mapping_page: at("vm_area_struct", "vm_pgoff")?,
        mapping_file: at("vm_area_struct", "vm_file")?,
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
