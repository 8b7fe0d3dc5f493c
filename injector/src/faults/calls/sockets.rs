//! Conditions on the descriptor and the socket that a call is on.

use std::ops::RangeInclusive;

use injector_common::call_filter::MAX_ARGUMENT_TESTS;

use super::Options;
use crate::{
    error::SpecError,
    faults::packet,
    model::{
        AddressFamily, CallFilter, Choice, Direction, FileType, NamedPeer, PacketFilter, Syscall,
        Unmet,
    },
    spec::calls::Selected,
};

/// Descriptors that a set of several can hold: 0 to 63.
const SET: RangeInclusive<u32> = 0..=63;

/// The conditions that these options describe, added to others. What no call can meet is refused.
pub(super) fn add(options: &Options<'_>, filter: &mut CallFilter) -> Result<(), SpecError> {
    filter.descriptors = descriptors(options, filter.arguments.len())?;
    filter.families = packet::chosen_values("family", options.family, |family| family)?;
    let takes = |family| filter.families.takes(&family);
    if !AddressFamily::all().any(takes) {
        let allowed = "some family that is left";
        return Err(SpecError::new("family", "leaves every family out", allowed));
    }
    filter.peers = peers(options)?;
    if let (Some(field), false) = (
        asked_for_peer(options),
        takes(AddressFamily::INET) || takes(AddressFamily::INET6),
    ) {
        let problem = "asks for a peer, and sockets of the family that is wanted have no such one";
        return Err(SpecError::new(
            field,
            problem,
            "inet or inet6 as family, or none",
        ));
    }
    Ok(())
}

fn descriptors(options: &Options<'_>, arguments: usize) -> Result<Choice<u32>, SpecError> {
    let descriptors = packet::chosen_values("fd", options.fd, |descriptor| descriptor.0)?;
    if descriptors.is_any() {
        return Ok(descriptors);
    }
    let counts = if descriptors.these.is_empty() {
        &descriptors.not
    } else {
        &descriptors.these
    };
    if counts.len() > 1 && !counts.iter().all(|number| SET.contains(number)) {
        let problem = "names several descriptors, of which one is above 63";
        return Err(SpecError::new(
            "fd",
            problem,
            "one descriptor, or several from 0 to 63",
        ));
    }
    if arguments >= MAX_ARGUMENT_TESTS {
        let problem = "is one test of an argument more than a rule can have";
        let allowed = format!("{} of arg beside it", MAX_ARGUMENT_TESTS - 1);
        return Err(SpecError::new("fd", problem, allowed));
    }
    Ok(descriptors)
}

/// The option that asks for a peer, if one does.
fn asked_for_peer(options: &Options<'_>) -> Option<&'static str> {
    let given = [
        ("peer", !options.peer.is_empty()),
        ("peer-target", !options.peer_target.is_empty()),
        ("peer-port", !options.peer_port.is_empty()),
    ];
    given
        .iter()
        .find(|(_, given)| *given)
        .map(|(field, _)| *field)
}

fn peers(options: &Options<'_>) -> Result<Option<Box<PacketFilter>>, SpecError> {
    if asked_for_peer(options).is_none() {
        return Ok(None);
    }
    packet::filter(&packet::Options {
        way: Direction::Egress,
        peer: options.peer,
        peer_target: options.peer_target,
        peer_port: options.peer_port,
        ..packet::Options::NONE
    })
    .map(|filter| Some(Box::new(filter)))
}

/// Refuses calls that can never meet the conditions: those that are wanted, and the optional ones
/// if there is no other.
pub(super) fn check(calls: &Selected, filter: &CallFilter) -> Result<(), SpecError> {
    if filter.asks_for_socket() && !filter.file_types.takes(&FileType::Socket) {
        let problem = "asks for sockets, which are not among the types of files that are meant";
        let allowed = "no such condition; or socket as file-type, where the rule may have one";
        return Err(SpecError::new(asked_for_socket(filter), problem, allowed));
    }
    if filter.asks_for_socket() && !filter.paths.these.is_empty() {
        let problem = "asks for sockets, of which none is below a path";
        let allowed = "path or conditions on sockets, and not both";
        return Err(SpecError::new(asked_for_socket(filter), problem, allowed));
    }
    let never = |call: &Syscall| Some((*call, filter.never_met_by(*call)?));
    let unmet = calls.wanted.iter().find_map(never).or_else(|| {
        let mut optional = calls.optional.iter();
        let all = calls.wanted.is_empty() && optional.all(|call| never(call).is_some());
        all.then(|| calls.optional.first().and_then(never))
            .flatten()
    });
    let Some((call, unmet)) = unmet else {
        return Ok(());
    };
    let field = match unmet {
        Unmet::Descriptor => "fd",
        Unmet::Request if !filter.arguments.is_empty() => "arg",
        Unmet::Request if !filter.descriptors.is_any() => "fd",
        Unmet::Served => "called-by",
        Unmet::Socket | Unmet::Request => asked_for_socket(filter),
        Unmet::Peer | Unmet::Family => filter.peers.as_deref().map_or("peer", peer_option),
    };
    let problem = format!("is asked of {}, which {}", call.name, unmet.reason());
    let allowed = "no such condition; or the call left out, as with ? before it or its class";
    Err(SpecError::new(field, problem, allowed))
}

/// An option by which a filter asks for sockets.
pub(super) fn asked_for_socket(filter: &CallFilter) -> &'static str {
    match &filter.peers {
        Some(peers) if filter.families.is_any() => peer_option(peers),
        Some(_) | None => "family",
    }
}

/// An option by which a filter of peers was asked for.
fn peer_option(peers: &PacketFilter) -> &'static str {
    let mut named = peers.named_peers.each();
    if !peers.peers.is_any() || named.any(|(peer, _)| matches!(peer, NamedPeer::Host(_))) {
        "peer"
    } else if !peers.named_peers.is_any() {
        "peer-target"
    } else {
        "peer-port"
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        faults::{FaultKindDef as _, raw, sys_errno::SysErrno},
        model::{AddressFamily, CallFilter, Fault},
    };

    #[test]
    fn conditions_in_words() {
        for (line, words) in [
            (
                "--fd 3,4 --family inet",
                "read on descriptor 3 or 4 on sockets of inet",
            ),
            (
                "--fd !3 --family !unix,!16",
                "read not on descriptor 3 not on sockets of unix or netlink",
            ),
            (
                "--peer 10.0.0.0/8 --peer-port 80",
                "read on sockets to 10.0.0.0/8 port 80",
            ),
            (
                "--peer-port !22",
                "read on sockets to any port but 22 of a peer",
            ),
        ] {
            let line = format!("--errno EIO --call read {line}");
            let Ok(Fault::Call(calls, _)) = SysErrno::validate(raw(&line)) else {
                panic!("{line}");
            };
            assert_eq!(super::super::describe(&calls), words);
        }
    }

    fn filter(line: &str) -> Result<CallFilter, (String, String)> {
        let line = format!("--errno EIO {line}");
        match SysErrno::validate(raw(&line)) {
            Ok(Fault::Call(calls, _)) => Ok(calls.filter),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err((error.field.to_string(), error.to_string())),
        }
    }

    #[test]
    fn conditions_on_sockets_are_those_of_the_options() {
        let found = filter(
            "--call connect --family inet,inet6 --peer 10.0.0.0/8,!10.1.0.0/16 --peer-port 80",
        )
        .expect("a filter");
        assert!(
            found.families.takes(&AddressFamily::INET)
                && !found.families.takes(&AddressFamily::new(1).unwrap())
        );
        let peers = found.peers.expect("peers");
        assert_eq!((peers.peers.these.len(), peers.peers.not.len()), (1, 1));
        assert_eq!(peers.peer_ports.these, [80..=80]);
        let found = filter("--call read --fd 3,4 --fd !5").expect("a filter");
        assert_eq!(
            (found.descriptors.these, found.descriptors.not),
            (vec![3, 4], vec![5])
        );
        assert!(found.peers.is_none());
    }

    #[test]
    fn what_no_call_meets_is_refused() {
        for (line, field, says) in [
            (
                "--call open --fd 3",
                "fd",
                "asked of open, which has no descriptor",
            ),
            ("--call read,mmap --fd 3", "fd", "mmap"),
            ("--call ?open,?stat --fd 3", "fd", "open"),
            ("--call openat --family inet", "family", "is on no socket"),
            (
                "--call read,openat --peer-port 80",
                "peer-port",
                "openat, which is on no socket",
            ),
            (
                "--call socket --peer 10.0.0.1",
                "peer",
                "socket, which is on a socket that has no peer",
            ),
            (
                "--call accept4 --peer-target pid:4242",
                "peer-target",
                "has no peer",
            ),
            (
                "--call connect --family unix --peer 10.0.0.1",
                "peer",
                "inet or inet6",
            ),
            (
                "--call read --family inet --peer ::1",
                "peer",
                "read, which is on a socket of inet, whose peer is one of IPv4",
            ),
            (
                "--call ?read,?recvfrom --family !inet6 --peer !0.0.0.0/0",
                "peer",
                "none of those that are meant",
            ),
            (
                "--call connect --family !inet,!inet6 --peer-port 80",
                "peer-port",
                "inet or inet6",
            ),
            (
                "--call read --file-type file --family inet",
                "family",
                "not among the types",
            ),
            (
                "--call read --file-type !socket --peer-port 80",
                "peer-port",
                "not among the types",
            ),
            (
                "--call read --path /etc --family inet",
                "family",
                "none is below a path",
            ),
            ("--call read --fd 3,64", "fd", "above 63"),
            ("--call read --fd !3,!64", "fd", "above 63"),
            ("--call read --fd 3,!3", "fd", "with and without"),
            (
                "--call read --family inet,!inet",
                "family",
                "with and without",
            ),
            (
                "--call read --arg 1==1 --arg 1==2 --arg 1==3 --arg 1==4 --fd 3",
                "fd",
                "3 of arg",
            ),
        ] {
            let (found, error) = filter(line).expect_err(line);
            assert_eq!(found, field, "{line}: {error}");
            assert!(error.contains(says), "{line}: {error}");
        }
        for line in [
            "--call read --fd 100000",
            "--call read --fd !100000",
            "--call openat --fd 5",
            "--call ?%network --peer 10.0.0.1",
            "--call ?%desc --family inet",
            "--call accept4,socket,listen --family !unix",
            "--call read --file-type socket --family inet",
            // By an address that is mapped, by one that a name may come to stand for, and by one
            // that the caller passes.
            "--call read --family inet6 --peer 10.0.0.1",
            "--call read --family inet --peer ::1,db.example.net",
            "--call connect,sendto,sendmsg --family inet --peer ::1",
            "--call ?read,sendto --family inet --peer ::1",
        ] {
            assert!(filter(line).is_ok(), "{line}");
        }
        let all: Vec<String> = (0..64).map(|number| format!("!{number}")).collect();
        let (field, _) =
            filter(&format!("--call connect --family {}", all.join(","))).expect_err("none");
        assert_eq!(field, "family");
    }
}
