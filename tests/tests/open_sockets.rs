//! Sockets that were open before the rule came in force: it reaches them too, as
//! long as they are a target's.

use std::time::Duration;

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    dialer::DialBed,
    netns::{Ip, Pair},
    require,
    traffic::{Direction, Load, TcpFlow, UdpFlow},
    wait,
};

/// How the rule names a process in a group.
type Target = fn(&Cgroup, u32) -> String;

const GROUP: Target = |group, _| group.target();
const PROCESS: Target = |_, pid| format!("pid:{pid}");

/// No answer comes within a window, so few packets make a short test.
const LOAD: Load = Load::of(200);

/// Loses all packets of a target.
#[track_caller]
fn lose_all(target: &str, direction: Direction, proto: &str) -> Injection {
    let words = format!(
        "net-loss --target {target} --direction {} --proto {proto} --for 60s",
        direction.word()
    );
    Injection::start(&words.split(' ').collect::<Vec<_>>())
}

/// Loses what is sent through a socket that a worker of the victim opened before
/// the rule was there, beside a bystander's in the same namespace.
#[track_caller]
fn check_sender(target: Target, worker: &str) {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let (near, far) = (Place::netns(&pair.near), Place::netns(&pair.far));
    let start = |place: Place<'_>, port: u16| {
        let from = (Pair::near_address(Ip::V4), port + 1000).into();
        let to = (Pair::far_address(Ip::V4), port).into();
        let mut flow = UdpFlow::new(from, to);
        flow.start_receiver(far);
        flow.start_early_sender(place, worker);
        // Once packets flow, the socket is open.
        flow.round(LOAD).assert_untouched(LOAD);
        flow
    };
    let (victim, bystander) = (start(near.and_cgroup(&cgroup), 7001), start(near, 7002));
    let target = target(&cgroup, victim.sender().pid());
    let injection = lose_all(&target, Direction::Egress, "udp");
    let arrived = victim.round(LOAD);
    assert_eq!((arrived.sent, arrived.missing()), (LOAD.count, LOAD.count));
    bystander.round(LOAD).assert_untouched(LOAD);
    assert_eq!(injection.stop().rule().injected, LOAD.count);
    victim.round(LOAD).assert_untouched(LOAD);
}

#[test]
fn of_a_process() {
    check_sender(PROCESS, "main");
}

#[test]
fn of_a_thread_of_a_process() {
    check_sender(PROCESS, "thread");
}

#[test]
fn of_a_grandchild_of_a_process() {
    check_sender(PROCESS, "grandchild");
}

#[test]
fn of_a_group() {
    check_sender(GROUP, "main");
}

#[test]
fn of_a_grandchild_in_a_group() {
    check_sender(GROUP, "grandchild");
}

/// Bytes of a round through a connection: more than the kernel lets a sender
/// have on the way without an answer (`tcp_wmem`, 4 MiB), so that the loss of
/// answers alone shows too.
const BYTES: u64 = 16 << 20;

/// Bytes of a round that nothing disturbs.
const FEW_BYTES: u64 = 1 << 20;

/// Which end of a connection the victim has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has connected, and sends.
    Client,
    /// It has accepted, and receives.
    Server,
}

/// Loses one direction of a connection that was established before the rule was
/// there: it stalls until the rule is gone, and then goes on where it was.
#[track_caller]
fn check_connection(target: Target, end: End, direction: Direction) {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let (near, far) = (Place::netns(&pair.near), Place::netns(&pair.far));
    let start = |place: Place<'_>, port: u16| {
        let flow = match end {
            End::Client => {
                let to = (Pair::far_address(Ip::V4), port).into();
                TcpFlow::start_kept(place, far, to)
            }
            End::Server => {
                let to = (Pair::near_address(Ip::V4), port).into();
                TcpFlow::start_kept(far, place, to)
            }
        };
        whole(&flow);
        flow
    };
    let (victim, bystander) = (start(near.and_cgroup(&cgroup), 7001), start(near, 7002));
    let process = match end {
        End::Client => victim.sender(),
        End::Server => victim.receiver(),
    };
    let injection = lose_all(&target(&cgroup, process.pid()), direction, "tcp");
    victim.begin(BYTES);
    whole(&bystander);
    let quiet = Duration::from_millis(500);
    let arrived = wait::settled("arrivals", quiet, || victim.arrived_so_far());
    // The payload goes from the client to the server; the other way are answers.
    let payload = (end == End::Client) == (direction == Direction::Egress);
    assert!(
        if payload {
            arrived == 0
        } else {
            arrived < BYTES
        },
        "{arrived} bytes have arrived"
    );
    let rule = injection.stop().rule();
    assert!(
        rule.injected > 0 && rule.injected == rule.matched,
        "{rule:?}"
    );
    // The sender waited longer after each attempt, so the next may take a while.
    let stream = victim.finish();
    assert_eq!((stream.bytes, stream.bad_bytes), (BYTES, 0));
}

/// Sends a round that nothing disturbs.
#[track_caller]
fn whole(flow: &TcpFlow) {
    let stream = flow.round(FEW_BYTES);
    assert_eq!((stream.bytes, stream.bad_bytes), (FEW_BYTES, 0));
}

macro_rules! connections {
    ($($name:ident: $target:ident $end:ident $direction:ident;)+) => {
        $(
            #[test]
            fn $name() {
                check_connection($target, End::$end, Direction::$direction);
            }
        )+
    };
}

// What a group sends goes by where its sockets were made, however old they are.
connections! {
    connection_from_a_process_egress: PROCESS Client Egress;
    connection_to_a_process_ingress: PROCESS Server Ingress;
    connection_from_a_process_ingress: PROCESS Client Ingress;
    connection_to_a_process_egress: PROCESS Server Egress;
    connection_from_a_group_ingress: GROUP Client Ingress;
    connection_to_a_group_ingress: GROUP Server Ingress;
}

/// Loses one packet of the handshake of a connection that a victim answers, and lets the
/// next try through. No process has a socket for it yet but the one that listens.
#[track_caller]
fn check_half_open(target: Target, filter: &str) {
    require!(NetLoss);
    let bed = DialBed::on_cable(Ip::V4, Direction::Ingress, &["--exchanges", "1"]);
    let target = target(&bed.cgroup, bed.victim.answerer_pid());
    let line = format!("net-loss --target {target} --times 1 {filter} --for 60s");
    let injection = Injection::start(&line.split(' ').collect::<Vec<_>>());
    bed.bystander.assert_unharmed(20);
    bed.victim.assert_unharmed(1);
    let rule = injection.stop().rule();
    assert_eq!(rule.injected, 1, "{rule:?}");
    // That packet, and the one that was sent again.
    assert!((1..4).contains(&rule.matched), "{rule:?}");
}

macro_rules! half_open {
    ($($name:ident: $target:ident, $filter:literal;)+) => {
        $(
            #[test]
            fn $name() {
                check_half_open($target, $filter);
            }
        )+
    };
}

half_open! {
    a_half_open_connection_of_a_group: GROUP, "--direction egress --tcp-flags syn,ack";
    a_half_open_connection_of_a_process: PROCESS, "--direction egress --tcp-flags syn,ack";
    a_half_open_connection_to_a_process: PROCESS, "--direction ingress --tcp-flags ack,!psh,!fin";
    the_first_packet_to_a_process: PROCESS, "--direction ingress --tcp-flags syn,!ack";
}
