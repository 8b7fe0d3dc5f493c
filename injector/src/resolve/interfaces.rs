//! Which interfaces a packet rule acts on.

use super::{Interface, host::Link};
use crate::error::{Error, SpecError, Unsupported};

/// Names of our own devices start so; no rule acts on them.
const OWN_PREFIX: &str = "inj";

/// Length of the link-layer header of Ethernet, which loopback has too.
const ETHERNET_LEN: u32 = 14;

/// Length of the link-layer header of packets on a link of this type
/// (`ARPHRD_*`, linux/if_arp.h); `None` for types that nothing here can parse.
const fn header_len(link_type: u16) -> Option<u32> {
    const ETHER: u16 = 1;
    const RAWIP: u16 = 519;
    const TUNNEL: u16 = 768;
    const TUNNEL6: u16 = 769;
    const LOOPBACK: u16 = 772;
    const SIT: u16 = 776;
    /// tun devices and WireGuard.
    const NONE: u16 = 0xfffe;
    match link_type {
        ETHER | LOOPBACK => Some(ETHERNET_LEN),
        RAWIP | TUNNEL | TUNNEL6 | SIT | NONE => Some(0),
        _ => None,
    }
}

fn interface(link: &Link) -> Option<Interface> {
    let l2_len = header_len(link.link_type)?;
    Some(Interface {
        name: link.name.clone(),
        index: link.index,
        l2_len,
    })
}

/// Every interface of a namespace that packets of a target can pass.
///
/// A packet on an enslaved interface passes its master too; acting on both
/// would act twice.
pub(super) fn default_selection(links: &[Link]) -> Vec<Interface> {
    let eligible = links
        .iter()
        .filter(|link| link.up && !link.enslaved && !link.name.starts_with(OWN_PREFIX));
    eligible
        .filter_map(|link| {
            let found = interface(link);
            if found.is_none() {
                tracing::warn!(
                    "left out interface {}: links of type {} are not supported",
                    link.name,
                    link.link_type
                );
            }
            found
        })
        .collect()
}

/// The named interface of a namespace, if it is there.
pub(super) fn named(links: &[Link], name: &str) -> Result<Option<Interface>, Error> {
    let Some(link) = links.iter().find(|link| link.name == name) else {
        return Ok(None);
    };
    match interface(link) {
        Some(interface) => Ok(Some(interface)),
        None => Err(Unsupported {
            what: format!("interface {name}").into(),
            needs: "an Ethernet, loopback or IP tunnel link".into(),
            found: format!("a link of type {}", link.link_type).into(),
        }
        .into()),
    }
}

/// That no namespace of a rule has the named interface.
pub(super) fn unknown(name: &str, links: &[Link]) -> Error {
    let mut names: Vec<&str> = links
        .iter()
        .map(|link| link.name.as_str())
        .filter(|name| !name.starts_with(OWN_PREFIX))
        .collect();
    names.sort_unstable();
    names.dedup();
    let problem = format!("there is no `{name}` in the target's network namespace");
    SpecError::new("interface", problem, format!("one of {}", names.join(", "))).into()
}
