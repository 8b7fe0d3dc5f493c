//! Requests about traffic control and their answers, in bytes.
//!
//! They are read by hand, because the library behind rtnetlink drops an answer
//! that it does not understand. A filter of somebody else's that goes unseen is
//! one that is lost with the qdisc that holds it.

use std::io;

use nix::libc;
use rtnetlink::{
    packet_core::{NLA_HEADER_SIZE, NlasIterator},
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// `struct tcmsg` (linux/rtnetlink.h), without family and padding.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Header {
    pub(super) ifindex: u32,
    pub(super) handle: u32,
    pub(super) parent: u32,
    pub(super) info: u32,
}

impl Header {
    const LEN: usize = 20;

    fn bytes(self) -> Vec<u8> {
        [0, self.ifindex, self.handle, self.parent, self.info]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| number(bytes.get(at * 4..at * 4 + 4)?);
        Some(Self {
            ifindex: word(1)?,
            handle: word(2)?,
            parent: word(3)?,
            info: word(4)?,
        })
    }
}

/// A request about traffic control.
pub(super) struct Request {
    kind: u16,
    flags: libc::c_int,
    payload: Vec<u8>,
}

/// Length of `struct nlmsghdr` (linux/netlink.h).
const MESSAGE_HEADER: usize = 16;

impl Request {
    pub(super) fn new(kind: u16, flags: libc::c_int, header: Header) -> Self {
        Self {
            kind,
            flags: flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK,
            payload: header.bytes(),
        }
    }

    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        put(&mut self.payload, kind, value);
        self
    }

    /// Sends it, and passes on each object of the answer, with its attributes.
    pub(super) fn send(self, mut each: impl FnMut(Header, &[u8])) -> io::Result<()> {
        let length =
            u32::try_from(MESSAGE_HEADER + self.payload.len()).map_err(io::Error::other)?;
        let flags = u16::try_from(self.flags).map_err(io::Error::other)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(self.kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        // Sequence number and port: one request to a socket, whose port the
        // kernel knows.
        message.extend([0; 8]);
        message.extend(&self.payload);

        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.send(&message, 0)?;
        loop {
            let (bytes, _) = socket.recv_from_full()?;
            if read_answers(&bytes, &mut each)? {
                return Ok(());
            }
        }
    }
}

/// Reads one datagram of answers; whether the last one is among them.
fn read_answers(mut bytes: &[u8], each: &mut impl FnMut(Header, &[u8])) -> io::Result<bool> {
    /// `NLMSG_DONE` and `NLMSG_ERROR` (linux/netlink.h).
    const END: u16 = 3;
    const ERROR: u16 = 2;
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    while !bytes.is_empty() {
        let length = number(bytes.get(..4).ok_or_else(broken)?).ok_or_else(broken)? as usize;
        let kind = bytes.get(4..6).ok_or_else(broken)?;
        let payload = bytes.get(MESSAGE_HEADER..length).ok_or_else(broken)?;
        match u16::from_ne_bytes([kind[0], kind[1]]) {
            END | ERROR => {
                // Both begin with an error number below 0, or 0.
                let code = payload.get(..4).and_then(number).unwrap_or(0).cast_signed();
                return match code {
                    0 => Ok(true),
                    code => Err(io::Error::from_raw_os_error(-code)),
                };
            }
            libc::RTM_NEWQDISC | libc::RTM_NEWTFILTER => {
                let header = Header::read(payload).ok_or_else(broken)?;
                each(header, payload.get(Header::LEN..).ok_or_else(broken)?);
            }
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Appends an attribute.
pub(super) fn put(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // Ours are a few words long.
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// The value of an attribute; empty without one.
pub(super) fn find(attributes: &[u8], kind: u16) -> &[u8] {
    NlasIterator::new(attributes)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind() == kind)
        .and_then(|attribute| {
            let length = usize::from(attribute.length());
            attribute.into_inner().get(NLA_HEADER_SIZE..length)
        })
        .unwrap_or_default()
}

pub(super) fn text(value: &[u8]) -> &[u8] {
    value.strip_suffix(b"\0").unwrap_or(value)
}

pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}
