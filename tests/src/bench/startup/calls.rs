//! A victim that opens a file again and again, until that fails.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::Duration,
};

use memmap2::MmapRaw;
use tempfile::NamedTempFile;

use super::{FirstHit, GAP, LIMIT, now_ns, start_agent};
use crate::{
    agent::Injection,
    cgroup::Cgroup,
    command::{Place, Process},
    wait,
};

/// Where the opening victim notes.
#[derive(Debug, clap::Args)]
pub(in crate::bench) struct OpenTicks {
    /// Where to note the time of the first open that failed
    #[arg(long)]
    note: PathBuf,
}

/// The time of the first failure in ns, 0 before it. Shared by victim and bench,
/// who clears it.
struct Note(MmapRaw);

impl Note {
    fn map(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        file.set_len(size_of::<AtomicU64>() as u64)?;
        Ok(Self(MmapRaw::map_raw(&file)?))
    }

    fn time(&self) -> &AtomicU64 {
        // SAFETY: the mapping is page-aligned, has room for it, and lives as
        // long as `self`; being atomic, it may be written by others.
        unsafe { &*self.0.as_ptr().cast() }
    }
}

/// Opens a file at every tick until killed.
///
/// # Errors
///
/// When it cannot be told where to note.
pub(in crate::bench) fn tick(options: &OpenTicks) -> anyhow::Result<()> {
    let note = Note::map(&options.note)?;
    loop {
        let before = now_ns()?;
        if File::open("/dev/null").is_err() && note.time().load(Relaxed) == 0 {
            note.time().store(before, Relaxed);
        }
        thread::sleep(GAP);
    }
}

/// A victim that opens, in a group of its own.
pub(super) struct Calls {
    cgroup: Cgroup,
    note: Note,
    _note_file: NamedTempFile,
    _victim: Process,
}

impl Calls {
    /// Starts it.
    pub(super) fn start() -> Self {
        let cgroup = Cgroup::new("victim");
        let note_file = NamedTempFile::new().expect("make a file");
        let note = Note::map(note_file.path()).expect("map a file");
        let program = std::env::current_exe().expect("the path of the running program");
        let path = note_file.path().to_str().expect("a path in UTF-8");
        let victim = Place::cgroup(&cgroup).spawn(program, &["open-ticks", "--note", path]);
        Self {
            cgroup,
            note,
            _note_file: note_file,
            _victim: victim,
        }
    }

    /// The rule that fails its calls.
    pub(super) fn rule(&self) -> String {
        let target = self.cgroup.target();
        format!("sys-errno --call openat --errno EIO --target {target}")
    }

    /// How long it takes until the first open fails.
    pub(super) fn first_hit(&self) -> FirstHit {
        self.note.time().store(0, Relaxed);
        let (agent, start) = start_agent(&self.rule());
        let hit = wait::poll(Duration::from_nanos(LIMIT), || {
            match self.note.time().load(Relaxed) {
                0 => None,
                time => Some(time),
            }
        });
        let hit = hit.unwrap_or_else(|| panic!("nothing fails: {}", agent.stderr()));
        let cpu_ms = super::processor_ms(agent.pid());
        let rule = Injection::from_agent(agent).stop().rule();
        assert!(
            rule.injected > 0 && hit > start,
            "the call failed for another reason"
        );
        FirstHit::new(start, hit, cpu_ms)
    }
}
