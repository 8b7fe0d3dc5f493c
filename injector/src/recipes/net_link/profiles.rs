//! Links that people know, with where their figures are from.

use std::time::Duration;

use crate::spec::percent::Percent;

/// A link.
#[derive(Debug)]
pub struct Profile {
    /// What the user calls it.
    pub name: &'static str,
    /// How long a packet and its answer take.
    pub round_trip: Duration,
    /// The bandwidths, if they are limited.
    pub rates: Option<Rates>,
    /// What share of the packets is lost in each direction, in percent.
    pub loss: Option<&'static str>,
    /// Where the figures are from.
    pub source: &'static str,
}

/// Bandwidths in bits per second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Of what the target receives.
    pub down: u64,
    /// Of what it sends.
    pub up: u64,
}

impl Profile {
    /// The share of packets that is lost, as rules have it.
    pub(super) fn loss(&self) -> Option<Percent> {
        self.loss.and_then(|loss| loss.parse().ok())
    }

    /// One that loses nothing, from its round-trip time in ms and its bandwidths
    /// in kbit/s.
    const fn web_page_test(name: &'static str, ms: u64, down: u64, up: u64) -> Self {
        Self {
            name,
            round_trip: Duration::from_millis(ms),
            rates: Some(Rates {
                down: down * 1000,
                up: up * 1000,
            }),
            loss: None,
            source: "WebPageTest, www/settings/connectivity.ini.sample",
        }
    }
}

/// All of them.
pub const PROFILES: &[Profile] = &[
    Profile::web_page_test("dial-up", 120, 49, 30),
    Profile::web_page_test("edge", 840, 240, 200),
    Profile::web_page_test("2g", 800, 280, 256),
    Profile::web_page_test("3g-slow", 400, 400, 400),
    Profile::web_page_test("3g", 300, 1_600, 768),
    Profile::web_page_test("3g-fast", 150, 1_600, 768),
    Profile::web_page_test("4g", 170, 9_000, 9_000),
    Profile::web_page_test("lte", 70, 12_000, 12_000),
    Profile::web_page_test("dsl", 50, 1_500, 384),
    Profile::web_page_test("cable", 28, 5_000, 1_000),
    Profile {
        name: "wifi",
        round_trip: Duration::from_millis(40),
        rates: Some(Rates {
            down: 30_000_000,
            up: 30_000_000,
        }),
        loss: Some("0.2"),
        source: "Comcast (github.com/tylertreat/comcast), README, WIFI (good)",
    },
    Profile {
        name: "wifi-bad",
        round_trip: Duration::from_millis(40),
        rates: Some(Rates {
            down: 30_000_000,
            up: 30_000_000,
        }),
        loss: Some("5"),
        source: "wifi, with the losses of a \"very unstable network\" in Perfecto's network \
                 virtualization",
    },
    Profile {
        name: "satellite",
        round_trip: Duration::from_millis(558),
        rates: None,
        loss: None,
        source: "RFC 2488 §2, a geostationary satellite at the edge of the view area",
    },
    Profile {
        name: "cross-region",
        round_trip: Duration::from_micros(80_520),
        rates: None,
        loss: None,
        source: "AWS, N. Virginia to Ireland, 2017 (acomputerscientistlearnsaws.blogspot.com, \
                 AWS Regions)",
    },
];
