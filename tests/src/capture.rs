//! Packets as they arrive, before the stack judges them.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{setsockopt, sockopt::RcvBufForce},
};

use crate::netns::{Ip, Netns};

/// A listener to all packets of one family that arrive at an interface.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
}

impl Capture {
    /// Listens from now on.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    #[must_use]
    #[track_caller]
    pub fn start(netns: &Netns, link: &str, ip: Ip) -> Self {
        let protocol = match ip {
            Ip::V4 => libc::ETH_P_IP,
            Ip::V6 => libc::ETH_P_IPV6,
        };
        let protocol = u16::try_from(protocol).expect("16 bits").to_be();
        let socket = netns.enter(|| {
            let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            // SAFETY: makes a descriptor, which nobody else has.
            let socket = unsafe {
                let socket = libc::socket(libc::AF_PACKET, kind, protocol.into());
                assert!(socket >= 0, "{}", io::Error::last_os_error());
                OwnedFd::from_raw_fd(socket)
            };
            // SAFETY: all zero is a valid address.
            let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            address.sll_family = u16::try_from(libc::AF_PACKET).expect("16 bits");
            address.sll_protocol = protocol;
            let index = if_nametoindex(link).expect("an interface");
            address.sll_ifindex = i32::try_from(index).expect("a small index");
            let size = u32::try_from(size_of::<libc::sockaddr_ll>()).expect("small");
            // SAFETY: the address and its size are those of one value.
            let status =
                unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
            assert_eq!(status, 0, "{}", io::Error::last_os_error());
            socket
        });
        setsockopt(&socket, RcvBufForce, &(8 << 20)).expect("enlarge the receive buffer");
        Self { socket }
    }

    /// How many packets have arrived since the last call, whether there was room to keep
    /// them for [`Self::take`] or not.
    ///
    /// # Panics
    ///
    /// When the kernel does not tell.
    #[must_use]
    #[track_caller]
    pub fn count(&self) -> u64 {
        let mut stats = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        let mut size = u32::try_from(size_of_val(&stats)).expect("small");
        // SAFETY: the value and its size are those of one value.
        let status = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut size,
            )
        };
        assert_eq!(status, 0, "{}", io::Error::last_os_error());
        stats.tp_packets.into()
    }

    /// What has arrived since the last call, each packet from its network header
    /// on.
    ///
    /// # Panics
    ///
    /// When the kernel lets nothing be read.
    #[must_use]
    #[track_caller]
    pub fn take(&self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut bytes = vec![0; 1 << 16];
        loop {
            // SAFETY: the kernel writes no more than the buffer takes.
            let len = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    bytes.as_mut_ptr().cast(),
                    bytes.len(),
                    0,
                )
            };
            match usize::try_from(len) {
                Ok(len) => packets.push(bytes[..len].to_vec()),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
                    return packets;
                }
            }
        }
    }
}
