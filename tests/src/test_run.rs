//! Programs of the object, run on packets of a test's own by
//! `BPF_PROG_TEST_RUN` and never attached.

mod arm;

pub use arm::{L2_LEN, arm, arm_at, arm_for_nobody, arm_queries};

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use aya::{Ebpf, EbpfLoader, programs::SchedClassifier};
use injector_common::{
    FaultKind, RuleEntry, RuleSlot, Trigger,
    filter::{PacketFilter, PeerName},
    packet::{self, Facts, PacketBytes},
    parity::{ParityResult, ParityVector},
    uses::{self, Uses},
    waiting,
};

/// The object, with its maps.
///
/// # Panics
///
/// When it is not built, or the kernel refuses its maps.
#[must_use]
pub fn load() -> Ebpf {
    load_for(Uses::EVERYTHING)
}

/// The object, cut down to these parts, with its maps.
///
/// # Panics
///
/// As [`load`].
#[must_use]
pub fn load_for(parts: Uses) -> Ebpf {
    load_sized(parts, &[])
}

/// The same, where these maps have so many entries.
///
/// # Panics
///
/// As [`load`].
#[must_use]
pub fn load_sized(parts: Uses, sizes: &[(&'static str, u32)]) -> Ebpf {
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bpf/injector-ebpf.o");
    let bytes = std::fs::read(&object).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; build it with `cargo xtask build`",
            object.display()
        )
    });
    let mut loader = EbpfLoader::new();
    for &(name, entries) in sizes {
        loader.map_max_entries(name, entries);
    }
    let bits = parts.bits();
    loader
        .btf(None)
        .allow_unsupported_maps()
        .override_global(uses::GLOBAL, &bits, true)
        .load(&bytes)
        .expect("the object loads; this test needs root")
}

/// One of its classifiers, in the kernel.
///
/// # Panics
///
/// When the object has none of that name, or the verifier refuses it.
#[must_use]
pub fn program(ebpf: &mut Ebpf, name: &str) -> OwnedFd {
    let program: &mut SchedClassifier = ebpf
        .program_mut(name)
        .expect("the object has the program; is it up to date? run `cargo xtask build`")
        .try_into()
        .expect("a classifier");
    program.load().expect("the verifier accepts the program");
    let fd = program.fd().expect("the program is loaded").as_fd();
    fd.try_clone_to_owned().expect("another descriptor")
}

/// A loss of everything that matches, for the table that [`arm`] gives.
#[must_use]
pub const fn loss(filter: PacketFilter) -> RuleSlot {
    let rule = RuleEntry {
        start_ns: 0,
        deadline_ns: u64::MAX,
        seed: 1,
        queue_memory: waiting::UNLIMITED,
        trigger: Trigger::ALWAYS,
        params: [0; 4],
        filter,
        kind: FaultKind::NetLoss as u32,
        enabled: 1,
        key: RuleEntry::key(0, 0),
        per: 0,
        shadow: 0,
        _pad: 0,
    };
    RuleSlot {
        versions: [rule; 2],
        current: 0,
    }
}

/// `bpf_attr` as `BPF_PROG_TEST_RUN` reads it (`include/uapi/linux/bpf.h`).
#[derive(Default)]
#[repr(C)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

/// `struct __sk_buff`, of which a run may state the segments of a super-packet.
#[repr(C)]
struct Context {
    before: [u32; 41],
    gso_segs: u32,
    sk: u64,
    gso_size: u32,
    after: [u32; 3],
}

const BPF_PROG_TEST_RUN: libc::c_int = 10;
/// `TCX_NEXT`: the verdict of a program that leaves a packet alone.
pub const NEXT: u32 = u32::MAX;
/// `TC_ACT_REDIRECT`, to an interface that does not exist: the packet is lost.
pub const LOST: u32 = 7;
/// Length of an Ethernet header, without which the kernel takes no frame.
pub const ETHERNET: usize = L2_LEN as usize;

/// Runs a classifier on a frame, which the program may change, as if it was at the
/// interface of number 1; the verdict.
///
/// # Errors
///
/// When the kernel takes the frame for none, as one that has only an Ethernet header.
pub fn run(program: BorrowedFd<'_>, frame: &mut [u8], gso_size: u32) -> io::Result<u32> {
    let (verdict, _) = run_within(program, frame, frame.len(), gso_size)?;
    Ok(verdict)
}

/// The same for a program that may make the frame longer, up to a page: also what became of
/// it.
///
/// # Errors
///
/// As [`run`].
pub fn run_to_frame(
    program: BorrowedFd<'_>,
    frame: &[u8],
    gso_size: u32,
) -> io::Result<(u32, Vec<u8>)> {
    let mut room = frame.to_vec();
    room.resize(frame.len().max(4096), 0);
    let (verdict, len) = run_within(program, &mut room, frame.len(), gso_size)?;
    room.truncate(len);
    Ok((verdict, room))
}

/// Runs a classifier on the first `len` bytes of `room`, where the frame lies afterwards: the
/// verdict, and how long it is then.
fn run_within(
    program: BorrowedFd<'_>,
    room: &mut [u8],
    len: usize,
    gso_size: u32,
) -> io::Result<(u32, usize)> {
    let size = |len| u32::try_from(len).expect("a packet is short");
    let context = Context {
        before: [0; 41],
        gso_segs: u32::from(gso_size != 0) * 2,
        sk: 0,
        gso_size,
        after: [0; 3],
    };
    let mut run = TestRun {
        prog_fd: u32::try_from(program.as_raw_fd()).expect("an open descriptor"),
        data_size_in: size(len),
        data_size_out: size(room.len()),
        data_in: room.as_ptr() as u64,
        data_out: room.as_mut_ptr() as u64,
        repeat: 1,
        ctx_size_in: u32::try_from(size_of::<Context>()).expect("a small struct"),
        ctx_in: (&raw const context) as u64,
        ..TestRun::default()
    };
    // SAFETY: the attribute is complete, its pointers lead to buffers of the
    // sizes given, which outlive the call.
    let status = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_TEST_RUN,
            &raw mut run,
            size_of::<TestRun>(),
        )
    };
    if status == 0 {
        Ok((run.retval, run.data_size_out as usize))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What the kernel decides about a packet.
///
/// # Panics
///
/// When the program does not come to its end.
#[must_use]
#[track_caller]
pub fn in_kernel(program: &OwnedFd, vector: &ParityVector, packet: &[u8]) -> ParityResult {
    // SAFETY: the vector has no padding, as `abi_layout` of injector-common
    // proves, so each of its bytes is initialised.
    let head = unsafe {
        std::slice::from_raw_parts((&raw const *vector).cast::<u8>(), size_of::<ParityVector>())
    };
    let mut frame = [head, packet].concat();
    let verdict = run(program.as_fd(), &mut frame, 0).expect("BPF_PROG_TEST_RUN");
    assert_eq!(verdict, NEXT, "the program's verdict");
    assert!(frame.len() >= size_of::<ParityResult>());
    // SAFETY: the buffer is long enough, and any bytes are a valid result.
    let result: ParityResult = unsafe { frame.as_ptr().cast::<ParityResult>().read_unaligned() };
    assert_eq!(result.reached, 1, "the program gave up on {vector:?}");
    result
}

/// A packet, and the payload of one of its segments.
#[derive(Debug)]
pub struct Frame<'a>(pub &'a [u8], pub u32);

impl PacketBytes for Frame<'_> {
    fn load<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        self.0.load(offset)
    }

    fn fill<const N: usize>(&self, offset: u32, words: &mut [u32; N]) -> bool {
        self.0.fill(offset, words)
    }

    fn frame_len(&self) -> u32 {
        self.0.frame_len()
    }

    fn is_super(&self) -> bool {
        self.1 != 0
    }
}

/// What the host decides about a packet. `known` is what the peer table says of a
/// name.
///
/// # Panics
///
/// When the vector is none of a packet.
#[must_use]
pub fn on_host(
    vector: &ParityVector,
    packet: &[u8],
    known: impl Fn(PeerName) -> Option<u32>,
) -> ParityResult {
    let mut result = ParityResult::default();
    let mut facts = Facts::NONE;
    result.note_trigger(&vector.trigger, vector.seed, vector.n, vector.spent);
    let ether_type = u16::try_from(vector.ether_type).expect("16 bits");
    let frame = Frame(packet, vector.gso_size);
    if packet::parse(&frame, ether_type, vector.l2_len, &mut facts) {
        result.parsed = 1;
        facts.note_frame(
            vector.l2_len,
            vector.frame_len,
            vector.gso_size,
            vector.mark,
        );
        result.note_facts(&facts);
        result.note_flow(&facts, vector.direction, vector.seed);
        result.note_conversation(&mut facts, vector.direction, vector.seen);
        let filter = &vector.filter;
        let found = known(PeerName::of(0, &facts, vector.direction));
        let takes_peer = !filter.asks_table() || filter.takes_peer(found);
        let found = known(PeerName::of_local(0, &facts, vector.direction));
        let takes_local = !filter.asks_for_local() || filter.takes_local(found);
        let takes = filter.matches(&facts, vector.direction) && takes_peer && takes_local;
        result.matches = u32::from(takes);
    }
    result.note_faults(
        &facts,
        vector.frame_len,
        vector.params,
        vector.n,
        vector.in_flow,
    );
    result.reached = 1;
    result
}
