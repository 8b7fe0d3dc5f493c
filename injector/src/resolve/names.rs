//! Peers that rules name, by host name or as a target.

use std::{
    io,
    net::{IpAddr, ToSocketAddrs as _},
};

use super::{LinuxHost, peer_target};
use crate::{
    error::SpecError,
    model::{Experiment, HostName, NamedPeer},
};

/// A peer that a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulePeer {
    /// The rule's position.
    pub rule: u32,
    /// The peer.
    pub peer: NamedPeer,
    /// Whether the rule leaves it out.
    pub left_out: bool,
}

/// All peers that rules name.
#[must_use]
pub fn named_peers(experiment: &Experiment) -> Vec<RulePeer> {
    let mut found = Vec::new();
    for (rule, one) in (0u32..).zip(&experiment.rules) {
        let Some(filter) = one.fault.conditions().filter(|_| !one.removed) else {
            continue;
        };
        found.extend(filter.named_peers.each().map(|(peer, left_out)| RulePeer {
            rule,
            peer: peer.clone(),
            left_out,
        }));
    }
    found
}

/// The addresses of a peer: of a host, as this host's resolver has them
/// (getaddrinfo(3)), or of a target.
///
/// # Errors
///
/// When it has none, or nobody answers.
pub fn look_up(peer: &NamedPeer) -> io::Result<Vec<IpAddr>> {
    match peer {
        NamedPeer::Host(name) => look_up_host(name),
        NamedPeer::Target(target) => {
            let host = LinuxHost::new().map_err(io::Error::other)?;
            peer_target::addresses(target, &host).map_err(io::Error::other)
        }
    }
}

fn look_up_host(name: &HostName) -> io::Result<Vec<IpAddr>> {
    let found = (name.0.as_str(), 0).to_socket_addrs()?;
    // Packets of both forms count as IPv4.
    let mut addresses: Vec<IpAddr> = found.map(|one| one.ip().to_canonical()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(io::Error::other("it has no address"));
    }
    Ok(addresses)
}

/// Writes the addresses of all names into the filters that hold them.
///
/// # Errors
///
/// Where a name has no address now; the field is that of its rule.
pub fn resolve_names(
    experiment: &mut Experiment,
    look_up: impl Fn(&NamedPeer) -> io::Result<Vec<IpAddr>>,
) -> Result<(), SpecError> {
    for RulePeer {
        rule,
        peer,
        left_out,
    } in named_peers(experiment)
    {
        let addresses = look_up(&peer).map_err(|error| {
            let (field, problem, allowed) = match &peer {
                NamedPeer::Host(name) => (
                    "peer",
                    format!("`{name}` cannot be resolved ({error})"),
                    "networks, and names that this host can resolve now",
                ),
                NamedPeer::Target(target) => (
                    "peer-target",
                    format!("`{target}`: {error}"),
                    "a target with processes, and with network namespaces that no others are in",
                ),
            };
            SpecError::new(field, problem, allowed).below(&format!("rules[{rule}]"))
        })?;
        let rule = experiment.rules.get_mut(rule as usize);
        let Some(filter) = rule.and_then(|rule| rule.fault.conditions_mut()) else {
            continue;
        };
        let list = if left_out {
            &mut filter.peers.not
        } else {
            &mut filter.peers.these
        };
        for address in addresses {
            if !list.contains(&address.into()) {
                list.push(address.into());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use injector_common::Trigger;

    use super::*;
    use crate::model::{Choice, Direction, Fault, PacketFault, PacketFilter, Per, Rule, Target};

    fn experiment(these: &[&str], not: &[&str]) -> Experiment {
        let names = |list: &[&str]| {
            let names = list.iter().map(|name| host(name));
            names.collect::<Vec<_>>()
        };
        let filter = PacketFilter {
            named_peers: Choice {
                these: names(these),
                not: names(not),
            },
            ..PacketFilter::new(Direction::Both)
        };
        Experiment {
            id: "1".into(),
            name: "lab".into(),
            seed: 1,
            duration: Duration::from_secs(1),
            rules: vec![Rule {
                name: "cut".into(),
                targets: vec![Target::Process(1)],
                fault: Fault::Packet(filter, PacketFault::Partition),
                trigger: Trigger::ALWAYS,
                per: Per::Rule,
                start: Duration::ZERO,
                duration: Duration::from_secs(1),
                shadow: false,
                removed: false,
            }],
            command: None,
            whole_host: false,
        }
    }

    fn host(name: &str) -> NamedPeer {
        NamedPeer::Host(HostName(name.to_owned()))
    }

    fn addresses(peer: &NamedPeer) -> io::Result<Vec<IpAddr>> {
        match peer.to_string().as_str() {
            "db" => Ok(vec![
                "10.0.0.1".parse().unwrap(),
                "fd00::1".parse().unwrap(),
            ]),
            "twin" => Ok(vec!["10.0.0.1".parse().unwrap()]),
            _ => Err(io::Error::other("never heard of it")),
        }
    }

    #[test]
    fn names_become_networks_of_one_address() {
        let mut experiment = experiment(&["db", "twin"], &["twin"]);
        resolve_names(&mut experiment, addresses).expect("addresses");
        let filter = experiment.rules[0].fault.conditions().expect("a filter");
        let list = |list: &[crate::model::Cidr]| -> Vec<String> {
            list.iter().map(ToString::to_string).collect()
        };
        assert_eq!(list(&filter.peers.these), ["10.0.0.1/32", "fd00::1/128"]);
        assert_eq!(list(&filter.peers.not), ["10.0.0.1/32"]);
        assert!(filter.single_peer().is_none());
    }

    #[test]
    fn a_name_that_nobody_knows_is_refused_with_its_rule() {
        let error = resolve_names(&mut experiment(&["db", "nowhere"], &[]), addresses);
        let error = error.expect_err("no address");
        assert_eq!(error.field, "rules[0].peer");
        assert!(error.to_string().contains("`nowhere`"), "{error}");
        assert!(error.to_string().contains("never heard"), "{error}");
    }

    #[test]
    fn a_target_without_addresses_is_refused_by_its_option() {
        let mut experiment = experiment(&[], &[]);
        let filter = experiment.rules[0].fault.conditions_mut();
        let peer = NamedPeer::Target(Target::Process(1));
        filter.expect("a filter").named_peers.these.push(peer);
        let error = resolve_names(&mut experiment, addresses).expect_err("no address");
        assert_eq!(error.field, "rules[0].peer-target");
        assert!(error.to_string().contains("`pid:1`"), "{error}");
    }
}
