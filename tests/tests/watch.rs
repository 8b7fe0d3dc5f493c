//! `injector run FILE --watch`: changes of the file, while it runs.

use std::{fs, thread, time::Duration};

use injector_tests::{
    agent::{Agent, Injection},
    cgroup::Cgroup,
    command::Place,
    netns::Pair,
    require,
    residue::Snapshot,
    traffic::{
        Direction, Load, UdpFlow,
        ends::{FAR_PORT, LOAD, OTHER_CABLE, PLAIN},
    },
    victim::{CallVictim, Callers, failures},
    wait,
};

/// A run whose file is edited.
struct Watched {
    file: tempfile::NamedTempFile,
    injection: Injection,
}

/// What the agent logs of a change.
const CHANGED: &str = "changed: ";
/// What it logs of one that it does not take.
const REFUSED: &str = "the rules stay as they are: ";

impl Watched {
    #[track_caller]
    fn start(rules: &str) -> Self {
        Self::start_with(rules, &[]).expect("rules in force")
    }

    #[track_caller]
    fn start_with(rules: &str, variables: &[(&str, &str)]) -> Result<Self, String> {
        let file = tempfile::NamedTempFile::new().expect("make a file");
        fs::write(file.path(), document(rules)).expect("write a file");
        let path = file.path().to_str().expect("a path in UTF-8");
        let line = ["run", path, "--watch", "--output", "json"];
        let agent = Agent::start(Place::HERE, &line, variables);
        let injection = Injection::try_from_agent(agent)?;
        Ok(Self { file, injection })
    }

    /// Edits the file, and waits until the agent has said this once more.
    #[track_caller]
    fn edit(&self, text: &str, said: &str) {
        let agent = self.injection.agent();
        let before = agent.logged(said);
        self.write(text);
        let more = wait::poll(wait::DEADLINE, || {
            (agent.logged(said) > before).then_some(())
        });
        assert!(more.is_some(), "no `{said}`: {}", agent.stderr());
    }

    /// As editors do, so that nobody reads half of it.
    fn write(&self, text: &str) {
        let new = self.file.path().with_extension("new");
        fs::write(&new, text).expect("write a file");
        fs::rename(&new, self.file.path()).expect("replace a file");
    }

    #[track_caller]
    fn change(&self, rules: &str) {
        self.edit(&document(rules), CHANGED);
    }
}

fn document(rules: &str) -> String {
    format!("version: 1\nfor: 90s\nrules:\n{rules}")
}

/// A rule that loses all UDP packets of a group to some ports.
fn loss(name: &str, cgroup: &Cgroup, ports: &str) -> String {
    let target = cgroup.target();
    format!(
        "- {{name: {name}, kind: net-loss, target: '{target}', proto: udp, peer-port: [{ports}]}}\n"
    )
}

/// Two groups in one namespace, each of which sends.
struct Bed {
    pair: Pair,
    a: (Cgroup, UdpFlow),
    b: (Cgroup, UdpFlow),
}

impl Bed {
    fn new(direction: Direction) -> Self {
        let pair = Pair::new();
        pair.join("near1", "far1", 1);
        let (a, b) = (Cgroup::new("one"), Cgroup::new("other"));
        let flows = (
            PLAIN.start(&pair, &a, direction),
            OTHER_CABLE.start(&pair, &b, direction),
        );
        Self {
            pair,
            a: (a, flows.0),
            b: (b, flows.1),
        }
    }

    /// The near side's interfaces, disciplines and filters.
    fn interfaces(&self) -> [String; 2] {
        let near = &self.pair.near;
        let links = near.ip(&["-brief", "link", "show"]);
        [links, near.tc(&["qdisc", "show"])]
    }

    fn snapshot(&self) -> Snapshot<'_> {
        Snapshot::take(&[&self.pair.near, &self.pair.far])
    }
}

#[test]
fn no_packet_slips_through_while_values_change() {
    require!(NetLoss);
    let bed = Bed::new(Direction::Egress);
    let (cgroup, flow) = &bed.a;
    let ports = |more: u16| format!("{FAR_PORT}, {more}");
    let watched = Watched::start(&loss("all", cgroup, &ports(1)));
    // They are under way for some seconds, and as many changes meanwhile as fit.
    let load = Load::of(40_000)
        .windowed(1 << 40)
        .spaced(Duration::from_micros(50));
    flow.begin(load);
    let mut changes = 0;
    while changes < 6 {
        changes += 1;
        watched.change(&loss("all", cgroup, &ports(1 + changes)));
    }
    let arrived = flow.finish();
    assert_eq!((arrived.sent, arrived.intact), (load.count, 0));
    let rule = watched.injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (load.count, load.count));
}

#[test]
fn rules_come_and_go() {
    require!(NetLoss);
    let bed = Bed::new(Direction::Egress);
    let ((a, flow_a), (b, flow_b)) = (&bed.a, &bed.b);
    let port = FAR_PORT.to_string();
    let (rule_a, rule_b) = (loss("a", a, &port), loss("b", b, &port));
    let watched = Watched::start(&rule_a);
    assert_eq!(flow_a.round(LOAD).missing(), LOAD.count);
    // By now it is noted that no rule is aimed at this group.
    flow_b.round(LOAD).assert_untouched(LOAD);
    watched.change(&[rule_a.as_str(), &rule_b].concat());
    for flow in [flow_a, flow_b] {
        assert_eq!(flow.round(LOAD).missing(), LOAD.count);
    }
    watched.change(&rule_b);
    flow_a.round(LOAD).assert_untouched(LOAD);
    assert_eq!(flow_b.round(LOAD).missing(), LOAD.count);
    let report = watched.injection.stop().report();
    let twice = 2 * LOAD.count;
    assert_eq!(report.hits(), [("a", twice, twice), ("b", twice, twice)]);
    flow_b.round(LOAD).assert_untouched(LOAD);
}

/// And goes back there, with its counts.
#[test]
fn a_rule_comes_out_of_shadow() {
    require!(NetLoss);
    let bed = Bed::new(Direction::Egress);
    let (cgroup, flow) = &bed.a;
    let real = loss("all", cgroup, &FAR_PORT.to_string());
    let shadow = real.replace("kind:", "shadow: true, kind:");
    let watched = Watched::start(&shadow);
    assert_eq!(flow.round(LOAD).missing(), 0);
    watched.change(&real);
    assert_eq!(flow.round(LOAD).missing(), LOAD.count);
    watched.change(&shadow);
    assert_eq!(flow.round(LOAD).missing(), 0);
    let rule = watched.injection.stop().rule();
    assert_eq!(rule.matched, 3 * LOAD.count, "{rule:?}");
    assert_eq!(rule.injected, LOAD.count, "{rule:?}");
    assert_eq!(rule.shadowed, Some(2 * LOAD.count), "{rule:?}");
}

/// A rule that counts per flow goes on at each flow's number when it changes, also if it
/// did not count so meanwhile.
#[test]
fn counts_of_flows_go_on() {
    require!(NetLoss);
    let bed = Bed::new(Direction::Egress);
    let (cgroup, flow) = &bed.a;
    let rule = |more: &str| loss("it", cgroup, &FAR_PORT.to_string()).replace('}', more);
    let first_after = |rounds: u64| {
        let when = rounds * LOAD.count + 1;
        rule(&format!(", per: flow, when: {when}}}"))
    };
    let watched = Watched::start(&first_after(1));
    flow.round(LOAD).assert_untouched(LOAD);
    watched.change(&first_after(1).replace("proto: udp", "proto: any"));
    assert_eq!(flow.round(LOAD).lost, [1]);
    watched.change(&rule(", when: 1}"));
    flow.round(LOAD).assert_untouched(LOAD);
    watched.change(&first_after(2));
    assert_eq!(flow.round(LOAD).lost, [1]);
    let rule = watched.injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (4 * LOAD.count, 2));
}

#[test]
fn a_rule_leaves_what_it_does_not_name_any_more() {
    require!(NetLoss);
    let bed = Bed::new(Direction::Ingress);
    let (cgroup, flow) = &bed.a;
    let target = cgroup.target();
    let rule = |rest: &str| {
        format!("- {{name: r, kind: net-loss, target: '{target}', proto: udp, {rest}}}\n")
    };
    let watched = Watched::start(&rule("direction: egress"));
    flow.round(LOAD).assert_untouched(LOAD);
    // The other way: another program, and sockets that are open already.
    watched.change(&rule("direction: both"));
    assert_eq!(flow.round(LOAD).missing(), LOAD.count);
    // The other interface of the namespace.
    watched.change(&rule("direction: both, interface: near1"));
    flow.round(LOAD).assert_untouched(LOAD);
    watched.change(&rule("direction: both, interface: near0"));
    assert_eq!(flow.round(LOAD).missing(), LOAD.count);
    // A budget that is spent goes on.
    watched.change(&rule("direction: ingress, when: '1..1000'"));
    let rule = watched.injection.stop().rule();
    assert_eq!(
        (rule.matched, rule.injected),
        (2 * LOAD.count, 2 * LOAD.count)
    );
}

#[test]
fn another_kind_of_rule_joins() {
    require!(NetLoss);
    let bed = Bed::new(Direction::Egress);
    let ((a, flow_a), (b, flow_b)) = (&bed.a, &bed.b);
    let rule_a = loss("a", a, &FAR_PORT.to_string());
    let watched = Watched::start(&rule_a);
    let target = b.target();
    let twice = format!("- {{name: b, kind: net-duplicate, target: '{target}', proto: udp}}\n");
    watched.change(&[rule_a, twice].concat());
    assert_eq!(flow_a.round(LOAD).missing(), LOAD.count);
    assert_eq!(flow_b.round(LOAD).duplicates, LOAD.count);
    drop(watched.injection.stop());
    flow_b.round(LOAD).assert_untouched(LOAD);
}

/// A rule that fails all calls of a group.
fn failing(call: &str, cgroup: &Cgroup) -> String {
    let target = cgroup.target();
    format!("- {{name: {call}, kind: sys-errno, target: '{target}', call: [{call}], errno: EIO}}\n")
}

/// The kernel is tried for what the first rule does not need, while that is in force.
#[test]
fn calls_begin_to_fail() {
    require!(SysErrno);
    require!(NetLoss);
    const COUNT: u64 = 20;
    let (a, b) = (Cgroup::new("one"), Cgroup::new("other"));
    let start = |cgroup, call| CallVictim::start(Place::cgroup(cgroup), call, Callers::Threads(2));
    let (opening, making) = (start(&a, "openat"), start(&b, "mkdir"));
    let lost = loss("lost", &a, &FAR_PORT.to_string());
    let (opens, makes) = (failing("openat", &a), failing("mkdir", &b));
    let assert_fail = |victim: &CallVictim| {
        let seen = victim.round(COUNT);
        assert_eq!(failures(&seen), COUNT * seen.len() as u64, "{seen:?}");
    };
    let watched = Watched::start(&lost);
    opening.assert_unharmed(COUNT);
    watched.change(&[lost.as_str(), &opens].concat());
    assert_fail(&opening);
    making.assert_unharmed(COUNT);
    watched.change(&[lost.as_str(), &opens, &makes].concat());
    assert_fail(&opening);
    assert_fail(&making);
    watched.change(&makes);
    opening.assert_unharmed(COUNT);
    assert_fail(&making);
    drop(watched.injection.stop());
    making.assert_unharmed(COUNT);
}

#[test]
fn packets_begin_to_wait() {
    require!(NetDelay);
    let bed = Bed::new(Direction::Egress);
    let ((a, flow_a), (b, flow_b)) = (&bed.a, &bed.b);
    let rule_a = loss("a", a, &FAR_PORT.to_string());
    let watched = Watched::start(&rule_a);
    let target = b.target();
    let late =
        format!("- {{name: b, kind: net-delay, target: '{target}', proto: udp, delay: 200ms}}\n");
    watched.change(&[rule_a, late].concat());
    assert_eq!(flow_a.round(LOAD).missing(), LOAD.count);
    let arrived = flow_b.round(LOAD);
    assert_eq!(arrived.missing(), 0);
    assert!(
        arrived.delays.shortest >= Duration::from_millis(200),
        "{arrived:?}"
    );
    drop(watched.injection.stop());
    flow_b.round(LOAD).assert_untouched(LOAD);
}

/// Lets a change fail after ever more of the devices, disciplines and filters that it needs have
/// been made. What was in force stays, what was made goes, and the same change succeeds later.
#[test]
fn a_change_that_fails_half_way_is_undone() {
    require!(NetDelay);
    let bed = Bed::new(Direction::Egress);
    let ((a, flow_a), (b, flow_b)) = (&bed.a, &bed.b);
    let rule_a = loss("a", a, &FAR_PORT.to_string());
    let target = b.target();
    let late =
        format!("- {{name: b, kind: net-delay, target: '{target}', proto: udp, delay: 200ms}}\n");
    let both = [rule_a.clone(), late].concat();
    let before = bed.snapshot();
    let mut failed = 0;
    for part in (1..100).step_by(7) {
        let part = part.to_string();
        // The first rule needs some by itself.
        let started = Watched::start_with(&rule_a, &[("INJECTOR_TEST_FAIL_PART", &part)]);
        let Ok(watched) = started else { continue };
        let alone = bed.interfaces();
        watched.write(&document(&both));
        let said = wait::until("the change", || {
            let log = watched.injection.agent().stderr();
            let mut lines = log.lines().map(str::to_owned);
            lines.find(|line| line.contains(CHANGED) || line.contains(REFUSED))
        });
        if said.contains(REFUSED) {
            failed += 1;
            assert!(said.contains("INJECTOR_TEST_FAIL_PART"), "{said}");
            assert_eq!(bed.interfaces(), alone);
            assert_eq!(flow_a.round(LOAD).missing(), LOAD.count);
            flow_b.round(LOAD).assert_untouched(LOAD);
            watched.change(&[both.as_str(), "\n"].concat());
        }
        let shortest = flow_b.round(LOAD).delays.shortest;
        assert!(shortest >= Duration::from_millis(200), "{shortest:?}");
        drop(watched.injection.stop());
        before.assert_clean();
        if said.contains(CHANGED) {
            assert!(failed > 1, "it failed {failed} times");
            return;
        }
    }
    panic!("no end of parts");
}

/// Changes a rule that makes packets wait while they come, from one kind's options to the
/// other's: each packet waits at least as long as the first says, and from one packet on
/// all wait as long as the second.
#[track_caller]
fn values_change_under_way(kind: [&str; 2], least: [Duration; 2], load: Load) {
    let bed = Bed::new(Direction::Egress);
    let (cgroup, flow) = &bed.a;
    let target = cgroup.target();
    let rule =
        |kind: &str| format!("- {{name: it, kind: {kind}, target: '{target}', proto: udp}}\n");
    let watched = Watched::start(&rule(kind[0]));
    flow.begin(load);
    wait::until("packets", || {
        (flow.arrived_so_far() >= load.count / 8).then_some(())
    });
    watched.change(&rule(kind[1]));
    let arrived = flow.finish();
    arrived.assert_untouched(load);
    assert!(arrived.delays.shortest >= least[0], "{:?}", arrived.delays);
    let mut notes = flow.notes();
    notes.sort_unstable();
    let short = notes.iter().rposition(|&(_, delay)| delay < least[1]);
    let short = short.expect("packets before the change") as u64;
    assert!(short < load.count * 7 / 8, "{short} of {}", load.count);
    let rule = watched.injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (load.count, load.count));
    assert_eq!(rule.dropped, Some(0));
}

#[test]
fn the_time_to_wait_changes_under_way() {
    require!(NetDelay);
    values_change_under_way(
        ["net-delay, delay: 100ms", "net-delay, delay: 300ms"],
        [100, 300].map(Duration::from_millis),
        Load::of(2000)
            .spaced(Duration::from_millis(2))
            .windowed(1 << 40),
    );
}

/// A packet of 1042 bytes takes 2.1 ms on the first link, and 8.3 ms on the second.
#[test]
fn the_link_to_wait_for_changes_under_way() {
    require!(NetDelay);
    values_change_under_way(
        ["net-rate, rate: 4mbit", "net-rate, rate: 1mbit"],
        [2_084, 8_336].map(Duration::from_micros),
        Load::of(400)
            .sized(1000)
            .spaced(Duration::from_millis(10))
            .windowed(1 << 40),
    );
}

/// From one model of loss to another that loses everything as well, on a link that is
/// good or bad, or in one of four states.
#[test]
fn no_packet_slips_through_while_models_change() {
    require!(NetLoss);
    let bed = Bed::new(Direction::Egress);
    let (cgroup, flow) = &bed.a;
    let port = FAR_PORT.to_string();
    let rule = |model: &str| loss("all", cgroup, &port).replace('}', &format!(", {model}}}"));
    let models = [
        "when: 1..1000000",
        "burst: '50,50,100,100'",
        "markov: '100,0,0,100,0'",
        "burst: '30,70,100,100'",
        "percent: 100",
    ];
    let watched = Watched::start(&rule(models[0]));
    let load = Load::of(40_000)
        .windowed(1 << 40)
        .spaced(Duration::from_micros(50));
    flow.begin(load);
    for model in &models[1..] {
        watched.change(&rule(model));
    }
    let arrived = flow.finish();
    assert_eq!((arrived.sent, arrived.intact), (load.count, 0));
    // The last one is one of its own: bursts that begin with each second packet.
    watched.change(&rule("when: 2+2"));
    let few = Load::of(1000);
    assert_eq!(flow.round(few).missing(), few.count / 2);
    watched.change(&rule("burst: '100,100'"));
    assert_eq!(flow.round(few).missing(), few.count / 2);
    let rule = watched.injection.stop().rule();
    assert_eq!(
        (rule.matched, rule.injected),
        (load.count + 2 * few.count, load.count + few.count)
    );
}

/// What waits goes on to count, whatever the limit becomes, and the queue has the room
/// that the new one says.
#[test]
fn what_waits_counts_when_the_limit_changes() {
    require!(NetDelay);
    let bed = Bed::new(Direction::Egress);
    let (cgroup, flow) = &bed.a;
    let target = cgroup.target();
    let rule = |memory: &str| {
        format!(
            "- {{name: late, kind: net-delay, target: '{target}', delay: 30s, \
             peer-port: {FAR_PORT}, queue-memory: {memory}}}\n"
        )
    };
    // Each counts 64 bytes, 42 of headers, and 1 KiB.
    let held = (64 << 10) / (64 + 42 + 1024) + 1;
    let few = Load::of(150);
    // More than the queue had room for at first, 64 and 1000.
    let many = Load::of(1500).windowed(1500);
    let watched = Watched::start(&rule("64kb"));
    assert_eq!(flow.round(few).intact, 0);
    watched.change(&rule("4mb"));
    assert_eq!(flow.round(many).intact, 0);
    watched.change(&rule("64kb"));
    assert_eq!(flow.round(few).intact, 0);
    let finished = watched.injection.stop();
    let rule = finished.rule();
    let all = 2 * few.count + many.count;
    assert_eq!((rule.matched, rule.injected), (all, all));
    let dropped = few.count - held + few.count;
    assert_eq!(rule.dropped, Some(dropped), "{rule:?}");
    let lost = finished.report().undelivered.expect("there are devices");
    assert_eq!((lost.overrun, lost.cut_off), (0, held + many.count));
}

#[test]
fn what_cannot_be_had_changes_nothing() {
    require!(NetLoss);
    let bed = Bed::new(Direction::Egress);
    let (cgroup, flow) = &bed.a;
    let rule = loss("a", cgroup, &FAR_PORT.to_string());
    let watched = Watched::start(&rule);
    let refusals = [
        (document("- {kind: net-los}\n"), "net-loss"),
        (
            document(&rule.replace("proto: udp", "proto: udp, percent: 120")),
            "percent",
        ),
        (
            document(&rule.replace(&cgroup.target(), "cgroup:/no/such")),
            "target",
        ),
        (document(&rule.replace("net-loss", "net-partition")), "kind"),
        (
            document(&rule).replace("version: 1", "version: 1\nseed: 7"),
            "seed",
        ),
        (
            document(&rule.replace("proto: udp", "proto: udp, interface: nowhere")),
            "interface",
        ),
        ("half a fi".to_owned(), "version"),
    ];
    for (text, word) in refusals {
        watched.edit(&text, REFUSED);
        let log = watched.injection.agent().stderr();
        let last = log.lines().last().unwrap_or_default().to_owned();
        assert!(last.contains(REFUSED) && last.contains(word), "{last}");
    }
    // Gone for a while, as between two versions.
    fs::remove_file(watched.file.path()).expect("remove a file");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(flow.round(LOAD).missing(), LOAD.count);
    watched.change(&rule);
    let rule = watched.injection.stop().rule();
    assert_eq!((rule.matched, rule.injected), (LOAD.count, LOAD.count));
}

/// A call that comes to wait at its other end too: what is attached stays, and the kernel takes no
/// such number of programs at one function.
#[test]
fn a_change_that_needs_too_many_programs_is_refused_before_any_is_attached() {
    require!(FmodRet);
    let cgroup = Cgroup::new("victim");
    let snapshot = Snapshot::take(&[]);
    let victim = CallVictim::start(Place::cgroup(&cgroup), "fsync", Callers::One);
    let target = cgroup.target();
    let rule = |at: &str| {
        format!(
            "- {{name: {at}, kind: sys-delay, call: fsync, delay: 20ms, at: {at}, target: '{target}'}}\n"
        )
    };
    let watched = Watched::start(&rule("enter"));
    for rules in [rule("enter") + &rule("exit"), rule("exit")] {
        watched.edit(&document(&rules), REFUSED);
    }
    let said = watched.injection.agent().stderr();
    for more in ["17", "33"] {
        let why = format!("room for {more} programs more at fsync, of 38");
        assert!(said.contains(&why), "no {why} in {said}");
    }
    victim.assert_unharmed(5);
    let report = watched.injection.stop().report();
    assert_eq!(report.hits(), [("enter", 5, 5)]);
    drop(victim);
    snapshot.assert_clean();
}
