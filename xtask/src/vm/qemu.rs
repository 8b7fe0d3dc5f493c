//! One run of QEMU: start it, pass on what the command prints, end it.

use std::io::Read;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::exec::command;
use crate::vm::emulator::Emulator;

/// How a virtual machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The command ended with this status.
    Exited(u8),
    /// The command was still running when the time was over; with the console's last lines.
    TimedOut(String),
    /// The machine ended without a status, as it does when its kernel panics.
    Died(String),
    /// A signal ended the emulator, as a failed assertion of its own does; with the console's last
    /// lines, and how it ended.
    Broke(String, String),
}

/// The parts of a machine that QEMU is told about.
pub(crate) struct Hardware<'a> {
    pub(crate) emulator: &'a Emulator,
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: PathBuf,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u32,
    pub(crate) icount: bool,
    pub(crate) share: Option<&'a Path>,
    pub(crate) append: &'a str,
    /// Files that QEMU writes: the kernel's console and the command's status.
    pub(crate) console: PathBuf,
    pub(crate) status: PathBuf,
}

/// Kernel parameters that every machine gets: a panic ends QEMU, and nothing slows the guest
/// down that only protects it from neighbours it does not have. Built-in drivers make no devices
/// at boot, so that all kernels start with the loopback alone.
const PARAMETERS: &str = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic \
    random.trust_cpu=on mitigations=off nokaslr tsc=reliable audit=0 \
    dummy.numdummies=0 ifb.numifbs=0";

impl Hardware<'_> {
    /// Runs the machine until its command has ended or `limit` is over. What the command prints
    /// goes to `sink` as it comes.
    pub(crate) fn run(&self, limit: Duration, sink: &mut dyn FnMut(&[u8])) -> Result<Outcome> {
        let interrupted = Interrupted::watch()?;
        let mut qemu = Qemu::start(self.command())?;
        let mut stdout = qemu
            .0
            .stdout
            .take()
            .context("QEMU has no standard output")?;
        let (sender, receiver) = channel();
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });

        let deadline = Instant::now() + limit;
        let mut ended = None;
        loop {
            match receiver.recv_timeout(Duration::from_millis(20)) {
                Ok(bytes) => sink(&bytes),
                // QEMU has ended by itself.
                Err(RecvTimeoutError::Disconnected) => {
                    ended = qemu.0.wait().ok();
                    break;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.status().is_some() || Instant::now() > deadline || interrupted.is_set() {
                break;
            }
        }
        let status = self.status();
        let in_time = Instant::now() <= deadline;
        qemu.stop();
        drop(reader.join());
        receiver.try_iter().for_each(|bytes| sink(&bytes));

        match status.or_else(|| self.status()) {
            Some(status) => Ok(Outcome::Exited(status)),
            None if interrupted.is_set() => bail!("interrupted"),
            None if in_time => Ok(match ended.and_then(|status| status.signal()) {
                Some(signal) => {
                    let how = format!("was ended by signal {signal}");
                    Outcome::Broke(self.console_tail(), how)
                }
                None => Outcome::Died(self.console_tail()),
            }),
            None => Ok(Outcome::TimedOut(self.console_tail())),
        }
    }

    fn command(&self) -> Command {
        // setpriv lets the kernel end QEMU when this process dies without having done so.
        let mut qemu = command("setpriv");
        qemu.args(["--pdeathsig", "KILL"]);
        if self.icount {
            // Its clock does not run on while it waits, so that it can leave the processors to
            // those whose clocks do.
            qemu.args(["nice", "-n", "10"]);
        }
        qemu.arg(self.emulator.program())
            .args(self.emulator.arguments())
            .envs(self.emulator.environment());
        qemu.args([
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
        ]);
        // Emulated, `rep movsb` copies byte by byte: kernels that are told of no fast one copy
        // words in a loop, and start an agent in half the time. Every stac or clac ends a
        // translated block.
        qemu.args(["-M", "q35", "-cpu"]);
        qemu.arg("max,la57=off,erms=off,fsrm=off,smap=off");
        if self.icount {
            // One nanosecond per instruction: what a guest measures is the same in each run.
            qemu.args([
                "-icount",
                "shift=0,sleep=off",
                "-accel",
                "tcg,thread=single",
            ]);
        } else {
            qemu.args(["-accel", "tcg,thread=multi"]);
        }
        qemu.args(["-smp", &self.cpus.to_string()]);
        qemu.args(["-m", &format!("{}M", self.memory_mib)]);
        qemu.arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs);
        qemu.args(["-append", &format!("{PARAMETERS} {}", self.append)]);
        qemu.args(["-device", "virtio-rng-pci"]);
        qemu.arg("-serial")
            .arg(format!("file:{}", self.console.display()));
        // A virtio port is some fifty times faster than a serial line under emulation. `file`
        // and not `stdio`, which would take the end of our standard input for a hang-up.
        qemu.args(["-device", "virtio-serial-pci"]);
        qemu.args(["-chardev", "file,id=out,path=/dev/stdout"]);
        qemu.args(["-device", "virtserialport,chardev=out,nr=1"]);
        qemu.arg("-chardev")
            .arg(format!("file,id=status,path={}", escape(&self.status)));
        qemu.args(["-device", "virtserialport,chardev=status,nr=2"]);
        let share = "security_model=none,multidevs=remap";
        qemu.args([
            "-virtfs",
            &format!("local,path=/,mount_tag=host,readonly=on,{share}"),
        ]);
        if let Some(folder) = self.share {
            let folder = escape(folder);
            qemu.args([
                "-virtfs",
                &format!("local,path={folder},mount_tag=share,{share}"),
            ]);
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        qemu
    }

    fn status(&self) -> Option<u8> {
        let text = std::fs::read_to_string(&self.status).ok()?;
        text.strip_prefix("status=")?
            .strip_suffix('\n')?
            .parse()
            .ok()
    }

    fn console_tail(&self) -> String {
        let console = std::fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&console);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// QEMU separates its options' parts by commas.
fn escape(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// A running QEMU, which does not outlive this value.
struct Qemu(Child);

impl Qemu {
    fn start(mut command: Command) -> Result<Self> {
        let child = command
            .spawn()
            .context("cannot start QEMU; run: cargo xtask setup vm")?;
        Ok(Self(child))
    }

    fn stop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.stop();
    }
}

/// While a value of this type lives, SIGINT and SIGTERM only set a flag, so that there is time to
/// clean up. Machines that run side by side share it.
struct Interrupted(Arc<Signals>);

/// What the signal handlers see.
struct Signals {
    flag: Arc<AtomicBool>,
    /// True when signals shall act as they do by default.
    idle: Arc<AtomicBool>,
}

/// The handlers are set once and for all, because they cannot be taken away again.
static SIGNALS: Mutex<Option<Arc<Signals>>> = Mutex::new(None);

impl Interrupted {
    fn watch() -> Result<Self> {
        let mut shared = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
        let signals = match &*shared {
            Some(signals) => Arc::clone(signals),
            None => Arc::clone(shared.insert(Arc::new(Signals::handle()?))),
        };
        signals.idle.store(false, Ordering::Relaxed);
        Ok(Self(signals))
    }

    fn is_set(&self) -> bool {
        self.0.flag.load(Ordering::Relaxed)
    }
}

impl Signals {
    fn handle() -> Result<Self> {
        let signals = Self {
            flag: Arc::default(),
            idle: Arc::default(),
        };
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&signals.flag))
                .and_then(|_| {
                    let idle = Arc::clone(&signals.idle);
                    signal_hook::flag::register_conditional_default(signal, idle)
                })
                .context("cannot handle signals")?;
        }
        Ok(signals)
    }
}

impl Drop for Interrupted {
    fn drop(&mut self) {
        let _shared = SIGNALS.lock().unwrap_or_else(PoisonError::into_inner);
        // This value and the static hold it: no other machine runs.
        if Arc::strong_count(&self.0) == 2 {
            self.0.idle.store(true, Ordering::Relaxed);
        }
    }
}
