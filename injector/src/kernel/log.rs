//! What the programs log, passed on to the agent's own log.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tracing_log::LogTracer;

/// Reads the programs' log.
pub(super) struct ProgramLog(EbpfLogger<LogTracer>);

impl ProgramLog {
    /// Starts reading; `None` when the programs do not log, which is no reason
    /// not to run them.
    pub(super) fn new(ebpf: &mut Ebpf) -> Option<Self> {
        EbpfLogger::init_with_logger(ebpf, LogTracer::new())
            .inspect_err(|error| tracing::debug!("the programs' log cannot be read: {error}"))
            .ok()
            .map(Self)
    }

    /// Passes on what came since the last time.
    pub(super) fn pass_on(&mut self) {
        self.0.flush();
    }
}

/// The level that programs log at: all of it when the agent's own log shows
/// debugging, nothing otherwise, so that no program spends time on it.
pub(super) fn level() -> u8 {
    if tracing::enabled!(tracing::Level::DEBUG) {
        u8::MAX
    } else {
        0
    }
}
