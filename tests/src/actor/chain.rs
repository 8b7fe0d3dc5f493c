//! A victim that writes to a file from below several functions, and notes what came of each write.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::PathBuf,
    ptr,
};

use anyhow::{Context as _, ensure};

/// Options of such a victim.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// A folder with nothing in it
    #[arg(long)]
    pub folder: PathBuf,
    /// The file to write the outcomes to, as JSON
    #[arg(long)]
    pub outcomes: PathBuf,
}

/// The error number of each write, by the way that led to it; 0 for none.
pub type Outcomes = BTreeMap<String, i32>;

/// The descriptor that is written to.
pub const DESCRIPTOR: i32 = 777;

/// How many functions the deepest way leads through, at least.
pub const DEEP: usize = 100;

/// What the functions hand on: a write and what is to be called next.
type Step = unsafe extern "C" fn(i32, *const c_void, usize, *const c_void, usize) -> isize;

// In assembly, so that it is certain which of them keeps a frame. The arguments of the write stay
// where they are; behind them come the functions that are yet to be called.
core::arch::global_asm!(
    ".macro chain_function name",
    ".globl \\name",
    ".type \\name,@function",
    "\\name:",
    "push rbp",
    "mov rbp, rsp",
    "mov rax, rcx",
    "mov rcx, r8",
    "call rax",
    "pop rbp",
    "ret",
    ".size \\name, . - \\name",
    ".endm",
    "chain_function chain_a",
    "chain_function chain_b",
    "chain_function chain_c",
    // Makes the call by itself.
    ".globl chain_raw",
    ".type chain_raw,@function",
    "chain_raw:",
    "push rbp",
    "mov rbp, rsp",
    "mov eax, 1",
    "syscall",
    "pop rbp",
    "ret",
    ".size chain_raw, . - chain_raw",
    // Keeps no frame, and something else where others have that of their callers.
    ".globl chain_plain",
    ".type chain_plain,@function",
    "chain_plain:",
    "push rbp",
    "mov ebp, 3",
    "call rcx",
    "pop rbp",
    "ret",
    ".size chain_plain, . - chain_plain",
    // Calls itself so many times before.
    ".globl chain_deep",
    ".type chain_deep,@function",
    "chain_deep:",
    "push rbp",
    "mov rbp, rsp",
    "test r8, r8",
    "jz 2f",
    "dec r8",
    "call chain_deep",
    "pop rbp",
    "ret",
    "2:",
    "call rcx",
    "pop rbp",
    "ret",
    ".size chain_deep, . - chain_deep",
    // A call of a 32-bit program.
    ".globl chain_old",
    ".type chain_old,@function",
    "chain_old:",
    "push rbp",
    "mov rbp, rsp",
    "push rbx",
    "mov ebx, edi",
    "mov ecx, esi",
    "mov eax, 4",
    "int 0x80",
    "movsxd rax, eax",
    "pop rbx",
    "pop rbp",
    "ret",
    ".size chain_old, . - chain_old",
);

unsafe extern "C" {
    fn chain_a(_: i32, _: *const c_void, _: usize, _: *const c_void, _: usize) -> isize;
    fn chain_b(_: i32, _: *const c_void, _: usize, _: *const c_void, _: usize) -> isize;
    fn chain_c(_: i32, _: *const c_void, _: usize, _: *const c_void, _: usize) -> isize;
    fn chain_raw(_: i32, _: *const c_void, _: usize, _: *const c_void, _: usize) -> isize;
    fn chain_plain(_: i32, _: *const c_void, _: usize, _: *const c_void, _: usize) -> isize;
    fn chain_deep(_: i32, _: *const c_void, _: usize, _: *const c_void, _: usize) -> isize;
    fn chain_old(_: i32, _: *const c_void, _: usize, _: *const c_void, _: usize) -> isize;
}

/// A way to the write: the first function, and what it calls.
struct Way {
    name: &'static str,
    first: Step,
    next: *const c_void,
    last: usize,
}

fn ways() -> Vec<Way> {
    let write = libc::write as *const c_void;
    let to_write = write.expose_provenance();
    let at = |step: Step| step as *const c_void;
    let way = |name, first, next, last| Way {
        name,
        first,
        next,
        last,
    };
    vec![
        way("a", chain_a, write, 0),
        way("b", chain_b, write, 0),
        way("c", chain_c, write, 0),
        way("a through c", chain_a, at(chain_c), to_write),
        way("b through c", chain_b, at(chain_c), to_write),
        way("raw", chain_raw, ptr::null(), 0),
        way("a through raw", chain_a, at(chain_raw), 0),
        // What comes behind it is called where a frame would be looked for.
        way("a through plain", chain_a, at(chain_plain_to_write), 0),
        way("deep", chain_deep, write, 20),
        way("a through deep", chain_a, at(chain_deep_to_write), 0),
        way("old", chain_old, ptr::null(), 0),
    ]
}

/// A function that keeps no frame calls `write`.
unsafe extern "C" fn chain_plain_to_write(
    descriptor: i32,
    bytes: *const c_void,
    length: usize,
    _: *const c_void,
    _: usize,
) -> isize {
    // SAFETY: as of whoever called this.
    unsafe { chain_plain(descriptor, bytes, length, libc::write as *const c_void, 0) }
}

/// Many functions do.
unsafe extern "C" fn chain_deep_to_write(
    descriptor: i32,
    bytes: *const c_void,
    length: usize,
    _: *const c_void,
    _: usize,
) -> isize {
    // SAFETY: as of whoever called this.
    unsafe {
        chain_deep(
            descriptor,
            bytes,
            length,
            libc::write as *const c_void,
            DEEP,
        )
    }
}

/// Goes every way twice: in a process with one thread, and in another thread.
///
/// # Errors
///
/// When the file cannot be made, or what came of the writes cannot be told.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let file = File::create(options.folder.join("written"))?;
    // SAFETY: the descriptor is nobody's.
    let same = unsafe { libc::dup2(file.as_raw_fd(), DESCRIPTOR) };
    ensure!(same == DESCRIPTOR, "{}", io::Error::last_os_error());
    let mut outcomes = Outcomes::new();
    go("", &mut outcomes)?;
    std::thread::scope(|scope| scope.spawn(|| go("thread: ", &mut outcomes)).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    let text = serde_json::to_vec(&outcomes)?;
    fs::write(&options.outcomes, text).context("cannot write the outcomes")
}

fn go(prefix: &str, outcomes: &mut Outcomes) -> anyhow::Result<()> {
    // Where 32-bit programs can tell of it.
    // SAFETY: a new mapping.
    let bytes = unsafe {
        libc::mmap(
            ptr::null_mut(),
            1,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        )
    };
    ensure!(bytes != libc::MAP_FAILED, "{}", io::Error::last_os_error());
    for way in ways() {
        // SAFETY: the functions write one byte, which is there, and call what they are given.
        let result = unsafe { (way.first)(DESCRIPTOR, bytes, 1, way.next, way.last) };
        let errno = match result {
            1 => 0,
            -1 => io::Error::last_os_error().raw_os_error().unwrap_or(-1),
            // Of those that make the call by themselves.
            other => i32::try_from(-other)?,
        };
        outcomes.insert(format!("{prefix}{}", way.name), errno);
    }
    Ok(())
}
