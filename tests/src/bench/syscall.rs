//! What a hooked system call costs those whom no rule is aimed at.
//!
//! Run in a guest whose clock advances one nanosecond per instruction, the
//! figures are instructions, and the same in every run.

use super::{
    calls::{Caller, Cost},
    inject,
    sheet::Sheet,
};
use crate::{
    agent::Injection,
    bare::Bare,
    cgroup::Cgroup,
    command::{Place, Process},
    kernel::{Feature, Where},
};

/// What a hooked call may add to the attachment alone, in instructions.
const BAR: f64 = 200.0;

/// A call that is measured: its name, and its figure among the others.
type Call = (&'static str, fn(&Cost) -> f64);

const GETPPID: Call = ("getppid", |cost| cost.getppid);
const OPENAT: Call = ("openat + close", |cost| cost.openat);

/// A way to fail system calls.
struct Rung {
    name: &'static str,
    /// The calls that the rules name, for the rules.
    named: &'static str,
    /// The same, for the table.
    calls: &'static [Call],
    /// Attaches a program that does nothing to each of them.
    attach: fn() -> anyhow::Result<Vec<Bare>>,
}

const KPROBE: Rung = Rung {
    name: "kprobe",
    named: "openat,getppid",
    calls: &[GETPPID, OPENAT],
    attach: || {
        ["__x64_sys_openat", "__x64_sys_getppid"]
            .into_iter()
            .map(Bare::kprobe)
            .collect()
    },
};

/// No security hook stands for `getppid`.
const LSM: Rung = Rung {
    name: "lsm",
    named: "openat",
    calls: &[OPENAT],
    attach: || Ok(vec![Bare::security("file_open")?]),
};

/// Who is measured, and those at whom rules are aimed.
struct Bench {
    caller: Caller,
    bystander: Cgroup,
    /// Groups at three depths, the deepest first: a group goes after those in it.
    others: [Cgroup; 3],
    resident: Process,
}

impl Bench {
    fn new() -> Self {
        let bystander = Cgroup::new("bystander");
        let caller = Caller::start(Place::cgroup(&bystander));
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
    fn beside(&mut self, rule: &str, targets: &str) -> Cost {
        let (cost, matched) = self.under(rule, targets);
        assert_eq!(matched, 0, "the bystander is a victim");
        cost
    }

    fn one_group(&self) -> String {
        target(&self.others[2])
    }

    fn three_depths(&self) -> String {
        self.others.each_ref().map(target).join(" ")
    }

    fn process(&self) -> String {
        format!("--target pid:{}", self.resident.pid())
    }
}

fn target(group: &Cgroup) -> String {
    format!("--target {}", group.target())
}

/// Runs the group; whether every bar is met.
pub(super) fn run() -> bool {
    let rung = if Feature::Override.expected(Where::current()).is_ok() {
        KPROBE
    } else {
        LSM
    };
    let mut bench = Bench::new();
    // The first time is not like the others: a process is still growing.
    bench.caller.measure();
    let named = named_calls(&mut bench, &rung);
    let followed = followed(&mut bench, &rung);
    named && followed
}

/// What the calls cost that rules name.
fn named_calls(bench: &mut Bench, rung: &Rung) -> bool {
    let nothing = bench.caller.measure();
    let bare = {
        let _attached = match (rung.attach)() {
            Ok(attached) => attached,
            Err(error) => panic!("{error:#}"),
        };
        bench.caller.measure()
    };
    let rule = format!("sys-errno --call {} --errno EIO", rung.named);
    let one = bench.beside(&rule, &bench.one_group());
    let three = bench.beside(&rule, &bench.three_depths());
    let process = bench.beside(&rule, &bench.process());
    let own = target(&bench.bystander);
    let (passing, matched) = bench.under(&format!("{rule} --when 1000000000"), &own);
    assert!(matched > 0, "the victim is no victim");
    let (failing, _) = bench.under(&rule, &own);

    let name = format!("instructions per call, {} rung", rung.name);
    let mut header = vec![name.as_str()];
    for (name, _) in rung.calls {
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
        for (_, of) in rung.calls {
            cells.push(format!("{:.0}", of(&cost)));
            cells.extend([nothing, bare].map(|base| format!("{:+.0}", of(&cost) - of(&base))));
        }
        cells.push(format!("{:.0}", cost.getuid));
        sheet.row(cells);
    }
    for (name, cost) in beside {
        for (call, of) in rung.calls {
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

/// What it costs others that the descendants of targeted processes, and the
/// sockets of targets that receive, are followed. There is no bar for this.
fn followed(bench: &mut Bench, rung: &Rung) -> bool {
    let calls = format!("sys-errno --call {} --errno EIO", rung.named);
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
