//! The demo: one web server, two clients beside each other, and faults that are
//! aimed at one of them.
//!
//! Both clients do the same work in the same network namespace. Only their
//! control groups tell them apart, which is what the faults go by. Whatever is
//! printed was measured by the clients themselves, but for the injector's own
//! report, which can thus be held against it.

mod client;
mod server;
mod table;
mod verdict;

use std::{fs, io::Write as _, process::ExitCode, time::Duration};

use clap::Parser as _;

use crate::{
    agent::{Agent, Injection},
    cgroup::Cgroup,
    command::Place,
    kernel::Where,
    netns::{Ip, Pair},
    residue::Snapshot,
    wait,
};
use client::{Client, Work};
use server::Server;
use verdict::Story;

/// The delay that the faults add, which the verdict expects to find again.
const DELAY: Duration = Duration::from_millis(40);

/// How long the kernel may take to free what the agent closed.
const GRACE: Duration = Duration::from_secs(10);

/// Command line of the demo.
#[derive(Debug, clap::Parser)]
#[command(about = "Show what faults do to a victim, and not to its neighbour")]
struct Options {
    /// How long each of the three phases takes, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// What the demo starts itself as
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, clap::Subcommand)]
enum Role {
    /// Do a client's work, as told on standard input
    #[command(hide = true)]
    Client(Work),
}

/// Runs the demo, or one of its clients.
#[must_use]
pub fn main() -> ExitCode {
    let options = Options::parse();
    let good = match &options.role {
        Some(Role::Client(work)) => match client::serve(work) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("the demo's client: {error:#}");
                false
            }
        },
        None => show(Duration::from_secs(options.seconds)),
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Where a demo or benchmark runs, for its reader.
///
/// # Panics
///
/// When the kernel does not tell its version.
#[must_use]
pub fn machine() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's version");
    let release = release.trim();
    let place = if Where::current().is_virtual() {
        "in a virtual machine"
    } else {
        "on this machine"
    };
    format!("Linux {release}, {place}")
}

/// The rules, as a user would write them.
fn spec(target: &str) -> String {
    let delay = DELAY.as_millis();
    format!(
        "\
version: 1
name: a bad day
for: 2m
rules:
  - {{kind: net-delay, target: '{target}', delay: {delay}ms, interface: near0}}
  - {{kind: net-loss, target: '{target}', percent: 10, interface: near0}}
  - {{kind: sys-errno, target: '{target}', call: read, errno: EIO, percent: 20}}
"
    )
}

/// A step that the reader may follow while it happens.
fn say(text: impl std::fmt::Display) {
    println!("{text}");
    // Through a serial line of a virtual machine, output would lag behind.
    std::io::stdout().flush().ok();
}

/// Shows it all; whether all went as it should.
fn show(phase: Duration) -> bool {
    say(format!("\nDemo: {}", machine()));
    let pair = Pair::new();
    let server = Server::start(&pair);
    let [victim_group, bystander_group] = ["victim", "bystander"].map(Cgroup::new);
    let near = Place::netns(&pair.near);
    let address = (Pair::far_address(Ip::V4), Server::PORT).into();
    let [mut victim, mut bystander] = [&victim_group, &bystander_group]
        .map(|group| Client::start(near.and_cgroup(group), address, server.page()));
    say(
        "nginx serves in one network namespace; a victim and a bystander, each in a control \
         group of its own, ask it from another, and read a small file meanwhile.",
    );
    let mut run = |name: &str| {
        say(format!("{name}: {} s ...", phase.as_secs()));
        victim.begin(phase);
        bystander.begin(phase);
        [victim.finish(), bystander.finish()]
    };

    let clean = Snapshot::take(&[&pair.near, &pair.far]);
    let before = run("before");
    let (injection, text) = inject(&victim_group);
    say(format!("\ninjector run bad-day.yaml, which says\n{text}"));
    let during = run("during");
    let finished = injection.stop();
    let after = run("after");

    let [victim, bystander] = [0, 1].map(|party| Story {
        before: before[party].clone(),
        during: during[party].clone(),
        after: after[party].clone(),
    });
    say(format!("\n{}", table::render(&victim, &bystander)));
    say(format!(
        "What the injector says:\n{}",
        finished.stdout.trim_end()
    ));

    let mut complaints = verdict::complaints(&victim, &bystander, DELAY);
    if finished.code() != 0 {
        complaints.push(format!("the injector failed: {}", finished.stderr));
    }
    wait::poll(GRACE, || clean.difference().is_none().then_some(()));
    match clean.difference() {
        None => say(
            "\nLeft behind: nothing (no program, map or link named inj_*, no device inj*, no \
             queueing discipline, control group or journal).",
        ),
        Some(difference) => {
            say(format!("\nLeft behind: {difference}"));
            complaints.push("the injector left something behind".into());
        }
    }
    if complaints.is_empty() {
        say("The victim suffered, the bystander did not, and both are well again.");
        return true;
    }
    for complaint in &complaints {
        say(format!("Not as it should be: {complaint}"));
    }
    false
}

/// Puts the rules in force; with their text.
fn inject(victim: &Cgroup) -> (Injection, String) {
    let folder = tempfile::tempdir().expect("make a folder");
    let file = folder.path().join("bad-day.yaml");
    let text = spec(&victim.target());
    fs::write(&file, &text).expect("write the rules");
    let file = file.to_str().expect("a path in UTF-8");
    let agent = Agent::start(Place::HERE, &["run", file], &[]);
    let injection = Injection::from_agent(agent);
    (injection, text)
}
