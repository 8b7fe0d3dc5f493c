//! What an exchange over TCP pays for something in its way that does it no harm: a
//! rule, a queueing discipline, a packet filter, or a proxy.

use std::path::Path;

use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};

use super::{
    BAR,
    exchange::Cost,
    obstacle::{Bed, OBSTACLES, Obstacle},
    toxiproxy,
};
use crate::{
    bench::{path::Road, sheet::Sheet},
    kernel::Where,
    stats::median,
};

/// How often everything is measured in turns on a machine with other work. In a guest
/// that counts instructions, each time would give the same.
const TURNS: usize = 41;

/// Most of the time that may pass without work for time to be a number of instructions.
const MOST_IDLE: f64 = 0.02;

/// One line of the table.
struct Row {
    obstacle: Obstacle,
    /// The victim's and the bystander's, of each turn.
    costs: Vec<[Cost; 2]>,
}

impl Row {
    /// The middle one of all turns.
    fn middle(&self, of: impl Fn(&[Cost; 2]) -> f64) -> f64 {
        median(&self.costs.iter().map(of).collect::<Vec<_>>())
    }

    /// How many times the time of the other row's an exchange takes. Neighbours in time
    /// are compared, and the middle one of those ratios is taken.
    fn ratio(&self, other: &Self, whose: usize) -> f64 {
        let pairs = self.costs.iter().zip(&other.costs);
        let ratios = pairs.map(|(mine, theirs)| mine[whose].each / theirs[whose].each);
        median(&ratios.collect::<Vec<_>>())
    }
}

/// Everybody's exchanges, with each obstacle; whether every bar is met. Without the path
/// of a `toxiproxy-server`, that is not measured.
///
/// # Panics
///
/// When an obstacle is not met, or toxiproxy does not do as it is told.
#[track_caller]
pub(super) fn run(road: &Road, toxiproxy: Option<&Path>) -> bool {
    let host = !Where::current().is_virtual();
    match toxiproxy {
        Some(program) => println!("toxiproxy {}\n", toxiproxy::version(program)),
        None => println!(
            "toxiproxy is not measured: no toxiproxy-server in PATH or by --toxiproxy; \
             it can be had from https://github.com/Shopify/toxiproxy/releases\n"
        ),
    }
    if host {
        stay_on_one_processor();
    }
    let bed = Bed::new(road, toxiproxy);
    let there = OBSTACLES
        .into_iter()
        .filter(|obstacle| toxiproxy.is_some() || !obstacle.is_proxy());
    let mut rows: Vec<_> = there
        .map(|obstacle| Row {
            obstacle,
            costs: Vec::new(),
        })
        .collect();
    for _ in 0..if host { TURNS } else { 1 } {
        rows.retain_mut(|row| match bed.costs(row.obstacle) {
            Ok(costs) => {
                row.costs.push(costs);
                true
            }
            Err(why) => {
                let name = row.obstacle.name();
                // Guests have kernels that are known to have everything.
                assert!(host, "{name}: {why}");
                println!("{name}: not on this machine, whose kernel has none ({why})\n");
                false
            }
        });
    }
    if host {
        rates(&rows)
    } else {
        instructions(&rows)
    }
}

/// Keeps this process, and those that it starts from now on, on the processor that it
/// is on: whether two ends that wake each other share one, which the kernel decides anew
/// each time, makes more of a difference than most obstacles.
fn stay_on_one_processor() {
    let mut only = CpuSet::new();
    only.set(sched_getcpu().expect("the number of a processor"))
        .expect("a processor of so low a number");
    sched_setaffinity(Pid::from_raw(0), &only).expect("stay on a processor");
}

/// The table of a guest that counts instructions.
fn instructions(rows: &[Row]) -> bool {
    let mut sheet = Sheet::new(&[
        "instructions per exchange of 64 bytes over TCP",
        "victim",
        "added",
        "times as many",
        "switches",
        "bystander",
        "added",
        "switches",
    ]);
    for row in rows {
        let mut cells = vec![row.obstacle.name().to_owned()];
        for whose in [0, 1] {
            let each = row.middle(|costs| costs[whose].each);
            let idle = row.middle(|costs| costs[whose].idle);
            assert!(idle <= MOST_IDLE, "idle for {idle} of the time: no count");
            cells.push(format!("{each:.0}"));
            let base = rows[0].middle(|costs| costs[whose].each);
            cells.push(format!("{:+.0}", each - base));
            if whose == 0 {
                cells.push(format!("{:.2}", row.ratio(&rows[0], whose)));
            }
            let switches = row.middle(|costs| costs[whose].switches);
            cells.push(format!("{switches:.1}"));
        }
        sheet.row(cells);
        if matches!(
            row.obstacle,
            Obstacle::Injector | Obstacle::InjectorBothWays
        ) {
            let share = row.ratio(&rows[0], 1) - 1.0;
            sheet.bar(
                format!(
                    "{}: a bystander's exchange costs {:.1} % more (bar: {:.0} %)",
                    row.obstacle.name(),
                    share * 100.0,
                    BAR * 100.0
                ),
                share <= BAR,
            );
        }
    }
    sheet.print()
}

/// The table of a machine whose clock is one.
fn rates(rows: &[Row]) -> bool {
    let mut sheet = Sheet::new(&[
        "exchanges of 64 bytes over TCP, per second",
        "victim",
        "times as long",
        "bystander",
        "times as long",
    ]);
    for row in rows {
        let mut cells = vec![row.obstacle.name().to_owned()];
        for whose in [0, 1] {
            cells.push(format!("{:.0}", row.middle(|costs| costs[whose].rate())));
            cells.push(format!("{:.2}", row.ratio(&rows[0], whose)));
        }
        sheet.row(cells);
    }
    sheet.print()
}
