//! The calls that rules name, on each rung: a bystander's and a victim's.

use super::Rung;
use crate::{
    agent::Injection,
    bench::{
        calls::{Caller, Cost},
        inject,
        sheet::Sheet,
    },
    cgroup::Cgroup,
    command::{Place, Process},
};

/// What a hooked call may add to the attachment alone, in instructions.
const BAR: f64 = 200.0;

/// Who is measured, and those at whom rules are aimed.
pub(super) struct Bench {
    pub(super) caller: Caller,
    bystander: Cgroup,
    /// Groups at three depths, the deepest first: a group goes after those in it.
    others: [Cgroup; 3],
    resident: Process,
}

impl Bench {
    pub(super) fn new() -> Self {
        let bystander = Cgroup::new("bystander");
        let mut caller = Caller::start(Place::cgroup(&bystander));
        // The first time is not like the others: a process is still growing.
        caller.measure();
        let outer = Cgroup::new("outer");
        let deep = outer.child("deep");
        let deeper = deep.child("deeper");
        let resident = Place::cgroup(&outer).spawn("sleep", &["100000"]);
        Self {
            caller,
            bystander,
            others: [deeper, deep, outer],
            resident,
        }
    }

    /// Measures under a rule; also how many operations it matched.
    fn under(&mut self, rule: &str, targets: &str) -> (Cost, u64) {
        let injection: Injection = inject(&format!("{rule} {targets} --for 10h"));
        let cost = self.caller.measure();
        (cost, injection.stop().rule().matched)
    }

    /// The same under a rule that is aimed at others.
    pub(super) fn beside(&mut self, rule: &str, targets: &str) -> Cost {
        let (cost, matched) = self.under(rule, targets);
        assert_eq!(matched, 0, "the bystander is a victim");
        cost
    }

    pub(super) fn one_group(&self) -> String {
        target(&self.others[2])
    }

    pub(super) fn three_depths(&self) -> String {
        self.others.each_ref().map(target).join(" ")
    }

    pub(super) fn process(&self) -> String {
        format!("--target pid:{}", self.resident.pid())
    }
}

fn target(group: &Cgroup) -> String {
    format!("--target {}", group.target())
}

/// Measures each of this kernel's rungs; whether every bar is met.
pub(super) fn run() -> bool {
    let mut bench = Bench::new();
    Rung::of_this_kernel().fold(true, |met, rung| table(&mut bench, rung) & met)
}

fn table(bench: &mut Bench, rung: &Rung) -> bool {
    let calls = rung.calls();
    let nothing = bench.caller.measure();
    let bare = {
        let _attached = match (rung.attach)() {
            Ok(attached) => attached,
            Err(error) => panic!("{error:#}"),
        };
        bench.caller.measure()
    };
    let rule = rung.rule("openat");
    let one = bench.beside(&rule, &bench.one_group());
    let three = bench.beside(&rule, &bench.three_depths());
    let process = bench.beside(&rule, &bench.process());
    let own = target(&bench.bystander);
    let (passing, matched) = bench.under(&format!("{rule} --when 1000000000"), &own);
    assert!(matched > 0, "the victim is no victim");
    let (failing, _) = bench.under(&rule, &own);

    let name = format!("instructions per call, {} rung", rung.name);
    let mut header = vec![name.as_str()];
    for (name, _) in calls {
        header.extend([name, "added", "beyond the bare attachment"]);
    }
    header.push("getuid (no rule names it)");
    let mut sheet = Sheet::new(&header);
    let beside = [
        ("a rule on another cgroup", one),
        ("a rule on cgroups at three depths", three),
        ("a rule on another process", process),
    ];
    let first = [
        ("nothing attached", nothing),
        ("an empty program attached", bare),
    ];
    let last = [
        ("targeted, the trigger lets pass", passing),
        ("targeted, every call fails", failing),
    ];
    for (name, cost) in [&first[..], &beside, &last].concat() {
        let mut cells = vec![name.to_owned()];
        for (_, of) in calls {
            cells.push(format!("{:.0}", of(&cost)));
            cells.extend([nothing, bare].map(|base| format!("{:+.0}", of(&cost) - of(&base))));
        }
        cells.push(format!("{:.0}", cost.getuid));
        sheet.row(cells);
    }
    for (name, cost) in beside {
        for (call, of) in calls {
            let added = of(&cost) - of(&bare);
            sheet.bar(
                format!(
                    "{call}, {name}: {added:.0} instructions beyond the bare attachment \
                     (bar: {BAR:.0})"
                ),
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
