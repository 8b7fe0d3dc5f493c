//! The queue in which delayed packets wait for their time.

use std::io;

use injector_common::waiting::PACKET_BYTES;
use nix::libc;
use rtnetlink::{
    Handle,
    packet_core::{DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption},
    },
};

use super::{
    netlink::acknowledged,
    tc::{Header, Request, find, number, text},
};
use crate::model::QueueMemory;

/// Attributes of fq (`TCA_FQ_*`, linux/pkt_sched.h).
mod fq {
    pub(super) const LIMIT: u16 = 1;
    pub(super) const FLOW_LIMIT: u16 = 2;
    pub(super) const RATE_ENABLE: u16 = 5;
    pub(super) const TIMER_SLACK: u16 = 13;
    pub(super) const HORIZON: u16 = 14;
}

/// How far ahead a departure may lie, in µs: over an hour, the most that the
/// attribute can say. The default of 10 s would cap longer delays.
const FQ_HORIZON_US: u32 = u32::MAX;
/// How late the timer may let a packet out, in ns. The default of 10 µs would add
/// to each delay.
const FQ_TIMER_SLACK_NS: u32 = 0;

/// Packets that only pass may be in the queue beside those that wait: as many as a
/// cable holds (`net.core.netdev_max_backlog`).
const PASSING_PACKETS: u64 = 1_000;

/// How many packets fit into so many bytes of memory, at most: each counts as more
/// than [`PACKET_BYTES`].
///
/// No more should ever wait, since the programs count what waits. But they count
/// until a packet is due, and where CPUs send faster than one of them can empty the
/// queue, packets wait longer.
fn packets_in(memory: QueueMemory) -> u32 {
    u32::try_from(memory.bytes / PACKET_BYTES + PASSING_PACKETS).unwrap_or(u32::MAX)
}

/// Gives a device of ours a fair queue that lets every packet wait for its time, as
/// many as fit into `memory`. Its own defaults, 10,000 packets and 100 per flow,
/// would drop what is delayed long or fast.
///
/// # Errors
///
/// ENOENT when the kernel has no fq.
pub(super) async fn add_fair_queue(
    handle: &mut Handle,
    index: u32,
    memory: QueueMemory,
) -> io::Result<()> {
    set(handle, index, memory, NLM_F_CREATE | NLM_F_EXCL).await
}

/// Gives a fair queue of ours room for more packets: as many as fit into `memory`.
/// Those that wait in it stay.
///
/// # Errors
///
/// What the kernel refused.
pub(super) async fn widen(handle: &mut Handle, index: u32, memory: QueueMemory) -> io::Result<()> {
    set(handle, index, memory, 0).await
}

async fn set(handle: &mut Handle, index: u32, memory: QueueMemory, flags: u16) -> io::Result<()> {
    let option =
        |kind, value: u32| TcOption::Other(DefaultNla::new(kind, value.to_ne_bytes().to_vec()));
    let mut message = TcMessage::with_index(i32::try_from(index).map_err(io::Error::other)?);
    message.header = TcHeader {
        parent: TcHandle::ROOT,
        ..message.header
    };
    message.attributes = vec![
        TcAttribute::Kind("fq".to_owned()),
        TcAttribute::Options(vec![
            option(fq::LIMIT, packets_in(memory)),
            option(fq::FLOW_LIMIT, packets_in(memory)),
            option(fq::RATE_ENABLE, 0),
            option(fq::TIMER_SLACK, FQ_TIMER_SLACK_NS),
            option(fq::HORIZON, FQ_HORIZON_US),
        ]),
    ];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    acknowledged(handle, request).await
}

/// Takes away the fair queue of the device with this index, in the calling thread's
/// namespace, and what waits in it. Returns how many packets that are; those that
/// leave it at this very moment may be among them. Without such a queue it does
/// nothing.
///
/// # Errors
///
/// What the kernel refused.
pub(super) fn take_away(index: u32) -> io::Result<u64> {
    /// `TC_H_ROOT` (linux/pkt_sched.h).
    const ROOT: u32 = u32::MAX;
    /// `TCA_KIND` and `TCA_STATS2` (linux/rtnetlink.h), and in the latter
    /// `TCA_STATS_QUEUE` (linux/gen_stats.h), which begins with the queue's length.
    const KIND: u16 = 1;
    const STATS: u16 = 7;
    const STATS_QUEUE: u16 = 3;
    let mut waiting = None;
    let request = Request::new(libc::RTM_GETQDISC, libc::NLM_F_DUMP, Header::default());
    request.send(|header, attributes| {
        let is_root = (header.ifindex, header.parent) == (index, ROOT);
        if is_root && text(find(attributes, KIND)) == b"fq" {
            let stats = find(find(attributes, STATS), STATS_QUEUE);
            waiting = Some(stats.get(..4).and_then(number));
        }
    })?;
    let Some(waiting) = waiting else {
        return Ok(0);
    };
    let place = Header {
        ifindex: index,
        parent: ROOT,
        ..Header::default()
    };
    Request::new(libc::RTM_DELQDISC, 0, place).send(|_, _| ())?;
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    waiting.map(u64::from).ok_or_else(broken)
}
