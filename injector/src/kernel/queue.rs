//! The queue in which delayed packets wait for their time.

use std::io;

use rtnetlink::{
    Handle,
    packet_core::{DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcHandle, TcHeader, TcMessage, TcOption},
    },
};

use super::netlink::acknowledged;

/// Attributes of fq (`TCA_FQ_*`, linux/pkt_sched.h).
mod fq {
    pub(super) const LIMIT: u16 = 1;
    pub(super) const FLOW_LIMIT: u16 = 2;
    pub(super) const RATE_ENABLE: u16 = 5;
    pub(super) const TIMER_SLACK: u16 = 13;
    pub(super) const HORIZON: u16 = 14;
}

/// Packets that fq holds at most, in all and per flow. Its own defaults, 10,000
/// and 100, would drop what is delayed long or fast.
const FQ_PACKETS: u32 = 1_000_000;
/// How far ahead a departure may lie, in µs: over an hour, the most that the
/// attribute can say. The default of 10 s would cap longer delays.
const FQ_HORIZON_US: u32 = u32::MAX;
/// How late the timer may let a packet out, in ns. The default of 10 µs would add
/// to each delay.
const FQ_TIMER_SLACK_NS: u32 = 0;

/// Gives a device of ours a fair queue that lets every packet wait for its
/// time.
///
/// # Errors
///
/// ENOENT when the kernel has no fq.
pub(super) async fn add_fair_queue(handle: &mut Handle, index: u32) -> io::Result<()> {
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
            option(fq::LIMIT, FQ_PACKETS),
            option(fq::FLOW_LIMIT, FQ_PACKETS),
            option(fq::RATE_ENABLE, 0),
            option(fq::TIMER_SLACK, FQ_TIMER_SLACK_NS),
            option(fq::HORIZON, FQ_HORIZON_US),
        ]),
    ];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    acknowledged(handle, request).await
}
