//! What the kernel keeps by itself: the deadline of a rule, and the lease of an
//! agent that no longer runs.

use std::time::{Duration, Instant};

use injector_tests::{
    kernel::Feature,
    require, require_for,
    scene::{Harm, Kind, Scene, state},
    traffic::{Arrived, Load},
    wait,
};
use nix::sys::signal::Signal;

/// How long an agent's last word holds.
const LEASE: Duration = Duration::from_secs(2);

/// Milliseconds, as a flow of one packet each tells them.
fn clock(millis: u64) -> Load {
    Load::of(millis)
        .spaced(Duration::from_millis(1))
        .windowed(millis)
}

/// Stops an agent that lets every packet suffer, and the suffering with it.
#[track_caller]
fn check_packets(kind: Kind, suffered: fn(&Arrived) -> u64) {
    require_for!(kind.feature());
    let scene = Scene::new();
    let injection = scene.inject(kind, &["--for", "60s"], &[]);
    let begun = Instant::now();
    scene.flow.begin(clock(5000));
    injection.agent().signal(Signal::SIGSTOP);
    let most = begun.elapsed() + LEASE;
    let lost = suffered(&scene.flow.finish());
    assert!(
        (1000..=most.as_millis() + 1).contains(&lost.into()),
        "injected for {lost} ms, of {most:?} at most"
    );
    assert_eq!(state(injection.agent().pid()), 'T');
    injection.agent().signal(Signal::SIGCONT);
    assert_eq!(injection.stop().rule().injected, lost);
}

#[test]
fn a_stopped_agent_stops_injecting_within_the_lease() {
    check_packets(Kind::Loss, Arrived::missing);
}

#[test]
fn a_stopped_agent_stops_failing_sends_within_the_lease() {
    check_packets(Kind::Denial, |arrived| arrived.send_errors.0);
}

#[test]
fn a_stopped_agent_stops_failing_calls_within_the_lease() {
    require!(SysErrno);
    let scene = Scene::new();
    let injection = scene.inject(Kind::Errno, &["--for", "60s"], &[]);
    injection.agent().signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    assert_eq!(
        scene.harm(Kind::Errno),
        Harm::Everything,
        "in force at the stop"
    );
    let mut last = stopped;
    wait::until("the lease's end", || {
        let asked = Instant::now();
        let spared = scene.harm(Kind::Errno) == Harm::Nothing;
        if !spared {
            last = asked;
        }
        spared.then_some(())
    });
    let lasted = last - stopped;
    assert!(lasted < LEASE, "injected {lasted:?} after the stop");
    assert_eq!(state(injection.agent().pid()), 'T');
    injection.agent().signal(Signal::SIGCONT);
    assert_eq!(injection.stop().code(), 0);
}

/// The kernel side knows the deadline and needs no agent to keep it: this one
/// ends before the lease would.
#[test]
fn the_deadline_holds_without_an_agent() {
    require!(NetLoss);
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let injection = scene.inject(Kind::Loss, &["--for", "1s"], &[]);
    scene.flow.begin(clock(3000));
    injection.agent().signal(Signal::SIGSTOP);
    let lost = scene.flow.finish().missing();
    assert!((500..=1200).contains(&lost), "injected for {lost} ms");
    assert_eq!(state(injection.agent().pid()), 'T');
    injection.agent().signal(Signal::SIGCONT);
    assert_eq!(injection.wait().code(), 0);
    snapshot.assert_clean();
}

#[test]
fn the_duration_is_kept() {
    require!(NetLoss);
    let scene = Scene::new();
    let injection = scene.inject(Kind::Loss, &["--for", "2s"], &[]);
    scene.flow.begin(clock(4000));
    let finished = injection.wait();
    let arrived = scene.flow.finish();
    // From the first packet on, without a gap, until the deadline.
    let lost = (1..).zip(&arrived.lost).take_while(|(n, lost)| n == *lost);
    let lost = u64::try_from(lost.count()).expect("few");
    assert!((1500..=2500).contains(&lost), "injected for {lost} ms");
    assert_eq!(finished.rule().injected, lost);
    assert_eq!(finished.report().stopped_by, "deadline");
    // Before TCX, the kernel closes the interface for a moment when a program
    // is taken from it (docs/kernels.md).
    if Feature::Tcx.available().is_ok() {
        assert_eq!(arrived.missing(), lost);
    }
}

#[test]
fn the_lease_is_renewed_as_long_as_the_agent_lives() {
    require!(NetLoss);
    let scene = Scene::new();
    let injection = scene.inject(Kind::Loss, &["--for", "60s"], &[]);
    // More than twice the lease.
    let load = clock(4500);
    assert_eq!(scene.flow.round(load).missing(), load.count);
    drop(injection.stop());
}
