//! One prepared system call, which can be made again and again.
//!
//! Each call goes to the kernel by its own number, because a library function
//! may choose another one (`open` is `openat` today). Everything around it uses
//! other calls, so a rule that names one call hits nothing else here.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io::Write as _,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _, net::UnixDatagram},
    },
    path::Path,
    ptr,
};

use anyhow::{Context as _, bail};
use bytes::BufMut as _;
use syscalls::{Sysno, syscall};

use super::super::{end_child, wait_child};

/// Size of what is read, written and mapped.
const SIZE: usize = 16;

/// In place of a descriptor: memory without a file.
const NO_FILE: RawFd = -1;

/// A port that nobody needs to listen to (RFC 863).
const DISCARD: u16 = 9;

/// A system call with everything that it needs.
pub struct Call {
    what: What,
    path: CString,
    other: CString,
    program: CString,
    file: File,
    ours: UnixDatagram,
    theirs: UnixDatagram,
    address: libc::sockaddr_un,
    address_len: libc::socklen_t,
    buffer: [u8; SIZE],
}

macro_rules! calls {
    ($($name:literal => $variant:ident,)+) => {
        #[derive(Clone, Copy, PartialEq, Eq)]
        enum What { $($variant,)+ }

        impl What {
            fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

calls! {
    "open" => Open,
    "openat" => Openat,
    "openat2" => Openat2,
    "read" => Read,
    "pread64" => Pread,
    "write" => Write,
    "pwrite64" => Pwrite,
    "connect" => Connect,
    "connect of IPv6" => ConnectInet6,
    "bind" => Bind,
    "bind of IPv6" => BindInet6,
    "sendmsg" => Sendmsg,
    "sendmsg of IPv6" => SendmsgInet6,
    "sendto" => Sendto,
    "recvmsg" => Recvmsg,
    "recvfrom" => Recvfrom,
    "execve" => Execve,
    "clone" => Clone,
    "mmap" => Mmap,
    "unlink" => Unlink,
    "unlinkat" => Unlinkat,
    "rename" => Rename,
    "mkdir" => Mkdir,
    "mkdirat" => Mkdirat,
    "stat" => Stat,
    "newfstatat" => Newfstatat,
    "fsync" => Fsync,
}

impl Call {
    /// Prepares a call by its name, with files whose paths begin with `base`.
    ///
    /// # Errors
    ///
    /// When the name is unknown here or a file or socket cannot be made.
    pub fn prepare(name: &str, base: &Path) -> anyhow::Result<Self> {
        let Some(what) = What::from_name(name) else {
            bail!("this victim cannot call {name}");
        };
        let path = base.with_extension("a");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        file.write_all(&[b'x'; SIZE])?;
        let other = base.with_extension("b");
        let (ours, theirs) = UnixDatagram::pair()?;
        ours.set_nonblocking(true)?;
        let socket = base.with_extension("socket");
        let bound = UnixDatagram::bind(&socket)?;
        let (address, address_len) = unix_address(&socket)?;
        // The bound socket must stay open for connections to succeed.
        std::mem::forget(bound);
        let program = base.with_extension("program");
        if what == What::Execve {
            fs::write(&program, executable())?;
            fs::set_permissions(&program, Permissions::from_mode(0o700))?;
        }
        if matches!(what, What::Unlink | What::Unlinkat) {
            fs::write(&other, "x")?;
        }
        if matches!(what, What::Mkdir | What::Mkdirat) {
            fs::remove_file(&path)?;
        }
        Ok(Self {
            what,
            path: CString::new(path.as_os_str().as_bytes())?,
            other: CString::new(other.as_os_str().as_bytes())?,
            program: CString::new(program.as_os_str().as_bytes())?,
            file,
            ours,
            theirs,
            address,
            address_len,
            buffer: [0; SIZE],
        })
    }

    /// Makes the call once and undoes it.
    ///
    /// # Errors
    ///
    /// The error number of the call.
    pub fn make(&mut self) -> Result<(), u32> {
        let fd = self.file.as_raw_fd();
        let path = self.path.as_ptr();
        let buffer = self.buffer.as_mut_ptr();
        match self.what {
            What::Open => close(sys!(open, path, libc::O_RDONLY)?),
            What::Openat => close(sys!(openat, libc::AT_FDCWD, path, libc::O_RDONLY)?),
            What::Openat2 => {
                // Three 64-bit words: flags, mode, resolve.
                let how = [0_u64; 3];
                close(sys!(openat2, libc::AT_FDCWD, path, how.as_ptr(), 24)?);
            }
            What::Read => {
                // Reading to the end would make later reads trivial; position 0
                // is set by a call that no test names.
                sys!(lseek, fd, 0, libc::SEEK_SET)?;
                sys!(read, fd, buffer, SIZE)?;
            }
            What::Pread => drop(sys!(pread64, fd, buffer, SIZE, 0)?),
            What::Write => {
                sys!(lseek, fd, 0, libc::SEEK_SET)?;
                sys!(write, fd, buffer, SIZE)?;
            }
            What::Pwrite => drop(sys!(pwrite64, fd, buffer, SIZE, 0)?),
            What::Connect => {
                let socket = self.fresh_socket(libc::AF_UNIX)?;
                let address = ptr::from_ref(&self.address);
                sys!(connect, socket.as_raw_fd(), address, self.address_len)?;
            }
            What::ConnectInet6 => {
                let socket = self.fresh_socket(libc::AF_INET6)?;
                let address = inet6_address(DISCARD);
                sys!(connect, socket.as_raw_fd(), address.as_ptr(), address.len())?;
            }
            What::Bind => {
                let socket = self.fresh_socket(libc::AF_INET)?;
                // Family AF_INET, port 0, address 0.0.0.0: any free port.
                let address = [2_u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                sys!(bind, socket.as_raw_fd(), address.as_ptr(), 16)?;
            }
            What::BindInet6 => {
                let socket = self.fresh_socket(libc::AF_INET6)?;
                let address = inet6_address(0);
                sys!(bind, socket.as_raw_fd(), address.as_ptr(), address.len())?;
            }
            What::SendmsgInet6 => {
                let socket = self.fresh_socket(libc::AF_INET6)?;
                let mut address = inet6_address(DISCARD);
                self.message(|_, message| {
                    // SAFETY: the message is ours until this call returns.
                    let header = unsafe { &mut *message };
                    header.msg_name = address.as_mut_ptr().cast();
                    header.msg_namelen = 28;
                    sys!(sendmsg, socket.as_raw_fd(), message, 0)
                })?;
            }
            What::Sendmsg => {
                self.message(|socket, message| sys!(sendmsg, socket, message, 0))?;
                self.drain();
            }
            What::Sendto => {
                let socket = self.ours.as_raw_fd();
                sys!(sendto, socket, buffer, SIZE, 0, 0, 0)?;
                self.drain();
            }
            What::Recvmsg => {
                self.fill();
                let result = self.message(|socket, message| sys!(recvmsg, socket, message, 0));
                if result.is_err() {
                    drop(self.ours.recv(&mut self.buffer));
                }
                result?;
            }
            What::Recvfrom => {
                self.fill();
                let socket = self.ours.as_raw_fd();
                let flags = libc::MSG_DONTWAIT;
                let received = sys!(recvfrom, socket, buffer, SIZE, flags, 0, 0);
                if received.is_err() {
                    let _ = nix::unistd::read(&self.ours, &mut self.buffer);
                }
                received?;
            }
            What::Execve => return self.execute(),
            What::Clone => {
                let child = sys!(clone, libc::SIGCHLD, 0, 0, 0, 0)?;
                if child == 0 {
                    end_child(0);
                }
                reap(child);
            }
            What::Mmap => {
                let (prot, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
                let page = sys!(mmap, 0, 4096, prot, flags, NO_FILE, 0)?;
                sys!(munmap, page, 4096)?;
            }
            What::Unlink => {
                sys!(unlink, self.other.as_ptr())?;
                self.remake_other();
            }
            What::Unlinkat => {
                sys!(unlinkat, libc::AT_FDCWD, self.other.as_ptr(), 0)?;
                self.remake_other();
            }
            What::Rename => {
                let other = self.other.as_ptr();
                sys!(rename, path, other)?;
                // Back by a call of another number.
                sys!(renameat, libc::AT_FDCWD, other, libc::AT_FDCWD, path)?;
            }
            What::Mkdir => {
                sys!(mkdir, path, 0o700)?;
                sys!(rmdir, path)?;
            }
            What::Mkdirat => {
                sys!(mkdirat, libc::AT_FDCWD, path, 0o700)?;
                sys!(rmdir, path)?;
            }
            What::Stat => {
                let mut stat = [0_u64; 32];
                sys!(stat, path, stat.as_mut_ptr())?;
            }
            What::Newfstatat => {
                let mut stat = [0_u64; 32];
                let stat = stat.as_mut_ptr();
                sys!(newfstatat, libc::AT_FDCWD, path, stat, 0)?;
            }
            What::Fsync => drop(sys!(fsync, fd)?),
        }
        Ok(())
    }

    /// Executes a program that only succeeds, in a process of its own.
    fn execute(&self) -> Result<(), u32> {
        let program = self.program.as_ptr();
        let arguments = [program, ptr::null()];
        let environment = [ptr::null::<libc::c_char>()];
        let child = super::fork().map_err(|error| (error as i32).unsigned_abs())?;
        let Some(child) = child else {
            let (arguments, environment) = (arguments.as_ptr(), environment.as_ptr());
            let result: Result<usize, u32> = sys!(execve, program, arguments, environment);
            let errno = result.err().unwrap_or(0);
            end_child(i32::try_from(errno).unwrap_or(255));
        };
        match wait_child(child) {
            Ok(0) => Ok(()),
            Ok(status) => Err(status.unsigned_abs()),
            Err(error) => Err((error as i32).unsigned_abs()),
        }
    }

    fn fresh_socket(&self, family: libc::c_int) -> Result<OwnedFd, u32> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        let fd = sys!(socket, family, kind, 0)?;
        // SAFETY: the kernel has just returned this descriptor, and nobody else
        // knows of it.
        Ok(unsafe { OwnedFd::from_raw_fd(as_fd(fd)) })
    }

    /// Passes a message of [`SIZE`] bytes on our socket to a call.
    fn message(
        &mut self,
        call: impl FnOnce(RawFd, *mut libc::msghdr) -> Result<usize, u32>,
    ) -> Result<usize, u32> {
        let mut part = libc::iovec {
            iov_base: self.buffer.as_mut_ptr().cast(),
            iov_len: SIZE,
        };
        // SAFETY: zero is a valid value for every field of this C structure.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        call(self.ours.as_raw_fd(), &raw mut message)
    }

    /// Puts a message where the receiving calls find it. Where even this fails,
    /// they find nothing, and report that.
    fn fill(&self) {
        let _ = nix::unistd::write(&self.theirs, &self.buffer);
    }

    /// Takes the message that was sent, so that the queue never fills.
    fn drain(&mut self) {
        let _ = nix::unistd::read(&self.theirs, &mut self.buffer);
    }

    /// Makes the file again that was removed, by a call that only it uses.
    fn remake_other(&self) {
        if let Ok(node) = sys!(mknod, self.other.as_ptr(), libc::S_IFREG | 0o600, 0) {
            debug_assert_eq!(node, 0);
        }
    }
}

fn as_fd(result: usize) -> RawFd {
    RawFd::try_from(result).unwrap_or(-1)
}

fn close(fd: usize) {
    // SAFETY: the descriptor was returned by the call before and is used once.
    drop(unsafe { OwnedFd::from_raw_fd(as_fd(fd)) });
}

fn reap(child: usize) {
    // A child that cannot be reaped shows as a missing process id soon enough.
    let _ = wait_child(nix::unistd::Pid::from_raw(as_fd(child)));
}

/// A program that ends with status 0 and makes no other call: a dynamic one
/// would have to open and map its libraries, which other rules may forbid.
fn executable() -> Vec<u8> {
    /// `mov eax, 60; xor edi, edi; syscall`, where 60 is `exit`.
    const CODE: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    const BASE: u64 = 0x40_0000;
    const HEADERS: u16 = 64 + 56;
    let size = u64::from(HEADERS) + CODE.len() as u64;
    let mut elf = Vec::new();
    // File header: 64 bits, little endian, an executable for x86-64.
    elf.put_slice(b"\x7fELF\x02\x01\x01");
    elf.put_bytes(0, 9);
    elf.put_u16_le(2);
    elf.put_u16_le(62);
    elf.put_u32_le(1);
    elf.put_u64_le(BASE + u64::from(HEADERS));
    elf.put_u64_le(64);
    elf.put_u64_le(0);
    elf.put_u32_le(0);
    for field in [64, 56, 1, 0, 0, 0] {
        elf.put_u16_le(field);
    }
    // The only segment: the whole file, readable and executable.
    elf.put_u32_le(1);
    elf.put_u32_le(5);
    for field in [0, BASE, BASE, size, size, 4096] {
        elf.put_u64_le(field);
    }
    elf.put_slice(&CODE);
    elf
}

/// The host itself, as `sockaddr_in6` has it: family (`AF_INET6`), port, flow,
/// address, scope.
fn inet6_address(port: u16) -> [u8; 28] {
    let mut address = [0; 28];
    let mut fields = &mut address[..];
    fields.put_u16_ne(10);
    fields.put_u16(port);
    fields.put_u32(0);
    fields.put_slice(&std::net::Ipv6Addr::LOCALHOST.octets());
    address
}

/// The address of a bound UNIX socket, as the kernel takes it.
fn unix_address(path: &Path) -> anyhow::Result<(libc::sockaddr_un, libc::socklen_t)> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: zero is a valid value for every field of this C structure.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX)?;
    anyhow::ensure!(
        bytes.len() < address.sun_path.len(),
        "path too long for a socket"
    );
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    let len = size_of::<libc::sockaddr_un>();
    Ok((address, libc::socklen_t::try_from(len)?))
}
