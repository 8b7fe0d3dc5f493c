//! A target that forks all the while, also between being found and being aimed
//! at.

use std::{
    net::UdpSocket,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    thread,
    time::Duration,
};

use injector_tests::{
    actor::calls::MAIN,
    agent::Injection,
    cgroup::Cgroup,
    command::{Place, Process},
    netns::{Ip, Pair},
    require,
    victim::BoardFile,
    wait,
};
use tempfile::TempDir;

/// Port that the children send to.
const PORT: u16 = 7100;

/// A process that never stops forking.
struct Family {
    file: BoardFile,
    process: Process,
    mailbox: UdpSocket,
    pair: Pair,
    cgroup: Cgroup,
    _folder: TempDir,
    /// Without it the namespace would be the family's alone, and so every
    /// packet in it.
    _neighbour: Process,
}

/// What the children that stayed saw in the end.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    children: u64,
    failed_calls: u64,
    arrived: u64,
}

impl Family {
    fn start() -> Self {
        let (pair, cgroup) = (Pair::new(), Cgroup::new("family"));
        let neighbour = Place::netns(&pair.near).spawn("sleep", &["1000"]);
        let address = (Pair::far_address(Ip::V4), PORT);
        let mailbox = pair
            .far
            .enter(|| UdpSocket::bind(address))
            .expect("a socket");
        mailbox
            .set_nonblocking(true)
            .expect("a socket that does not wait");
        let (file, folder) = (BoardFile::new(), TempDir::new().expect("a folder"));
        let place = Place::netns(&pair.near).and_cgroup(&cgroup);
        let to = format!("{}:{}", address.0, address.1);
        let path = folder.path().to_str().expect("a path in UTF-8");
        let process = file.spawn(place, &["forks", "--to", &to, "--folder", path]);
        wait::until("the first child", || {
            let born = file.board().actors[MAIN].thread.load(Acquire);
            (born != 0).then_some(())
        });
        Self {
            file,
            process,
            mailbox,
            pair,
            cgroup,
            _folder: folder,
            _neighbour: neighbour,
        }
    }

    fn target(&self) -> String {
        format!("pid:{}", self.process.pid())
    }

    /// Lets every child that has stayed work, and counts.
    fn work(mut self) -> Seen {
        let board = self.file.board();
        board.round.store(1, Release);
        let status = self.process.wait();
        assert!(status.success(), "the family failed: {status}");
        let actor = &board.actors[MAIN];
        let children = actor.calls.load(Relaxed);
        assert_eq!(board.flow.sent.load(Relaxed), children);
        // What can arrive has arrived: a cable of this machine's.
        let mut packets = 0;
        while self.mailbox.recv(&mut [0; 16]).is_ok() {
            packets += 1;
        }
        assert!(self.cgroup.processes().is_empty(), "{:?}", self.pair);
        Seen {
            children,
            failed_calls: actor.failures.load(Relaxed),
            arrived: packets,
        }
    }
}

#[test]
fn a_family_without_a_fault() {
    let family = Family::start();
    thread::sleep(Duration::from_millis(300));
    let seen = family.work();
    assert!(seen.children > 5, "{seen:?}");
    assert_eq!((seen.failed_calls, seen.arrived), (0, seen.children));
}

#[test]
fn packets_of_children_forked_meanwhile() {
    require!(NetLoss);
    for _ in 0..2 {
        let family = Family::start();
        let target = family.target();
        let args = ["net-loss", "--target", &target, "--for", "60s"];
        let injection = Injection::start(&args);
        let seen = family.work();
        assert!(seen.children > 5, "{seen:?}");
        assert_eq!(seen.arrived, 0, "{seen:?}");
        assert_eq!(injection.stop().rule().injected, seen.children);
    }
}

#[test]
fn calls_of_children_forked_meanwhile() {
    require!(SysErrno);
    for _ in 0..2 {
        let family = Family::start();
        let target = family.target();
        let args = [
            "sys-errno",
            "--call",
            "mkdir",
            "--errno",
            "EIO",
            "--target",
            &target,
        ];
        let injection = Injection::start(&[&args[..], &["--for", "60s"]].concat());
        let seen = family.work();
        assert!(seen.children > 5, "{seen:?}");
        assert_eq!(seen.failed_calls, seen.children, "{seen:?}");
        assert_eq!(injection.stop().rule().injected, seen.children);
    }
}
