//! What is compared: one row for each fault.

use std::time::Duration;

use super::{
    chain::Chain,
    correlated::{Correlated, Sign},
    damage::{Damage, Duplicates, Share},
    delay::{CloseJitter, Delay, Jitter, Spread},
    loss::Loss,
    measure::Measure,
    order::{Order, OtherOrder},
    rate::Rate,
    tcp::{RATE, Tcp},
};
use crate::{
    netns::Ip,
    traffic::Direction::{self, Egress, Ingress},
};

/// A table of rows with the same figures.
pub(super) struct Table {
    /// Its name on the command line.
    pub(super) name: &'static str,
    /// What it is about.
    pub(super) title: &'static str,
    /// What its plots show: what the curves of the measurements are of, or the
    /// throughput; empty for no plot.
    pub(super) plot: &'static str,
    /// Whether other processes live in the victim's network namespace, as where it is the
    /// host's; otherwise it is the victim's alone.
    pub(super) shared: bool,
    /// Its rows.
    pub(super) rows: &'static [Row],
}

/// A fault in the words of both makers, and how to look at it.
///
/// The injector is asked only if it knows the kind and all options; until then the
/// reference is measured alone.
pub(super) struct Row {
    /// What the fault is, for the table.
    pub(super) name: &'static str,
    /// Which way the packets go.
    pub(super) ways: &'static [Direction],
    /// Kind and options after `injector inject`; empty for no fault.
    pub(super) injector: &'static str,
    /// Kind and options of a queueing discipline; empty for no fault.
    pub(super) tc: &'static str,
    /// The traffic and the figures.
    pub(super) measure: &'static dyn Measure,
}

const BOTH: &[Direction] = &[Egress, Ingress];
const EGRESS: &[Direction] = &[Egress];

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

const fn delay(asked_us: u64) -> Delay {
    Delay {
        asked: us(asked_us),
        count: 1000,
        // No delay is a multiple of it: the sender's timer would let packets out too.
        gap: us(5117),
        ip: Ip::V4,
    }
}

const fn jitter(range_ms: [u64; 2], count: u64, gap_ms: u64) -> Jitter {
    Jitter {
        range: [ms(range_ms[0]), ms(range_ms[1])],
        count,
        gap: ms(gap_ms),
    }
}

const SPREAD: Spread = Spread {
    count: 2000,
    gap: ms(5),
};

const fn loss(model: Chain, count: u64) -> Loss {
    Loss {
        model,
        count,
        ip: Ip::V4,
    }
}

const fn tcp(flows: usize, seconds: u32) -> Tcp {
    Tcp { flows, seconds }
}

const fn share(percent: f64) -> Share {
    Share {
        percent,
        count: 15_000,
    }
}

const fn correlated(percent: f64, correlation: f64, sign: Sign) -> Correlated {
    Correlated {
        percent,
        correlation,
        sign,
        count: 20_000,
    }
}

const fn order(percent: f64, gap: u64) -> Order {
    Order {
        delay: ms(10),
        percent,
        gap,
        count: 5_000,
        pause: ms(1),
    }
}

/// Rows, as `name, ways, injector, tc, measure;`.
macro_rules! rows {
    ($($name:literal, $ways:expr, $injector:literal, $tc:literal, $measure:expr;)*) => {
        &[$(Row {
            name: $name,
            ways: $ways,
            injector: $injector,
            tc: $tc,
            measure: &$measure,
        }),*]
    };
}

/// Everything that is compared.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "delay",
        title: "one UDP flow, delay",
        plot: "error of the delay, µs",
        shared: false,
        rows: rows! {
            "no fault", BOTH, "", "", delay(0);
            "0.5 ms", BOTH, "net-delay --delay 500us", "netem delay 500us", delay(500);
            "1 ms", BOTH, "net-delay --delay 1ms", "netem delay 1ms", delay(1_000);
            "10 ms", BOTH, "net-delay --delay 10ms", "netem delay 10ms", delay(10_000);
            "50 ms", BOTH, "net-delay --delay 50ms", "netem delay 50ms", delay(50_000);
            "200 ms", BOTH, "net-delay --delay 200ms", "netem delay 200ms", delay(200_000);
            "10 ms, 10 packets per ms", BOTH, "net-delay --delay 10ms", "netem delay 10ms",
                Delay { count: 4_000, gap: us(101), ..delay(10_000) };
            "10 ms, IPv6", BOTH, "net-delay --delay 10ms", "netem delay 10ms",
                Delay { ip: Ip::V6, ..delay(10_000) };
        },
    },
    Table {
        name: "jitter",
        title: "one UDP flow, delay ± jitter",
        plot: "delay, ms",
        shared: false,
        rows: rows! {
            "10 ± 5 ms, a packet per 12 ms", BOTH,
                "net-delay --delay 10ms --jitter 5ms", "netem delay 10ms 5ms",
                jitter([5, 15], 2000, 12);
            "50 ± 20 ms, a packet per 50 ms", BOTH,
                "net-delay --delay 50ms --jitter 20ms", "netem delay 50ms 20ms",
                jitter([30, 70], 1000, 50);
            "50 ± 20 ms, a packet per 5 ms", EGRESS,
                "net-delay --delay 50ms --jitter 20ms", "netem delay 50ms 20ms",
                CloseJitter(jitter([30, 70], 1000, 5));
            "50 ± 20 ms, a packet per 5 ms, overtaking", BOTH,
                "net-delay --delay 50ms --jitter 20ms --reorder", "netem delay 50ms 20ms",
                jitter([30, 70], 1000, 5);
            "50 ± 10 ms, normal", EGRESS,
                "net-delay --delay 50ms --jitter 10ms --distribution normal --reorder",
                "netem delay 50ms 10ms distribution normal",
                SPREAD;
            "50 ± 10 ms, pareto", EGRESS,
                "net-delay --delay 50ms --jitter 10ms --distribution pareto --reorder",
                "netem delay 50ms 10ms distribution pareto",
                SPREAD;
            "50 ± 10 ms, paretonormal", EGRESS,
                "net-delay --delay 50ms --jitter 10ms --distribution paretonormal --reorder",
                "netem delay 50ms 10ms distribution paretonormal",
                SPREAD;
        },
    },
    Table {
        name: "loss",
        title: "one UDP flow, loss",
        plot: "packets lost in a row",
        shared: false,
        rows: rows! {
            "1 %", BOTH, "net-loss --percent 1", "netem loss random 1%",
                loss(Chain::independent(0.01), 60_000);
            "5 %", BOTH, "net-loss --percent 5", "netem loss random 5%",
                loss(Chain::independent(0.05), 20_000);
            "20 %", BOTH, "net-loss --percent 20", "netem loss random 20%",
                loss(Chain::independent(0.2), 20_000);
            "bursts 1 %, 25 %", BOTH, "net-loss --burst 1,25", "netem loss gemodel 1% 25%",
                loss(Chain::bursts(0.01, 0.25), 40_000);
            "bursts 2 %, 20 %, 70 %, 1 %", BOTH,
                "net-loss --burst 2,20,70,1", "netem loss gemodel 2% 20% 70% 1%",
                loss(Chain::good_or_bad(0.02, 0.2, 0.7, 0.01), 30_000);
            "four states 2 %, 30 %, 10 %, 40 %, 1 %", BOTH,
                "net-loss --markov 2,30,10,40,1", "netem loss state 2% 30% 10% 40% 1%",
                loss(Chain::four_states(0.02, 0.3, 0.1, 0.4, 0.01), 30_000);
            "5 %, IPv6", BOTH, "net-loss --percent 5", "netem loss random 5%",
                Loss { ip: Ip::V6, ..loss(Chain::independent(0.05), 20_000) };
        },
    },
    Table {
        name: "shared-delay",
        title: "one UDP flow of a process beside others, delay",
        plot: "error of the delay, µs",
        shared: true,
        rows: rows! {
            "10 ms", BOTH, "net-delay --delay 10ms", "netem delay 10ms", delay(10_000);
            "50 ms", BOTH, "net-delay --delay 50ms", "netem delay 50ms", delay(50_000);
        },
    },
    Table {
        name: "shared-loss",
        title: "one UDP flow of a process beside others, loss",
        plot: "packets lost in a row",
        shared: true,
        rows: rows! {
            "5 %", BOTH, "net-loss --percent 5", "netem loss random 5%",
                loss(Chain::independent(0.05), 20_000);
            "bursts 1 %, 25 %", BOTH, "net-loss --burst 1,25", "netem loss gemodel 1% 25%",
                loss(Chain::bursts(0.01, 0.25), 40_000);
        },
    },
    Table {
        name: "tcp",
        title: "bulk TCP flows",
        plot: RATE,
        shared: false,
        rows: rows! {
            "no fault", BOTH, "", "", tcp(1, 1);
            "delay 1 ms", EGRESS, "net-delay --delay 1ms", "netem delay 1ms", tcp(2, 1);
            "delay 10 ms", BOTH, "net-delay --delay 10ms", "netem delay 10ms", tcp(1, 1);
            "delay 50 ms", BOTH, "net-delay --delay 50ms", "netem delay 50ms", tcp(1, 4);
            "delay 200 ms", EGRESS, "net-delay --delay 200ms", "netem delay 200ms", tcp(1, 12);
            "loss 0.1 %", EGRESS, "net-loss --percent 0.1", "netem loss random 0.1%", tcp(1, 1);
            "loss 1 %", EGRESS, "net-loss --percent 1", "netem loss random 1%", tcp(3, 1);
            "loss 5 %", EGRESS, "net-loss --percent 5", "netem loss random 5%", tcp(8, 2);
            "loss 20 %", EGRESS, "net-loss --percent 20", "netem loss random 20%", tcp(5, 60);
            "rate 100 Mbit/s", EGRESS,
                "net-rate --rate 100mbit", "tbf rate 100mbit burst 64kb latency 200ms",
                tcp(1, 4);
        },
    },
    Table {
        name: "corrupt",
        title: "one UDP flow, changed packets",
        plot: "",
        shared: false,
        rows: rows! {
            "5 %, checksum valid", BOTH, "net-corrupt --bits 1 --percent 5", "netem corrupt 5%",
                Damage(share(5.0));
            "5 %, checksum broken", BOTH,
                "net-corrupt --bits 1 --percent 5 --checksum broken", "netem corrupt 5%",
                Damage(share(5.0));
        },
    },
    Table {
        name: "duplicate",
        title: "one UDP flow, packets that come twice",
        plot: "",
        shared: false,
        rows: rows! {
            "5 %", BOTH, "net-duplicate --percent 5", "netem duplicate 5%",
                Duplicates(share(5.0));
        },
    },
    Table {
        name: "reorder",
        title: "one UDP flow, packets that overtake",
        plot: "reordering extent",
        shared: false,
        rows: rows! {
            "25 % ahead of 10 ms", BOTH,
                "net-reorder --delay 10ms --percent 25", "netem delay 10ms reorder 25%",
                order(25.0, 1);
            "each fifth ahead of 10 ms", BOTH,
                "net-reorder --delay 10ms --gap 5", "netem delay 10ms reorder 100% gap 5",
                order(100.0, 5);
            "25 % and a gap of 5 (see below)", EGRESS,
                "net-reorder --delay 10ms --percent 25 --gap 5",
                "netem delay 10ms reorder 25% gap 5",
                OtherOrder(order(25.0, 5));
        },
    },
    Table {
        name: "correlated",
        title: "one UDP flow, hits of neighbours together",
        plot: "packets hit in a row",
        shared: false,
        rows: rows! {
            "loss of 20 %, by 75 %", BOTH,
                "net-loss --percent 20 --correlation 75", "netem loss random 20% 75%",
                correlated(20.0, 75.0, Sign::Gone);
            "loss of 5 %, by 25 %", EGRESS,
                "net-loss --percent 5 --correlation 25", "netem loss random 5% 25%",
                correlated(5.0, 25.0, Sign::Gone);
            "20 % changed, by 75 %", EGRESS,
                "net-corrupt --bits 1 --percent 20 --correlation 75", "netem corrupt 20% 75%",
                correlated(20.0, 75.0, Sign::Gone);
            "20 % twice, by 75 %", EGRESS,
                "net-duplicate --percent 20 --correlation 75", "netem duplicate 20% 75%",
                correlated(20.0, 75.0, Sign::Twice);
            "25 % ahead of 10 ms, by 50 %", EGRESS,
                "net-reorder --delay 10ms --percent 25 --correlation 50",
                "netem delay 10ms reorder 25% 50%",
                correlated(25.0, 50.0, Sign::Ahead(ms(10)));
        },
    },
    Table {
        name: "rate",
        title: "one UDP flow, limited rate",
        plot: "",
        shared: false,
        rows: rows! {
            "10 Mbit/s", BOTH,
                "net-rate --rate 10mbit", "tbf rate 10mbit burst 16kb latency 50ms",
                Rate { mbit: 10.0, size: 1400, time: Duration::from_secs(3) };
            "1 Mbit/s", BOTH, "net-rate --rate 1mbit", "tbf rate 1mbit burst 16kb latency 50ms",
                Rate { mbit: 1.0, size: 1400, time: Duration::from_secs(10) };
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        tables.sort_unstable();
        tables.dedup();
        assert_eq!(tables.len(), TABLES.len());
        for table in TABLES {
            let mut rows: Vec<_> = table.rows.iter().map(|row| row.name).collect();
            rows.sort_unstable();
            rows.dedup();
            assert_eq!(rows.len(), table.rows.len(), "{}", table.name);
        }
    }
}
