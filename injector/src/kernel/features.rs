//! What this kernel can do, found out by trying it: load, attach, look whether
//! it ran, detach. A configuration file would say less, and sometimes lie.

mod calls;
mod functions;
mod requests;
mod resources;
mod rungs;
mod security;
mod sockets;

use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    net::UdpSocket,
    time::Duration,
};

use aya::{
    Ebpf,
    maps::Array,
    programs::{ProgramError, SchedClassifier, tc::TcAttachType},
};
use injector_common::{FaultKind, names, uses::Uses};

use super::{
    links,
    needs::Needs,
    netlink::{self, NewDevice},
    netns,
    object::{Programs, describe, once, refusal, side_by_side},
    queue,
};
use crate::{
    model::{Fault, QueueMemory, Syscall, Way},
    plan::{Features, PacketAttach, Support, features::Probe},
    resolve::netns::ask_netlink,
};

pub use calls::probe_calls;

/// What can be tried by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trial {
    /// Rules on packets at interfaces.
    Packets,
    /// Rules on packets where sockets send.
    Sends,
    /// Rules on system calls.
    Calls,
    /// Rules on functions of programs and libraries.
    Functions,
    /// Rules on `connect`.
    Connects,
    /// Rules that no program serves: what they need is looked for with their targets.
    Nothing,
}

impl Trial {
    const ALL: [Self; 5] = [
        Self::Packets,
        Self::Sends,
        Self::Calls,
        Self::Functions,
        Self::Connects,
    ];

    /// What tells whether a fault can be had.
    #[must_use]
    pub const fn of(fault: &Fault) -> Self {
        match fault {
            Fault::Packet(_, fault) if fault.fails_calls() => Self::Sends,
            Fault::Packet(..) => Self::Packets,
            Fault::Call(..) => Self::Calls,
            Fault::Function(_) => Self::Functions,
            Fault::Refuse { .. } => Self::Connects,
            Fault::Resource(_) => Self::Nothing,
        }
    }
}

/// Tries every way to have every kind, and what single options of it need. A kind is
/// supported if one of its ways is.
#[must_use]
pub fn probe_all() -> Vec<Probe> {
    let features = match Programs::open(Needs::TRIAL) {
        Ok(mut programs) => {
            let mut features = probe(&mut programs, &Trial::ALL, &[]);
            calls::try_common(&mut programs, &mut features);
            features
        }
        Err(error) => {
            let state = Support::Inconclusive {
                reason: error.to_string(),
            };
            return FaultKind::ALL
                .iter()
                .map(|&kind| Probe {
                    kind,
                    rung: "maps".to_owned(),
                    only_for: None,
                    state: state.clone(),
                })
                .collect();
        }
    };
    FaultKind::ALL
        .iter()
        .flat_map(|&kind| rungs::of(kind, &features))
        .collect()
}

/// What has been tried so far.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    trials: BTreeSet<Trial>,
    features: Features,
}

impl Default for Tried {
    fn default() -> Self {
        Self {
            trials: BTreeSet::new(),
            features: Features {
                packets: Err("not tried".to_owned()),
                packets_refused: Vec::new(),
                fair_queue: untried(),
                hop_devices: untried(),
                loopback_hop: untried(),
                override_return: untried(),
                seen_entry: untried(),
                entries: BTreeMap::new(),
                twins: BTreeMap::new(),
                modified_twins: untried(),
                modify_return: untried(),
                modified_entries: BTreeMap::new(),
                function_return: untried(),
                refuse: untried(),
                deny: untried(),
                send: untried(),
                security: BTreeMap::new(),
                modified_security: BTreeMap::new(),
                call_chain: untried(),
                requests: BTreeMap::new(),
                waker: untried(),
                sleeping_hooks: BTreeMap::new(),
                sleeping_entries: BTreeMap::new(),
                sleeping_returns: BTreeMap::new(),
                busy_returns: BTreeMap::new(),
            },
        }
    }
}

/// Tries these, and for calls what they could be failed by: the way that is wanted, or else the
/// best that works. Nothing is tried twice: what a kernel can do does not change while rules are
/// in force, and they would wait for it.
#[must_use]
pub fn probe(programs: &mut Programs, trials: &[Trial], calls: &[(Syscall, Way)]) -> Features {
    let Tried {
        trials: mut tried,
        mut features,
    } = mem::take(&mut programs.tried);
    let mut is_new = |trial| trials.contains(&trial) && tried.insert(trial);
    if is_new(Trial::Packets) {
        probe_packets(programs, &mut features);
    }
    calls::try_wanted(programs, &mut features, calls);
    if is_new(Trial::Functions) {
        features.function_return = functions::probe(&mut programs.ebpf);
    }
    if is_new(Trial::Connects) {
        features.refuse = sockets::connect(&mut programs.ebpf, true);
        if !features.refuse.is_supported() {
            features.deny = sockets::connect(&mut programs.ebpf, false);
        }
    }
    if is_new(Trial::Sends) {
        features.send = sockets::send(&mut programs.ebpf);
    }
    programs.tried = Tried {
        trials: tried,
        features: features.clone(),
    };
    features
}

fn untried() -> Support {
    Support::Inconclusive {
        reason: "not tried".to_owned(),
    }
}

fn no(reason: impl Into<String>) -> Support {
    Support::Unsupported {
        reason: reason.into(),
    }
}

/// Tries attachment, devices and fq in a network namespace made for it, which
/// takes everything along when it goes.
fn probe_packets(programs: &mut Programs, features: &mut Features) {
    let detours = programs.uses.any(Uses::DETOURS.and(Uses::SEGMENTS));
    let ebpf = &mut programs.ebpf;
    let result = netns::inside_new(|| {
        try_attach(ebpf, features);
        if !detours {
            return;
        }
        let devices = ask_netlink(|handle| async move {
            netlink::raise_loopback(&handle).await?;
            netlink::add_pair(&handle, TRIAL_NEAR, TRIAL_FAR).await?;
            Ok(netlink::add_ifb(&handle, TRIAL_IFB).await)
        });
        let ifb = match devices {
            Ok(ifb) => ifb,
            Err(error) => {
                let reason = format!("no veth pair can be made: {error}");
                features.hop_devices = no(reason.clone());
                features.loopback_hop = no(reason.clone());
                features.fair_queue = no(reason);
                return;
            }
        };
        features.hop_devices = try_hop_programs(ebpf);
        features.fair_queue = ask_netlink(|mut handle| async move {
            let memory = QueueMemory::DEFAULT;
            queue::add_fair_queue(&mut handle, TRIAL_NEAR.index, memory).await
        })
        .map_or_else(
            |error| no(format!("no fq queueing discipline (sch_fq): {error}")),
            |()| Support::Supported,
        );
        features.loopback_hop = match (ifb, &features.packets) {
            (Err(error), _) => no(format!("no ifb device can be made: {error}")),
            (_, Err(reason)) => no(reason.clone()),
            (Ok(()), Ok(attach)) => {
                try_loopback(ebpf, TRIAL_IFB.index, *attach).map_or_else(no, |came_back| {
                    if came_back {
                        Support::Supported
                    } else {
                        no("a packet that a program sent to an ifb does not come back")
                    }
                })
            }
        };
    });
    if let Err(error) = result {
        let reason = format!("no network namespace to try it in: {error}");
        features.packets = Err(reason.clone());
        features.packets_refused = vec![(PacketAttach::Tcx, reason.clone())];
        features.hop_devices = Support::Inconclusive {
            reason: reason.clone(),
        };
        features.loopback_hop = Support::Inconclusive {
            reason: reason.clone(),
        };
        features.fair_queue = Support::Inconclusive { reason };
    }
}

/// Devices for trials, in a namespace where there is nothing else.
const TRIAL_NEAR: NewDevice<'_> = NewDevice {
    name: "inja",
    index: 1001,
};
const TRIAL_FAR: NewDevice<'_> = NewDevice {
    name: "injb",
    index: 1002,
};
const TRIAL_IFB: NewDevice<'_> = NewDevice {
    name: "inji",
    index: 1003,
};

/// Whether the kernel accepts the programs of our devices: setting a departure
/// time needs `bpf_skb_set_tstamp` (Linux 5.18).
fn try_hop_programs(ebpf: &mut Ebpf) -> Support {
    for name in [names::PROG_HOP, names::PROG_RETURN, names::PROG_SPLIT] {
        if let Err(error) = classifier(ebpf, name) {
            return no(refusal(&error));
        }
    }
    Support::Supported
}

/// How long a packet on loopback gets to come back; it needs microseconds.
const LOOPBACK_PATIENCE: Duration = Duration::from_millis(200);

/// Whether a packet that arrives on loopback, and is sent to the ifb device
/// there, still arrives.
fn try_loopback(ebpf: &mut Ebpf, ifb: u32, by: PacketAttach) -> Result<bool, String> {
    {
        let trial = ebpf.map_mut(names::MAP_TRIAL).ok_or("no trial map")?;
        let mut trial: Array<_, u64> = Array::try_from(trial).map_err(|error| describe(&error))?;
        trial
            .set(0, u64::from(ifb), 0)
            .map_err(|error| describe(&error))?;
    }
    let attempt = || -> io::Result<bool> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(LOOPBACK_PATIENCE))?;
        socket.send_to(b"?", socket.local_addr()?)?;
        Ok(socket.recv(&mut [0]).is_ok())
    };
    let came_back = classifier(ebpf, names::PROG_TRIAL_HOP)
        .and_then(|program| links::attach_packets(program, "lo", TcAttachType::Ingress, by))
        .map_err(|error| refusal(&error))
        .and_then(|_link| attempt().map_err(|error| describe(&error)));
    // The security programs' trial counts in the same place.
    let trial = ebpf.map_mut(names::MAP_TRIAL).ok_or("no trial map")?;
    let mut trial: Array<_, u64> = Array::try_from(trial).map_err(|error| describe(&error))?;
    trial.set(0, 0, 0).map_err(|error| describe(&error))?;
    came_back
}

/// A packet program, loaded.
fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, ProgramError> {
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
    let program: &mut SchedClassifier = program.try_into()?;
    once(program.load())?;
    Ok(program)
}

/// Tries the ways to reach packets, the best first; the ones that were refused
/// before one worked are noted.
fn try_attach(ebpf: &mut Ebpf, features: &mut Features) {
    for by in [PacketAttach::Tcx, PacketAttach::Clsact] {
        match try_attach_by(ebpf, by) {
            Ok(()) => {
                features.packets = Ok(by);
                return;
            }
            Err(error) => features.packets_refused.push((by, refusal(&error))),
        }
    }
    let reasons = features.packets_refused.iter();
    let reasons: Vec<String> = reasons
        .map(|(by, reason)| format!("{}: {reason}", by.name()))
        .collect();
    features.packets = Err(reasons.join("; "));
}

fn try_attach_by(ebpf: &mut Ebpf, by: PacketAttach) -> Result<(), ProgramError> {
    // A kernel may accept one program and refuse another.
    load_packets(ebpf)?;
    let program = classifier(ebpf, names::PROG_EGRESS)?;
    if by == PacketAttach::Clsact {
        links::add_clsact("lo")?;
    }
    links::attach_packets(program, "lo", TcAttachType::Egress, by).map(drop)
}

/// Loads the programs of both directions.
fn load_packets(ebpf: &mut Ebpf) -> Result<(), ProgramError> {
    let programs = ebpf
        .programs_mut()
        .filter(|(name, _)| [names::PROG_INGRESS, names::PROG_EGRESS].contains(name));
    side_by_side(programs.collect(), |(_, program)| {
        let program: &mut SchedClassifier = program.try_into()?;
        once(program.load())
    })
    .into_iter()
    .collect()
}
