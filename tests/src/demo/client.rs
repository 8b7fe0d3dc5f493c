//! A client: asks a web server over and over, reads a file over and over, and
//! counts what became of it.
//!
//! It runs as a process of its own, in the control group that faults are aimed
//! at. It is told what to do through a socket, because reading from a pipe may
//! be what fails, and for the same reason only the reads that are counted go
//! through `read`: those from sockets go through `recv`.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::{
    socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket,
        sockopt::SendTimeout,
    },
    time::{TimeVal, TimeValLike as _},
};
use serde::{Deserialize, Serialize};

use super::server::Server;
use crate::command::{Place, Process};

/// How many requests a client has under way at once.
const WORKERS: u32 = 8;

/// How often each worker asks at most. A slow machine must be able to serve
/// both clients, or one would notice when the other slows down.
const PACE: Duration = Duration::from_millis(80);

/// How long an answer is waited for. Less than the second after which TCP sends
/// its first packet again.
const PATIENCE: Duration = Duration::from_millis(900);

/// How often the file is read.
const READ_PACE: Duration = Duration::from_millis(10);

/// What a client works on.
#[derive(Debug, clap::Args)]
pub(super) struct Work {
    /// Address and port of the web server
    #[arg(long)]
    server: SocketAddr,
    /// The file to read
    #[arg(long)]
    file: PathBuf,
}

/// What a client saw in one phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// How long it worked.
    pub(super) millis: u64,
    /// How long each answer took, in µs, in ascending order.
    pub(super) answers_us: Vec<u64>,
    /// Requests without an answer in time.
    pub(super) failures: u64,
    /// Segments that the client's sockets sent again.
    pub(super) retransmits: u64,
    /// Reads of the file.
    pub(super) reads: u64,
    /// Of those, reads that failed with `EIO`.
    pub(super) eio: u64,
    /// Of those, reads that failed otherwise.
    pub(super) other_errors: u64,
}

/// A client, from outside.
#[derive(Debug)]
pub(super) struct Client {
    control: BufReader<UnixStream>,
    _process: Process,
}

impl Client {
    /// Starts it.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[track_caller]
    pub(super) fn start(place: Place<'_>, server: SocketAddr, file: PathBuf) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("make a pair of sockets");
        let program = std::env::current_exe().expect("the path of the running program");
        let mut command = place.command(program);
        command
            .args(["client", "--server", &server.to_string(), "--file"])
            .arg(file)
            .stdin(Stdio::from(OwnedFd::from(theirs)));
        Self {
            control: BufReader::new(ours),
            _process: Process(command.spawn().expect("start a client")),
        }
    }

    /// Lets it work for so long.
    ///
    /// # Panics
    ///
    /// When it is gone.
    #[track_caller]
    pub(super) fn begin(&mut self, phase: Duration) {
        writeln!(self.control.get_mut(), "{}", phase.as_millis()).expect("tell a client");
    }

    /// Waits for what it saw.
    ///
    /// # Panics
    ///
    /// When it is gone.
    #[track_caller]
    pub(super) fn finish(&mut self) -> Seen {
        let mut line = String::new();
        self.control.read_line(&mut line).expect("hear a client");
        serde_json::from_str(&line).expect("a client's answer")
    }
}

/// Works as the client's process until nobody tells it to.
///
/// # Errors
///
/// When the work cannot be done at all. That a fault hits it is no error.
pub(super) fn serve(work: &Work) -> anyhow::Result<()> {
    let mut file = File::open(&work.file).context("cannot open the file")?;
    let control = std::io::stdin().as_fd().try_clone_to_owned()?;
    let mut control = BufReader::new(UnixStream::from(control));
    let mut line = String::new();
    while control.read_line(&mut line)? > 0 {
        let phase = Duration::from_millis(line.trim().parse()?);
        let seen = observe(work.server, &mut file, phase)?;
        let mut answer = serde_json::to_string(&seen)?;
        answer.push('\n');
        control.get_mut().write_all(answer.as_bytes())?;
        line.clear();
    }
    Ok(())
}

fn observe(server: SocketAddr, file: &mut File, phase: Duration) -> anyhow::Result<Seen> {
    let start = Instant::now();
    let mut seen = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                // Spread over the pace, so that they do not all ask at once.
                let first = start + PACE * worker / WORKERS;
                scope.spawn(move || ask(server, first, start + phase))
            })
            .collect();
        let mut all = read(file, start + phase)?;
        for worker in workers {
            let one = worker
                .join()
                .map_err(|_| anyhow::anyhow!("a worker died"))??;
            all.answers_us.extend(one.answers_us);
            all.failures += one.failures;
            all.retransmits += one.retransmits;
        }
        anyhow::Ok(all)
    })?;
    seen.answers_us.sort_unstable();
    seen.millis = micros(phase) / 1000;
    Ok(seen)
}

/// Asks the server until the end.
fn ask(server: SocketAddr, mut next: Instant, end: Instant) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    while next < end {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let start = Instant::now();
        next = start + PACE;
        let connection = Connection::new(server)?;
        match connection.ask(server, start + PATIENCE) {
            Ok(()) => seen.answers_us.push(micros(start.elapsed())),
            Err(_) => seen.failures += 1,
        }
        seen.retransmits += connection.retransmits()?;
    }
    Ok(seen)
}

/// Reads the file until the end.
fn read(file: &mut File, end: Instant) -> anyhow::Result<Seen> {
    let mut seen = Seen::default();
    let mut bytes = [0; 64];
    while Instant::now() < end {
        file.rewind()?;
        seen.reads += 1;
        match file.read(&mut bytes) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EIO) => seen.eio += 1,
            Err(_) => seen.other_errors += 1,
        }
        thread::sleep(READ_PACE);
    }
    Ok(seen)
}

/// A connection to the server, for one request.
struct Connection(TcpStream);

impl Connection {
    fn new(server: SocketAddr) -> anyhow::Result<Self> {
        let family = match server {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self(socket.into()))
    }

    /// Asks for the page and waits for all of it.
    fn ask(&self, server: SocketAddr, end: Instant) -> anyhow::Result<()> {
        let left = || match end.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(anyhow::anyhow!("too late")),
            left => Ok(left),
        };
        let mut stream = &self.0;
        // For `connect` too, which then fails with EINPROGRESS.
        let timeout = TimeVal::microseconds(i64::try_from(left()?.as_micros())?);
        setsockopt(stream, SendTimeout, &timeout)?;
        connect(stream.as_raw_fd(), &SockaddrStorage::from(server))?;
        let request = format!("GET /{} HTTP/1.0\r\n\r\n", Server::PAGE);
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            stream.set_read_timeout(Some(left()?))?;
            let count = stream.read(&mut bytes)?;
            if count == 0 {
                break;
            }
            answer.extend_from_slice(&bytes[..count]);
        }
        let good = answer.windows(5).any(|word| word == b" 200 ");
        anyhow::ensure!(good, "no page");
        Ok(())
    }

    /// How many segments this end had to send again, by the kernel's account.
    fn retransmits(&self) -> anyhow::Result<u64> {
        // SAFETY: a structure of integers, for which zeros are valid.
        let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
        let mut len = libc::socklen_t::try_from(size_of_val(&info))?;
        // SAFETY: the pointers are valid, and `len` is the structure's size.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut info).cast(),
                &raw mut len,
            )
        };
        nix::errno::Errno::result(result).context("cannot ask for TCP_INFO")?;
        Ok(info.tcpi_total_retrans.into())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What the share of answers did not exceed.
pub(super) fn quantile(answers_us: &[u64], permille: usize) -> Option<Duration> {
    let last = answers_us.len().checked_sub(1)?;
    let place = (answers_us.len() * permille).div_ceil(1000).max(1) - 1;
    Some(Duration::from_micros(answers_us[place.min(last)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_answers() {
        let answers: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&answers, 500), Some(Duration::from_micros(50)));
        assert_eq!(quantile(&answers, 990), Some(Duration::from_micros(99)));
        assert_eq!(quantile(&[7], 990), Some(Duration::from_micros(7)));
        assert_eq!(quantile(&[], 500), None);
    }

    #[test]
    fn a_file_is_read_and_counted() {
        let mut file = File::open("/proc/self/exe").unwrap();
        let seen = read(&mut file, Instant::now() + Duration::from_millis(50)).unwrap();
        assert!(seen.reads > 0);
        assert_eq!((seen.eio, seen.other_errors), (0, 0));
    }
}
