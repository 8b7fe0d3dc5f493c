//! What a caller is told when its packets are refused, and how soon.

use std::time::Instant;

use super::{
    bed::Bed,
    measure::Measure,
    results::{Bar, Figure, Measured},
};
use crate::{
    command::Place,
    dialer::Dialer,
    netns::{Ip, Pair},
    stats::float,
    traffic::Direction,
};

/// Connections over a cable with a firewall, one after the other. Under "egress" the victim calls,
/// under "ingress" it is called.
pub(super) struct Answer {
    /// What carries the bytes: `tcp`, or `udp`, where one packet each way is asked for.
    pub(super) transport: &'static str,
    /// How many connections.
    pub(super) count: u64,
}

/// What an attempt may take more than under the reference, in µs.
const TOLERANCE_US: f64 = 100.0;

/// Where the called end listens.
const PORT: u16 = 7100;

const FAILED: &str = "failed, %";
const ERROR: &str = "error number";
const TOOK: &str = "µs per attempt";

impl Measure for Answer {
    fn take(&self, bed: &Bed, way: Direction) -> Measured {
        let near = bed.hosts.near();
        let far = Place::netns(&bed.hosts.pair.far);
        let (caller, called, address) = match way {
            Direction::Egress => (near, far, Pair::far_address(Ip::V4)),
            Direction::Ingress => (far, near, Pair::near_address(Ip::V4)),
        };
        let options = ["--transport", self.transport, "--exchanges", "1"];
        let dialer = Dialer::start(caller, called, (address, PORT).into(), &options);
        let begun = Instant::now();
        let seen = dialer.round(self.count);
        let took = begun.elapsed().as_secs_f64() * 1e6;
        Measured::of(vec![
            Figure::count("attempts", seen.calls),
            Figure::new(FAILED, float(seen.failures) / float(seen.calls) * 100.0, 0),
            Figure::count(ERROR, seen.errno.into()),
            Figure::new(TOOK, took / float(seen.calls), 0),
        ])
    }

    fn judge(&self, reference: &Measured, ours: &Measured) -> Vec<Bar> {
        let same = [FAILED, ERROR].map(|name| {
            let [theirs, ours] = [reference, ours].map(|measured| measured.get(name));
            Bar {
                text: format!("{name}: {ours:.0}, the reference's {theirs:.0} (bar: the same)"),
                met: (ours - theirs).abs() < 0.5,
            }
        });
        let [theirs, ours] = [reference, ours].map(|measured| measured.get(TOOK));
        let time = Bar {
            text: format!(
                "{TOOK}: {ours:.0}, the reference's {theirs:.0} (bar: {TOLERANCE_US} more)"
            ),
            met: ours <= theirs + TOLERANCE_US,
        };
        same.into_iter().chain([time]).collect()
    }
}
