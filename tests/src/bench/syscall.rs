//! What a hooked system call costs those whom no rule is aimed at.
//!
//! Run in a guest whose clock advances one nanosecond per instruction, the
//! figures are instructions, and the same in every run.

use super::{
    calls::{Caller, Cost},
    inject,
    sheet::Sheet,
};
use crate::{bare::Bare, cgroup::Cgroup, command::Place};

/// What a hooked call may add to the attachment alone, in instructions.
const BAR: f64 = 200.0;

/// The calls that the rules name.
const HOOKED: &str = "openat,getppid";

/// Their functions in the kernel.
const FUNCTIONS: [&str; 2] = ["__x64_sys_openat", "__x64_sys_getppid"];

/// Runs the group; whether every bar is met.
pub(super) fn run() -> bool {
    let bystander = Cgroup::new("bystander");
    let mut caller = Caller::start(Place::cgroup(&bystander));
    let nothing = caller.measure();
    let bare = {
        let _attached = FUNCTIONS.map(|function| match Bare::kprobe(function) {
            Ok(attached) => attached,
            Err(error) => panic!("{error:#}"),
        });
        caller.measure()
    };

    let others = [Cgroup::new("one"), Cgroup::new("two")];
    let deep = [others[0].child("deep"), others[1].child("deep")];
    let deeper = deep[1].child("deeper");
    let resident = Place::cgroup(&others[0]).spawn("sleep", &["100000"]);
    let rule = |targets: &str, options: &str| {
        format!("sys-errno --call {HOOKED} --errno EIO {targets} {options} --for 10h")
    };
    let mut under = |targets: &str, options: &str| {
        let injection = inject(&rule(targets, options));
        let cost = caller.measure();
        let rule = injection.stop().report().rules.remove(0);
        (cost, rule.matched)
    };
    let target = |group: &Cgroup| format!("--target {}", group.target());
    let (one, matched) = under(&target(&others[1]), "");
    assert_eq!(matched, 0, "the bystander is a victim");
    let levels = [&others[1], &deep[1], &deeper].map(target).join(" ");
    let (three, _) = under(&levels, "");
    let (process, _) = under(&format!("--target pid:{}", resident.pid()), "");
    let (passing, matched) = under(&target(&bystander), "--when 1000000000");
    assert!(matched > 0, "the victim is no victim");
    let (failing, _) = under(&target(&bystander), "");

    let mut sheet = Sheet::new(&[
        "instructions per call",
        "getppid",
        "added",
        "beyond the bare attachment",
        "openat + close",
        "added",
        "beyond the bare attachment",
        "getuid (no rule names it)",
    ]);
    let rows = [
        ("nothing attached", nothing),
        ("an empty program attached", bare),
        ("a rule on another cgroup", one),
        ("a rule on cgroups at three depths", three),
        ("a rule on another process", process),
        ("targeted, the trigger lets pass", passing),
        ("targeted, every call fails", failing),
    ];
    for (name, cost) in rows {
        sheet.row(row(name, cost, nothing, bare));
    }
    for (name, cost) in [("another cgroup", one), ("another process", process)] {
        for (call, added) in [
            ("getppid", cost.getppid - bare.getppid),
            ("openat", cost.openat - bare.openat),
        ] {
            sheet.bar(
                format!("{call}, rule on {name}: {added:.0} instructions beyond the bare attachment (bar: {BAR:.0})"),
                added <= BAR,
            );
        }
    }
    let unhooked = (one.getuid - nothing.getuid).abs();
    sheet.bar(
        format!("a call that no rule names: {unhooked:.0} instructions more (bar: 0)"),
        unhooked < 1.0,
    );
    sheet.print()
}

fn row(name: &str, cost: Cost, nothing: Cost, bare: Cost) -> Vec<String> {
    let mut cells = vec![name.to_owned()];
    for (own, without, empty) in [
        (cost.getppid, nothing.getppid, bare.getppid),
        (cost.openat, nothing.openat, bare.openat),
    ] {
        cells.extend([
            format!("{own:.0}"),
            format!("{:+.0}", own - without),
            format!("{:+.0}", own - empty),
        ]);
    }
    cells.push(format!("{:.0}", cost.getuid));
    cells
}
