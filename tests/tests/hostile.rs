//! A million packets as an attacker or a broken driver sends them, through programs in
//! the kernel: it reads what the host reads, and hits what the host says it hits.
//!
//! What the host reads is compared with another parser in
//! `injector-common/tests/packet_hostile.rs`, on the same packets.

#[path = "../../injector-common/tests/support/dice.rs"]
mod dice;
#[path = "../../injector-common/tests/support/hostile.rs"]
mod hostile;

use std::os::fd::AsFd as _;

use dice::{Dice, PACKETS, seed};
use hostile::{Packet, packet};
use injector_common::{
    Trigger,
    filter::{EGRESS, INGRESS, MAX_SIZE_RANGES, PacketFilter, PortSet, directions},
    names::{PROG_EGRESS, PROG_INGRESS, PROG_PARITY},
    packet::{self as reading, Facts},
    parity::ParityVector,
};
use injector_tests::{
    kernel::Where,
    require,
    test_run::{self, ETHERNET, Frame, LOST, NEXT},
};

/// How many packets go through programs. Under emulation each takes twenty times as
/// long, and it is the verifier and the compiler there that are of interest.
fn packets() -> u64 {
    if Where::current().is_virtual() {
        PACKETS / 50
    } else {
        PACKETS
    }
}

#[test]
fn the_kernel_reads_hostile_packets_as_the_host_does() {
    require!(NetLoss);
    let seed = seed();
    let mut ebpf = test_run::load();
    let program = test_run::program(&mut ebpf, PROG_PARITY);
    let mut read = 0;
    for number in 0..packets() {
        let packet = packet(seed, number);
        let vector = vector(&packet);
        let expected = test_run::on_host(&vector, &packet.bytes, |_| None);
        let found = test_run::in_kernel(&program, &vector, &packet.bytes);
        assert_eq!(
            found, expected,
            "packet {number} of seed {seed}: {packet:02x?}"
        );
        read += u64::from(found.parsed);
    }
    let all = packets();
    assert!(
        (all / 4..all * 3 / 4).contains(&read),
        "{read} of {all} were read"
    );
}

/// A vector that asks for nothing but the packet's facts.
fn vector(packet: &Packet) -> ParityVector {
    ParityVector {
        trigger: Trigger::ALWAYS,
        params: [0; 4],
        seed: 1,
        n: 1,
        spent: 0,
        in_flow: 0,
        seen: 0,
        filter: PacketFilter::ANY,
        direction: EGRESS,
        l2_len: packet.l2_len,
        ether_type: packet.ether_type.into(),
        frame_len: u32::try_from(packet.bytes.len()).expect("a short packet"),
        gso_size: packet.gso_size,
        mark: 0,
    }
}

/// Every packet here is the target's, so that nothing but the headers decides.
#[test]
fn hostile_packets_are_hit_where_the_filter_says_so() {
    require!(NetLoss);
    let seed = seed();
    let mut ebpf = test_run::load();
    let programs = [(EGRESS, PROG_EGRESS), (INGRESS, PROG_INGRESS)]
        .map(|(way, name)| (way, test_run::program(&mut ebpf, name)));
    let mut rules = test_run::arm(&mut ebpf);

    let (mut hit, mut spared, mut refused) = (0, 0, 0);
    let mut rule = test_run::loss(PacketFilter::ANY);
    for number in 0..packets() {
        let dice = &mut Dice::new(!seed, number);
        if number.is_multiple_of(500) {
            rule.versions[0].filter = filter(dice);
            rules.set(0, rule, 0).expect("write the rule");
        }
        let packet = packet(seed, number);
        let (way, program) = &programs[dice.below(2)];
        let mut frame = framed(&packet);
        let expected = is_hit(&rule.versions[0].filter, &frame, &packet, *way);
        let Ok(verdict) = test_run::run(program.as_fd(), &mut frame, packet.gso_size) else {
            refused += 1;
            continue;
        };
        assert_eq!(
            verdict,
            if expected { LOST } else { NEXT },
            "packet {number} of seed {seed}, {:?}: {packet:02x?}",
            rule.versions[0].filter
        );
        *(if expected { &mut hit } else { &mut spared }) += 1;
    }
    println!("{hit} were hit, {spared} were not, {refused} the kernel took for no frame");
    let all = packets();
    assert!(hit > all / 10 && spared > all / 10 && refused < all / 5);
}

/// The packet behind an Ethernet header.
fn framed(packet: &Packet) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET];
    frame[12..].copy_from_slice(&packet.ether_type.to_ne_bytes());
    let l2_len = packet.l2_len as usize;
    frame.extend(packet.bytes.get(l2_len..).unwrap_or_default());
    frame
}

/// Whether a packet of the target's is one that the rule may hit.
fn is_hit(filter: &PacketFilter, frame: &[u8], packet: &Packet, way: u32) -> bool {
    let mut facts = Facts::NONE;
    let l2_len = test_run::L2_LEN;
    let parsed = reading::parse(
        &Frame(frame, packet.gso_size),
        packet.ether_type,
        l2_len,
        &mut facts,
    );
    let len = u32::try_from(frame.len()).expect("a short packet");
    facts.note_frame(l2_len, len, packet.gso_size, 0);
    // What arrives through a tunnel is its owner's only once it is out of it.
    let tunnelled = way == INGRESS && reading::is_tunnel(facts.number) && !facts.is_fragment();
    parsed && facts.protected == 0 && !tunnelled && filter.matches(&facts, way)
}

/// All sets of flags that have these.
fn flags_with(flags: u8) -> [u64; 4] {
    let mut taken = [0; 4];
    for set in (0..=u8::MAX).filter(|set| set & flags == flags) {
        taken[usize::from(set >> 6)] |= 1 << (set & 63);
    }
    taken
}

/// A filter, of which random packets meet a good part.
fn filter(dice: &mut Dice) -> PacketFilter {
    let mut filter = PacketFilter::ANY;
    match dice.below(8) {
        0 => {}
        1 => {
            filter.peer_ports = PortSet::NONE;
            filter.peer_ports.ranges[0] = [1, dice.of(&[100, 30_000, u16::MAX])];
        }
        2 => {
            filter.local_ports = PortSet::NONE;
            filter.local_ports.ranges[0] = [dice.of(&[1, 68, 30_000]), u16::MAX];
        }
        3 => {
            let number = dice.of(&[6, 17, 1, 58, 44, 60]);
            filter.protocols = [0; 4];
            filter.protocols[0] = 1 << number;
        }
        4 => {
            let flags: u8 = dice.of(&[0, 1, 2, 0x10]);
            filter.flagless = 0;
            filter.tcp_flags = flags_with(flags);
        }
        5 => filter.states = dice.of(&[1, 2, 4, 6]),
        6 => filter.sizes = [[dice.of(&[20, 60, 100]), 60]; MAX_SIZE_RANGES],
        _ => filter.directions = directions(dice.of(&[EGRESS, INGRESS])),
    }
    filter
}
