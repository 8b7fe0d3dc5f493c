//! What it costs others that the descendants of targeted processes, and the sockets of targets
//! that receive, are followed. There is no bar for this.

use super::{Rung, rungs::Bench};
use crate::bench::sheet::Sheet;

/// Measures under this kernel's first rung; there is no bar to miss.
pub(super) fn run() -> bool {
    let Some(rung) = Rung::of_this_kernel().next() else {
        panic!("this kernel cannot fail a call");
    };
    let mut bench = Bench::new();
    let calls = rung.rule("openat");
    let packets = "net-loss --direction ingress";
    let rules = [
        ("no rule", None),
        (
            "calls of another process fail",
            Some((calls.as_str(), bench.process())),
        ),
        (
            "packets to another cgroup are lost",
            Some((packets, bench.one_group())),
        ),
        (
            "packets to cgroups at three depths are lost",
            Some((packets, bench.three_depths())),
        ),
        (
            "packets to another process are lost",
            Some((packets, bench.process())),
        ),
    ];
    let mut sheet = Sheet::new(&[
        "instructions",
        "fork, exit and wait",
        "added",
        "socket + close",
        "added",
    ]);
    for (name, rule) in rules {
        // A fork depends on what the kernel did before, and drifts. The first
        // line, without any rule, tells how much.
        let nothing = bench.caller.measure();
        let cost = match rule {
            None => bench.caller.measure(),
            Some((rule, targets)) => bench.beside(rule, &targets),
        };
        sheet.row(vec![
            name.to_owned(),
            format!("{:.0}", cost.fork),
            format!("{:+.0}", cost.fork - nothing.fork),
            format!("{:.0}", cost.socket),
            format!("{:+.0}", cost.socket - nothing.socket),
        ]);
    }
    sheet.print()
}
