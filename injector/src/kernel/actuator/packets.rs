//! Attaching programs to the packets of an interface, and detaching them.

use std::{fs::File, io, path::Path};

use aya::programs::{ProgramFd, SchedClassifier, tc::TcAttachType};

use super::{Failure, KernelActuator};
use crate::{
    error::{Error, HostError, Unsupported},
    kernel::{
        clsact::{self, Held, Side},
        journal::{Leftover, Place},
        links::{self, Attached, Filter, OwnedLink},
        netns, object,
    },
    model::Direction,
    plan::{Effect, PacketAttach, Plan},
    resolve::Netns,
};

/// Where a program goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    pub(super) netns: &'a Netns,
    pub(super) ifindex: u32,
    /// The interface's name.
    pub(super) interface: &'a str,
    pub(super) side: Side,
}

impl KernelActuator {
    pub(super) fn attach_packets(
        &mut self,
        effect: &Effect,
        site: Site<'_>,
        name: &str,
    ) -> Result<(), Failure> {
        let netns = self.namespace(site.netns)?;
        let by = self.attach;
        let program: &mut SchedClassifier = self.program(name)?.try_into()?;
        object::once(program.load())?;
        match by {
            PacketAttach::Tcx => {
                let side = match site.side {
                    Side::Ingress => TcAttachType::Ingress,
                    Side::Egress => TcAttachType::Egress,
                };
                let link = netns::inside(&netns, || {
                    links::attach_packets(program, site.interface, side, by)
                })??;
                let attached = Attached::Owned(OwnedLink::Tcx(link));
                self.attached.push((effect.clone(), attached));
            }
            PacketAttach::Clsact => {
                let filter = Filter {
                    place: Place {
                        netns: netns::identity(&netns)?,
                        ifindex: site.ifindex,
                    },
                    program: program.info()?.id(),
                    netns,
                };
                let program = program.fd()?.try_clone()?;
                // Known to the reverting side from here on, however far this
                // gets.
                self.attached
                    .push((effect.clone(), Attached::Filter(filter.clone())));
                self.attach_filter(&filter, site, &program, name)?;
            }
        }
        Ok(self.parts.done()?)
    }

    /// Adds a filter, and first the qdisc that holds it if there is none.
    fn attach_filter(
        &mut self,
        filter: &Filter,
        site: Site<'_>,
        program: &ProgramFd,
        name: &str,
    ) -> Result<(), Failure> {
        let (netns, place, side) = (&filter.netns, filter.place, site.side);
        // From looking for a qdisc until a filter of ours is in it, no other
        // agent may find it empty and remove it.
        let _lock = netns::lock(netns)?;
        let qdisc = Leftover::Qdisc { place };
        match netns::inside(netns, || clsact::held(site.ifindex)).flatten()? {
            Held::Nothing => {
                self.journal.add(qdisc)?;
                self.parts.done()?;
                netns::inside(netns, || clsact::add(site.ifindex)).flatten()?;
                self.parts.done()?;
            }
            // Whichever agent made it, the last one removes it.
            Held::Clsact if self.journal.others_hold(&qdisc) => self.journal.add(qdisc)?,
            Held::Clsact => {}
            Held::Ingress if side == Side::Ingress => {}
            Held::Ingress => return Err(no_room(site.interface, &site.netns.path).into()),
        }
        self.journal.add(Leftover::Filter {
            place,
            program: filter.program,
        })?;
        self.parts.done()?;
        let attach = || clsact::attach(site.ifindex, side, program, name);
        if !netns::inside(netns, attach).flatten()? {
            tracing::warn!(
                "a filter on {} comes before ours, which see only what it lets by",
                site.interface
            );
        }
        Ok(())
    }

    /// Removes a filter, and the qdisc with the last one if it is ours to
    /// remove. Returns what is still there; that stays in the journal.
    pub(super) fn detach_filter(&mut self, filter: &Filter) -> Vec<(Leftover, io::Error)> {
        let Filter {
            netns,
            place,
            program,
        } = filter;
        let (place, program) = (*place, *program);
        let filter = Leftover::Filter { place, program };
        let detach = || clsact::detach(place.ifindex, program);
        let detached = self
            .parts
            .detaching()
            .and_then(|()| netns::inside(netns, detach).flatten());
        if let Err(error) = detached {
            return vec![(filter, error)];
        }
        self.journal.strike(&filter);
        let qdisc = Leftover::Qdisc { place };
        if self.journal.holds_filter_at(place) || !self.journal.holds(&qdisc) {
            return Vec::new();
        }
        let mut remove = || -> io::Result<()> {
            let _lock = netns::lock(netns)?;
            netns::inside(netns, || clsact::remove_if_empty(place.ifindex)).flatten()?;
            // While others wait: they ask whose it is.
            self.journal.strike(&qdisc);
            Ok(())
        };
        match remove() {
            Ok(()) => Vec::new(),
            Err(error) => vec![(qdisc, error)],
        }
    }
}

/// Refuses a plan with filters for which an interface has no room: an `ingress`
/// qdisc hangs where a clsact would. Reads only.
///
/// # Errors
///
/// [`Unsupported`] with the command that makes room; [`HostError`] when an
/// interface cannot be asked.
pub fn check_room(plan: &Plan, attach: PacketAttach) -> Result<(), Error> {
    if attach != PacketAttach::Clsact {
        return Ok(());
    }
    for effect in &plan.effects {
        let Effect::AttachPackets {
            netns,
            interface,
            direction: Direction::Egress,
        } = effect
        else {
            continue;
        };
        let held = File::open(&netns.path)
            .and_then(|file| netns::inside(&file, || clsact::held(interface.index.0)).flatten())
            .map_err(|source| HostError {
                path: netns.path.clone(),
                source,
            })?;
        if held == Held::Ingress {
            return Err(no_room(&interface.name, &netns.path).into());
        }
    }
    Ok(())
}

fn no_room(interface: &str, netns: &Path) -> Unsupported {
    Unsupported {
        what: format!("attach to egress of {interface} in {}", netns.display()).into(),
        needs: "a clsact qdisc there, or room for one".into(),
        found: format!(
            "an ingress qdisc, beside which the kernel takes no clsact; \
             `nsenter --net={} tc qdisc del dev {interface} ingress` removes it with its filters",
            netns.display()
        )
        .into(),
    }
}
