//! A victim that makes calls as 32-bit programs do, by `int 0x80`, and notes what came of each.

use std::{
    arch::asm,
    ffi::CString,
    fs::File,
    net::{SocketAddrV4, UdpSocket},
    os::{
        fd::{AsRawFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
    ptr,
    sync::atomic::Ordering::Release,
};

use anyhow::{Context as _, ensure};

use super::sockets::Outcomes;
use crate::board::Board;

/// Options of such a victim.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A folder with nothing in it but a file
    #[arg(long)]
    pub folder: PathBuf,
    /// Where somebody listens by UDP
    #[arg(long)]
    pub peer: SocketAddrV4,
    /// The file to write the outcomes to, as JSON
    #[arg(long)]
    pub outcomes: PathBuf,
}

/// Name of the file in the folder.
pub const FILE: &str = "file";

/// Length of what is mapped, which nothing else maps.
pub const MAPPED: u32 = 0x5000;

/// The calls, as in syscall_32.tbl. Some of these numbers stand for others of x86-64.
mod number {
    pub(super) const READ: u32 = 3;
    pub(super) const OPEN: u32 = 5;
    pub(super) const GETPID: u32 = 20;
    pub(super) const MKDIR: u32 = 39;
    pub(super) const SOCKETCALL: u32 = 102;
    pub(super) const MMAP2: u32 = 192;
    pub(super) const FSTAT64: u32 = 197;
    pub(super) const OPENAT: u32 = 295;
    pub(super) const UNLINKAT: u32 = 301;
    pub(super) const SOCKET: u32 = 359;
    pub(super) const CONNECT: u32 = 362;
    pub(super) const SENDMSG: u32 = 370;
}

/// First arguments of `socketcall`, as in linux/net.h.
const MANY_SOCKET: u32 = 1;
const MANY_CONNECT: u32 = 3;
const MANY_SEND: u32 = 9;
const MANY_SENDTO: u32 = 11;

/// Descriptor that calls begin at whose path is absolute.
const NOWHERE: u32 = (-1_i32).cast_unsigned();

/// Makes the calls of one round.
///
/// # Errors
///
/// When what the calls need cannot be had.
pub fn run(board: &Board, options: &Options) -> anyhow::Result<()> {
    let outcomes = File::create(&options.outcomes).context("the file of the outcomes")?;
    let path = options.folder.join(FILE);
    let file = File::open(&path).with_context(|| path.display().to_string())?;
    let folder = File::open(&options.folder)?;
    let bind = || UdpSocket::bind("127.0.0.1:0");
    let (direct, many, connected) = (bind()?, bind()?, bind()?);
    connected.connect(options.peer)?;
    let mut memory = Memory::new()?;
    let path = memory.path(&path)?;
    let made = memory.path(&options.folder.join("made"))?;
    let gone = memory.path(Path::new("gone"))?;
    let (address, length) = memory.address(options.peer);
    let data = memory.put(b"data");
    let part = memory.words(&[data, 4]);
    let header = memory.words(&[address, length, part, 1, 0, 0, 0]);
    let buffer = memory.put(&[0; 128]);
    let many_of = |memory: &mut Memory, call: u32, arguments: &[u32]| {
        let arguments = memory.words(arguments);
        (number::SOCKETCALL, [call, arguments, 0, 0, 0])
    };
    let (inet, inet6, datagram) = (2, 10, 2);
    let calls = [
        ("open", (number::OPEN, [path, 0, 0, 0, 0])),
        ("openat", (number::OPENAT, [NOWHERE, path, 0, 0, 0])),
        (
            "openat for writing",
            (number::OPENAT, [NOWHERE, path, 1, 0, 0]),
        ),
        ("getpid", (number::GETPID, [0; 5])),
        ("read", (number::READ, [raw(&file), buffer, 0, 0, 0])),
        ("fstat64", (number::FSTAT64, [raw(&file), buffer, 0, 0, 0])),
        ("mkdir", (number::MKDIR, [made, 0o700, 0, 0, 0])),
        ("mmap2", (number::MMAP2, [0, MAPPED, 1, 0x22, NOWHERE])),
        (
            "unlinkat",
            (number::UNLINKAT, [raw(&folder), gone, 0, 0, 0]),
        ),
        ("socket", (number::SOCKET, [inet, datagram, 0, 0, 0])),
        (
            "socket by socketcall",
            many_of(&mut memory, MANY_SOCKET, &[inet6, datagram, 0]),
        ),
        (
            "connect",
            (number::CONNECT, [raw(&direct), address, length, 0, 0]),
        ),
        (
            "connect by socketcall",
            many_of(&mut memory, MANY_CONNECT, &[raw(&many), address, length]),
        ),
        ("sendmsg", (number::SENDMSG, [raw(&many), header, 0, 0, 0])),
        (
            "sendto by socketcall",
            many_of(
                &mut memory,
                MANY_SENDTO,
                &[raw(&direct), data, 4, 0, address, length],
            ),
        ),
        (
            "send by socketcall",
            many_of(&mut memory, MANY_SEND, &[raw(&connected), data, 4, 0]),
        ),
    ];
    board.actors[0].thread.store(std::process::id(), Release);
    ensure!(board.next_round(0).is_some(), "there was no round");
    let made = calls.map(|(name, (number, arguments))| {
        // SAFETY: every pointer among the arguments points into `memory`, which outlives the call,
        // and to as much as the call takes or gives.
        (name, unsafe { int_80(number, arguments) })
    });
    let error = |result: i32| match result.min(0).unsigned_abs() {
        errno @ ..4096 => errno,
        // An address in the upper half of what 32 bits can say.
        _ => 0,
    };
    let made: Outcomes = made
        .into_iter()
        .map(|(name, result)| (name.to_owned(), error(result)))
        .collect();
    Ok(serde_json::to_writer(outcomes, &made)?)
}

fn raw(file: &impl AsRawFd) -> u32 {
    let descriptor: RawFd = file.as_raw_fd();
    descriptor.cast_unsigned()
}

/// Makes a 32-bit call.
///
/// # Safety
///
/// As of the call: what its pointers point to is long enough, and outlives it.
pub(super) unsafe fn int_80(number: u32, arguments: [u32; 5]) -> i32 {
    let [first, second, third, fourth, fifth] = arguments;
    let result: i32;
    // SAFETY: as above. rbx, which the compiler keeps for itself, is put back; a kernel may leave
    // nothing in r8 to r11 (entry_INT80_compat).
    unsafe {
        asm!(
            "xchg {first:r}, rbx",
            "int 0x80",
            "xchg {first:r}, rbx",
            first = inout(reg) u64::from(first) => _,
            inlateout("eax") number => result,
            in("ecx") second,
            in("edx") third,
            in("esi") fourth,
            in("edi") fifth,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    result
}

/// Memory whose addresses have 32 bits.
struct Memory {
    begin: *mut u8,
    used: usize,
}

impl Memory {
    const SIZE: usize = 4096;

    fn new() -> anyhow::Result<Self> {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
        );
        // SAFETY: new memory, at an address that nothing has.
        let begin = unsafe { libc::mmap(ptr::null_mut(), Self::SIZE, access, kind, -1, 0) };
        ensure!(begin != libc::MAP_FAILED, "no memory below 2 GiB");
        Ok(Self {
            begin: begin.cast(),
            used: 0,
        })
    }

    /// Copies bytes there, and returns their address.
    fn put(&mut self, bytes: &[u8]) -> u32 {
        let end = self.used + bytes.len();
        assert!(end <= Self::SIZE, "too much");
        // SAFETY: so many bytes from there on belong to this memory.
        let to = unsafe { self.begin.add(self.used) };
        // SAFETY: as above; the two do not overlap.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        self.used = end.next_multiple_of(8);
        u32::try_from(to.addr()).expect("an address of 32 bits")
    }

    fn words(&mut self, words: &[u32]) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.put(&bytes)
    }

    fn path(&mut self, path: &Path) -> anyhow::Result<u32> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        Ok(self.put(path.as_bytes_with_nul()))
    }

    /// An address of IPv4, and how long it is (`struct sockaddr_in`).
    fn address(&mut self, address: SocketAddrV4) -> (u32, u32) {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        bytes[4..8].copy_from_slice(&address.ip().octets());
        (self.put(&bytes), 16)
    }
}
