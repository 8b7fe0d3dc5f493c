//! How much work the programs are for the kernel's verifier, which decides how
//! long it takes until a fault is in force.

use std::{env, fs, io};

use aya::programs::SchedClassifier;
use injector_common::{
    FaultKind,
    kinds::Family,
    names::{PROG_EGRESS, PROG_INGRESS},
    uses::Uses,
};
use injector_tests::{agent::Injection, cgroup::Cgroup, kernel::Feature, require, test_run};

/// For rules of all kinds. Half a million once took a second and a half.
const LIMIT: u32 = 48_000;
/// For rules of one kind, which is what most users have.
const LIMIT_OF_ONE: u32 = 32_000;
/// For programs on calls, whatever their rules ask for: an agent may load one for each of a hundred
/// calls.
const LIMIT_ON_CALLS: u32 = 16_000;

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

/// What the kernel says of every program that a process has loaded: how many instructions its verifier
/// walked.
fn walked_for(pid: u32) -> io::Result<Vec<u32>> {
    let mut counts = Vec::new();
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let told = fs::read_to_string(file?.path())?;
        let count = told
            .lines()
            .find_map(|line| line.strip_prefix("verified_insns:"));
        counts.extend(count.and_then(|count| count.trim().parse::<u32>().ok()));
    }
    Ok(counts)
}

#[test]
fn programs_on_calls_are_verified_quickly() {
    require!(SysErrno);
    let cgroup = Cgroup::new("victim");
    let target = cgroup.target();
    let asks = [
        "--path",
        "/tmp",
        "--file-type",
        "file",
        "--access",
        "read",
        "--arg",
        "2>=1",
        "--uid",
        "!12345",
        "--comm",
        "!other",
        "--per",
        "thread",
        "--percent",
        "50",
        "--times",
        "5",
        "--target",
        &target,
        "--for",
        "60s",
    ];
    let own = env::current_exe().expect("this test");
    let by = format!("main@{}", own.display());
    let asks = [&asks[..], &["--called-by", &by]].concat();
    let mut kinds = vec![
        vec!["sys-errno", "--call", "openat", "--errno", "plausible"],
        vec!["sys-signal", "--call", "read", "--signal", "USR1"],
    ];
    if Feature::Asleep.available().is_ok() {
        kinds.push(vec!["sys-delay", "--call", "openat", "--delay", "50ms"]);
    }
    for kind in kinds {
        let args: Vec<&str> = kind.iter().chain(&asks).copied().collect();
        let injection = Injection::start(&args);
        let counts = walked_for(injection.agent().pid()).expect("the agent's descriptors");
        println!("{}: {counts:?}", kind[0]);
        assert!(!counts.is_empty(), "{}: no program", kind[0]);
        assert!(
            counts.iter().all(|&count| count <= LIMIT_ON_CALLS),
            "{}: {counts:?}",
            kind[0]
        );
        injection.stop();
    }
}
