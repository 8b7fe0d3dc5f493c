//! A victim that sends packets, until one is lost.

use std::{
    fs::OpenOptions,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use memmap2::MmapRaw;
use tempfile::NamedTempFile;

use super::{FirstHit, GAP, LIMIT, now_ns, start_agent};
use crate::{
    agent::Injection,
    cgroup::Cgroup,
    command::{Place, Process},
    netns::{Ip, Pair},
    wait,
};

/// How many packets can be noted.
const NOTES: usize = 1 << 20;

/// Port that the victim sends to.
const PORT: u16 = 7001;

/// How packets are sent.
#[derive(Debug, clap::Args)]
pub(in crate::bench) struct TickOptions {
    /// Where to
    #[arg(long)]
    to: SocketAddr,
    /// Where to note the time at which each packet was sent
    #[arg(long)]
    notes: PathBuf,
}

/// Times at which packets were sent, in ns, shared by sender and bench.
struct Notes(MmapRaw);

impl Notes {
    fn map(path: &PathBuf) -> anyhow::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        file.set_len((NOTES * size_of::<AtomicU64>()) as u64)?;
        Ok(Self(MmapRaw::map_raw(&file)?))
    }

    fn times(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is that long, page-aligned, and lives as long as
        // `self`; it holds atomics only, so that others may write to it.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), NOTES) }
    }
}

/// Sends a numbered packet at every tick until killed.
///
/// # Errors
///
/// When packets cannot be sent.
pub(in crate::bench) fn tick(options: &TickOptions) -> anyhow::Result<()> {
    let notes = Notes::map(&options.notes)?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for (number, time) in notes.times().iter().enumerate() {
        time.store(now_ns()?, Relaxed);
        let number = u64::try_from(number)?.to_be_bytes();
        socket.send_to(&number, options.to).context("cannot send")?;
        thread::sleep(GAP);
    }
    anyhow::bail!("there is no room for more notes")
}

/// A victim that sends from a group of its own.
pub(super) struct Packets {
    cgroup: Cgroup,
    socket: UdpSocket,
    notes: Notes,
    _notes_file: NamedTempFile,
    _sender: Process,
    _pair: Pair,
}

impl Packets {
    /// Starts it.
    pub(super) fn start() -> Self {
        let pair = Pair::new();
        let cgroup = Cgroup::new("victim");
        let near = Place::netns(&pair.near).and_cgroup(&cgroup);
        let socket = pair
            .far
            .enter(|| UdpSocket::bind(("0.0.0.0", PORT)).expect("bind a socket"));
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("set a timeout");
        let notes_file = NamedTempFile::new().expect("make a file");
        let path = notes_file.path().to_path_buf();
        let notes = Notes::map(&path).expect("map a file");
        let program = std::env::current_exe().expect("the path of the running program");
        let to = SocketAddr::new(Pair::far_address(Ip::V4), PORT).to_string();
        let path = path.to_str().expect("a path in UTF-8");
        let sender = near.spawn(program, &["tick", "--to", &to, "--notes", path]);
        Self {
            cgroup,
            socket,
            notes,
            _notes_file: notes_file,
            _sender: sender,
            _pair: pair,
        }
    }

    /// The rule that loses its packets.
    pub(super) fn rule(&self) -> String {
        format!("net-loss --target {}", self.cgroup.target())
    }

    /// How long it takes until the first packet is lost.
    pub(super) fn first_hit(&self) -> FirstHit {
        wait::until("the victim's packets", || self.next_number());
        let (agent, start) = start_agent(&self.rule());
        let mut last = None;
        loop {
            match self.next_number() {
                Some(number) => last = Some(number),
                // A pause may also be the machine's.
                None if agent.stderr().contains("in force") => break,
                None => {}
            }
            let passed = now_ns().expect("the time") - start;
            assert!(passed < LIMIT, "nothing is lost: {}", agent.stderr());
        }
        let cpu_ms = super::processor_ms(agent.pid());
        let last = usize::try_from(last.expect("packets before the fault")).expect("a number");
        let hit = self.notes.times()[last + 1].load(Relaxed);
        let rule = Injection::from_agent(agent).stop().rule();
        assert!(
            rule.injected > 0 && hit > start,
            "the packets did not come for another reason"
        );
        FirstHit::new(start, hit, cpu_ms)
    }

    /// The number of the next packet, or `None` when none comes for a while.
    fn next_number(&self) -> Option<u64> {
        let mut number = [0; 8];
        let count = self.socket.recv(&mut number).ok()?;
        (count == number.len()).then(|| u64::from_be_bytes(number))
    }
}
