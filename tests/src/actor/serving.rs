//! What actors that listen by TCP and UDP have in common.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::Ordering::{Acquire, Release},
    thread,
    time::Duration,
};

use anyhow::Context as _;

use super::udp::READY;
use crate::board::{Board, QUIT};

/// The longest datagram.
const SIZE: usize = 1 << 16;

/// Listens on an address until told to end: every datagram is answered with what
/// `reply` makes of it, and every connection gets a thread that does `talk`.
///
/// # Errors
///
/// When the port cannot be listened on.
pub fn serve(
    board: &Board,
    on: SocketAddr,
    reply: impl Fn(&[u8]) -> Vec<u8> + Sync,
    talk: impl Fn(TcpStream) + Sync,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(on).with_context(|| format!("cannot listen on {on}"))?;
    listener.set_nonblocking(true)?;
    let datagrams = UdpSocket::bind(on).with_context(|| format!("cannot bind to {on}"))?;
    // Looking up now and then is what ends this process when told to.
    datagrams.set_read_timeout(Some(Duration::from_millis(20)))?;
    board.flow.receiver_round.store(READY, Release);
    let ended = || board.round.load(Acquire) == QUIT;
    let talk = &talk;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = vec![0; SIZE];
            while !ended() {
                if let Ok((len, from)) = datagrams.recv_from(&mut bytes) {
                    // Errors of an earlier answer are told here.
                    let _ = datagrams.send_to(&reply(&bytes[..len]), from);
                }
            }
        });
        while !ended() {
            match listener.accept() {
                Ok((stream, _)) => {
                    scope.spawn(move || talk(stream));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_millis(2));
                }
                Err(error) => return Err(error).context("cannot accept"),
            }
        }
        Ok(())
    })
}
