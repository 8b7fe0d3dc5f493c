//! What plans and reports say of each kind, word by word.

use std::path::Path;

use super::*;
use crate::spec::{
    build::{Entropy, build},
    document,
};

/// What is said of a rule with these keys.
fn told(keys: &str) -> String {
    let text = format!("version: 1\nfor: 1s\nrules: [{{target: cgroup:/web, kind: {keys}}}]");
    let input = document::parse(Path::new("x.yaml"), text.as_bytes()).expect(keys);
    let experiment = build(input, Entropy { id: 1, seed: 1 }).expect(keys);
    explain(&experiment.rules[0].fault)
}

#[test]
fn kinds_in_words() {
    for (keys, words) in [
        ("net-loss", "loses packets that the target sends"),
        (
            "sys-errno, call: [dup, munmap], errno: plausible",
            "fails dup, munmap with one of the errors of its manual page, each as likely \
             (dup: EBADF, EMFILE; munmap: EINVAL, ENOMEM)",
        ),
        (
            "sys-return, call: [write, sendto], value: 100",
            "has write, sendto do nothing and return 100",
        ),
        (
            "user-return, function: malloc, file: /lib/libc.so.6, return: -0x1",
            "has malloc of /lib/libc.so.6 do nothing and return -1",
        ),
        ("cgroup-freeze", "freezes all processes of the target"),
        (
            "cpu-quota, cpus: 0.5",
            "gives all threads of the target together 50ms of processor time in each 100ms",
        ),
        (
            "memory-limit, bytes: 64mib, soft: true",
            "slows the target down while it has more than 64mb of memory",
        ),
        (
            "pids-limit, max: 0",
            "lets the target have 0 processes and threads, and refuses it more with EAGAIN",
        ),
        (
            "io-limit, device: '8:0', read-bps: 1mib, write-iops: 10",
            "lets the target read 1mb per second, write 10 times per second of 8:0",
        ),
        (
            "proc-signal, signal: HUP, every: 1s",
            "sends SIGHUP to the target's processes, every 1s",
        ),
        (
            "cpu-stress, workers: 2, load: 50",
            "starts 2 processes beside the target's, each busy for 50 % of the time",
        ),
        (
            "memory-pressure, bytes: 64mib",
            "holds 64mb of memory beside the target's processes",
        ),
        ("proc-kill", "kills the target's processes, once"),
        (
            "net-loss, burst: '1,25', unit: segment",
            "loses packets (super-packets split) that the target sends, in bursts: 1 % of them begin one and 25 % end it, and 3.85 % are lost on average",
        ),
        (
            "net-loss, burst: '0.1,33.3,90,0.5'",
            "loses packets that the target sends, in bursts: 0.1 % of them begin one and 33.3 % end it, and 0.77 % are lost on average",
        ),
        (
            "net-loss, markov: '1,20,5,60,0.5', proto: udp, direction: both",
            "loses UDP packets that the target sends or receives, by a chain of four states: p13 1 %, p31 20 %, p32 5 %, p23 60 %, p14 0.5 %",
        ),
        (
            "net-loss, visibility: local, local-port: '!22'",
            "loses packets that the target sends on any of its ports but 22; the sender's stack is told",
        ),
        (
            "net-loss, visibility: errno=EPERM, peer-port: '!22'",
            "loses packets that the target sends to any port but 22 of a peer; the calls that send them fail with EPERM",
        ),
        (
            "net-rate, rate: 10mbit",
            "sends packets that the target sends over a link of 10mbit, with a queue of 200ms, holding up to 256mb",
        ),
        (
            "net-rate, rate: 1mbit, burst: 32kb, overhead: 24, queue: 1s, queue-memory: 64mb, per: flow, direction: ingress",
            "sends packets that the target receives over a link of 1mbit for each flow, 32768 bytes at once after a pause, each 24 bytes longer than it is, with a queue of 1s, holding up to 64mb",
        ),
        (
            "net-rate, rate: 8kbit, overhead: -14",
            "sends packets that the target sends over a link of 8kbit, each 14 bytes shorter than it is, with a queue of 200ms, holding up to 256mb",
        ),
        (
            "sys-errno, call: [read, '?%ipc', '!semop'], errno: [EIO=3, '28']",
            "fails read and what can be hit here of msgctl, msgget, msgrcv, msgsnd, semctl, semget, semtimedop, shmat, shmctl, shmdt, shmget with EIO (3 of 4) or ENOSPC (1 of 4)",
        ),
        (
            "sys-errno, call: '?brk', errno: 'ENOMEM,EAGAIN'",
            "fails what can be hit here of brk with ENOMEM or EAGAIN",
        ),
        (
            "net-reorder, delay: 10ms, percent: 25",
            "lets packets that the target sends overtake what was sent in the last 10ms, holding up to 256mb",
        ),
        (
            "net-reorder, delay: 10ms, gap: 5, queue-memory: 1kb",
            "lets packets that the target sends overtake what was sent in the last 10ms, one in 5 at most, holding up to 1kb",
        ),
        ("net-duplicate", "doubles packets that the target sends"),
        (
            "net-duplicate, copies: 3, proto: icmp",
            "adds 3 copies to ICMP packets that the target sends",
        ),
        (
            "net-partition, peer: [10.1.0.0/16, '!10.1.0.10']",
            "loses all packets that the target sends or receives to or from 10.1.0.0/16 but not 10.1.0.10/32",
        ),
        (
            "net-partition, peer-target: 'cgroup:/db', direction: '!ingress'",
            "loses all packets that the target sends to cgroup:/db",
        ),
        (
            "net-reject",
            "rejects packets that the target sends by TCP resets, and what is not TCP by ICMP \"port unreachable\"",
        ),
        (
            "net-reject, proto: tcp, peer-port: 5432",
            "rejects TCP packets that the target sends to port 5432 of a peer by TCP resets",
        ),
        (
            "net-reject, with: rst",
            "rejects packets that the target sends by TCP resets, and leaves all but TCP alone",
        ),
        (
            "net-reject, with: icmp, code: host-prohibited",
            "rejects packets that the target sends by ICMP \"host prohibited\"",
        ),
        (
            "net-reject, proto: udp, code: proto, direction: ingress",
            "rejects UDP packets that the target receives by ICMP \"protocol unreachable\"",
        ),
        (
            "net-reset",
            "resets connections by TCP packets that the target sends, for both ends",
        ),
        (
            "net-reset, end: local, after-bytes: 1000",
            "resets connections by TCP packets that the target sends, for the target alone, once they have carried 1000 bytes",
        ),
        (
            "net-reset, end: peer, after: 90s",
            "resets connections by TCP packets that the target sends, for the peer alone, once they have lasted 90s",
        ),
        ("net-refuse", "fails connect with ECONNREFUSED"),
        (
            "net-refuse, errno: ETIMEDOUT, proto: tcp, peer: 10.0.0.0/8, peer-port: '!22'",
            "fails connect of TCP sockets to 10.0.0.0/8, any port but 22 with ETIMEDOUT",
        ),
        (
            "net-corrupt, bits: 2, checksum: broken",
            "flips 2 bits in packets that the target sends, with a broken checksum, so that the receiver's stack drops them",
        ),
    ] {
        assert_eq!(told(keys), words, "{keys}");
    }
}
