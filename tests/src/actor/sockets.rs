//! A victim that makes calls on sockets of several families and peers, and notes what came of each.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    ptr,
};

use anyhow::Context as _;
use nix::{
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, socket,
    },
    unistd::pipe,
};
use syscalls::{Sysno, syscall};

/// Options of a victim that makes calls on sockets.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where one peer listens, by TCP and UDP
    #[arg(long)]
    pub one: SocketAddr,
    /// Where another one does
    #[arg(long)]
    pub other: SocketAddr,
    /// Where one does by IPv6
    #[arg(long)]
    pub v6: SocketAddr,
    /// Where one does by a Unix socket
    #[arg(long)]
    pub unix: PathBuf,
    /// The file to write the outcomes to, as JSON
    #[arg(long)]
    pub outcomes: PathBuf,
}

/// The error number of each call, and whom it was about where that is not the same; 0 for none.
pub type Outcomes = BTreeMap<String, u32>;

/// The address that nobody listens at.
pub const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Descriptors of one socket that the victim makes a call on each.
pub const DESCRIPTORS: [i32; 2] = [50, 51];

/// The peers of such a victim.
#[derive(Debug)]
pub struct Peers {
    /// The addresses of the two that listen by IPv4, 127.0.0.1 and 127.0.0.2, and of the one by
    /// IPv6. Their ports differ.
    pub addresses: [SocketAddr; 3],
    /// The path of the one that listens by a Unix socket.
    pub unix: PathBuf,
    _tcp: Vec<TcpListener>,
    _udp: Vec<UdpSocket>,
    _unix: UnixListener,
}

impl Peers {
    /// Peers that listen, one of them in this folder.
    ///
    /// # Errors
    ///
    /// When they cannot.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let hosts = [
            Ipv4Addr::LOCALHOST.into(),
            Ipv4Addr::new(127, 0, 0, 2).into(),
            Ipv6Addr::LOCALHOST.into(),
        ];
        let mut addresses = hosts.map(|host| SocketAddr::new(host, 0));
        let (mut tcp, mut udp): (Vec<TcpListener>, Vec<UdpSocket>) = (Vec::new(), Vec::new());
        for at in 0..addresses.len() {
            // One port for both, that no peer before has.
            let (listener, socket) = loop {
                let listener = TcpListener::bind(addresses[at])?;
                let address = listener.local_addr()?;
                let taken = addresses.iter().any(|one| one.port() == address.port());
                match UdpSocket::bind(address) {
                    Ok(socket) if !taken => break (listener, socket),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                    Err(error) => return Err(error),
                }
            };
            addresses[at] = listener.local_addr()?;
            tcp.push(listener);
            udp.push(socket);
        }
        let unix = folder.join("listener");
        Ok(Self {
            addresses,
            _unix: UnixListener::bind(&unix)?,
            unix,
            _tcp: tcp,
            _udp: udp,
        })
    }
}

/// Makes every call once.
///
/// # Errors
///
/// When what a call needs cannot be had, which takes other calls than those that rules fail.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let mut notes = Notes(Outcomes::new());
    // From 127.0.0.1 the kernel goes to 127.0.0.2, so that the two ends of this socket differ.
    let mapped = match options.other {
        SocketAddr::V4(v4) => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
        SocketAddr::V6(_) => options.other,
    };
    for (who, family, address) in [
        ("one", AddressFamily::Inet, options.one),
        ("other", AddressFamily::Inet, options.other),
        ("other, mapped", AddressFamily::Inet6, mapped),
        ("v6", AddressFamily::Inet6, options.v6),
    ] {
        let address = SockaddrStorage::from(address);
        notes.connected(who, family, &address)?;
        let datagrams = new(family, SockType::Datagram)?;
        notes.named(&datagrams, who, &address);
        let who = format!("datagrams {who}");
        notes.note("connect", &who, connect(&datagrams, &address));
        notes.note("getsockopt", &who, kind_of(datagrams.as_raw_fd()));
    }
    let address = UnixAddr::new(&options.unix)?;
    let local = notes.connected("unix", AddressFamily::Unix, &address)?;
    for descriptor in DESCRIPTORS {
        sys!(dup2, local.as_raw_fd(), descriptor).map_err(failed)?;
        notes.note("getsockopt", &descriptor.to_string(), kind_of(descriptor));
    }
    let stranger = new(AddressFamily::Inet, SockType::Stream)?;
    let nobody = SockaddrStorage::from(SocketAddr::from((NOBODY, options.one.port())));
    notes.note("connect", "nobody", connect(&stranger, &nobody));
    let (reader, writer) = pipe()?;
    notes.note("write", "pipe", write(&writer));
    notes.note("read", "pipe", read(&reader));
    let text = serde_json::to_vec(&notes.0)?;
    fs::write(&options.outcomes, text).context("cannot write the outcomes")
}

fn failed(errno: u32) -> io::Error {
    io::Error::from_raw_os_error(errno.cast_signed())
}

fn new(family: AddressFamily, kind: SockType) -> nix::Result<OwnedFd> {
    socket(family, kind, SockFlag::SOCK_CLOEXEC, None)
}

/// What became of calls.
struct Notes(Outcomes);

impl Notes {
    fn note(&mut self, call: &str, who: &str, result: Result<usize, u32>) {
        // Nobody sends anything.
        let errno = match result.err().unwrap_or(0) {
            errno if errno == libc::EAGAIN.unsigned_abs() => 0,
            errno => errno,
        };
        self.0.insert(format!("{call} {who}"), errno);
    }

    /// Connects a socket, and makes calls on it that name no peer.
    fn connected(
        &mut self,
        who: &str,
        family: AddressFamily,
        address: &dyn SockaddrLike,
    ) -> anyhow::Result<OwnedFd> {
        let socket = new(family, SockType::Stream)?;
        self.note("connect", who, connect(&socket, address));
        let fd = socket.as_raw_fd();
        sys!(fcntl, fd, libc::F_SETFL, libc::O_NONBLOCK).map_err(failed)?;
        self.note("write", who, write(&socket));
        self.note("read", who, read(&socket));
        let mut bytes = [0_u8; 8];
        let received = sys!(recvfrom, fd, bytes.as_mut_ptr(), bytes.len(), 0, 0, 0);
        self.note("recvfrom", who, received);
        let sent = sys!(sendto, fd, b"x".as_ptr(), 1, 0, 0, 0);
        self.note("sendto", who, sent);
        let header = header(None);
        self.note("sendmsg", who, sys!(sendmsg, fd, &raw const header, 0));
        self.note("getsockopt", who, kind_of(fd));
        self.note("shutdown", who, sys!(shutdown, fd, libc::SHUT_WR));
        Ok(socket)
    }

    /// Makes calls on a socket without a peer that name one.
    fn named(&mut self, socket: &OwnedFd, who: &str, address: &dyn SockaddrLike) {
        let fd = socket.as_raw_fd();
        let (name, length) = (address.as_ptr(), address.len());
        let who = &format!("named {who}");
        let sent = sys!(sendto, fd, b"x".as_ptr(), 1, 0, name, length);
        self.note("sendto", who, sent);
        let header = header(Some(address));
        self.note("sendmsg", who, sys!(sendmsg, fd, &raw const header, 0));
        let mut messages = [libc::mmsghdr {
            msg_hdr: header,
            msg_len: 0,
        }];
        let sent = sys!(sendmmsg, fd, messages.as_mut_ptr(), 1, 0);
        self.note("sendmmsg", who, sent);
    }
}

/// A message without content, to this address or to none.
fn header(address: Option<&dyn SockaddrLike>) -> libc::msghdr {
    // SAFETY: zeros are a valid header, of nothing.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    if let Some(address) = address {
        header.msg_name = address.as_ptr().cast_mut().cast();
        header.msg_namelen = address.len();
    }
    header
}

fn connect(socket: &OwnedFd, address: &dyn SockaddrLike) -> Result<usize, u32> {
    sys!(connect, socket.as_raw_fd(), address.as_ptr(), address.len())
}

fn write(to: &OwnedFd) -> Result<usize, u32> {
    sys!(write, to.as_raw_fd(), b"x".as_ptr(), 1)
}

fn read(from: &OwnedFd) -> Result<usize, u32> {
    let mut bytes = [0_u8; 8];
    sys!(read, from.as_raw_fd(), bytes.as_mut_ptr(), bytes.len())
}

fn kind_of(socket: i32) -> Result<usize, u32> {
    let (mut kind, mut length) = (0, 4);
    let (kind, length): (*mut i32, *mut u32) = (&raw mut kind, ptr::from_mut(&mut length));
    sys!(
        getsockopt,
        socket,
        libc::SOL_SOCKET,
        libc::SO_TYPE,
        kind,
        length
    )
}
