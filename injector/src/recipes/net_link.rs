//! `net-link`: the target's packets go over a link of a known kind.

mod profiles;

use std::{fmt::Write as _, time::Duration};

pub use self::profiles::{PROFILES, Profile};
use super::{Part, RecipeDef};
use crate::{
    error::SpecError,
    faults::packet,
    model::{
        Delay, Direction, Fault, Link, LossModel, PacketFault, PacketFilter, Per, QueueMemory,
        Visibility,
    },
    spec::{
        duration, rate,
        text::{Text, ValueError},
    },
};

/// The recipe.
#[derive(Debug)]
pub struct NetLink;

packet::packet_kind! {
    /// Its options, as written.
    pub struct Raw (Both, "both") {
        /// Which link; `injector faults net-link` lists them with their sources
        #[arg(long, value_name = "PROFILE")]
        pub profile: Text<&'static Profile>,

        /// How much memory may be taken by packets that wait, such as 64mb; others are dropped [default: 256mb]
        #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
        #[serde(default)]
        pub queue_memory: Option<Text<QueueMemory>>,
    }
}

impl std::str::FromStr for &'static Profile {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let found = PROFILES.iter().find(|profile| profile.name == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
            ValueError::new(text, "is not a profile", names.join(", "))
        })
    }
}

/// How long packets may wait for the link: one that is slow has a queue that
/// takes TCP some time to fill.
const QUEUE: Duration = Duration::from_secs(1);

impl RecipeDef for NetLink {
    const SUMMARY: &'static str = "Packets go over a link of a known kind, such as 3g or satellite";
    const EXAMPLES: &'static str = "\
Examples:
  A cgroup behind a mobile phone:
    injector inject net-link --target cgroup:/web --profile 3g --for 1m

  Only what goes to a network passes a satellite:
    injector inject net-link --target cgroup:/web --profile satellite --peer 10.8.0.0/16 --for 5m

  A command on a bad wireless network:
    injector inject net-link --profile wifi-bad --for 1m -- curl -s http://192.0.2.7/";
    type Raw = Raw;

    fn manual() -> String {
        let mut text = "\
Stands for one rule each of net-loss, net-rate and net-delay in each direction, in this order, as
far as the profile has them: a packet that is not lost waits for the link, and then as long as it
is on its way. Half of the round-trip time is that of one direction. The rules are planned, counted
and reported each by itself, as NAME.up-loss, NAME.down-rate and so on; up is what the target
sends. For a link of your own, write such rules into a file for `injector run`.

Profiles:
"
        .to_owned();
        for profile in PROFILES {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {}\n      {profile}", profile.name);
        }
        text.trim_end().to_owned()
    }

    fn expand(raw: &Raw) -> Result<Vec<Part>, SpecError> {
        let filter = raw.filter()?;
        let profile = raw.profile.0;
        let memory = raw.queue_memory.as_ref().map(|text| text.0);
        let memory = memory.unwrap_or(QueueMemory::DEFAULT);
        let directions = match filter.direction {
            Direction::Both => vec![Direction::Egress, Direction::Ingress],
            one @ (Direction::Egress | Direction::Ingress) => vec![one],
        };
        let parts = directions.into_iter().flat_map(|direction| {
            let one_way = PacketFilter {
                direction,
                ..filter.clone()
            };
            one_direction(profile, memory, &one_way)
        });
        Ok(parts.collect())
    }
}

/// The rules of one direction.
fn one_direction(profile: &Profile, memory: QueueMemory, filter: &PacketFilter) -> Vec<Part> {
    let up = filter.direction == Direction::Egress;
    let part = |names: [&'static str; 2], fault, percent| Part {
        name: names[usize::from(!up)],
        fault: Fault::Packet(filter.clone(), fault),
        percent,
    };
    let mut parts = Vec::new();
    if profile.loss.is_some() {
        let fault = PacketFault::Loss {
            model: LossModel::Trigger,
            visibility: Visibility::Silent,
        };
        parts.push(part(["up-loss", "down-loss"], fault, profile.loss()));
    }
    if let Some(rates) = profile.rates {
        let fault = PacketFault::Rate(Link {
            rate: if up { rates.up } else { rates.down },
            burst: 0,
            overhead: 0,
            queue: QUEUE,
            memory,
            per: Per::Rule,
        });
        parts.push(part(["up-rate", "down-rate"], fault, None));
    }
    let fault = PacketFault::Delay(Delay {
        memory,
        ..Delay::steady(profile.round_trip / 2)
    });
    parts.push(part(["up-delay", "down-delay"], fault, None));
    parts
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "round trip {}", duration::format(self.round_trip))?;
        if let Some(rates) = self.rates {
            let [down, up] = [rates.down, rates.up].map(rate::format);
            write!(f, ", {down} down, {up} up")?;
        }
        if let Some(loss) = self.loss {
            write!(f, ", {loss} % lost each way")?;
        }
        write!(f, "; {}", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_differ_and_can_be_put_in_force() {
        let mut names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROFILES.len());
        for profile in PROFILES {
            assert!(!profile.source.is_empty(), "{}", profile.name);
            assert!(!profile.round_trip.is_zero(), "{}", profile.name);
            assert_eq!(profile.loss.is_some(), profile.loss().is_some());
        }
    }

    #[test]
    fn each_direction_has_what_the_profile_has() {
        let parts = |name: &str, direction| {
            let profile = PROFILES.iter().find(|profile| profile.name == name);
            let parts = one_direction(profile.expect(name), QueueMemory::DEFAULT, &PacketFilter::new(direction));
            parts.iter().map(|part| part.name).collect::<Vec<_>>()
        };
        assert_eq!(parts("3g", Direction::Egress), ["up-rate", "up-delay"]);
        assert_eq!(parts("satellite", Direction::Ingress), ["down-delay"]);
        assert_eq!(
            parts("wifi-bad", Direction::Ingress),
            ["down-loss", "down-rate", "down-delay"]
        );
    }
}
