//! A tunnel whose other half is a program: what a VPN in user space is.

use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use crate::netns::{Ip, Netns, Pair, address};

/// `TUNSETIFF`
const SET_INTERFACE: libc::c_ulong = 0x4004_54ca;
/// The port that both ends use.
const PORT: u16 = 5700;

/// Two tun devices, one on each side of a pair, and the program that carries packets between
/// them over the cable. The program is the test itself.
#[derive(Debug)]
pub struct Vpn {
    over: Arc<AtomicBool>,
    carriers: Vec<JoinHandle<()>>,
}

impl Vpn {
    /// Joins two tun devices of this name, which are there (`ip tuntap add`).
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    #[must_use]
    pub fn join(pair: &Pair, device: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let sides = [(&pair.near, 1), (&pair.far, 2)];
        let carriers = sides.map(|(netns, side)| {
            let tun = open(netns, device);
            let here = SocketAddr::new(address(Ip::V4, 0, side), PORT);
            let there = SocketAddr::new(address(Ip::V4, 0, 3 - side), PORT);
            let cable = netns.enter(|| UdpSocket::bind(here)).expect("a socket");
            cable.connect(there).expect("connect a socket");
            cable.set_nonblocking(true).expect("a socket to poll");
            let over = over.clone();
            thread::spawn(move || carry(tun, &cable, &over))
        });
        let carriers = carriers.into();
        Self { over, carriers }
    }
}

impl Drop for Vpn {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        for carrier in self.carriers.drain(..) {
            if carrier.join().is_err() {
                eprintln!("a VPN has panicked");
            }
        }
    }
}

/// Opens a tun device, to read and write packets without any header before theirs.
fn open(netns: &Netns, device: &str) -> File {
    // The file belongs to the namespace that it is opened in.
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
    };
    let file = netns.enter(open).expect("open the tun driver");
    // SAFETY: all zero is a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI;
    request.ifr_ifru.ifru_flags = flags.try_into().expect("flags of 16 bits");
    let descriptor = file.as_raw_fd();
    // SAFETY: the request outlives the call.
    let done = unsafe { libc::ioctl(descriptor, SET_INTERFACE, &raw const request) };
    assert_eq!(done, 0, "{device}: {}", std::io::Error::last_os_error());
    // SAFETY: the flags are those of an open file, without any that block.
    let done = unsafe { libc::fcntl(descriptor, libc::F_SETFL, libc::O_NONBLOCK) };
    assert_eq!(done, 0, "{device}: {}", std::io::Error::last_os_error());
    file
}

/// Carries packets both ways between a device and the cable.
fn carry(mut tun: File, cable: &UdpSocket, over: &AtomicBool) {
    const WAIT_MS: i32 = 50;
    let mut packet = [0; 65_536];
    let mut both = [tun.as_raw_fd(), cable.as_raw_fd()].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    while !over.load(Relaxed) {
        // SAFETY: the array is two entries long, and outlives the call.
        let ready = unsafe { libc::poll(both.as_mut_ptr(), 2, WAIT_MS) };
        assert!(ready >= 0, "{}", std::io::Error::last_os_error());
        // What the other end cannot take is lost, as on any network.
        while let Some(length) = taken(tun.read(&mut packet)) {
            drop(cable.send(&packet[..length]));
        }
        while let Some(length) = taken(cable.recv(&mut packet)) {
            drop(tun.write(&packet[..length]));
        }
    }
}

/// The length of a packet that was read; `None` where there is none now.
fn taken(read: std::io::Result<usize>) -> Option<usize> {
    match read {
        Ok(length) => Some(length),
        // The peer may not have opened its socket yet.
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => None,
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("read from a tunnel: {error}"),
    }
}
