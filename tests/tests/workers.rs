//! Packets of a target's threads and descendants, for each kind of fault on
//! packets. (`tests/tests/targets.rs` has the same for losses of a process.)

use std::time::Duration;

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    kernel::Feature,
    netns::{Ip, Pair},
    require_for,
    traffic::{Arrived, Direction, Load, UdpFlow},
};

/// How the rule names a process in a group.
type Target = fn(&Cgroup, u32) -> String;

const GROUP: Target = |group, _| group.target();
const PROCESS: Target = |_, pid| format!("pid:{pid}");

/// A fault, and what it does to each packet.
struct Fault {
    needs: Feature,
    words: &'static str,
    hits: fn(&Arrived) -> u64,
}

const LOSS: Fault = Fault {
    needs: Feature::NetLoss,
    words: "net-loss",
    hits: Arrived::missing,
};

const DELAY: Fault = Fault {
    needs: Feature::NetDelay,
    words: "net-delay --delay 40ms",
    hits: |arrived| arrived.delays.at_least(Duration::from_millis(40)),
};

const CORRUPTION: Fault = Fault {
    needs: Feature::NetCorrupt,
    words: "net-corrupt --checksum valid",
    hits: |arrived| arrived.damaged,
};

/// Paced, so that a packet that is not delayed is not held up by others either.
const LOAD: Load = Load::of(100).spaced(Duration::from_millis(1));

/// Hits all packets of a victim's worker, beside a bystander's whose socket
/// belongs to such a worker too. One that sends is made in each round, after the
/// rule came in force; one that receives was there before.
#[track_caller]
fn check(fault: &Fault, target: Target, worker: &str, direction: Direction) {
    require_for!(fault.needs);
    let pair = Pair::new();
    let cgroup = Cgroup::new("victim");
    let (near, far) = (Place::netns(&pair.near), Place::netns(&pair.far));
    let start = |place: Place<'_>, port: u16| {
        let here = (Pair::near_address(Ip::V4), port + 1000).into();
        let there = (Pair::far_address(Ip::V4), port).into();
        let mut flow;
        match direction {
            Direction::Egress => {
                flow = UdpFlow::new(here, there);
                flow.start_receiver(far);
                flow.start_sender(place, worker);
            }
            Direction::Ingress => {
                flow = UdpFlow::new(there, here);
                flow.start_receiver_as(place, worker);
                flow.start_sender(far, "main");
            }
        }
        flow
    };
    let (victim, bystander) = (start(near.and_cgroup(&cgroup), 7001), start(near, 7002));
    let process = match direction {
        Direction::Egress => victim.sender(),
        Direction::Ingress => victim.receiver(),
    };
    let words = format!(
        "{} --target {} --direction {} --for 60s",
        fault.words,
        target(&cgroup, process.pid()),
        direction.word()
    );
    let injection = Injection::start(&words.split(' ').collect::<Vec<_>>());
    bystander.begin(LOAD);
    let arrived = victim.round(LOAD);
    bystander.finish().assert_untouched(LOAD);
    let rule = injection.stop().rule();
    assert_eq!((fault.hits)(&arrived), LOAD.count, "{arrived:?}");
    assert_eq!((rule.matched, rule.injected), (LOAD.count, LOAD.count));
    victim.round(LOAD).assert_untouched(LOAD);
}

#[test]
fn loss_from_a_thread_in_a_group() {
    check(&LOSS, GROUP, "thread", Direction::Egress);
}

#[test]
fn loss_from_a_grandchild_in_a_group() {
    check(&LOSS, GROUP, "grandchild", Direction::Egress);
}

#[test]
fn loss_to_a_thread_in_a_group() {
    check(&LOSS, GROUP, "thread", Direction::Ingress);
}

#[test]
fn loss_to_a_grandchild_in_a_group() {
    check(&LOSS, GROUP, "grandchild", Direction::Ingress);
}

#[test]
fn delay_from_a_grandchild_of_a_process() {
    check(&DELAY, PROCESS, "grandchild", Direction::Egress);
}

#[test]
fn delay_to_a_thread_in_a_group() {
    check(&DELAY, GROUP, "thread", Direction::Ingress);
}

#[test]
fn corruption_from_a_thread_of_a_process() {
    check(&CORRUPTION, PROCESS, "thread", Direction::Egress);
}

#[test]
fn corruption_to_a_grandchild_in_a_group() {
    check(&CORRUPTION, GROUP, "grandchild", Direction::Ingress);
}
