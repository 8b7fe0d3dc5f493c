//! Calls that could fail, and that do, by whoever makes them: the injector on each rung, a tracer
//! (strace), and a file system in user space (bindfs), which fails nothing but is the way that
//! those which do go.

mod tool;

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{Call, GETPPID, OPENAT, PREAD, Rung};
use crate::{
    bench::{
        calls::{Caller, Cost, Manner, ROUNDS},
        inject,
        sheet::Sheet,
    },
    cgroup::Cgroup,
    command::Place,
};
use tool::{Bindfs, Strace};

/// How many times what the injector adds to a call of its target a tracer adds, at least.
const BAR: f64 = 50.0;

/// How many calls of each kind are in a round: beneath a tracer they take long.
const COUNT: u32 = 200;

/// How often each call is made in a measurement.
const EACH: u32 = COUNT * ROUNDS;

/// The calls that rules name, and a tracer traces.
const NAMED: &str = "openat,pread64";

/// The calls that are measured.
const CALLS: [Call; 3] = [GETPPID, OPENAT, PREAD];

/// What happens to a victim's calls.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// They are looked at, and pass.
    Pass,
    /// Each of them fails.
    Fail,
}

impl Fate {
    const fn name(self) -> &'static str {
        match self {
            Self::Pass => "the trigger lets pass",
            Self::Fail => "every call fails",
        }
    }
}

/// A line of the table.
struct Row {
    name: String,
    /// Whether it is about `getppid` too.
    getppid: bool,
    cost: Cost,
}

impl Row {
    /// What a call costs, if the line is about it.
    fn of(&self, call: &Call) -> Option<f64> {
        (call.0 != GETPPID.0 || self.getppid).then(|| call.1(&self.cost))
    }

    /// What a call costs more than by another line.
    fn added(&self, base: &Self, call: &Call) -> Option<f64> {
        Some(self.of(call)? - base.of(call)?)
    }
}

/// The lines of one rung.
struct Injector {
    rung: &'static Rung,
    beside: Row,
    /// By [`Fate`].
    aimed_at: [Row; 2],
}

/// All lines.
struct Rows {
    nothing: Row,
    injector: Vec<Injector>,
    /// By [`Fate`].
    strace: Vec<(Strace, [Row; 2])>,
    bindfs: Vec<(Bindfs, Row)>,
}

impl Rows {
    /// In the order of the table.
    fn all(&self) -> impl Iterator<Item = &Row> {
        let injector = self
            .injector
            .iter()
            .flat_map(|one| [&one.beside].into_iter().chain(&one.aimed_at));
        let strace = self.strace.iter().flat_map(|(_, rows)| rows);
        let bindfs = self.bindfs.iter().map(|(_, row)| row);
        [&self.nothing]
            .into_iter()
            .chain(injector)
            .chain(strace)
            .chain(bindfs)
    }
}

/// Measures by instructions; whether every bar is met, and everybody there.
pub(super) fn by_instructions() -> bool {
    let complete = tool::introduce();
    let rows = measure();
    let mut header = vec!["instructions per call".to_owned()];
    for (call, _) in CALLS {
        header.extend([call.to_owned(), "added".to_owned()]);
    }
    header.extend(["getuid, which nobody names".to_owned(), "added".to_owned()]);
    let mut sheet = Sheet::new(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows.all() {
        let mut cells = vec![row.name.clone()];
        for call in &CALLS {
            match (row.of(call), row.added(&rows.nothing, call)) {
                (Some(cost), Some(added)) => {
                    cells.extend([format!("{cost:.0}"), format!("{added:+.0}")]);
                }
                _ => cells.extend(["-".to_owned(), "-".to_owned()]),
            }
        }
        let (own, base) = (row.cost.getuid, rows.nothing.cost.getuid);
        cells.extend([format!("{own:.0}"), format!("{:+.0}", own - base)]);
        sheet.row(cells);
    }
    sheet.print();
    ratios(&rows, "by instructions") && complete
}

/// Measures by an ordinary clock, by which an emulated machine can be compared with itself only.
pub(super) fn by_clock() -> bool {
    tool::introduce();
    let rows = measure();
    let mut header = vec!["time per call, times that without a tool"];
    header.extend(CALLS.iter().map(|(call, _)| *call));
    header.push("getuid, which nobody names");
    let mut sheet = Sheet::new(&header);
    let times = |own: f64, base: f64| format!("{:.2}", own / base);
    for row in rows.all() {
        let mut cells = vec![row.name.clone()];
        for call in &CALLS {
            let both = row.of(call).zip(rows.nothing.of(call));
            cells.push(both.map_or_else(|| "-".to_owned(), |(own, base)| times(own, base)));
        }
        cells.push(times(row.cost.getuid, rows.nothing.cost.getuid));
        sheet.row(cells);
    }
    sheet.print();
    ratios(&rows, "by the clock")
}

/// What the others add to a call, times what the injector does; whether tracers add as many times
/// as much as they should.
///
/// What a call costs that passes can be compared with one that nobody looks at. One that fails
/// does not do its work, so only `getppid`, which has next to none, shows what failing adds.
fn ratios(rows: &Rows, how: &str) -> bool {
    let title = format!("what others add, times what the injector adds, {how}");
    let mut header = vec![title];
    header.extend(rows.strace.iter().map(|(strace, _)| strace.name()));
    header.extend(rows.bindfs.iter().map(|(bindfs, _)| bindfs.name()));
    let mut sheet = Sheet::new(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for one in &rows.injector {
        for fate in [Fate::Pass, Fate::Fail] {
            for call in &CALLS {
                let own = &one.aimed_at[fate as usize];
                let Some(added) = own.added(&rows.nothing, call) else {
                    continue;
                };
                if fate == Fate::Fail && call.0 != GETPPID.0 {
                    continue;
                }
                let name = format!("{}: {}, {}", one.rung.name, call.0, fate.name());
                let mut cells = vec![name.clone()];
                for (strace, traced) in &rows.strace {
                    let theirs = traced[fate as usize].added(&rows.nothing, call);
                    let times = theirs.expect("it is traced") / added;
                    cells.push(ratio(times));
                    if times > 0.0 {
                        let verdict = format!(
                            "{name}: {} adds {times:.1} times as much (bar: {BAR:.0})",
                            strace.name()
                        );
                        sheet.bar(verdict, times >= BAR);
                    }
                }
                for (_, row) in &rows.bindfs {
                    let theirs = row.added(&rows.nothing, call);
                    let passes = theirs.filter(|_| fate == Fate::Pass);
                    cells.push(passes.map_or("-".to_owned(), |own| ratio(own / added)));
                }
                sheet.row(cells);
            }
        }
    }
    sheet.print()
}

/// So many times as much; what is lost in noise has none.
fn ratio(times: f64) -> String {
    if times > 0.0 {
        format!("{times:.1}")
    } else {
        "lost in noise".to_owned()
    }
}

/// Measures everybody who is there.
fn measure() -> Rows {
    let folder = TempDir::new().expect("make a folder");
    let file = folder.path().join("file");
    fs::write(&file, "x").expect("write a file");
    let (victims, others) = (Cgroup::new("victim"), Cgroup::new("other"));
    let place = Place::cgroup(&victims);
    let mut caller = ready(place, &[], &file);
    let nothing = Row {
        name: "no tool".to_owned(),
        getppid: true,
        cost: caller.measure(),
    };
    let injector = Rung::here()
        .map(|rung| {
            let beside = aimed(rung, &others, "--when 1000000000", &mut caller);
            let pass = aimed(rung, &victims, "--when 1000000000", &mut caller);
            let fail = aimed(rung, &victims, "", &mut caller);
            let calls = 2 + u64::from(rung.getppid);
            assert_eq!([beside.failed, pass.failed], [0; 2], "{}", rung.name);
            assert_eq!(fail.failed, calls * u64::from(EACH), "{}", rung.name);
            let row = |what: &str, cost| Row {
                name: format!("injector, {}: {what}", rung.name),
                getppid: rung.getppid,
                cost,
            };
            Injector {
                rung,
                beside: row("a rule on another cgroup", beside),
                aimed_at: [(Fate::Pass, pass), (Fate::Fail, fail)]
                    .map(|(fate, cost)| row(fate.name(), cost)),
            }
        })
        .collect();
    let traced = |strace: Strace| {
        let rows = [Fate::Pass, Fate::Fail].map(|fate| {
            let words = strace.words(fate == Fate::Fail);
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let cost = ready(place, &words, &file).measure();
            let failed = if fate == Fate::Fail {
                3 * u64::from(EACH)
            } else {
                0
            };
            assert_eq!(cost.failed, failed, "{}: {}", strace.name(), fate.name());
            Row {
                name: format!("{}: {}", strace.name(), fate.name()),
                getppid: true,
                cost,
            }
        });
        (strace, rows)
    };
    let through = |bindfs: Bindfs| {
        let mount = bindfs.mount(folder.path());
        let cost = ready(place, &[], &mount.path().join("file")).measure();
        assert_eq!(cost.failed, 0, "{}", bindfs.name());
        let row = Row {
            name: bindfs.name(),
            getppid: false,
            cost,
        };
        (bindfs, row)
    };
    Rows {
        nothing,
        injector,
        strace: Strace::here().map(traced).collect(),
        bindfs: Bindfs::here().map(through).collect(),
    }
}

/// A victim that has measured once, which is not like the other times: a process is still growing,
/// and a tracer lets the first calls pass.
#[track_caller]
fn ready(place: Place<'_>, beneath: &[&str], file: &Path) -> Caller {
    let manner = Manner {
        beneath,
        count: COUNT,
        file,
    };
    let mut caller = Caller::start_so(place, &manner);
    caller.measure();
    caller
}

/// What calls cost under a rule.
#[track_caller]
fn aimed(rung: &Rung, at: &Cgroup, trigger: &str, caller: &mut Caller) -> Cost {
    let rule = rung.rule(NAMED);
    let target = at.target();
    let injection = inject(&format!("{rule} {trigger} --target {target} --for 10h"));
    let cost = caller.measure();
    assert_eq!(injection.stop().code(), 0, "{}", rung.name);
    cost
}
