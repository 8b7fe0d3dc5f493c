//! Whom a rule reaches: all that its targets name, also what comes later.

use std::net::SocketAddr;

use injector_tests::{
    agent::{self, Injection},
    cgroup::Cgroup,
    command::Place,
    netns::{Ip, Pair},
    require,
    traffic::{Direction, Load, UdpFlow},
    victim::{CallVictim, Callers, failures},
};

/// No answer comes within a window, so few packets make a short test.
const LOAD: Load = Load::of(200);

/// Calls in a round.
const COUNT: u64 = 10;

/// The addresses of flow number `number`: near end, far end.
fn ends(number: u16) -> (SocketAddr, SocketAddr) {
    let near = (Pair::near_address(Ip::V4), 8000 + number);
    let far = (Pair::far_address(Ip::V4), 7000 + number);
    (near.into(), far.into())
}

/// A flow that the near side sends, from a process in this group.
fn sent_from(pair: &Pair, number: u16, cgroup: &Cgroup) -> UdpFlow {
    let near = Place::netns(&pair.near).and_cgroup(cgroup);
    let (from, to) = ends(number);
    UdpFlow::start(near, Place::netns(&pair.far), from, to)
}

/// A flow that the near side receives, in a process in this group.
fn received_in(pair: &Pair, number: u16, cgroup: &Cgroup) -> UdpFlow {
    let near = Place::netns(&pair.near).and_cgroup(cgroup);
    let (to, from) = ends(number);
    UdpFlow::start(Place::netns(&pair.far), near, from, to)
}

/// Puts a loss of all packets of these targets in force.
#[track_caller]
fn lose_all(targets: &[&str], direction: Direction) -> Injection {
    let mut args = vec!["net-loss", "--direction", direction.word(), "--for", "60s"];
    for target in targets {
        args.extend(["--target", target]);
    }
    Injection::start(&args)
}

/// Fails every `openat` of these targets.
#[track_caller]
fn fail_all(targets: &[&str]) -> Injection {
    let mut args = vec![
        "sys-errno",
        "--call",
        "openat",
        "--errno",
        "EIO",
        "--for",
        "60s",
    ];
    for target in targets {
        args.extend(["--target", target]);
    }
    Injection::start(&args)
}

#[track_caller]
fn assert_all_lost(flow: &UdpFlow) {
    let arrived = flow.round(LOAD);
    assert_eq!((arrived.sent, arrived.missing()), (LOAD.count, LOAD.count));
}

#[track_caller]
fn assert_none_lost(flow: &UdpFlow) {
    flow.round(LOAD).assert_untouched(LOAD);
}

#[track_caller]
fn assert_all_fail(victim: &CallVictim) {
    let seen = victim.round(COUNT);
    assert_eq!(failures(&seen), COUNT * seen.len() as u64, "{seen:?}");
}

#[test]
fn packets_of_several_targets_in_one_rule() {
    require!(NetLoss);
    for direction in [Direction::Egress, Direction::Ingress] {
        let pair = Pair::new();
        let [first, second, third, outside] =
            ["first", "second", "third", "outside"].map(Cgroup::new);
        let start = match direction {
            Direction::Egress => sent_from,
            Direction::Ingress => received_in,
        };
        let [a, b, c, d] = [(1, &first), (2, &second), (3, &third), (4, &outside)]
            .map(|(number, cgroup)| start(&pair, number, cgroup));
        let process = match direction {
            Direction::Egress => c.sender(),
            Direction::Ingress => c.receiver(),
        };
        let pid = format!("pid:{}", process.pid());
        let injection = lose_all(&[&first.target(), &second.target(), &pid], direction);
        for flow in [&a, &b, &c] {
            assert_all_lost(flow);
        }
        assert_none_lost(&d);
        assert_eq!(injection.stop().rule().injected, 3 * LOAD.count);
        for flow in [&a, &b, &c, &d] {
            assert_none_lost(flow);
        }
    }
}

#[test]
fn calls_of_several_targets_in_one_rule() {
    require!(SysErrno);
    let [first, second] = ["first", "second"].map(Cgroup::new);
    let [a, b] = [&first, &second]
        .map(|cgroup| CallVictim::start(Place::cgroup(cgroup), "openat", Callers::One));
    let [c, d] = [(); 2].map(|()| CallVictim::start(Place::HERE, "openat", Callers::One));
    let injection = fail_all(&[&first.target(), &second.target(), &c.target()]);
    for victim in [&a, &b, &c] {
        assert_all_fail(victim);
    }
    d.assert_unharmed(COUNT);
    assert_eq!(injection.stop().rule().injected, 3 * COUNT);
    for victim in [&a, &b, &c, &d] {
        victim.assert_unharmed(COUNT);
    }
}

#[test]
fn packets_of_groups_below_also_later_ones() {
    require!(NetLoss);
    for direction in [Direction::Egress, Direction::Ingress] {
        let pair = Pair::new();
        let outer = Cgroup::new("outer");
        let middle = outer.child("a");
        let inner = middle.child("b");
        let beside = Cgroup::new("beside");
        let start = match direction {
            Direction::Egress => sent_from,
            Direction::Ingress => received_in,
        };
        let [early, out] = [(1, &inner), (2, &beside)].map(|(n, cgroup)| start(&pair, n, cgroup));
        let injection = lose_all(&[&outer.target()], direction);
        let later = outer.child("later");
        let deeper = later.child("still");
        let late = start(&pair, 3, &deeper);
        assert_all_lost(&early);
        assert_all_lost(&late);
        assert_none_lost(&out);
        assert_eq!(injection.stop().rule().injected, 2 * LOAD.count);
        assert_none_lost(&late);
    }
}

#[test]
fn a_group_spares_the_one_above_it() {
    require!(NetLoss);
    let pair = Pair::new();
    let outer = Cgroup::new("outer");
    let inner = outer.child("inner");
    let above = sent_from(&pair, 1, &outer);
    let within = sent_from(&pair, 2, &inner);
    let injection = lose_all(&[&inner.target()], Direction::Egress);
    assert_all_lost(&within);
    assert_none_lost(&above);
    drop(injection.stop());
}

#[test]
fn calls_of_groups_below_also_later_ones() {
    require!(SysErrno);
    let outer = Cgroup::new("outer");
    let middle = outer.child("a");
    let inner = middle.child("b");
    let start = |cgroup| CallVictim::start(Place::cgroup(cgroup), "openat", Callers::One);
    let early = start(&inner);
    // A process cannot start where every open fails, so this one moves in.
    let late = CallVictim::start(Place::HERE, "openat", Callers::Threads(2));
    let injection = fail_all(&[&outer.target()]);
    let later = outer.child("later");
    late.assert_unharmed(COUNT);
    later.adopt(late.pid());
    assert_all_fail(&late);
    assert_all_fail(&early);
    drop(injection.stop());
    late.assert_unharmed(COUNT);
}

/// A group without processes may get some, and until then the only namespace
/// that can be known is the agent's own.
#[test]
fn a_group_that_is_empty_at_first() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("empty");
    let target = cgroup.target();
    let args = ["net-loss", "--target", &target, "--for", "60s"];
    let injection = Injection::start_in(Place::netns(&pair.near), &args, &[]);
    let flow = sent_from(&pair, 1, &cgroup);
    assert_all_lost(&flow);
    assert_eq!(injection.stop().rule().injected, LOAD.count);
    assert_none_lost(&flow);
}

#[test]
fn a_group_by_its_path_in_the_hierarchy() {
    require!(NetLoss);
    let pair = Pair::new();
    let cgroup = Cgroup::new("outer");
    let flow = sent_from(&pair, 1, &cgroup);
    let path = cgroup.relative().display().to_string();
    for target in [format!("cgroup:{path}"), format!("cgroup:/{path}")] {
        let injection = lose_all(&[&target], Direction::Egress);
        assert_all_lost(&flow);
        drop(injection.stop());
    }
}

/// Packets of a process whose socket belongs to one of its workers, which is
/// made only after the rule came in force.
#[track_caller]
fn check_worker(worker: &str, direction: Direction) {
    require!(NetLoss);
    let pair = Pair::new();
    let (near, far) = (Place::netns(&pair.near), Place::netns(&pair.far));
    let (here, there) = ends(1);
    let mut flow = match direction {
        Direction::Egress => UdpFlow::new(here, there),
        Direction::Ingress => UdpFlow::new(there, here),
    };
    let (pid, bystander) = match direction {
        Direction::Egress => {
            flow.start_receiver(far);
            flow.start_sender(near, worker);
            let (from, to) = ends(2);
            (flow.sender().pid(), UdpFlow::start(near, far, from, to))
        }
        Direction::Ingress => {
            flow.start_receiver_as(near, worker);
            flow.start_sender(far, "main");
            let (to, from) = ends(2);
            (flow.receiver().pid(), UdpFlow::start(far, near, from, to))
        }
    };
    let injection = lose_all(&[&format!("pid:{pid}")], direction);
    assert_all_lost(&flow);
    assert_none_lost(&bystander);
    assert_eq!(injection.stop().rule().injected, LOAD.count);
    assert_none_lost(&flow);
}

#[test]
fn packets_of_a_thread() {
    check_worker("thread", Direction::Egress);
}

#[test]
fn packets_of_a_child_forked_later() {
    check_worker("child", Direction::Egress);
}

#[test]
fn packets_of_a_grandchild_forked_later() {
    check_worker("grandchild", Direction::Egress);
}

#[test]
fn packets_to_a_thread() {
    check_worker("thread", Direction::Ingress);
}

#[test]
fn packets_to_a_grandchild() {
    check_worker("grandchild", Direction::Ingress);
}

/// The loader opens its libraries before any instruction of the command's own,
/// so a command that cannot even be loaded proves that the fault was on first.
#[test]
fn a_command_is_hit_before_its_first_instruction() {
    require!(SysErrno);
    let args = [
        "inject",
        "sys-errno",
        "--call",
        "openat",
        "--errno",
        "EIO",
        "--for",
        "30s",
    ];
    let args = [&args[..], &["--output", "json", "--", "/bin/true"]].concat();
    let finished = agent::run(&args);
    assert!(
        finished
            .stderr
            .contains("error while loading shared libraries"),
        "{finished:?}"
    );
    assert_eq!(finished.code(), 127, "the status of the loader");
    let report = finished.report();
    assert_eq!(report.stopped_by, "command_exit");
    assert!(report.only().injected >= 1);
}

#[test]
fn a_commands_first_open_is_occurrence_one() {
    require!(SysErrno);
    // The loader can do without its cache, the first file that it opens.
    let args = [
        "inject",
        "sys-errno",
        "--call",
        "openat",
        "--errno",
        "EIO",
        "--when",
        "1",
    ];
    let args = [
        &args[..],
        &["--for", "30s", "--output", "json", "--", "/bin/true"],
    ]
    .concat();
    let finished = agent::run(&args);
    assert_eq!(finished.code(), 0, "{finished:?}");
    let rule = finished.rule();
    assert_eq!(rule.injected, 1);
    assert!(rule.matched >= 2, "the libraries themselves: {rule:?}");
}

#[test]
fn two_agents_at_once_keep_to_their_own() {
    require!(NetLoss);
    let pair = Pair::new();
    let [first, second] = ["first", "second"].map(Cgroup::new);
    let [a, b] =
        [(1, &first), (2, &second)].map(|(number, cgroup)| sent_from(&pair, number, cgroup));
    let one = lose_all(&[&first.target()], Direction::Egress);
    let two = lose_all(&[&second.target()], Direction::Egress);
    assert_all_lost(&a);
    assert_all_lost(&b);
    assert_eq!(one.stop().rule().injected, LOAD.count);
    assert_none_lost(&a);
    assert_all_lost(&b);
    assert_eq!(two.stop().rule().injected, 2 * LOAD.count);
    assert_none_lost(&b);
}
