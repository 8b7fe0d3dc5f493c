//! `io-limit`: the target reads and writes a disk so fast and no faster.

use injector_common::FaultKind;
use serde::Deserialize;

use super::FaultKindDef;
use crate::{
    error::SpecError,
    model::{Device, Fault, IoLimit as Limit, QueueMemory, ResourceFault},
    spec::{number::Times, resource::Amount, text::Text},
};

/// The kind.
#[derive(Debug)]
pub struct IoLimit;

/// Its options, as written.
#[derive(clap::Args, Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raw {
    /// Of this disk, not a partition of it: /dev/NAME or MAJOR:MINOR
    #[arg(long, value_name = "DISK")]
    pub device: Text<Device>,

    /// So many bytes are read per second, such as 1mib
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    #[serde(default)]
    pub read_bps: Option<Text<Amount>>,

    /// So many bytes are written per second, such as 1mib
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    #[serde(default)]
    pub write_bps: Option<Text<Amount>>,

    /// So many reads per second
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    #[serde(default)]
    pub read_iops: Option<Text<Times>>,

    /// So many writes per second
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    #[serde(default)]
    pub write_iops: Option<Text<Times>>,
}

impl FaultKindDef for IoLimit {
    const KIND: FaultKind = FaultKind::IoLimit;
    const SUMMARY: &'static str = "The target reads and writes a disk so fast and no faster";
    const MANUAL: &'static str = "\
What all processes of the cgroup together read from and write to the disk waits until there is room
for it (io.max). What the page cache answers never gets to the disk and is as fast as before; what
is written to the cache waits only when the kernel writes it back, and for the cgroup that wrote it
only where the memory controller is on too and the file system takes part (ext4, btrfs, xfs). Direct
I/O and fsync wait at once. The report has the reads and writes that the disk did for the target in
the directions that are limited (matched and injected): all of these are held to the limit, and the
kernel does not say which had to wait.

Needs the io controller for the target's cgroup. A limit of somebody else's that is as tight or
tighter is refused, and the others for the same disk stay. The value from before comes back at the
end of the time, when the agent is killed, and within 2 s when it is stopped, unless somebody else
has changed it meanwhile.";
    const EXAMPLES: &'static str = "\
Examples:
  A slow disk:
    injector inject io-limit --target cgroup:/db --device /dev/sda --read-bps 1mib --write-bps 1mib \\
      --for 1m

  One that manages ten writes per second:
    injector inject io-limit --target cgroup:/db --device 8:0 --write-iops 10 --for 1m";
    type Raw = Raw;

    fn validate(raw: Raw) -> Result<Fault, SpecError> {
        let bytes = |text: Option<Text<Amount>>| text.map(|Text(Amount(bytes))| bytes);
        let count = |text: Option<Text<Times>>| text.map(|Text(Times(count))| count.get());
        let limit = Limit {
            device: raw.device.0,
            read_bps: bytes(raw.read_bps),
            write_bps: bytes(raw.write_bps),
            read_iops: count(raw.read_iops),
            write_iops: count(raw.write_iops),
        };
        if limit.keys().is_empty() {
            let problem = "is given without a limit";
            let allowed = "one or more of read-bps, write-bps, read-iops and write-iops";
            return Err(SpecError::new("device", problem, allowed));
        }
        for count in [limit.read_iops, limit.write_iops].into_iter().flatten() {
            if u32::try_from(count).is_err() {
                let problem = format!("{count} operations are more than the kernel takes");
                return Err(SpecError::new("read-iops", problem, "at most 4294967295"));
            }
        }
        Ok(Fault::Resource(ResourceFault::IoLimit(limit)))
    }
}

pub(super) fn explain(limit: &Limit) -> String {
    let bytes = |what: &str, limit: Option<u64>| {
        limit.map(|bytes| format!("{what} {} per second", QueueMemory { bytes }))
    };
    let count = |what: &str, limit: Option<u64>| {
        limit.map(|count| format!("{what} {count} times per second"))
    };
    let limits = [
        bytes("read", limit.read_bps),
        count("read", limit.read_iops),
        bytes("write", limit.write_bps),
        count("write", limit.write_iops),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    format!("lets the target {} of {}", limits.join(", "), limit.device)
}
