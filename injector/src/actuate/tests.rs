//! Applying, failing and stopping, on a model of the kernel.

mod change;

use std::{
    cell::RefCell,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{
    error::CleanupErrors,
    model::{Direction, Experiment, QueueMemory, Syscall},
    plan::{CallHook, Hop},
    resolve::{Interface, Netns, Scope},
};

/// What is in a kernel. Effects that touch one object make things of their
/// own in it, of which a half-done effect has made only the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kernel {
    things: BTreeSet<(String, Half)>,
    /// What was reverted, in that order.
    reverted: Vec<String>,
    /// How often rules that were written were forgotten.
    forgotten: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Half {
    First,
    Second,
}

/// How an effect goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    BeforeAnything,
    HalfDone,
    Panic,
}

impl Mishap {
    const ALL: [Self; 3] = [Self::BeforeAnything, Self::HalfDone, Self::Panic];
}

/// A kernel that may fail an effect, and may refuse to take back others.
#[derive(Debug)]
struct Model {
    kernel: Rc<RefCell<Kernel>>,
    performed: usize,
    /// Which effect goes wrong, from 0, and how.
    mishap: Option<(usize, Mishap)>,
    /// Effects that cannot be taken back, by their text.
    stuck: BTreeSet<String>,
}

impl Model {
    fn new(kernel: &Rc<RefCell<Kernel>>, mishap: Option<(usize, Mishap)>) -> Self {
        Self {
            kernel: Rc::clone(kernel),
            performed: 0,
            mishap,
            stuck: BTreeSet::new(),
        }
    }

    fn make(&self, effect: &Effect, half: Half) {
        let new = self
            .kernel
            .borrow_mut()
            .things
            .insert((effect.to_string(), half));
        // A change writes rules anew, and puts all in force again.
        let again = matches!(effect, Effect::WriteRule { .. } | Effect::Enable);
        assert!(new || again, "{effect} was done already");
    }
}

impl Actuator for Model {
    fn perform(&mut self, _plan: &Plan, effect: &Effect) -> Result<(), ApplyError> {
        let mishap = self.mishap.filter(|&(number, _)| number == self.performed);
        self.performed += 1;
        if !matches!(mishap, Some((_, Mishap::BeforeAnything))) {
            self.make(effect, Half::First);
        }
        match mishap {
            None => {
                self.make(effect, Half::Second);
                Ok(())
            }
            Some((_, Mishap::Panic)) => panic!("a bug in the agent"),
            Some((_, Mishap::BeforeAnything | Mishap::HalfDone)) => Err(ApplyError {
                effect: effect.to_string(),
                source: "the kernel said no".into(),
                detail: Vec::new(),
            }),
        }
    }

    fn revert(&mut self, effect: &Effect) -> Vec<CleanupError> {
        let text = effect.to_string();
        let mut kernel = self.kernel.borrow_mut();
        kernel.reverted.push(text.clone());
        if self.stuck.contains(&text) {
            // Two things remain: both are reported.
            let remains = |half: Half| CleanupError {
                what: format!("{half:?} of {text}"),
                source: "busy".into(),
                remedy: "reboot".to_owned(),
            };
            let made = [Half::First, Half::Second].into_iter();
            let made = made.filter(|&half| kernel.things.contains(&(text.clone(), half)));
            return made.map(remains).collect();
        }
        kernel.things.retain(|(name, _)| *name != text);
        Vec::new()
    }

    fn forget(&mut self) {
        self.kernel.borrow_mut().forgotten += 1;
    }
}

/// A plan with every effect that there is.
fn plan() -> Plan {
    let interface = Interface {
        name: "eth0".to_owned(),
        index: injector_common::IfIndex(2),
        l2_len: 14,
        wireguard: false,
    };
    let netns = Netns {
        inode: injector_common::NetnsInode(1),
        path: "/ns".into(),
        own: true,
        exclusive: false,
        interfaces: vec![interface.clone()],
    };
    let scope = Scope::Command;
    let call = Syscall {
        name: "openat",
        number: 257,
    };
    let hook = injector_common::names::SecurityHook::FileOpen;
    let effects = vec![
        Effect::CreateCgroup {
            name: "injector-0badcafe".to_owned(),
        },
        Effect::AddHop(Hop {
            netns: netns.clone(),
            splitter: None,
            pair: Some(("inja0".to_owned(), "injb0".to_owned())),
            ifb: None,
            holds: Some(QueueMemory::DEFAULT),
            fills_checksums: false,
        }),
        Effect::WriteRule {
            index: 0,
            name: "r0".to_owned(),
        },
        Effect::WriteScope {
            scope: scope.clone(),
            rules: 1,
        },
        Effect::FollowProcesses,
        Effect::ForgetCallers,
        Effect::ForgetPrograms,
        Effect::FollowSockets,
        Effect::TagSockets { scope, rules: 1 },
        Effect::WriteSite {
            netns: netns.clone(),
            interface: interface.clone(),
            rules: 1,
            owner: 0,
            sends: 0,
            splits: 0,
        },
        Effect::WriteCall {
            hook: CallHook::Entry { modifies: false },
            call,
            rules: 1,
        },
        Effect::AttachPackets {
            netns,
            interface,
            direction: Direction::Egress,
        },
        Effect::AttachEntry {
            call,
            modifies: false,
        },
        Effect::AttachSecurity {
            hook,
            modifies: false,
        },
        Effect::Enable,
    ];
    Plan {
        experiment: Experiment {
            id: "0badcafe".to_owned(),
            name: "lab".to_owned(),
            seed: 7,
            duration: Duration::from_secs(30),
            rules: Vec::new(),
            command: None,
            whole_host: false,
        },
        effects,
        notes: Vec::new(),
        backends: Vec::new(),
    }
}

/// A kernel with something in it that is none of ours.
fn kernel() -> Rc<RefCell<Kernel>> {
    let foreign = ("somebody's qdisc".to_owned(), Half::First);
    Rc::new(RefCell::new(Kernel {
        things: BTreeSet::from([foreign]),
        reverted: Vec::new(),
        forgotten: 0,
    }))
}

/// The first `count` effects as text, the last first.
fn backwards(count: usize) -> Vec<String> {
    let effects = plan().effects;
    effects[..count]
        .iter()
        .rev()
        .map(ToString::to_string)
        .collect()
}

/// What a clean-up reports for effects that are stuck.
fn what(errors: &CleanupErrors) -> Vec<String> {
    errors.0.iter().map(|error| error.what.clone()).collect()
}

#[test]
fn everything_is_done_and_taken_back() {
    let kernel = kernel();
    let before = kernel.borrow().things.clone();
    let count = plan().effects.len();
    let mut injection = apply(plan(), Model::new(&kernel, None)).expect("no mishap");
    assert_eq!(kernel.borrow().things.len(), before.len() + 2 * count);
    assert_eq!(
        kernel.borrow().reverted,
        [""; 0],
        "nothing is taken back yet"
    );
    injection.stop().expect("nothing is stuck");
    assert_eq!(kernel.borrow().things, before);
    assert_eq!(kernel.borrow().reverted, backwards(count), "once each");
}

#[test]
fn dropping_takes_everything_back() {
    let kernel = kernel();
    let before = kernel.borrow().things.clone();
    let count = plan().effects.len();
    drop(apply(plan(), Model::new(&kernel, None)).expect("no mishap"));
    assert_eq!(kernel.borrow().things, before);
    assert_eq!(kernel.borrow().reverted, backwards(count), "once each");
}

#[test]
fn a_panic_while_in_force_takes_everything_back() {
    let kernel = kernel();
    let before = kernel.borrow().things.clone();
    let model = Model::new(&kernel, None);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _injection = apply(plan(), model).expect("no mishap");
        panic!("a bug in the agent");
    }));
    assert!(panicked.is_err());
    assert_eq!(kernel.borrow().things, before);
}

#[test]
fn a_mishap_at_any_effect_leaves_nothing() {
    for mishap in Mishap::ALL {
        for number in 0..plan().effects.len() {
            let kernel = kernel();
            let before = kernel.borrow().things.clone();
            let model = Model::new(&kernel, Some((number, mishap)));
            let outcome = catch_unwind(AssertUnwindSafe(|| apply(plan(), model)));
            match (mishap, outcome) {
                (Mishap::Panic, Err(_)) => {}
                (Mishap::BeforeAnything | Mishap::HalfDone, Ok(Err(Error::Apply(error)))) => {
                    assert_eq!(error.effect, plan().effects[number].to_string());
                }
                (_, outcome) => panic!("{mishap:?} at {number}: {outcome:?}"),
            }
            let kernel = kernel.borrow();
            assert_eq!(kernel.things, before, "{mishap:?} at {number}");
            assert_eq!(
                kernel.reverted,
                backwards(number + 1),
                "{mishap:?} at {number}"
            );
        }
    }
}

#[test]
fn what_is_stuck_after_a_mishap_is_all_reported() {
    for mishap in [Mishap::BeforeAnything, Mishap::HalfDone] {
        for number in 2..plan().effects.len() {
            let kernel = kernel();
            let mut model = Model::new(&kernel, Some((number, mishap)));
            let stuck = [0, 1, number].map(|index| plan().effects[index].to_string());
            model.stuck = stuck.iter().cloned().collect();
            let Err(Error::Cleanup(errors)) = apply(plan(), model) else {
                panic!("{mishap:?} at {number} is not reported");
            };
            let mut expected = Vec::new();
            if mishap == Mishap::HalfDone {
                expected.push(format!("First of {}", stuck[2]));
            }
            for text in [&stuck[1], &stuck[0]] {
                expected.extend([format!("First of {text}"), format!("Second of {text}")]);
            }
            assert_eq!(what(&errors), expected, "{mishap:?} at {number}");
            assert_eq!(kernel.borrow().reverted, backwards(number + 1), "once each");
        }
    }
}

proptest! {
    #[test]
    fn stopping_goes_on_after_errors(stuck in any::<[bool; 15]>()) {
        let effects: Vec<String> = plan().effects.iter().map(ToString::to_string).collect();
        prop_assert_eq!(effects.len(), stuck.len());
        let stuck: Vec<&String> = effects
            .iter()
            .zip(stuck)
            .filter_map(|(effect, stuck)| stuck.then_some(effect))
            .collect();
        let kernel = kernel();
        let before = kernel.borrow().things.len();
        let mut model = Model::new(&kernel, None);
        model.stuck = stuck.iter().copied().cloned().collect();
        let mut injection = apply(plan(), model).expect("no mishap");
        let expected: Vec<String> = stuck
            .iter()
            .rev()
            .flat_map(|text| [format!("First of {text}"), format!("Second of {text}")])
            .collect();
        let found = injection.stop().err().map(|errors| what(&errors)).unwrap_or_default();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(kernel.borrow().things.len(), before + 2 * stuck.len());
        prop_assert_eq!(&kernel.borrow().reverted, &backwards(effects.len()));
    }
}
