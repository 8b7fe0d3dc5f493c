//! Plans for rules on packets.

use super::*;

#[test]
fn loss_needs_programs_only() {
    let rule = (
        loss(Direction::Egress),
        packets_of(web(), host(&[("eth0", 2)])),
    );
    let bare = Features {
        fair_queue: no("no fq"),
        hop_devices: no("no veth"),
        ..able()
    };
    check(
        &[rule],
        &bare,
        "rule r0 (net-loss) through tcx
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. act on eth0 in /ns/host for rules 0
         4. attach to egress of eth0 in /ns/host
         5. put the rules in force",
    );
}

#[test]
fn both_directions_are_two_attachments() {
    let rule = (
        loss(Direction::Both),
        packets_of(web(), host(&[("eth0", 2), ("lo", 1)])),
    );
    check(
        &[rule],
        &debian(),
        "rule r0 (net-loss) through clsact
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. follow the new sockets of targets
         4. aim rules 0 at the open sockets of cgroup /web (id 42)
         5. act on lo in /ns/host for rules 0
         6. act on eth0 in /ns/host for rules 0
         7. attach to egress of lo in /ns/host
         8. attach to ingress of lo in /ns/host
         9. attach to egress of eth0 in /ns/host
         10. attach to ingress of eth0 in /ns/host
         11. put the rules in force",
    );
}

#[test]
fn leaving_packets_wait_in_a_pair() {
    let rule = (
        delay(Direction::Egress),
        packets_of(web(), host(&[("eth0", 2)])),
    );
    check(
        &[rule],
        &able(),
        "rule r0 (net-delay) through tcx
         1. add devices inja0-0badcafe, injb0-0badcafe in /ns/host to hold packets
         2. write rule r0 at 0, inactive
         3. aim rules 0 at cgroup /web (id 42)
         4. act on eth0 in /ns/host for rules 0
         5. attach to egress of eth0 in /ns/host
         6. put the rules in force",
    );
}

/// Nor need the kernel be able to let them wait.
#[test]
fn in_shadow_no_packet_waits() {
    let (fault, scope) = (
        delay(Direction::Egress),
        packets_of(web(), host(&[("eth0", 2), ("lo", 1)])),
    );
    let bare = Features {
        fair_queue: no("no fq"),
        hop_devices: no("no veth"),
        loopback_hop: no("no ifb"),
        ..able()
    };
    let mut experiment = experiment(&[(fault, scope.clone())]);
    assert!(build(&experiment, std::slice::from_ref(&scope), &bare).is_err());
    experiment.rules[0].shadow = true;
    let plan = build(&experiment, &[scope], &bare).expect("a plan");
    let text = plan.to_string();
    assert!(
        text.contains("every occurrence; in shadow: they are counted"),
        "{text}"
    );
    assert!(
        !plan
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::AddHop(_)))
    );
}

#[test]
fn arriving_packets_wait_in_a_pair_too() {
    let rule = (
        delay(Direction::Ingress),
        packets_of(web(), host(&[("eth0", 2)])),
    );
    check(
        &[rule],
        &debian(),
        "rule r0 (net-delay) through clsact
         1. add devices inja0-0badcafe, injb0-0badcafe in /ns/host to hold packets
         2. write rule r0 at 0, inactive
         3. aim rules 0 at cgroup /web (id 42)
         4. follow the new sockets of targets
         5. aim rules 0 at the open sockets of cgroup /web (id 42)
         6. act on eth0 in /ns/host for rules 0
         7. attach to egress of eth0 in /ns/host
         8. attach to ingress of eth0 in /ns/host
         9. put the rules in force",
    );
}

#[test]
fn leaving_packets_are_watched_only_for_pings() {
    // Only who was seen to ask is known to receive the answer.
    let sides = |protocols: &[Protocol]| -> Vec<Direction> {
        let filter = PacketFilter {
            protocols: protocols.to_vec().into(),
            ..filter(Direction::Ingress)
        };
        let scope = packets_of(web(), host(&[("eth0", 2)]));
        let plan = plan(
            &[(Fault::Packet(filter, PacketFault::LOSS), scope)],
            &able(),
        )
        .expect("a plan");
        let attached = plan.effects.iter().filter_map(|effect| {
            if let Effect::AttachPackets { direction, .. } = effect {
                Some(*direction)
            } else {
                None
            }
        });
        attached.collect()
    };
    let both = [Direction::Egress, Direction::Ingress];
    for protocols in [
        &[][..],
        &[Protocol::Icmp],
        &[Protocol::Tcp, Protocol::Number(58)],
    ] {
        assert_eq!(sides(protocols), both, "{protocols:?}");
    }
    for protocols in [
        &[Protocol::Tcp][..],
        &[Protocol::Udp, Protocol::Number(132)],
    ] {
        assert_eq!(sides(protocols), [Direction::Ingress], "{protocols:?}");
    }
}

#[test]
fn packets_on_loopback_wait_where_they_arrive() {
    let rule = (
        delay(Direction::Egress),
        packets_of(web(), host(&[("lo", 1)])),
    );
    check(
        &[rule],
        &able(),
        "rule r0 (net-delay) through tcx
         1. add devices inji0-0badcafe in /ns/host to hold packets
         2. write rule r0 at 0, inactive
         3. aim rules 0 at cgroup /web (id 42)
         4. act on lo in /ns/host for rules 0
         5. attach to egress of lo in /ns/host
         6. attach to ingress of lo in /ns/host
         7. put the rules in force",
    );
}

#[test]
fn loopback_without_a_device_is_left_alone_and_said_so() {
    let old = Features {
        loopback_hop: no("it does not come back"),
        ..able()
    };
    let scope = || packets_of(web(), host(&[("lo", 1), ("eth0", 2)]));
    check(
        &[(delay(Direction::Egress), scope())],
        &old,
        "rule r0 (net-delay) through tcx
         1. add devices inja0-0badcafe, injb0-0badcafe in /ns/host to hold packets
         2. write rule r0 at 0, inactive
         3. aim rules 0 at cgroup /web (id 42)
         4. act on eth0 in /ns/host for rules 0
         5. attach to egress of eth0 in /ns/host
         6. put the rules in force
         note: rule r0 leaves loopback packets alone: that needs an ifb that gives back packets of programs (Linux 6.3); found it does not come back",
    );
    let by_name = PacketFilter {
        interfaces: vec!["eth0".to_owned(), "lo".to_owned()].into(),
        ..filter(Direction::Egress)
    };
    let fault = delay_by(by_name, Duration::from_millis(10));
    let error = plan(&[(fault, scope())], &old).expect_err("asked for by name");
    assert!(
        error.to_string().contains("it does not come back"),
        "{error}"
    );
}

#[test]
fn damage_that_the_application_sees_needs_no_device() {
    let scope = packets_of(web(), host(&[("eth0", 2)]));
    let bare = Features {
        fair_queue: no("no fq"),
        hop_devices: no("no veth"),
        ..able()
    };
    check(
        &[(corrupt(Direction::Egress, Checksum::Valid), scope)],
        &bare,
        "rule r0 (net-corrupt) through tcx
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. act on eth0 in /ns/host for rules 0
         4. attach to egress of eth0 in /ns/host
         5. put the rules in force",
    );
}

#[test]
fn damage_that_the_stack_sees_passes_devices_but_does_not_wait() {
    let scope = packets_of(web(), host(&[("eth0", 2)]));
    let no_queue = Features {
        fair_queue: no("no fq"),
        ..debian()
    };
    check(
        &[(corrupt(Direction::Both, Checksum::Broken), scope)],
        &no_queue,
        "rule r0 (net-corrupt) through clsact
         1. add devices inja0-0badcafe, injb0-0badcafe in /ns/host to pass packets and fill in checksums
         2. write rule r0 at 0, inactive
         3. aim rules 0 at cgroup /web (id 42)
         4. follow the new sockets of targets
         5. aim rules 0 at the open sockets of cgroup /web (id 42)
         6. act on eth0 in /ns/host for rules 0
         7. attach to egress of eth0 in /ns/host
         8. attach to ingress of eth0 in /ns/host
         9. put the rules in force",
    );
}

#[test]
fn rules_of_a_namespace_share_its_devices_and_attachments() {
    let scope = || packets_of(web(), host(&[("eth0", 2)]));
    let rules = [
        (delay(Direction::Egress), scope()),
        (corrupt(Direction::Ingress, Checksum::Broken), scope()),
        (
            loss(Direction::Egress),
            packets_of(cgroup(43, 2, "/db"), host(&[("eth0", 2)])),
        ),
    ];
    check(
        &rules,
        &able(),
        "rule r0 (net-delay) through tcx
         rule r1 (net-corrupt) through tcx
         rule r2 (net-loss) through tcx
         1. add devices inja0-0badcafe, injb0-0badcafe in /ns/host to hold packets and fill in checksums
         2. write rule r0 at 0, inactive
         3. write rule r1 at 1, inactive
         4. write rule r2 at 2, inactive
         5. aim rules 0,1 at cgroup /web (id 42)
         6. aim rules 2 at cgroup /db (id 43)
         7. follow the new sockets of targets
         8. aim rules 1 at the open sockets of cgroup /web (id 42)
         9. act on eth0 in /ns/host for rules 0,1,2
         10. attach to egress of eth0 in /ns/host
         11. attach to ingress of eth0 in /ns/host
         12. put the rules in force",
    );
}

#[test]
fn a_private_namespace_belongs_to_its_target() {
    // A second rule aims at something else in the same namespace.
    let shared = Netns {
        exclusive: false,
        ..private(&[("eth0", 2)])
    };
    let rules = [
        (
            loss(Direction::Egress),
            packets_of(web(), private(&[("eth0", 2)])),
        ),
        (
            loss(Direction::Egress),
            packets_of(cgroup(43, 2, "/db"), shared),
        ),
    ];
    let plan = plan(&rules, &able()).expect("a plan");
    let sites: Vec<(u64, u64)> = plan
        .effects
        .iter()
        .filter_map(|effect| {
            if let Effect::WriteSite { rules, owner, .. } = effect {
                Some((*rules, *owner))
            } else {
                None
            }
        })
        .collect();
    assert_eq!(sites, [(0b11, 0b01)], "{plan}");
    check(
        &rules[..1],
        &able(),
        "rule r0 (net-loss) through tcx
         1. write rule r0 at 0, inactive
         2. aim rules 0 at cgroup /web (id 42)
         3. act on eth0 in /ns/pod for rules 0, which own what no process sends there
         4. attach to egress of eth0 in /ns/pod
         5. put the rules in force",
    );
}

#[test]
fn nobody_owns_an_index_that_two_namespaces_use() {
    // The programs know an interface by its index alone.
    let rules = [
        (
            loss(Direction::Egress),
            packets_of(web(), private(&[("eth0", 2), ("eth1", 3)])),
        ),
        (
            loss(Direction::Egress),
            packets_of(web(), host(&[("ens1", 2)])),
        ),
    ];
    check(
        &rules,
        &able(),
        "rule r0 (net-loss) through tcx
         rule r1 (net-loss) through tcx
         1. write rule r0 at 0, inactive
         2. write rule r1 at 1, inactive
         3. aim rules 0,1 at cgroup /web (id 42)
         4. act on ens1 in /ns/host for rules 1
         5. act on eth0 in /ns/pod for rules 0
         6. act on eth1 in /ns/pod for rules 0, which own what no process sends there
         7. attach to egress of ens1 in /ns/host
         8. attach to egress of eth0 in /ns/pod
         9. attach to egress of eth1 in /ns/pod
         10. put the rules in force",
    );
}

#[test]
fn sockets_of_targeted_processes_are_followed() {
    let rule = (
        loss(Direction::Egress),
        packets_of(process(), host(&[("eth0", 2)])),
    );
    check(
        &[rule],
        &able(),
        "rule r0 (net-loss) through tcx
         1. write rule r0 at 0, inactive
         2. follow the children of targeted processes
         3. aim rules 0 at process 7 and 2 descendants
         4. follow the new sockets of targets
         5. aim rules 0 at the open sockets of process 7 and 2 descendants
         6. act on eth0 in /ns/host for rules 0
         7. attach to egress of eth0 in /ns/host
         8. put the rules in force",
    );
}

#[test]
fn a_command_gets_its_cgroup_first() {
    let rule = (
        loss(Direction::Egress),
        packets_of(Scope::Command, host(&[("eth0", 2)])),
    );
    check(
        &[rule],
        &able(),
        "rule r0 (net-loss) through tcx
         1. create cgroup injector-0badcafe for the command
         2. write rule r0 at 0, inactive
         3. aim rules 0 at the command's cgroup
         4. act on eth0 in /ns/host for rules 0
         5. attach to egress of eth0 in /ns/host
         6. put the rules in force",
    );
}

#[test]
fn a_packet_without_ethernet_header_cannot_wait() {
    let scope = || packets_of(web(), host(&[("eth0", 2), ("tun0", 3)]));
    for fault in [
        delay(Direction::Egress),
        corrupt(Direction::Egress, Checksum::Broken),
    ] {
        let kind = fault.kind().name();
        check(
            &[(fault, scope())],
            &able(),
            &format!(
                "refused: rule r0 ({kind}): not supported here: needs interfaces with an Ethernet \
                 header; name one with --interface; found tun0 in /ns/host, which has none"
            ),
        );
    }
    assert!(plan(&[(loss(Direction::Egress), scope())], &able()).is_ok());
}

#[test]
fn what_is_missing_is_named_with_the_reason() {
    let scope = || packets_of(web(), host(&[("eth0", 2)]));
    let delay = || [(delay(Direction::Egress), scope())];
    check(
        &delay(),
        &Features {
            fair_queue: no("No such file or directory"),
            ..able()
        },
        "refused: rule r0 (net-delay): not supported here: needs the fq queueing discipline \
         (sch_fq); found No such file or directory",
    );
    let unknown = Support::Inconclusive {
        reason: "nobody knows".to_owned(),
    };
    check(
        &delay(),
        &Features {
            hop_devices: unknown,
            ..able()
        },
        "refused: rule r0 (net-delay): not supported here: needs devices for packets to pass \
         (veth); found nobody knows",
    );
    check(
        &[(loss(Direction::Egress), scope())],
        &Features {
            packets: Err("tcx: no; clsact: no".to_owned()),
            ..able()
        },
        "refused: rule r0 (net-loss): not supported here: needs programs at the traffic-control \
         hooks; found tcx: no; clsact: no",
    );
}
