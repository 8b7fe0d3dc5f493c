//! What is compared: one row for each fault.

use std::time::Duration;

use super::{
    chain::Chain,
    damage::{Damage, Duplicates, Share},
    delay::{CloseJitter, Delay, Jitter},
    loss::Loss,
    measure::Measure,
    order::Order,
    rate::Rate,
    tcp::{RATE, Tcp},
};
use crate::traffic::Direction::{self, Egress, Ingress};

/// A table of rows with the same figures.
pub(super) struct Table {
    /// Its name on the command line.
    pub(super) name: &'static str,
    /// What it is about.
    pub(super) title: &'static str,
    /// What its plots show: what the curves of the measurements are of, or the
    /// throughput; empty for no plot.
    pub(super) plot: &'static str,
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

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

const fn delay(asked_ms: u64) -> Delay {
    Delay {
        asked: ms(asked_ms),
        count: 1000,
        // No delay is a multiple of it: the sender's timer would let packets out too.
        gap: us(5117),
    }
}

const fn jitter(range_ms: [u64; 2], count: u64, gap_ms: u64) -> Jitter {
    Jitter {
        range: [ms(range_ms[0]), ms(range_ms[1])],
        count,
        gap: ms(gap_ms),
    }
}

const fn loss(model: Chain, count: u64) -> Loss {
    Loss { model, count }
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

const fn order(gap: u64) -> Order {
    Order {
        delay: ms(10),
        percent: 25.0,
        gap,
        count: 5_000,
        pause: ms(1),
    }
}

/// Everything that is compared. netem gets room for every packet: its default of
/// 1000 is less than the injector has, and than long delays of bulk flows need.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "delay",
        title: "one UDP flow, delay",
        plot: "error of the delay, µs",
        rows: &[
            Row {
                name: "no fault",
                ways: BOTH,
                injector: "",
                tc: "",
                measure: &delay(0),
            },
            Row {
                name: "1 ms",
                ways: BOTH,
                injector: "net-delay --delay 1ms",
                tc: "netem limit 100000 delay 1ms",
                measure: &delay(1),
            },
            Row {
                name: "10 ms",
                ways: BOTH,
                injector: "net-delay --delay 10ms",
                tc: "netem limit 100000 delay 10ms",
                measure: &delay(10),
            },
            Row {
                name: "50 ms",
                ways: BOTH,
                injector: "net-delay --delay 50ms",
                tc: "netem limit 100000 delay 50ms",
                measure: &delay(50),
            },
            Row {
                name: "200 ms",
                ways: BOTH,
                injector: "net-delay --delay 200ms",
                tc: "netem limit 100000 delay 200ms",
                measure: &delay(200),
            },
            Row {
                name: "10 ms, 10 packets per ms",
                ways: BOTH,
                injector: "net-delay --delay 10ms",
                tc: "netem limit 100000 delay 10ms",
                measure: &Delay {
                    asked: ms(10),
                    count: 4_000,
                    gap: us(101),
                },
            },
        ],
    },
    Table {
        name: "jitter",
        title: "one UDP flow, delay ± jitter",
        plot: "delay, ms",
        rows: &[
            Row {
                name: "10 ± 5 ms, a packet per 12 ms",
                ways: BOTH,
                injector: "net-delay --delay 10ms --jitter 5ms",
                tc: "netem limit 100000 delay 10ms 5ms",
                measure: &jitter([5, 15], 2000, 12),
            },
            Row {
                name: "50 ± 20 ms, a packet per 50 ms",
                ways: BOTH,
                injector: "net-delay --delay 50ms --jitter 20ms",
                tc: "netem limit 100000 delay 50ms 20ms",
                measure: &jitter([30, 70], 1000, 50),
            },
            Row {
                name: "50 ± 20 ms, a packet per 5 ms",
                ways: &[Egress],
                injector: "net-delay --delay 50ms --jitter 20ms",
                tc: "netem limit 100000 delay 50ms 20ms",
                measure: &CloseJitter(jitter([30, 70], 1000, 5)),
            },
        ],
    },
    Table {
        name: "loss",
        title: "one UDP flow, loss",
        plot: "packets lost in a row",
        rows: &[
            Row {
                name: "1 %",
                ways: BOTH,
                injector: "net-loss --percent 1",
                tc: "netem limit 100000 loss random 1%",
                measure: &loss(Chain::independent(0.01), 60_000),
            },
            Row {
                name: "5 %",
                ways: BOTH,
                injector: "net-loss --percent 5",
                tc: "netem limit 100000 loss random 5%",
                measure: &loss(Chain::independent(0.05), 20_000),
            },
            Row {
                name: "20 %",
                ways: BOTH,
                injector: "net-loss --percent 20",
                tc: "netem limit 100000 loss random 20%",
                measure: &loss(Chain::independent(0.2), 20_000),
            },
            Row {
                name: "bursts 1 %, 25 %",
                ways: BOTH,
                injector: "net-loss --burst 1,25",
                tc: "netem limit 100000 loss gemodel 1% 25%",
                measure: &loss(Chain::bursts(0.01, 0.25), 40_000),
            },
            Row {
                name: "bursts 2 %, 20 %, 70 %, 1 %",
                ways: BOTH,
                injector: "net-loss --burst 2,20,70,1",
                tc: "netem limit 100000 loss gemodel 2% 20% 70% 1%",
                measure: &loss(
                    Chain {
                        worsen: 0.02,
                        recover: 0.2,
                        lost_bad: 0.7,
                        lost_good: 0.01,
                    },
                    30_000,
                ),
            },
        ],
    },
    Table {
        name: "tcp",
        title: "bulk TCP flows",
        plot: RATE,
        rows: &[
            Row {
                name: "no fault",
                ways: BOTH,
                injector: "",
                tc: "",
                measure: &tcp(1, 1),
            },
            Row {
                name: "delay 1 ms",
                ways: &[Egress],
                injector: "net-delay --delay 1ms",
                tc: "netem limit 100000 delay 1ms",
                measure: &tcp(2, 1),
            },
            Row {
                name: "delay 10 ms",
                ways: BOTH,
                injector: "net-delay --delay 10ms",
                tc: "netem limit 100000 delay 10ms",
                measure: &tcp(1, 1),
            },
            Row {
                name: "delay 50 ms",
                ways: BOTH,
                injector: "net-delay --delay 50ms",
                tc: "netem limit 100000 delay 50ms",
                measure: &tcp(1, 4),
            },
            Row {
                name: "delay 200 ms",
                ways: &[Egress],
                injector: "net-delay --delay 200ms",
                tc: "netem limit 100000 delay 200ms",
                measure: &tcp(1, 12),
            },
            Row {
                name: "loss 0.1 %",
                ways: &[Egress],
                injector: "net-loss --percent 0.1",
                tc: "netem limit 100000 loss random 0.1%",
                measure: &tcp(1, 1),
            },
            Row {
                name: "loss 1 %",
                ways: &[Egress],
                injector: "net-loss --percent 1",
                tc: "netem limit 100000 loss random 1%",
                measure: &tcp(3, 1),
            },
            Row {
                name: "loss 5 %",
                ways: &[Egress],
                injector: "net-loss --percent 5",
                tc: "netem limit 100000 loss random 5%",
                measure: &tcp(8, 2),
            },
            Row {
                name: "loss 20 %",
                ways: &[Egress],
                injector: "net-loss --percent 20",
                tc: "netem limit 100000 loss random 20%",
                measure: &tcp(5, 60),
            },
        ],
    },
    Table {
        name: "corrupt",
        title: "one UDP flow, changed packets",
        plot: "",
        rows: &[
            Row {
                name: "5 %, checksum valid",
                ways: BOTH,
                injector: "net-corrupt --percent 5",
                tc: "netem limit 100000 corrupt 5%",
                measure: &Damage(share(5.0)),
            },
            Row {
                name: "5 %, checksum broken",
                ways: BOTH,
                injector: "net-corrupt --percent 5 --checksum broken",
                tc: "netem limit 100000 corrupt 5%",
                measure: &Damage(share(5.0)),
            },
        ],
    },
    Table {
        name: "duplicate",
        title: "one UDP flow, packets that come twice",
        plot: "",
        rows: &[Row {
            name: "5 %",
            ways: BOTH,
            injector: "net-duplicate --percent 5",
            tc: "netem limit 100000 duplicate 5%",
            measure: &Duplicates(share(5.0)),
        }],
    },
    Table {
        name: "reorder",
        title: "one UDP flow, packets that overtake",
        plot: "reordering extent",
        rows: &[
            Row {
                name: "25 % ahead of 10 ms",
                ways: BOTH,
                injector: "net-reorder --delay 10ms --percent 25",
                tc: "netem limit 100000 delay 10ms reorder 25%",
                measure: &order(1),
            },
            Row {
                name: "25 % of each fifth ahead of 10 ms",
                ways: BOTH,
                injector: "net-reorder --delay 10ms --percent 25 --gap 5",
                tc: "netem limit 100000 delay 10ms reorder 25% gap 5",
                measure: &order(5),
            },
        ],
    },
    Table {
        name: "rate",
        title: "one UDP flow, limited rate",
        plot: "",
        rows: &[
            Row {
                name: "10 Mbit/s",
                ways: BOTH,
                injector: "net-rate --rate 10mbit",
                tc: "tbf rate 10mbit burst 16kb latency 50ms",
                measure: &Rate {
                    mbit: 10.0,
                    size: 1400,
                    time: Duration::from_secs(3),
                },
            },
            Row {
                name: "1 Mbit/s",
                ways: BOTH,
                injector: "net-rate --rate 1mbit",
                tc: "tbf rate 1mbit burst 16kb latency 50ms",
                measure: &Rate {
                    mbit: 1.0,
                    size: 1400,
                    time: Duration::from_secs(10),
                },
            },
        ],
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
