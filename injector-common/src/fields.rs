//! Where fields lie in the running kernel's structures.

/// Name of the global that holds them.
pub const GLOBAL: &str = "INJ_FIELDS";

macro_rules! fields {
    ($($(#[$meta:meta])* $name:ident;)+) => {
        /// Offsets of the fields that programs read, in bytes if nothing else is said. The agent
        /// sets them from the kernel's BTF before it loads the programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C)]
        pub struct Fields {
            $($(#[$meta])* pub $name: u32,)+
        }

        impl Fields {
            /// Nothing is known. No program reads a field then.
            pub const UNKNOWN: Self = Self { $($name: 0,)+ };
        }
    };
}

fields! {
    /// `task_struct.flags`.
    task_flags;
    /// `task_struct.io_uring`; that of `files` in a kernel without it.
    task_io_uring;
    /// `task_struct.tgid`.
    task_tgid;
    /// `task_struct.pid`.
    task_pid;
    /// `task_struct.group_leader`.
    task_leader;
    /// `task_struct.start_boottime`.
    task_started;
    /// `task_struct.self_exec_id`.
    task_execs;
    /// `task_struct.signal`.
    task_signal;
    /// `task_struct.real_cred`, whose credentials a task has.
    task_real_cred;
    /// `task_struct.cred`, with whose credentials it acts.
    task_cred;
    /// `cred.euid`.
    cred_euid;
    /// `task_struct.mm`.
    task_mm;
    /// `mm_struct.exe_file`.
    mm_exe;
    /// `task_struct.files`.
    task_files;
    /// `signal_struct.live`.
    signal_live;
    /// `sock.sk_kern_sock`, in bits.
    sock_kern;
    /// `files_struct.fdt`.
    files_fdt;
    /// `fdtable.max_fds`.
    fdtable_max;
    /// `fdtable.fd`.
    fdtable_fd;
    /// `file.f_mode`.
    file_mode;
    /// `file.f_path`.
    file_path;
    /// `file.f_inode`.
    file_inode;
    /// `file.private_data`, which is the `struct socket` of one.
    file_private;
    /// `socket.sk`.
    socket_sock;
    /// `sock_common.skc_family`.
    sock_family;
    /// `sock_common.skc_dport`.
    sock_peer_port;
    /// `sock_common.skc_daddr`.
    sock_peer_v4;
    /// `sock_common.skc_v6_daddr`.
    sock_peer_v6;
    /// `path.dentry`.
    path_dentry;
    /// `linux_binprm.file`.
    bprm_file;
    /// `dentry.d_parent`.
    dentry_parent;
    /// `dentry.d_inode`.
    dentry_inode;
    /// `dentry.d_name`.
    dentry_name;
    /// `qstr.len`.
    name_length;
    /// `qstr.name`.
    name_text;
    /// `inode.i_ino`.
    inode_number;
    /// `inode.i_mode`.
    inode_mode;
    /// `inode.i_sb`.
    inode_sb;
    /// `super_block.s_dev`.
    sb_device;
    /// `vm_area_struct.vm_start`.
    mapping_start;
    /// `vm_area_struct.vm_end`.
    mapping_end;
    /// `vm_area_struct.vm_pgoff`, in pages.
    mapping_page;
    /// `vm_area_struct.vm_file`.
    mapping_file;
}
