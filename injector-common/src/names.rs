//! The names of every map and program, stated once.
//!
//! The kernel keeps 15 characters of a name, and `injector stop --all` and the
//! user's `bpftool` find ours by them: all begin with `inj_`.

/// Prefix of every map, program and device name of ours.
pub const PREFIX: &str = "inj_";

/// What `ip link` shows beside a device of ours, and what tells it from a
/// device of the user's whatever either is called.
pub const DEVICE_ALIAS: &str = "made by injector; `injector stop --all` removes it";

/// Upper bound of rules in force at once: one bit each in a rule mask.
pub const MAX_RULES: u32 = 64;

/// One past the highest system call number that a rule can name.
pub const MAX_CALLS: u32 = 512;

/// One past the highest number that programs know a call by: those of 32-bit callers come behind
/// the others ([`calls32`](crate::calls32)).
pub const CALL_NUMBERS: u32 = 2 * MAX_CALLS;

/// How many cgroups and processes the rules of one agent can target.
pub const MAX_SCOPES: u32 = 16_384;

/// How many bits tell in advance that an id is in no rule's scope: an id's low
/// bits name its bit.
pub const SEEN_BITS: u32 = 1 << 16;

/// How many cgroups are known at once to be in no rule's scope.
pub const CLEAR_SLOTS: u32 = 1_024;

/// How many interfaces the rules of one agent can act on.
pub const MAX_SITES: u32 = 1_024;

/// How many interfaces are found without the hash table: one for each value of the low
/// bits of an index.
pub const NEAR_SITES: u32 = 256;

/// How many flows have their packets' order kept under delay at once.
pub const MAX_FLOWS: u32 = 65_536;

/// How many flows, processes and threads are counted at once by rules that count per each.
pub const MAX_TURNS: u32 = 262_144;

/// Bytes of the ring in which hits wait for the agent to write them into its ledger: a
/// power of 2. It holds some 23,000.
pub const LEDGER_BYTES: u32 = 1 << 21;

/// From how many distributions delays can be drawn at once.
pub const MAX_TABLES: u32 = 16;

/// How many networks the rules of one agent can name as peers, where one rule
/// names more than one.
pub const MAX_PEERS: u32 = 131_072;

/// How many patterns of names the rules of one agent can have.
pub const MAX_QUERIES: u32 = 4_096;

/// How many UDP conversations are remembered at once, if some rule asks for it.
pub const MAX_CONVERSATIONS: u32 = 65_536;

/// How many TCP connections are remembered at once by rules that wait for them.
pub const MAX_STREAMS: u32 = 16_384;

/// How many askers of an echo are remembered at once.
pub const MAX_ECHOES: u32 = 4_096;

/// How many files and directories the rules of one agent can name.
pub const MAX_FILES: u32 = 16_384;

/// Of how many files the rules of one agent can name functions.
pub const MAX_CODE_FILES: u32 = 1_024;

/// How many executables can be spared.
pub const MAX_SPARED: u32 = 1_024;

/// At how many different depths of the hierarchy targeted cgroups can lie.
pub const MAX_LEVELS: usize = 8;

macro_rules! hooks {
    ($($number:literal => $variant:ident, $program:literal, $attach:literal;)+) => {
        /// A security hook that stands for system calls where the calls
        /// themselves cannot be overridden.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum SecurityHook {
            $(#[doc = concat!("`", $attach, "`")] $variant = $number,)+
        }

        impl SecurityHook {
            /// Every hook.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Those of the calls that most programs make.
            pub const COMMON: &'static [Self] = Self::ALL.split_at(COMMON_HOOKS).0;

            /// The program that serves the hook.
            #[must_use]
            pub const fn program(self) -> &'static str {
                match self { $(Self::$variant => $program,)+ }
            }

            /// Whether it is told which file the call is about.
            #[must_use]
            pub const fn has_file(self) -> bool {
                use SecurityHook as H;
                !matches!(
                    self,
                    H::TaskAlloc | H::SocketConnect | H::SocketBind | H::SocketSendmsg
                        | H::SocketRecvmsg | H::SbUmount | H::FileAlloc | H::FileMprotect
                        | H::TaskKill | H::TaskPrctl | H::TaskSetrlimit | H::TaskSetscheduler
                        | H::TaskSetnice | H::TaskFixSetuid | H::TaskFixSetgid
                        | H::TaskFixSetgroups | H::Capset | H::SocketCreate | H::SocketSocketpair
                        | H::SocketListen | H::SocketAccept | H::SocketShutdown
                        | H::SocketGetsockopt | H::SocketSetsockopt | H::SocketGetsockname
                        | H::SocketGetpeername | H::ShmAlloc | H::ShmShmat | H::SemSemop
                        | H::MsgMsgsnd
                )
            }

            /// Whether that file is open, or being opened.
            #[must_use]
            pub const fn has_open_file(self) -> bool {
                use SecurityHook as H;
                matches!(
                    self,
                    H::FileOpen | H::FilePermission | H::MmapFile | H::FileTruncate | H::FileFcntl
                        | H::FileLock | H::FileIoctl | H::BprmCreds
                )
            }

            /// Whether the file is yet to be made.
            #[must_use]
            pub const fn makes_file(self) -> bool {
                use SecurityHook as H;
                matches!(self, H::PathMkdir | H::PathMknod | H::PathSymlink)
            }

            /// The program that serves the hook in the place of the kernel's function.
            #[must_use]
            pub const fn modifying_program(self) -> &'static str {
                // The other functions have the arguments of their hook.
                if matches!(self, Self::MmapFile) {
                    return PROG_FMOD_MMAP;
                }
                self.program()
            }

            /// The program that lets calls wait asleep at the hook; `None` where none may sleep, or
            /// where the kernel holds a lock that others want too.
            #[must_use]
            pub const fn sleeping_program(self) -> Option<&'static str> {
                use SecurityHook as H;
                Some(match self {
                    H::FileOpen => "inj_sl_open",
                    H::InodeGetattr => "inj_sl_getattr",
                    H::InodeReadlink => "inj_sl_readlink",
                    H::InodeGetxattr => "inj_sl_getxattr",
                    H::MmapFile => "inj_sl_mmap",
                    H::FileIoctl => "inj_sl_ioctl",
                    H::FileLock => "inj_sl_flock",
                    H::TaskAlloc => "inj_sl_task",
                    H::BprmCreds => "inj_sl_bprm",
                    H::TaskPrctl => "inj_sl_prctl",
                    H::SbMount => "inj_sl_mount",
                    H::SbUmount => "inj_sl_umount",
                    H::SocketCreate => "inj_sl_socket",
                    H::SocketSocketpair => "inj_sl_sockpair",
                    H::SocketBind => "inj_sl_bind",
                    H::SocketConnect => "inj_sl_connect",
                    H::SocketListen => "inj_sl_listen",
                    H::SocketAccept => "inj_sl_accept",
                    H::SocketSendmsg => "inj_sl_sendmsg",
                    H::SocketRecvmsg => "inj_sl_recvmsg",
                    H::SocketShutdown => "inj_sl_shutdown",
                    H::SocketGetsockopt => "inj_sl_getopt",
                    H::SocketGetsockname => "inj_sl_sockname",
                    H::SocketGetpeername => "inj_sl_peername",
                    _ => return None,
                })
            }

            /// The kernel's name of the hook.
            #[must_use]
            pub const fn attach(self) -> &'static str {
                match self { $(Self::$variant => $attach,)+ }
            }

            /// The kernel's function that asks those at the hook.
            #[must_use]
            pub const fn function(self) -> &'static str {
                if matches!(self, Self::FileAlloc) {
                    return "security_file_alloc";
                }
                if matches!(self, Self::ShmAlloc) {
                    return "security_shm_alloc";
                }
                match self { $(Self::$variant => concat!("security_", $attach),)+ }
            }
        }
    };
}

/// How many of the first hooks are those of the calls that most programs make.
const COMMON_HOOKS: usize = 13;

// 0 is the system call's own entry.
hooks! {
    1 => FileOpen, "inj_file_open", "file_open";
    2 => FilePermission, "inj_file_perm", "file_permission";
    3 => InodeGetattr, "inj_getattr", "inode_getattr";
    4 => MmapFile, "inj_mmap_file", "mmap_file";
    5 => TaskAlloc, "inj_task_alloc", "task_alloc";
    6 => BprmCreds, "inj_bprm", "bprm_creds_for_exec";
    7 => PathUnlink, "inj_unlink", "path_unlink";
    8 => PathRename, "inj_rename", "path_rename";
    9 => PathMkdir, "inj_mkdir", "path_mkdir";
    10 => SocketConnect, "inj_connect", "socket_connect";
    11 => SocketBind, "inj_bind", "socket_bind";
    12 => SocketSendmsg, "inj_sendmsg", "socket_sendmsg";
    13 => SocketRecvmsg, "inj_recvmsg", "socket_recvmsg";
    14 => PathRmdir, "inj_rmdir", "path_rmdir";
    15 => PathLink, "inj_link", "path_link";
    16 => PathSymlink, "inj_symlink", "path_symlink";
    17 => PathMknod, "inj_mknod", "path_mknod";
    18 => PathChmod, "inj_chmod", "path_chmod";
    19 => PathChown, "inj_chown", "path_chown";
    20 => PathTruncate, "inj_truncate", "path_truncate";
    21 => FileTruncate, "inj_ftruncate", "file_truncate";
    22 => PathChroot, "inj_chroot", "path_chroot";
    23 => PathNotify, "inj_notify", "path_notify";
    24 => InodeReadlink, "inj_readlink", "inode_readlink";
    25 => InodeSetxattr, "inj_setxattr", "inode_setxattr";
    26 => InodeGetxattr, "inj_getxattr", "inode_getxattr";
    27 => InodeListxattr, "inj_listxattr", "inode_listxattr";
    28 => InodeRemovexattr, "inj_rmxattr", "inode_removexattr";
    29 => SbMount, "inj_mount", "sb_mount";
    30 => SbUmount, "inj_umount", "sb_umount";
    31 => FileAlloc, "inj_file_alloc", "file_alloc_security";
    32 => FileFcntl, "inj_fcntl", "file_fcntl";
    33 => FileLock, "inj_flock", "file_lock";
    34 => FileIoctl, "inj_ioctl", "file_ioctl";
    35 => FileMprotect, "inj_mprotect", "file_mprotect";
    36 => TaskKill, "inj_kill", "task_kill";
    37 => TaskPrctl, "inj_prctl", "task_prctl";
    38 => TaskSetrlimit, "inj_setrlimit", "task_setrlimit";
    39 => TaskSetscheduler, "inj_sched", "task_setscheduler";
    40 => TaskSetnice, "inj_setnice", "task_setnice";
    41 => TaskFixSetuid, "inj_setuid", "task_fix_setuid";
    42 => TaskFixSetgid, "inj_setgid", "task_fix_setgid";
    43 => TaskFixSetgroups, "inj_setgroups", "task_fix_setgroups";
    44 => Capset, "inj_capset", "capset";
    45 => SocketCreate, "inj_socket", "socket_create";
    46 => SocketSocketpair, "inj_socketpair", "socket_socketpair";
    47 => SocketListen, "inj_listen", "socket_listen";
    48 => SocketAccept, "inj_accept", "socket_accept";
    49 => SocketShutdown, "inj_shutdown", "socket_shutdown";
    50 => SocketGetsockopt, "inj_getsockopt", "socket_getsockopt";
    51 => SocketSetsockopt, "inj_setsockopt", "socket_setsockopt";
    52 => SocketGetsockname, "inj_getsockname", "socket_getsockname";
    53 => SocketGetpeername, "inj_getpeername", "socket_getpeername";
    54 => ShmAlloc, "inj_shmget", "shm_alloc_security";
    55 => ShmShmat, "inj_shmat", "shm_shmat";
    56 => SemSemop, "inj_semop", "sem_semop";
    57 => MsgMsgsnd, "inj_msgsnd", "msg_queue_msgsnd";
}

/// Number of the hook at the entry of system calls.
pub const SYSCALL_ENTRY: u32 = 0;

/// Number of the hook in the place of system calls.
pub const MODIFIED_ENTRY: u32 = 58;

/// Number of the hook at the entry of system calls where they are only seen.
pub const SEEN_ENTRY: u32 = 59;

/// Number of the hook at the entry of system calls where they can wait asleep.
pub const SLEEPING_ENTRY: u32 = 60;

/// Number of the security hook of number 0 where calls can wait asleep: programs that sleep are
/// beside those that do not.
pub const SLEEPING_HOOKS: u32 = 61;

/// Number of the hook at the return of system calls where they can wait asleep.
pub const SLEEPING_RETURN: u32 = SLEEPING_HOOKS + 58;

/// Number of the hook at the return of system calls where they can wait busy.
pub const SEEN_RETURN: u32 = SLEEPING_RETURN + 1;

/// Number of the hook at the entry of functions of programs and libraries.
pub const FUNCTION_ENTRY: u32 = SEEN_RETURN + 1;

/// One past the highest number of a hook.
pub const HOOK_COUNT: u32 = FUNCTION_ENTRY + 1;

/// Kernel functions that programs may call which the agent's own loader loads (kfuncs).
///
/// A program writes such a call as that of a helper, with a number that no helper has:
/// [`KERNEL_CALL`] and the function's place here.
pub const KERNEL_FUNCTIONS: &[&str] = &["bpf_task_from_pid", "bpf_task_release"];

/// Number of a call of the first of [`KERNEL_FUNCTIONS`].
pub const KERNEL_CALL: i32 = 0x4b46_0000;

/// The agent's control block.
pub const MAP_CONTROL: &str = "inj_control";
/// The rule table.
pub const MAP_RULES: &str = "inj_rules";
/// The rules' counters.
pub const MAP_STATS: &str = "inj_stats";
/// Who is targeted.
pub const MAP_SCOPES: &str = "inj_scopes";
/// A bit for each id in the scope table.
pub const MAP_SEEN: &str = "inj_seen";
/// Cgroups that are known to be in no rule's scope.
pub const MAP_CLEAR: &str = "inj_clear";
/// How many packets had no owner, by direction.
pub const MAP_UNATTRIBUTED: &str = "inj_nobodys";
/// What rules remember from packet to packet.
pub const MAP_STATES: &str = "inj_states";
/// Distributions that delays are drawn from.
pub const MAP_TABLES: &str = "inj_tables";
/// When the links of single flows have sent all packets so far.
pub const MAP_LINKS: &str = "inj_links";
/// How many operations of a flow or a caller matched, for rules that count per each.
pub const MAP_TURNS: &str = "inj_turns";
/// Hits that the agent has not seen yet.
pub const MAP_LEDGER: &str = "inj_ledger";
/// Which calls are named.
pub const MAP_CALLS: &str = "inj_calls";
/// The errors that calls can plausibly fail with.
pub const MAP_ERRORS: &str = "inj_errors";
/// Conditions of rules on calls.
pub const MAP_CALL_FILTERS: &str = "inj_call_filts";
/// Files that rules name.
pub const MAP_FILES: &str = "inj_files";
/// Functions that rules name.
pub const MAP_FUNCTIONS: &str = "inj_functions";
/// Executables whose processes rules leave out.
pub const MAP_SPARED: &str = "inj_spared";
/// What the program that looks files up has found.
pub const MAP_FOUND: &str = "inj_found";
/// What is to be known of the interfaces that are acted on.
pub const MAP_SITES: &str = "inj_sites";
/// Where in that table an interface is, by its index.
pub const MAP_SITE_SLOTS: &str = "inj_site_slots";
/// The same of most of them, without a hash table's cost.
pub const MAP_SITES_NEAR: &str = "inj_sites_near";
/// Who has asked for which echo.
pub const MAP_ECHOES: &str = "inj_echoes";
/// When the last delayed packet of a flow leaves.
pub const MAP_FLOWS: &str = "inj_flows";
/// How much memory packets that wait take.
pub const MAP_WAITING: &str = "inj_waiting";
/// Networks that rules name as peers.
pub const MAP_PEERS: &str = "inj_peers";
/// Names that rules ask for in queries of DNS.
pub const MAP_QUERIES: &str = "inj_queries";
/// What was seen of which UDP conversation.
pub const MAP_CONVERSATIONS: &str = "inj_talks";
/// What was seen of a connection that a rule waits for.
pub const MAP_STREAMS: &str = "inj_streams";
/// How often the trial program ran for the agent, or the device to try.
pub const MAP_TRIAL: &str = "inj_trial";
/// The calls that wait asleep.
pub const MAP_SLEEPERS: &str = "inj_sleepers";
/// Where calls that wait lie down, and by whom they are woken.
pub const MAP_DORMITORY: &str = "inj_dormitory";
/// Working space for a packet.
pub const MAP_SPACE: &str = "inj_space";
/// Rules that own a socket, by its creator.
pub const MAP_SOCKETS: &str = "inj_sockets";

/// Counts how often `file_open` runs programs for the agent.
pub const PROG_TRIAL: &str = "inj_trial_open";
/// Sends packets through a device, to try whether they come back.
pub const PROG_TRIAL_HOP: &str = "inj_trial_hop";
/// Packets that leave an interface.
pub const PROG_EGRESS: &str = "inj_egress";
/// Packets that arrive at an interface.
pub const PROG_INGRESS: &str = "inj_ingress";
/// Packets that enter a device of ours: gives them their departure time.
pub const PROG_HOP: &str = "inj_hop";
/// Packets that come back from a device of ours.
pub const PROG_RETURN: &str = "inj_return";
/// Packets that come back from the devices that split them.
pub const PROG_SPLIT: &str = "inj_split";
/// System call entry.
pub const PROG_SYSCALL: &str = "inj_syscall";
/// Never attached: tries whether a program may override what a call returns.
pub const PROG_TRIAL_OVERRIDE: &str = "inj_trial_over";
/// Never attached: tries whether a security hook takes programs that sleep.
pub const PROG_TRIAL_SLEEP: &str = "inj_sl_trial";
/// System call entry, where it is decided that a call waits asleep.
pub const PROG_LIE_DOWN: &str = "inj_lie_down";
/// In the place of a system call, where it waits. Several of them serve one call.
pub const PROG_ASLEEP: &str = "inj_asleep";
/// System call return, where it is decided that the call waits asleep.
pub const PROG_LIE_DOWN_LATE: &str = "inj_lie_late";
/// System call return, where it waits asleep. Several of them serve one call.
pub const PROG_ASLEEP_LATE: &str = "inj_asleep_late";
/// System call return, where the call waits busy.
pub const PROG_BUSY_LATE: &str = "inj_busy_late";
/// System call entry, where the call is only seen.
pub const PROG_SEEN: &str = "inj_seen_call";
/// In the place of a system call.
pub const PROG_FMOD_ENTRY: &str = "inj_fmod_entry";
/// In the place of `security_mmap_file`.
pub const PROG_FMOD_MMAP: &str = "inj_fmod_mmap";
/// The entry of a function of a program or library.
pub const PROG_FUNCTION: &str = "inj_function";
/// Attached by the agent to a function of its own: tries whether one can be had return.
pub const PROG_TRIAL_FUNCTION: &str = "inj_trial_func";
/// Sockets that a targeted process creates.
pub const PROG_SOCKET: &str = "inj_sock_new";
/// `connect` to an IPv4 address, where a program chooses the error.
pub const PROG_REFUSE4: &str = "inj_refuse4";
/// The same to an IPv6 address.
pub const PROG_REFUSE6: &str = "inj_refuse6";
/// `connect` to an IPv4 address, where the error is always `EPERM`.
pub const PROG_DENY4: &str = "inj_deny4";
/// The same to an IPv6 address.
pub const PROG_DENY6: &str = "inj_deny6";
/// Packets that sockets send, where a program can let the call fail.
pub const PROG_SEND: &str = "inj_send";
/// Packets that sockets receive, for rules on those that they send.
pub const PROG_HEAR: &str = "inj_hear";
/// Children of a targeted process.
pub const PROG_FORK: &str = "inj_fork";
/// The end of a targeted process.
pub const PROG_EXIT: &str = "inj_exit";
/// The end of a process or thread that was counted by itself.
pub const PROG_FORGET: &str = "inj_forget";
/// The end of a program that was counted by itself: its process executes another one.
pub const PROG_FORGET_PROGRAM: &str = "inj_forget_prog";
/// Never attached: looks up a file that the agent has open.
pub const PROG_FIND: &str = "inj_find";
/// Never attached: answers a test that compares decisions with the host's.
pub const PROG_PARITY: &str = "inj_parity";
