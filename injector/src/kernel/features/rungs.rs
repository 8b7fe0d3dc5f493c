//! What the doctor says of each kind.

use std::collections::BTreeMap;

use injector_common::{FaultKind, names::SecurityHook};

use super::{no, resources};
use crate::{
    model::{Rung, Syscall},
    plan::{Features, Support, features::Probe},
};

/// The ways to have a kind, the preferred one first, and then what single options of it need.
pub(super) fn of(kind: FaultKind, features: &Features) -> Vec<Probe> {
    let probe = |rung: &str, state| Probe {
        kind,
        rung: rung.to_owned(),
        only_for: None,
        state,
    };
    let option = |rung: &str, only_for, state| Probe {
        only_for: Some(only_for),
        ..probe(rung, state)
    };
    let packets = |extra: &[&Support]| {
        let mut probes: Vec<Probe> = features
            .packets_refused
            .iter()
            .map(|(attach, reason)| probe(attach.name(), no(reason.clone())))
            .collect();
        if let Ok(attach) = features.packets {
            probes.push(probe(attach.name(), all_of(extra.iter().copied())));
        }
        probes
    };
    let waits = [&features.hop_devices, &features.fair_queue];
    let segment = |extra: &[&Support]| {
        let reached = match &features.packets {
            Ok(_) => Support::Supported,
            Err(reason) => no(reason.clone()),
        };
        let needed = [&reached, &features.hop_devices];
        option(
            "segment",
            "--unit segment",
            all_of(needed.into_iter().chain(extra.iter().copied())),
        )
    };
    match kind {
        FaultKind::NetLoss => {
            let mut rungs = packets(&[]);
            let sends = features.send.clone();
            rungs.push(option("cgroup", "--visibility errno", sends));
            rungs.push(segment(&[]));
            rungs
        }
        FaultKind::NetCorrupt
        | FaultKind::NetDuplicate
        | FaultKind::NetPartition
        | FaultKind::NetReject
        | FaultKind::NetReset => {
            let mut rungs = packets(&[]);
            rungs.push(segment(&[]));
            rungs
        }
        FaultKind::NetDelay | FaultKind::NetReorder | FaultKind::NetRate => {
            let mut rungs = packets(&waits);
            let all = waits.into_iter().chain([&features.loopback_hop]);
            rungs.push(option("loopback", "loopback", all_of(all)));
            rungs.push(segment(&waits));
            rungs
        }
        FaultKind::Dns => {
            let mut rungs = packets(&[]);
            rungs.push(option("delay", "--delay", all_of(waits)));
            rungs
        }
        FaultKind::SysErrno => Rung::ALL
            .iter()
            .map(|rung| {
                let state = match rung {
                    Rung::Kprobe => features.override_return.clone(),
                    Rung::FmodRet => features.modify_return.clone(),
                    Rung::Lsm => all_hooks(&features.security),
                    Rung::FmodRetSecurity => all_hooks(&features.modified_security),
                };
                probe(rung.name(), state)
            })
            .collect(),
        FaultKind::SysDelay => {
            let asleep = |hooks: &Support| all_of([&features.waker, hooks]);
            let hooks = all_hooks(&features.sleeping_hooks);
            vec![
                probe("asleep", asleep(&hooks)),
                option(
                    "asleep-entry",
                    "calls without such a security hook",
                    asleep(&tried(&features.sleeping_entries)),
                ),
                option("busy", "up to 1 ms", features.seen_entry.clone()),
                option(
                    "asleep-return",
                    "--at exit",
                    asleep(&tried(&features.sleeping_returns)),
                ),
                option(
                    "busy-return",
                    "--at exit, up to 1 ms",
                    tried(&features.busy_returns),
                ),
            ]
        }
        FaultKind::SysReturn => vec![
            probe("kprobe", features.override_return.clone()),
            option("fmod_ret", "values above 0", features.modify_return.clone()),
        ],
        FaultKind::SysSignal => vec![probe("kprobe", features.seen_entry.clone())],
        FaultKind::UserReturn => vec![probe("uprobe", features.function_return.clone())],
        FaultKind::CgroupFreeze
        | FaultKind::CpuQuota
        | FaultKind::MemoryLimit
        | FaultKind::PidsLimit
        | FaultKind::IoLimit
        | FaultKind::ProcSignal
        | FaultKind::ProcKill
        | FaultKind::CpuStress
        | FaultKind::MemoryPressure => vec![probe("guardian", resources::support(kind))],
        FaultKind::ClockOffset => vec![probe("timens", resources::support(kind))],
        FaultKind::NetRefuse => {
            let mut rungs = vec![probe("cgroup", features.refuse.clone())];
            if !features.refuse.is_supported() {
                let deny = features.deny.clone();
                rungs.push(option("cgroup-eperm", "--errno EPERM", deny));
            }
            rungs
        }
    }
}

/// What came of the trial with one call, which stands for all.
fn tried(calls: &BTreeMap<Syscall, Support>) -> Support {
    let first = calls.values().next().cloned();
    first.unwrap_or_else(|| no("it was not tried"))
}

/// Whether all of them are there; otherwise the first that is not.
fn all_of<'a>(needed: impl IntoIterator<Item = &'a Support>) -> Support {
    let mut needed = needed.into_iter();
    let lacking = needed.find(|support| !support.is_supported());
    lacking.cloned().unwrap_or(Support::Supported)
}

/// Whether all hooks work; otherwise the first that does not, by name.
fn all_hooks(hooks: &BTreeMap<SecurityHook, Support>) -> Support {
    let lacking = hooks.iter().find(|(_, support)| !support.is_supported());
    match lacking {
        None => Support::Supported,
        Some((hook, support)) => no(format!("{}: {}", hook.attach(), support.reason())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PacketAttach;

    fn features() -> Features {
        Features {
            packets: Ok(PacketAttach::Tcx),
            packets_refused: Vec::new(),
            fair_queue: no("no fq"),
            hop_devices: Support::Supported,
            loopback_hop: no("no ifb"),
            override_return: Support::Supported,
            seen_entry: Support::Supported,
            entries: BTreeMap::new(),
            twins: BTreeMap::new(),
            modified_twins: Support::Supported,
            modify_return: Support::Supported,
            modified_entries: BTreeMap::new(),
            function_return: Support::Supported,
            refuse: Support::Supported,
            deny: Support::Supported,
            send: Support::Supported,
            security: BTreeMap::new(),
            modified_security: BTreeMap::new(),
            call_chain: Support::Supported,
            requests: BTreeMap::new(),
            waker: Support::Supported,
            sleeping_hooks: BTreeMap::new(),
            sleeping_entries: BTreeMap::new(),
            sleeping_returns: BTreeMap::new(),
            busy_returns: BTreeMap::new(),
        }
    }

    /// What a kind's line says of packets that are split.
    fn segment(kind: FaultKind, features: &Features) -> Option<Support> {
        let mut rungs = of(kind, features).into_iter();
        let rung = rungs.find(|probe| probe.rung == "segment")?;
        Some(rung.state)
    }

    /// Whether a kind can be had without what only an option of it needs.
    fn is_served(kind: FaultKind, features: &Features) -> bool {
        let mut rungs = of(kind, features).into_iter();
        rungs.any(|probe| probe.only_for.is_none() && probe.state.is_supported())
    }

    #[test]
    fn what_only_an_option_needs_serves_no_kind() {
        let without = Features {
            packets: Err("no hook".to_owned()),
            loopback_hop: Support::Supported,
            refuse: no("no bpf_set_retval"),
            ..features()
        };
        for kind in [
            FaultKind::NetLoss,
            FaultKind::NetDelay,
            FaultKind::Dns,
            FaultKind::NetRefuse,
        ] {
            assert!(
                !is_served(kind, &without),
                "{kind:?}: {:?}",
                of(kind, &without)
            );
        }
        assert!(is_served(FaultKind::NetLoss, &features()));
        assert!(
            !is_served(FaultKind::NetDelay, &features()),
            "without a queue"
        );
        assert!(is_served(FaultKind::NetRefuse, &features()));
    }

    #[test]
    fn splitting_needs_devices_and_what_the_kind_needs() {
        let yes = Some(Support::Supported);
        assert_eq!(segment(FaultKind::NetLoss, &features()), yes);
        assert_eq!(segment(FaultKind::NetRate, &features()), Some(no("no fq")));
        assert_eq!(segment(FaultKind::Dns, &features()), None);
        let bare = Features {
            hop_devices: no("no veth"),
            ..features()
        };
        assert_eq!(segment(FaultKind::NetReset, &bare), Some(no("no veth")));
        // What reaches no packets splits none, and does not make up for it.
        let deaf = Features {
            packets: Err("no hook".to_owned()),
            ..features()
        };
        assert_eq!(segment(FaultKind::NetCorrupt, &deaf), Some(no("no hook")));
    }
}
