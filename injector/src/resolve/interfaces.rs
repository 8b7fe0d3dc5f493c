//! Which interfaces a packet rule acts on.

use injector_common::names::DEVICE_ALIAS;

use super::{Interface, host::Link};
use crate::{
    error::{Error, SpecError, Unsupported},
    model::Choice,
};

/// Length of the link-layer header of Ethernet, which loopback has too.
const ETHERNET_LEN: u32 = 14;

/// Length of the link-layer header of packets on a link of this type
/// (`ARPHRD_*`, linux/if_arp.h); `None` for types that nothing here can parse.
const fn header_len(link_type: u16) -> Option<u32> {
    const ETHER: u16 = 1;
    const LOOPBACK: u16 = 772;
    const RAWIP: u16 = 519;
    const TUNNEL: u16 = 768;
    const TUNNEL6: u16 = 769;
    const SIT: u16 = 776;
    /// tun devices and WireGuard.
    const NONE: u16 = 0xfffe;
    match link_type {
        ETHER | LOOPBACK => Some(ETHERNET_LEN),
        RAWIP | TUNNEL | TUNNEL6 | SIT | NONE => Some(0),
        _ => None,
    }
}

/// Whether it is a device of the injector's own, of this run or another's: by
/// its alias, or by its name until it gets one.
fn is_own(link: &Link) -> bool {
    link.alias.as_deref() == Some(DEVICE_ALIAS) || has_own_name(&link.name)
}

/// Whether it is a name of the form that a plan gives, such as
/// `inja0-64ca6605`: what it is for, a number, and the experiment's id as far
/// as that fits.
fn has_own_name(name: &str) -> bool {
    let Some((kind, id)) = name.split_once('-') else {
        return false;
    };
    let number = kind
        .strip_prefix("inj")
        .and_then(|rest| rest.strip_prefix(['a', 'b', 'i']));
    let all =
        |text: &str, digit: fn(&u8) -> bool| !text.is_empty() && text.as_bytes().iter().all(digit);
    number.is_some_and(|number| all(number, u8::is_ascii_digit))
        && id.len() <= 8
        && all(id, u8::is_ascii_hexdigit)
}

fn interface(link: &Link) -> Option<Interface> {
    let l2_len = header_len(link.link_type)?;
    Some(Interface {
        name: link.name.clone(),
        index: link.index,
        l2_len,
        wireguard: link.wireguard,
    })
}

/// Every interface of a namespace that packets of a target can pass.
///
/// A packet on an enslaved interface passes its master too; acting on both
/// would act twice.
fn default_selection(links: &[Link]) -> Vec<Interface> {
    links
        .iter()
        .filter(|link| link.up && !link.enslaved && !is_own(link))
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

/// The interfaces of a namespace that a rule acts on: those that it names, in
/// whatever state they are, or all that packets of a target can pass.
pub(super) fn selection(links: &[Link], wanted: &Choice<String>) -> Result<Vec<Interface>, Error> {
    let mut found = Vec::new();
    for name in &wanted.these {
        found.extend(named(links, name)?);
    }
    if wanted.these.is_empty() {
        found = default_selection(links);
    }
    found.retain(|interface| wanted.takes(&interface.name));
    Ok(found)
}

/// The named interface of a namespace, if it is there and the user's.
fn named(links: &[Link], name: &str) -> Result<Option<Interface>, Error> {
    let Some(link) = links.iter().find(|link| link.name == name) else {
        return Ok(None);
    };
    if is_own(link) {
        let problem = format!(
            "`{name}` is a device of the injector's own, through which packets take a detour"
        );
        return Err(SpecError::new("interface", problem, one_of(links)).into());
    }
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

/// Refuses a name that no namespace of a rule has, also one to be left out: it
/// is a slip, and the fault would act where it must not.
pub(super) fn check_known(links: &[Link], wanted: &Choice<String>) -> Result<(), SpecError> {
    let known = |name: &str| links.iter().any(|link| link.name == name);
    let mut names = wanted.these.iter().chain(&wanted.not);
    let Some(name) = names.find(|name| !known(name)) else {
        return Ok(());
    };
    let problem = format!("there is no `{name}` in the target's network namespace");
    Err(SpecError::new("interface", problem, one_of(links)))
}

/// The interfaces that a user may name.
fn one_of(links: &[Link]) -> String {
    let mut names: Vec<&str> = links
        .iter()
        .filter(|link| !is_own(link))
        .map(|link| link.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    format!("one of {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_plan_gives_are_ours() {
        // The third is cut to the 15 bytes of an interface's name.
        for own in ["inja0-64ca6605", "injb17-64ca6605", "inji123-64ca660"] {
            assert!(has_own_name(own), "{own}");
        }
        for foreign in [
            "inj0",
            "inj",
            "injector0",
            "inja0",
            "inja-64ca6605",
            "injc0-64ca6605",
            "inja0-",
            "inja0-uplink",
            "inja0-64ca66051",
            "xinja0-64ca6605",
            "eth0",
        ] {
            assert!(!has_own_name(foreign), "{foreign}");
        }
    }
}
