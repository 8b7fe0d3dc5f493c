//! What two filters have in common. Each dimension is compared exactly, so
//! that what is refused for it is certain.

use injector_common::packet::{PROTO_TCP, PROTO_UDP};

use super::{Choice, Direction, PacketFilter, sets::Ranges};

/// Whether every packet that `inner` matches is matched by `outer` too.
pub(super) fn filter_covers(outer: &PacketFilter, inner: &PacketFilter) -> bool {
    (outer.direction == Direction::Both || outer.direction == inner.direction)
        && packets_of_protocols(outer, inner)
            .all(|(outer_takes, inner_takes)| outer_takes || !inner_takes)
        && ports_cover(&outer.peer_ports, &inner.peer_ports)
        && ports_cover(&outer.local_ports, &inner.local_ports)
        && inner.dscps.bits() & !outer.dscps.bits() == 0
        && outer.marks.covers(&inner.marks)
        && outer.sizes.lengths().covers(&inner.sizes.lengths())
        && interfaces_cover(&outer.interfaces, &inner.interfaces)
        // What a name will come to stand for is not certain.
        && outer.named_peers.is_any()
        && inner.named_peers.is_any()
        && by_family(outer, inner).into_iter().all(|[peers, locals]| {
            let nothing = peers.1.is_empty() || locals.1.is_empty();
            nothing || (peers.0.covers(&peers.1) && locals.0.covers(&locals.1))
        })
}

/// Whether some packet can match both.
pub(super) fn filters_overlap(a: &PacketFilter, b: &PacketFilter) -> bool {
    let ways = a.direction == b.direction
        || a.direction == Direction::Both
        || b.direction == Direction::Both;
    ways && packets_of_protocols(a, b).any(|(a, b)| a && b)
        && a.peer_ports.ports().overlaps(&b.peer_ports.ports())
        && a.local_ports.ports().overlaps(&b.local_ports.ports())
        && a.dscps.bits() & b.dscps.bits() != 0
        && a.marks.overlaps(&b.marks)
        && a.sizes.lengths().overlaps(&b.sizes.lengths())
        && interfaces_overlap(&a.interfaces, &b.interfaces)
        && a.named_peers.is_any()
        && b.named_peers.is_any()
        && by_family(a, b)
            .iter()
            .any(|ends| ends.iter().all(|(a, b)| a.overlaps(b)))
}

/// For every protocol, and all flags and states that its packets can have, also none,
/// whether `a` takes it and whether `b` does.
fn packets_of_protocols<'a>(
    a: &'a PacketFilter,
    b: &'a PacketFilter,
) -> impl Iterator<Item = (bool, bool)> {
    let numbers = [a, b].map(PacketFilter::protocol_numbers);
    (0..=u8::MAX).flat_map(move |number| {
        let has = [numbers[0].has(number), numbers[1].has(number)];
        let takes: Vec<[bool; 2]> = match u32::from(number) {
            PROTO_TCP => (0..=u8::MAX)
                .map(|flags| [a.takes_flags(flags), b.takes_flags(flags)])
                .collect(),
            PROTO_UDP => [super::State::New, super::State::Established]
                .map(|state| [a, b].map(|one| one.states.takes(&state)))
                .into(),
            _ => vec![],
        };
        let headless = [a, b].map(PacketFilter::takes_headless);
        let takes = takes.into_iter().chain([headless]);
        takes.map(move |takes| (has[0] && takes[0], has[1] && takes[1]))
    })
}

/// Packets without ports meet no condition on them.
fn ports_cover(
    outer: &Choice<std::ops::RangeInclusive<u16>>,
    inner: &Choice<std::ops::RangeInclusive<u16>>,
) -> bool {
    outer.is_any() || (!inner.is_any() && outer.ports().covers(&inner.ports()))
}

fn interfaces_cover(outer: &Choice<String>, inner: &Choice<String>) -> bool {
    if inner.these.is_empty() {
        outer.these.is_empty() && outer.not.iter().all(|name| inner.not.contains(name))
    } else {
        let mut names = inner.these.iter().filter(|name| inner.takes(name));
        names.all(|name| outer.takes(name))
    }
}

fn interfaces_overlap(a: &Choice<String>, b: &Choice<String>) -> bool {
    let named = if a.these.is_empty() { b } else { a };
    named.these.is_empty()
        || named
            .these
            .iter()
            .any(|name| a.takes(name) && b.takes(name))
}

/// The addresses of both that a filter takes of IPv4 and of IPv6, each at the peer's end
/// and at the target's.
fn by_family(a: &PacketFilter, b: &PacketFilter) -> [[(Ranges, Ranges); 2]; 2] {
    let ends = [[&a.peers, &b.peers], [&a.locals, &b.locals]];
    let [peers, locals] = ends.map(|both| both.map(Choice::addresses));
    let [[a_v4, a_v6], [b_v4, b_v6]] = peers;
    let [[own_a_v4, own_a_v6], [own_b_v4, own_b_v6]] = locals;
    [
        [(a_v4, b_v4), (own_a_v4, own_b_v4)],
        [(a_v6, b_v6), (own_a_v6, own_b_v6)],
    ]
}
