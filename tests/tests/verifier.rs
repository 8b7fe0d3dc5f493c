//! How much work the programs are for the kernel's verifier, which decides how
//! long it takes until a fault is in force.

use aya::programs::SchedClassifier;
use injector_common::{
    FaultKind,
    kinds::Family,
    names::{PROG_EGRESS, PROG_INGRESS},
    uses::Uses,
};
use injector_tests::test_run;

/// For rules of all kinds. Half a million once took a second and a half.
const LIMIT: u32 = 48_000;
/// For rules of one kind, which is what most users have.
const LIMIT_OF_ONE: u32 = 32_000;

/// How many instructions the verifier walks of both packet programs, cut down to
/// these parts.
fn walked(parts: Uses) -> [u32; 2] {
    let mut ebpf = test_run::load_for(parts);
    [PROG_EGRESS, PROG_INGRESS].map(|name| {
        let program: &mut SchedClassifier = ebpf
            .program_mut(name)
            .expect("the object has it")
            .try_into()
            .expect("a classifier");
        program.load().expect("the verifier accepts the program");
        program
            .info()
            .expect("a program's description")
            .verified_instruction_count()
            .expect("the count is there since Linux 5.16")
    })
}

#[test]
fn packet_programs_are_verified_quickly() {
    let counts = walked(Uses::EVERYTHING);
    println!("all kinds: {counts:?}");
    assert!(counts.iter().all(|&count| count <= LIMIT), "{counts:?}");
}

#[test]
fn what_no_rule_uses_is_not_verified() {
    let of_packets = |kind: &&FaultKind| kind.family() == Family::Packet;
    for &kind in FaultKind::ALL.iter().filter(of_packets) {
        // A kind may come with every part that is not a kind.
        let parts = Uses::DETOURS
            .and(Uses::QUEUES)
            .and(Uses::PORTS)
            .and(Uses::FRAMES)
            .and(Uses::LOCALS)
            .and(Uses::FLOWS)
            .and(Uses::LEDGER)
            .and(Uses::CORRELATION)
            .and(Uses::SEGMENTS);
        let counts = walked(Uses::kind(kind).and(parts));
        println!("{}: {counts:?}", kind.name());
        assert!(
            counts.iter().all(|&count| count <= LIMIT_OF_ONE),
            "{}: {counts:?}",
            kind.name()
        );
    }
}
