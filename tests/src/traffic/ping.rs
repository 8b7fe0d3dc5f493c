//! Round-trip times as the real `ping` sees them.

use std::net::IpAddr;

use crate::command::Place;

/// Pings an address so many times, 20 ms apart, and returns the round-trip time
/// of each answer in ms.
///
/// # Panics
///
/// When an answer is missing.
#[must_use]
#[track_caller]
pub fn ping(place: Place<'_>, to: IpAddr, count: usize) -> Vec<f64> {
    let (number, to) = (count.to_string(), to.to_string());
    let text = place.run("ping", &["-n", "-i", "0.02", "-W", "5", "-c", &number, &to]);
    let times: Vec<f64> = text.lines().filter_map(round_trip).collect();
    assert_eq!(times.len(), count, "answers are missing: {text}");
    times
}

/// The time in a line such as `64 bytes from ::1: icmp_seq=1 ttl=64 time=0.043 ms`.
fn round_trip(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once("time=")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_answers() {
        let times = ping(Place::HERE, "127.0.0.1".parse().unwrap(), 3);
        assert!(times.iter().all(|&time| time > 0.0), "{times:?}");
    }
}
