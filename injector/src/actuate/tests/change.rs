//! Changing what is in force, on a model of the kernel.

use injector_common::Trigger;

use super::*;
use crate::model::{Fault, Per, ResourceFault, Rule, Target};

/// The plan, and an interface in another namespace where packets wait.
fn next() -> Plan {
    let mut next = plan();
    let interface = Interface {
        name: "eth7".to_owned(),
        index: injector_common::IfIndex(7),
        l2_len: 14,
        wireguard: false,
    };
    let netns = Netns {
        inode: injector_common::NetnsInode(2),
        path: "/other".into(),
        own: false,
        exclusive: true,
        interfaces: vec![interface.clone()],
    };
    let hop = Effect::AddHop(Hop {
        netns: netns.clone(),
        splitter: None,
        pair: Some(("inja0".to_owned(), "injb0".to_owned())),
        ifb: None,
        holds: Some(QueueMemory::DEFAULT),
        fills_checksums: false,
    });
    let site = Effect::WriteSite {
        netns: netns.clone(),
        interface: interface.clone(),
        rules: 1,
        owner: 1,
        sends: 0,
        splits: 0,
    };
    let attach = Effect::AttachPackets {
        netns,
        interface,
        direction: Direction::Egress,
    };
    // A namespace that comes first gets the first number for its devices.
    next.effects.insert(1, hop);
    let end = next.effects.len() - 1;
    next.effects.splice(end..end, [site, attach]);
    next
}

/// What the change performs, in its order.
fn steps() -> Vec<String> {
    let hop = "add devices inja1-0badcafe, injb1-0badcafe in /other to hold packets";
    let attach = "attach to egress of eth7 in /other";
    [hop, attach].map(str::to_owned).to_vec()
}

#[test]
fn a_change_performs_what_is_new_and_the_end_reverts_it_all() {
    let kernel = kernel();
    let before = kernel.borrow().things.clone();
    let mut injection = apply(plan(), Model::new(&kernel, None)).expect("no mishap");
    let first = kernel.borrow().things.clone();
    injection.change(next()).expect("no mishap");
    let with_steps = kernel.borrow().things.clone();
    let new: BTreeSet<&str> = with_steps
        .difference(&first)
        .map(|(text, _)| text.as_str())
        .collect();
    assert_eq!(new, steps().iter().map(String::as_str).collect());
    // The same again does nothing.
    injection.change(next()).expect("no mishap");
    assert_eq!(kernel.borrow().things, with_steps);
    assert_eq!(kernel.borrow().reverted, [""; 0]);
    injection.stop().expect("nothing is stuck");
    assert_eq!(kernel.borrow().things, before);
}

#[test]
fn a_change_back_takes_nothing_away_before_the_end() {
    let kernel = kernel();
    let before = kernel.borrow().things.clone();
    let mut injection = apply(next(), Model::new(&kernel, None)).expect("no mishap");
    injection.change(plan()).expect("no mishap");
    assert_eq!(kernel.borrow().reverted, [""; 0]);
    let sites = |effect: &&Effect| matches!(effect, Effect::WriteSite { .. });
    let count = injection.plan().effects.iter().filter(sites).count();
    assert_eq!(count, 1, "the tables are those of the new plan");
    injection.stop().expect("nothing is stuck");
    // The site of the first plan was never made a thing of its own to revert.
    let left = kernel.borrow().things.len() - before.len();
    assert_eq!(left, 2, "a table entry goes with its map");
}

#[test]
fn a_mishap_in_a_change_leaves_what_was_in_force() {
    let performed = plan().effects.len();
    // Two steps, and that they come in force.
    for number in 0..3 {
        for mishap in [Mishap::BeforeAnything, Mishap::HalfDone] {
            let kernel = kernel();
            let before = kernel.borrow().things.clone();
            let model = Model::new(&kernel, Some((performed + number, mishap)));
            let mut injection = apply(plan(), model).expect("no mishap yet");
            let first = kernel.borrow().things.clone();
            let effects = injection.plan().effects.clone();
            let error = injection.change(next()).expect_err("a mishap");
            assert!(matches!(error, Error::Apply(_)), "{error}");
            assert_eq!(kernel.borrow().things, first, "{mishap:?} at {number}");
            assert_eq!(kernel.borrow().forgotten, 1);
            assert_eq!(injection.plan().effects, effects);
            injection.stop().expect("nothing is stuck");
            assert_eq!(kernel.borrow().things, before, "{mishap:?} at {number}");
        }
    }
}

#[test]
fn a_panic_in_a_change_takes_everything_back() {
    let performed = plan().effects.len();
    for number in 0..3 {
        let kernel = kernel();
        let before = kernel.borrow().things.clone();
        let model = Model::new(&kernel, Some((performed + number, Mishap::Panic)));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut injection = apply(plan(), model).expect("no mishap yet");
            injection.change(next())
        }));
        assert!(panicked.is_err());
        assert_eq!(kernel.borrow().things, before, "{number}");
    }
}

#[test]
fn devices_that_do_not_serve_are_not_made_anew() {
    let kernel = kernel();
    let mut injection = apply(plan(), Model::new(&kernel, None)).expect("no mishap");
    let first = kernel.borrow().things.clone();
    let mut next = plan();
    for effect in &mut next.effects {
        if let Effect::AddHop(hop) = effect {
            hop.fills_checksums = true;
        }
    }
    let error = injection.change(next).expect_err("a refusal");
    assert!(error.to_string().contains("start it anew"), "{error}");
    assert_eq!(kernel.borrow().things, first);
}

/// One program serves a hook on both rungs: a second one would count each call again.
#[test]
fn a_security_hook_keeps_its_rung() {
    let kernel = kernel();
    let mut injection = apply(plan(), Model::new(&kernel, None)).expect("no mishap");
    let first = kernel.borrow().things.clone();
    let mut next = plan();
    for effect in &mut next.effects {
        if let Effect::AttachSecurity { modifies, .. } = effect {
            *modifies = true;
        }
    }
    let error = injection.change(next).expect_err("a refusal");
    assert!(error.to_string().contains("another rung"), "{error}");
    assert_eq!(kernel.borrow().things, first);
}

#[test]
fn a_queue_with_less_room_is_widened_and_not_made_anew() {
    let kernel = kernel();
    let mut injection = apply(plan(), Model::new(&kernel, None)).expect("no mishap");
    let first = kernel.borrow().things.clone();
    let with = |holds: Option<QueueMemory>| {
        let mut next = plan();
        for effect in &mut next.effects {
            if let Effect::AddHop(hop) = effect {
                hop.holds = holds;
            }
        }
        next
    };
    let bytes = 2 * QueueMemory::DEFAULT.bytes;
    for holds in [Some(QueueMemory { bytes }), None] {
        injection.change(with(holds)).expect("no mishap");
        assert_eq!(kernel.borrow().things, first);
    }
}

#[test]
fn a_second_program_where_sockets_send_is_not_attached() {
    let kernel = kernel();
    let with = |hears: bool| {
        let mut plan = plan();
        let end = plan.effects.len() - 1;
        plan.effects.insert(end, Effect::AttachSend { hears });
        plan
    };
    let mut injection = apply(with(false), Model::new(&kernel, None)).expect("no mishap");
    injection.change(with(false)).expect("nothing to do");
    let error = injection.change(with(true)).expect_err("a refusal");
    assert!(error.to_string().contains("start it anew"), "{error}");
}

/// The guardian goes by what it was handed over at the start.
#[test]
fn rules_on_resources_do_not_change() {
    let kernel = kernel();
    let mut injection = apply(plan(), Model::new(&kernel, None)).expect("no mishap");
    let before = kernel.borrow().things.clone();
    let mut next = plan();
    next.experiment.rules.push(Rule {
        name: "hang".to_owned(),
        targets: vec![Target::Cgroup("/web".into())],
        fault: Fault::Resource(ResourceFault::Freeze),
        trigger: Trigger::ALWAYS,
        per: Per::Rule,
        start: Duration::ZERO,
        duration: Duration::from_secs(1),
        shadow: false,
        removed: false,
    });
    let refused = injection
        .change(next)
        .expect_err("another rule of the guardian's");
    assert!(
        refused.to_string().contains("another rule `hang`"),
        "{refused}"
    );
    assert_eq!(kernel.borrow().things, before);
}
