//! The addresses of a target that is somebody's peer.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use injector_common::{NetnsInode, Tgid};

use super::{cgroup, host::Host, process};
use crate::{error::Error, model::Target};

/// Why a target has no addresses that are its own.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is not there, or the host cannot be asked.
    #[error(transparent)]
    Host(#[from] Error),
    /// Nothing runs in it.
    #[error("no process runs in it, so that its addresses are not known")]
    Empty,
    /// It is a command that is yet to start.
    #[error("it has not started")]
    NotStarted,
    /// An address there would mean others too.
    #[error(
        "it shares a network namespace with process {0}, so that its addresses are not its own; \
         name it by --peer and --peer-port"
    )]
    Shared(Tgid),
}

/// The addresses of the network namespaces that a target lives in.
///
/// # Errors
///
/// Where it has none now, or shares a namespace: an address says nothing then
/// about whose packet it is.
pub fn addresses(target: &Target, host: &impl Host) -> Result<Vec<IpAddr>, PeerError> {
    let processes = host.processes().map_err(Error::from)?;
    let members: BTreeSet<Tgid> = match target {
        Target::Cgroup(path) => {
            let mounts = host.cgroup_mounts().map_err(Error::from)?;
            let found = cgroup::find(path, false, &mounts, host)?;
            let inside = host.cgroup_processes(&found.path).map_err(Error::from)?;
            inside.into_iter().collect()
        }
        Target::Process(pid) => {
            let root = process::find(*pid, host).map_err(Error::from)?;
            process::tree(root, &processes).into_iter().collect()
        }
        Target::Command => return Err(PeerError::NotStarted),
    };
    // A way into each namespace, and whoever else is there.
    let mut found: BTreeMap<NetnsInode, PathBuf> = BTreeMap::new();
    let mut strangers: BTreeMap<NetnsInode, Tgid> = BTreeMap::new();
    for process in &processes {
        let Some(inode) = process.netns else { continue };
        if members.contains(&process.tgid) {
            let path = || PathBuf::from(format!("/proc/{}/ns/net", process.tgid));
            found.entry(inode).or_insert_with(path);
        } else {
            strangers.entry(inode).or_insert(process.tgid);
        }
    }
    if found.is_empty() {
        return Err(PeerError::Empty);
    }
    let mut addresses = BTreeSet::new();
    for (inode, path) in &found {
        if let Some(stranger) = strangers.get(inode) {
            return Err(PeerError::Shared(*stranger));
        }
        addresses.extend(host.addresses(path).map_err(Error::from)?);
    }
    Ok(addresses.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::{super::scopes::fake::FakeHost, *};

    fn of(target: Target) -> Result<Vec<IpAddr>, PeerError> {
        addresses(&target, &FakeHost::new())
    }

    #[test]
    fn a_target_with_a_namespace_of_its_own_has_its_addresses() {
        let own: IpAddr = "10.0.0.9".parse().expect("an address");
        assert_eq!(of(Target::Cgroup("/web".into())).expect("it"), [own]);
        // 12 and 13 are all that 11 has below it.
        assert_eq!(of(Target::Process(11)).expect("it"), [own]);
    }

    #[test]
    fn one_that_shares_a_namespace_is_refused() {
        let shared = |target| match of(target) {
            Err(PeerError::Shared(process)) => process,
            other => panic!("{other:?}"),
        };
        assert_eq!(shared(Target::Cgroup("/db".into())), Tgid(1));
        assert_eq!(shared(Target::Cgroup("/web/php".into())), Tgid(11));
        assert_eq!(shared(Target::Process(13)), Tgid(11));
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let empty = of(Target::Cgroup("/empty".into()));
        assert!(matches!(empty, Err(PeerError::Empty)), "{empty:?}");
        for target in [Target::Cgroup("/nowhere".into()), Target::Process(9999)] {
            let error = of(target);
            assert!(matches!(error, Err(PeerError::Host(_))), "{error:?}");
        }
        let command = of(Target::Command);
        assert!(matches!(command, Err(PeerError::NotStarted)), "{command:?}");
    }
}
