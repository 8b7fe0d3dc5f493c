//! Devices and queueing disciplines, by rtnetlink.

use std::{fs::File, future::Future, io, os::fd::AsRawFd as _};

use futures_util::StreamExt as _;
use futures_util::TryStreamExt as _;
use nix::libc;
use rtnetlink::{
    Handle, LinkIfb, LinkUnspec, LinkVeth,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute},
    },
};

use super::netns;
use crate::resolve::netns::ask_netlink;

/// What `ip link` shows beside a device of ours.
pub(super) const ALIAS: &str = injector_common::names::DEVICE_ALIAS;

/// Runs requests in the namespace that `file` refers to.
///
/// # Errors
///
/// When the namespace cannot be entered, or what the requests return.
pub(super) fn run<T, F>(file: &File, requests: impl FnOnce(Handle) -> F + Send) -> io::Result<T>
where
    T: Send,
    F: Future<Output = io::Result<T>>,
{
    netns::inside(file, || ask_netlink(requests))?
}

/// A device of ours to be made. The index is chosen here and not by the kernel,
/// so that it is the same in every namespace of a run: programs know an
/// interface by its index alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct NewDevice<'a> {
    pub(super) name: &'a str,
    pub(super) index: u32,
}

/// Makes a pair of devices, both up.
///
/// # Errors
///
/// What the kernel refused.
pub(super) async fn add_pair(
    handle: &Handle,
    near: NewDevice<'_>,
    far: NewDevice<'_>,
) -> io::Result<()> {
    let peer = LinkUnspec::new_with_name(far.name).index(far.index).build();
    let message = LinkVeth::new(near.name, far.name)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .index(near.index)
        .alias(ALIAS)
        .build();
    handle
        .link()
        .add(message)
        .execute()
        .await
        .map_err(io_error)?;
    raise(handle, near.index).await?;
    raise(handle, far.index).await
}

/// Makes an ifb device, up.
///
/// # Errors
///
/// What the kernel refused.
pub(super) async fn add_ifb(handle: &Handle, device: NewDevice<'_>) -> io::Result<()> {
    let message = LinkIfb::new(device.name)
        .index(device.index)
        .alias(ALIAS)
        .build();
    handle
        .link()
        .add(message)
        .execute()
        .await
        .map_err(io_error)?;
    raise(handle, device.index).await
}

/// Sets a device of ours up, without an address and so without a word of its
/// own: what a device says of itself would pass the queue between packets that
/// wait there.
async fn raise(handle: &Handle, index: u32) -> io::Result<()> {
    let message = LinkUnspec::new_with_index(index)
        .arp(false)
        .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
            vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
        )]))
        .mtu(MTU)
        .alias(ALIAS)
        .up()
        .build();
    handle.link().set(message).execute().await.map_err(io_error)
}

/// Sets the loopback interface up.
///
/// # Errors
///
/// What the kernel refused.
pub(super) async fn raise_loopback(handle: &Handle) -> io::Result<()> {
    /// Its index, in every namespace.
    const LOOPBACK: u32 = 1;
    let message = LinkUnspec::new_with_index(LOOPBACK).up().build();
    handle.link().set(message).execute().await.map_err(io_error)
}

/// The largest MTU that an Ethernet device may have, so that no packet of
/// another interface is too long for ours.
const MTU: u32 = 65_535;

/// The index of an interface, if there is one of that name.
///
/// # Errors
///
/// When the kernel does not answer.
pub(super) async fn index_of(handle: &Handle, name: &str) -> io::Result<Option<u32>> {
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(error) => {
            let error = io_error(error);
            match error.raw_os_error() {
                Some(libc::ENODEV) => Ok(None),
                _ => Err(error),
            }
        }
    }
}

/// How many packets an interface lost on their way out of it (`tx_dropped`).
/// Those that its queueing discipline refused are not among them.
///
/// # Errors
///
/// When the interface is not there, or the kernel does not answer.
pub(super) async fn lost_by(handle: &Handle, index: u32) -> io::Result<u64> {
    let mut links = handle.link().get().match_index(index).execute();
    let link = links.try_next().await.map_err(io_error)?;
    let attributes = link.map(|link| link.attributes).unwrap_or_default();
    let counters = attributes.into_iter().find_map(|attribute| {
        if let LinkAttribute::Stats64(counters) = attribute {
            Some(counters)
        } else {
            None
        }
    });
    counters
        .map(|counters| counters.tx_dropped)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Removes an interface; one that is gone already is no error. The other end
/// of a pair goes with it.
///
/// # Errors
///
/// What the kernel refused.
pub(super) async fn remove(handle: &Handle, name: &str) -> io::Result<()> {
    let Some(index) = index_of(handle, name).await? else {
        return Ok(());
    };
    match handle.link().del(index).execute().await.map_err(io_error) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other,
    }
}

/// Sends a request and waits for the kernel's verdict.
///
/// # Errors
///
/// What the kernel refused.
pub(super) async fn acknowledged(
    handle: &mut Handle,
    request: NetlinkMessage<RouteNetlinkMessage>,
) -> io::Result<()> {
    let mut answers = handle.request(request).map_err(io_error)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload {
            return match error.code {
                Some(_) => Err(error.to_io()),
                None => Ok(()),
            };
        }
    }
    Ok(())
}

/// Turns off checksum offload of the calling thread's interface `name`, so
/// that the device fills in checksums itself (ethtool(8), `tx off`).
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn fill_checksums(name: &str) -> io::Result<()> {
    /// `ETHTOOL_STXCSUM` (linux/ethtool.h).
    const SET_TX_CHECKSUM: u32 = 0x17;
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value {
        command: SET_TX_CHECKSUM,
        data: 0,
    };
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(name.bytes())
    {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: the request is complete, and `value` outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The kernel's answer as an I/O error, with its errno.
pub(super) fn io_error(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = error {
        message.to_io()
    } else {
        io::Error::other(error)
    }
}
