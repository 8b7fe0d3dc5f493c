//! What filters ask of a plan.

use super::*;
use crate::model::State;

#[test]
fn conversations_are_followed_both_ways() {
    // TCP tells by itself.
    for (protocols, steps) in [
        (vec![], true),
        (vec![Protocol::Udp, Protocol::Tcp], true),
        (vec![Protocol::Tcp], false),
    ] {
        let filter = PacketFilter {
            protocols: protocols.into(),
            states: vec![State::New].into(),
            ..filter(Direction::Egress)
        };
        let scope = packets_of(web(), host(&[("eth0", 2)]));
        let rules = [(Fault::Packet(filter, PacketFault::LOSS), scope)];
        let expected = if steps {
            "rule r0 (net-loss) through tcx
             1. write rule r0 at 0, inactive
             2. aim rules 0 at cgroup /web (id 42)
             3. follow the new sockets of targets
             4. aim rules 0 at the open sockets of cgroup /web (id 42)
             5. act on eth0 in /ns/host for rules 0
             6. attach to egress of eth0 in /ns/host
             7. attach to ingress of eth0 in /ns/host
             8. put the rules in force"
        } else {
            "rule r0 (net-loss) through tcx
             1. write rule r0 at 0, inactive
             2. aim rules 0 at cgroup /web (id 42)
             3. act on eth0 in /ns/host for rules 0
             4. attach to egress of eth0 in /ns/host
             5. put the rules in force"
        };
        check(&rules, &able(), expected);
    }
}
