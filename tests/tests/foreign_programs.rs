//! Programs of somebody else's at an interface, as container networks have them: by TCX links, and
//! in filters.

use injector_tests::{
    agent::Injection,
    cgroup::Cgroup,
    command::Place,
    counting::{Counting, Order, Says, Side, programs_at},
    kernel::Feature,
    netns::{Ip, Pair},
    require,
    residue::Snapshot,
    traffic::{Load, UdpFlow},
};

/// A victim that sends and receives, of whose packets every second one is lost.
struct Victim {
    pair: Pair,
    cgroup: Cgroup,
    flows: [UdpFlow; 2],
}

impl Victim {
    const LOAD: Load = Load::of(100).windowed(32);

    fn new() -> Self {
        let pair = Pair::new();
        let cgroup = Cgroup::new("victim");
        let near = Place::netns(&pair.near).and_cgroup(&cgroup);
        let far = Place::netns(&pair.far);
        let [here, there] = [Pair::near_address(Ip::V4), Pair::far_address(Ip::V4)];
        let flows = [
            UdpFlow::start(near, far, (here, 8001).into(), (there, 7001).into()),
            UdpFlow::start(far, near, (there, 8002).into(), (here, 7002).into()),
        ];
        Self {
            pair,
            cgroup,
            flows,
        }
    }

    fn inject(&self, fault: &[&str]) -> Injection {
        let target = self.cgroup.target();
        let rule = ["--target", &target, "--for", "60s"];
        let filter = ["--direction", "both", "--proto", "udp", "--per", "flow"];
        Injection::start(&[fault, &rule, &filter].concat())
    }

    fn injure(&self) -> Injection {
        self.inject(&["net-loss", "--when", "2+2"])
    }

    /// What is missing of a round in each direction.
    #[track_caller]
    fn missing(&self) -> [u64; 2] {
        self.flows
            .each_ref()
            .map(|flow| flow.round(Self::LOAD).missing())
    }

    /// Attaches a program at each side of the interface, in the order of the flows.
    #[track_caller]
    fn attach(&self, order: Order, says: Says) -> [Counting; 2] {
        SIDES.map(|side| {
            let counting = Counting::at(&self.pair.near, Pair::NEAR_LINK, side, order, says);
            counting.expect("a TCX program")
        })
    }

    /// The same as filters.
    #[track_caller]
    fn add_filters(&self, says: Says) -> [Counting; 2] {
        let near = &self.pair.near;
        near.tc(&["qdisc", "add", "dev", Pair::NEAR_LINK, "clsact"]);
        SIDES.map(|side| {
            let filter = Counting::filter(near, Pair::NEAR_LINK, side, 77, says);
            filter.expect("a filter with a program")
        })
    }

    /// The programs of both sides.
    fn programs(&self) -> [Vec<u32>; 2] {
        SIDES.map(|side| programs_at(&self.pair.near, Pair::NEAR_LINK, side))
    }
}

const SIDES: [Side; 2] = [Side::Egress, Side::Ingress];
/// All packets of a round, and what is left when every second one is lost.
const ALL: u64 = Victim::LOAD.count;
const HALF: u64 = ALL / 2;

/// What programs of both sides see while this is done.
#[track_caller]
fn seen_during(programs: &[Counting; 2], work: impl FnOnce()) -> [u64; 2] {
    let before = programs.each_ref().map(Counting::seen);
    work();
    let after = programs.each_ref().map(Counting::seen);
    [after[0] - before[0], after[1] - before[1]]
}

/// Some packets more than these are those of the kernel.
#[track_caller]
fn assert_about(seen: [u64; 2], count: u64) {
    let few = count..count + HALF / 2;
    assert!(
        seen.iter().all(|seen| few.contains(seen)),
        "{seen:?} for {count}"
    );
}

/// Ours come first, so that they see each packet, also where others end the search. Those see
/// what is not lost.
#[test]
fn foreign_programs_stay_and_work() {
    require!(Tcx);
    for says in [Says::Next, Says::Pass] {
        let victim = Victim::new();
        let early = victim.attach(Order::Last, says);
        assert_about(
            seen_during(&early, || assert_eq!(victim.missing(), [0; 2])),
            ALL,
        );
        let injection = victim.injure();
        let late = victim.attach(Order::Last, says);
        let foreign = [0, 1].map(|side| vec![early[side].id(), late[side].id()]);
        for (programs, foreign) in victim.programs().iter().zip(&foreign) {
            assert_eq!((programs.len(), &programs[1..]), (3, &foreign[..]));
        }
        let lost = || assert_eq!(victim.missing(), [HALF; 2]);
        let work = || assert_about(seen_during(&early, lost), HALF);
        let behind = seen_during(&late, work);
        match says {
            Says::Next => assert_about(behind, HALF),
            Says::Pass => assert_eq!(behind, [0; 2]),
        }
        let rule = injection.stop().rule();
        assert_eq!((rule.matched, rule.injected), (2 * ALL, ALL), "{says:?}");
        assert_eq!(victim.programs(), foreign, "{says:?}");
        assert_about(
            seen_during(&early, || assert_eq!(victim.missing(), [0; 2])),
            ALL,
        );

        let abandoned = victim.injure().abandon();
        abandoned.clean_up();
        assert_eq!(victim.programs(), foreign, "{says:?}");
        assert_about(
            seen_during(&early, || assert_eq!(victim.missing(), [0; 2])),
            ALL,
        );
    }
}

/// A program that puts itself before ours meanwhile sees all. What it keeps from the programs
/// behind it is not hit, and the counts tell.
#[test]
fn a_program_that_comes_first_decides() {
    require!(Tcx);
    for (says, missing) in [(Says::Next, HALF), (Says::Pass, 0)] {
        let victim = Victim::new();
        let injection = victim.injure();
        let first = victim.attach(Order::First, says);
        let round = || assert_eq!(victim.missing(), [missing; 2], "{says:?}");
        assert_about(seen_during(&first, round), ALL);
        let rule = injection.stop().rule();
        let counts = (4 * missing, 2 * missing);
        assert_eq!((rule.matched, rule.injected), counts, "{says:?}");
        assert_eq!(
            victim.programs(),
            first.each_ref().map(|first| vec![first.id()])
        );
    }
}

/// A packet that waits passes our programs twice, and those of others once.
#[test]
fn what_waits_passes_foreign_programs_once() {
    require!(NetDelay);
    let victim = Victim::new();
    let foreign = if Feature::Tcx.available().is_ok() {
        victim.attach(Order::Last, Says::Next)
    } else {
        victim.add_filters(Says::Next)
    };
    let injection = victim.inject(&["net-delay", "--delay", "20ms"]);
    let late = || assert_eq!(victim.missing(), [0; 2]);
    assert_about(seen_during(&foreign, late), ALL);
    assert_eq!(injection.stop().rule().injected, 2 * ALL);
}

/// Filters with programs, as container networks had them before TCX links.
#[test]
fn a_foreign_filter_with_a_program_stays_and_works() {
    require!(NetLoss);
    for says in [Says::Next, Says::Pass] {
        let victim = Victim::new();
        let filters = victim.add_filters(says);
        let snapshot = Snapshot::take(&[&victim.pair.near, &victim.pair.far]);
        let whole = || assert_eq!(victim.missing(), [0; 2], "{says:?}");
        let lost = || assert_eq!(victim.missing(), [HALF; 2], "{says:?}");
        assert_about(seen_during(&filters, whole), ALL);
        let injection = victim.injure();
        assert_about(seen_during(&filters, lost), HALF);
        let rule = injection.stop().rule();
        assert_eq!((rule.matched, rule.injected), (2 * ALL, ALL), "{says:?}");
        snapshot.assert_clean();
        assert_about(seen_during(&filters, whole), ALL);

        let abandoned = victim.injure().abandon();
        abandoned.clean_up();
        snapshot.assert_clean();
        assert_about(seen_during(&filters, whole), ALL);
    }
}
