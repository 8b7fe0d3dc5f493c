//! Plans for rules that let the calls fail which send packets.

use super::*;
use crate::model::{LossModel, State, Visibility};

fn told() -> PacketFault {
    PacketFault::Loss {
        model: LossModel::Trigger,
        visibility: Visibility::Call,
    }
}

fn denial() -> Fault {
    Fault::Packet(filter(Direction::Egress), told())
}

#[test]
fn nothing_is_attached_to_interfaces() {
    let bare = Features {
        packets: Err("no programs there".to_owned()),
        ..able()
    };
    check(
        &[(
            denial(),
            packets_of(web(), private(&[("eth0", 2), ("lo", 1)])),
        )],
        &bare,
        "rule r0 (net-loss) through cgroup
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. watch lo in /ns/pod for sends by rules 0
         4. watch eth0 in /ns/pod for sends by rules 0
         5. attach to sends of sockets below the root cgroup, to fail with EPERM
         6. put the rules in force",
    );
}

#[test]
fn only_a_socket_tells_which_process_sends() {
    check(
        &[(denial(), packets_of(process(), host(&[("eth0", 2)])))],
        &able(),
        "rule r0 (net-loss) through cgroup
         1. write rule r0 at 0, inactive
         2. follow the children of targeted processes
         3. aim rules 0 at process 7 and 2 descendants
         4. follow the new sockets of targets
         5. aim rules 0 at the open sockets of process 7 and 2 descendants
         6. watch eth0 in /ns/host for sends by rules 0
         7. attach to sends of sockets below the root cgroup, to fail with EPERM
         8. put the rules in force",
    );
}

#[test]
fn only_udp_needs_what_is_received() {
    for (protocol, hears) in [
        (Protocol::Udp, ", and to what they receive"),
        (Protocol::Tcp, ""),
    ] {
        let filter = PacketFilter {
            protocols: vec![protocol].into(),
            states: vec![State::New].into(),
            ..filter(Direction::Egress)
        };
        let expected = format!(
            "rule r0 (net-loss) through cgroup
             1. write rule r0 at 0, inactive
             2. aim rules 0 at cgroup /web (id 42)
             3. watch eth0 in /ns/host for sends by rules 0
             4. attach to sends of sockets below the root cgroup, to fail with EPERM{hears}
             5. put the rules in force"
        );
        let rule = (
            Fault::Packet(filter, told()),
            packets_of(web(), host(&[("eth0", 2)])),
        );
        check(&[rule], &able(), &expected);
    }
}

#[test]
fn each_hook_asks_its_own_rules() {
    let scope = || packets_of(web(), private(&[("eth0", 2)]));
    check(
        &[
            (denial(), scope()),
            (loss(Direction::Egress), scope()),
            (denial(), scope()),
        ],
        &able(),
        "rule r0 (net-loss) through cgroup
         rule r1 (net-loss) through tcx
         rule r2 (net-loss) through cgroup
         1. write rule r0 at 0, inactive
         2. write rule r1 at 1, inactive
         3. write rule r2 at 2, inactive
         4. aim rules 0,1,2 at cgroup /web (id 42)
         5. act on eth0 in /ns/pod for rules 1, which own what no process sends there, and for \
         sends by rules 0,2
         6. attach to egress of eth0 in /ns/pod
         7. attach to sends of sockets below the root cgroup, to fail with EPERM
         8. put the rules in force",
    );
}

#[test]
fn a_kernel_without_the_hook_is_told() {
    let old = Features {
        send: no("no such programs"),
        ..able()
    };
    check(
        &[(denial(), packets_of(web(), host(&[("eth0", 2)])))],
        &old,
        "refused: rule r0 (net-loss): not supported here: needs programs where sockets send, for \
         --visibility errno=EPERM; found no such programs",
    );
}

#[test]
fn an_interface_is_named_in_one_namespace_alone() {
    let scope = || RuleScope {
        scopes: vec![web()],
        netns: vec![host(&[("eth0", 2)]), private(&[("eth0", 3)])],
        files: Vec::new(),
        chain: Vec::new(),
        function: None,
        left_out: None,
    };
    let named = PacketFilter {
        interfaces: vec!["eth0".to_owned()].into(),
        ..filter(Direction::Egress)
    };
    check(
        &[(Fault::Packet(named, told()), scope())],
        &able(),
        "refused: rule r0 (net-loss): not supported here: needs targets in one network namespace, \
         for --interface with --visibility errno=EPERM; found targets in 2",
    );
    assert!(plan(&[(denial(), scope())], &able()).is_ok());
}
