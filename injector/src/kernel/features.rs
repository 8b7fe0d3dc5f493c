//! What this kernel can do, found out by trying it: load, attach, look whether
//! it ran, detach. A configuration file would say less, and sometimes lie.

use std::{collections::BTreeMap, fs::File, io};

use aya::{
    Ebpf,
    maps::Array,
    programs::{KProbe, Lsm, ProgramError, SchedClassifier, tc::TcAttachType},
};
use injector_common::{Control, FaultKind, kinds::Family, names, names::SecurityHook};

use super::{links, netlink, netns, object};
use crate::plan::{
    Features, PacketAttach, Support,
    features::Probe,
};

/// Tries every way to have every kind. One kind may have several lines; it is
/// supported if one of its lines is.
#[must_use]
pub fn probe_all() -> Vec<Probe> {
    let features = match probe(&[Family::Packet, Family::Syscall], SecurityHook::ALL) {
        Ok(features) => features,
        Err(reason) => {
            let state = Support::Inconclusive { reason };
            return FaultKind::ALL
                .iter()
                .map(|&kind| Probe { kind, rung: "maps".to_owned(), state: state.clone() })
                .collect();
        }
    };
    FaultKind::ALL.iter().flat_map(|&kind| rungs(kind, &features)).collect()
}

fn rungs(kind: FaultKind, features: &Features) -> Vec<Probe> {
    let probe = |rung: &str, state| Probe { kind, rung: rung.to_owned(), state };
    let packets = |extra: &[&Support]| {
        let (rung, attach) = match &features.packets {
            Ok(attach) => (attach.name(), Support::Supported),
            Err(reason) => ("tcx", no(reason.clone())),
        };
        let lacking = extra.iter().find(|support| !support.is_supported());
        vec![probe(rung, lacking.map_or(attach, |support| (*support).clone()))]
    };
    match kind {
        FaultKind::NetLoss | FaultKind::NetCorrupt => packets(&[]),
        FaultKind::NetDelay => packets(&[&features.hop_devices, &features.fair_queue]),
        FaultKind::SysErrno => vec![
            probe("kprobe", features.override_return.clone()),
            probe("lsm", all_of(&features.security)),
        ],
    }
}

/// Whether all hooks work; otherwise the first that does not, by name.
fn all_of(hooks: &BTreeMap<SecurityHook, Support>) -> Support {
    let lacking = hooks.iter().find(|(_, support)| !support.is_supported());
    match lacking {
        None => Support::Supported,
        Some((hook, support)) => no(format!("{}: {}", hook.attach(), support.reason())),
    }
}

/// Tries what rules of these families need, and these security hooks.
///
/// # Errors
///
/// When the maps cannot be created, so that nothing can be tried.
pub fn probe(families: &[Family], hooks: &[SecurityHook]) -> Result<Features, String> {
    let mut ebpf = object::open().map_err(|error| describe(&error))?;
    let mut features = Features {
        packets: Err("not tried".to_owned()),
        fair_queue: untried(),
        hop_devices: untried(),
        override_return: untried(),
        security: BTreeMap::new(),
    };
    if families.contains(&Family::Packet) {
        probe_packets(&mut ebpf, &mut features);
    }
    if families.contains(&Family::Syscall) {
        features.override_return = probe_override(&mut ebpf);
        if !features.override_return.is_supported() || hooks.len() == SecurityHook::ALL.len() {
            features.security = probe_security(&mut ebpf, hooks);
        }
    }
    Ok(features)
}

fn untried() -> Support {
    Support::Inconclusive { reason: "not tried".to_owned() }
}

fn no(reason: impl Into<String>) -> Support {
    Support::Unsupported { reason: reason.into() }
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// Tries attachment, devices and fq in a network namespace made for it, which
/// takes everything along when it goes.
fn probe_packets(ebpf: &mut Ebpf, features: &mut Features) {
    let result = netns::inside_new(|| {
        let attach = try_attach(ebpf);
        let devices = netlink::here(|handle| async move {
            netlink::add_pair(&handle, "inja", "injb").await?;
            netlink::add_ifb(&handle, "inji").await
        });
        let fair_queue = devices.as_ref().map_err(|error| error.to_string()).and_then(|&index| {
            netlink::here(|mut handle| async move {
                netlink::add_fair_queue(&mut handle, index).await
            })
            .map_err(|error| error.to_string())
        });
        (attach, devices.map_err(|error| error.to_string()), fair_queue)
    });
    match result {
        Ok((attach, devices, fair_queue)) => {
            features.packets = attach;
            features.hop_devices = devices.map_or_else(no, |_| Support::Supported);
            features.fair_queue = fair_queue.map_or_else(no, |()| Support::Supported);
        }
        Err(error) => {
            let reason = format!("no network namespace to try it in: {error}");
            features.packets = Err(reason.clone());
            features.hop_devices = Support::Inconclusive { reason: reason.clone() };
            features.fair_queue = Support::Inconclusive { reason };
        }
    }
}

fn try_attach(ebpf: &mut Ebpf) -> Result<PacketAttach, String> {
    let mut reasons = Vec::new();
    for by in [PacketAttach::Tcx, PacketAttach::Clsact] {
        match try_attach_by(ebpf, by) {
            Ok(()) => return Ok(by),
            Err(error) => reasons.push(format!("{}: {}", by.name(), describe(&error))),
        }
    }
    Err(reasons.join("; "))
}

fn try_attach_by(ebpf: &mut Ebpf, by: PacketAttach) -> Result<(), ProgramError> {
    let program = ebpf
        .program_mut(names::PROG_EGRESS)
        .ok_or(ProgramError::NotLoaded)?;
    let program: &mut SchedClassifier = program.try_into()?;
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
        Err(error) => return Err(error),
    }
    if by == PacketAttach::Clsact {
        links::add_clsact("lo")?;
    }
    links::attach_packets(program, "lo", TcAttachType::Egress, by).map(drop)
}

/// Tries to override a call that hardly anybody makes, without a rule to
/// override it by.
fn probe_override(ebpf: &mut Ebpf) -> Support {
    let mut attempt = || -> Result<(), ProgramError> {
        let program = ebpf
            .program_mut(names::PROG_SYSCALL)
            .ok_or(ProgramError::NotLoaded)?;
        let program: &mut KProbe = program.try_into()?;
        program.load()?;
        links::attach_kprobe(program, "__x64_sys_getpgid").map(drop)
    };
    match attempt() {
        Ok(()) => Support::Supported,
        Err(error) => no(refusal(&error)),
    }
}

/// Why the kernel refused a program, in one line.
fn refusal(error: &ProgramError) -> String {
    let tail = object::verifier_tail(error);
    let telling = tail
        .iter()
        .rev()
        .find(|line| !line.starts_with("processed ") && !line.starts_with("verification time"));
    match telling {
        Some(line) => format!("the verifier says: {line}"),
        None => describe(error),
    }
}

fn probe_security(
    ebpf: &mut Ebpf,
    hooks: &[SecurityHook],
) -> BTreeMap<SecurityHook, Support> {
    let types = match object::kernel_types() {
        Ok(types) => types,
        Err(error) => return same_for(hooks, &Support::Inconclusive { reason: describe(&error) }),
    };
    match try_security(ebpf, &types) {
        Ok(true) => {}
        Ok(false) => {
            return same_for(hooks, &no("security programs attach, but the kernel never runs them: \
                 `bpf` is not among the active security modules (the lsm= boot parameter)"));
        }
        Err(error) => return same_for(hooks, &no(describe(error.as_ref()))),
    }
    hooks
        .iter()
        .map(|&hook| {
            let loaded = ebpf
                .program_mut(hook.program())
                .ok_or(ProgramError::NotLoaded)
                .and_then(|program| <&mut Lsm>::try_from(program))
                .and_then(|program| program.load(hook.attach(), &types));
            (hook, loaded.map_or_else(|error| no(refusal(&error)), |()| Support::Supported))
        })
        .collect()
}

fn same_for(hooks: &[SecurityHook], support: &Support) -> BTreeMap<SecurityHook, Support> {
    hooks.iter().map(|&hook| (hook, support.clone())).collect()
}

/// Whether a security program that attaches is also called.
fn try_security(
    ebpf: &mut Ebpf,
    types: &aya::Btf,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let control = ebpf.map_mut(names::MAP_CONTROL).ok_or("no control map")?;
    let mut control: Array<_, Control> = Array::try_from(control)?;
    let agent_tgid = std::process::id();
    control.set(0, Control { agent_tgid, ..Control::default() }, 0)?;
    let program = ebpf.program_mut(names::PROG_TRIAL).ok_or("no trial program")?;
    let program: &mut Lsm = program.try_into()?;
    program.load("file_open", types)?;
    let attached = links::attach_lsm(program)?;
    File::open("/proc/self/status")?;
    let count = ebpf.map(names::MAP_TRIAL).ok_or("no trial map")?;
    let count: Array<_, u64> = Array::try_from(count)?;
    let ran = count.get(&0, 0)? > 0;
    attached.detach().map_err(|error: io::Error| error)?;
    Ok(ran)
}
