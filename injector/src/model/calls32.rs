//! The calls of 32-bit callers that do what one of this architecture does.

use std::{collections::BTreeMap, iter, sync::LazyLock};

use injector_common::{
    calls32::{SOCKETCALL, by_socketcall, known_as},
    names::MAX_CALLS,
};
use syscalls::{Sysno, x86};

use super::Syscall;

impl Syscall {
    /// What programs know it by: its number, and what its twins of 32-bit callers are known by
    /// ([`injector_common::calls32`]).
    pub fn known_as(self) -> impl Iterator<Item = u32> {
        let twins = TWINS.get(self.name).map_or(&[][..], Vec::as_slice);
        iter::once(self.number).chain(twins.iter().copied())
    }

    /// What i386 calls its twins; those that `socketcall` makes enter by that.
    pub fn twins(self) -> impl Iterator<Item = &'static str> {
        self.known_as().skip(1).map(|known| {
            let direct = (known < by_socketcall(0)).then(|| i386(known - MAX_CALLS));
            direct.flatten().unwrap_or("socketcall")
        })
    }
}

/// What the twins of each call are known by.
static TWINS: LazyLock<BTreeMap<&'static str, Vec<u32>>> = LazyLock::new(|| {
    let mut twins: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for (number, name) in (0..MAX_CALLS).filter_map(|number| Some((number, i386(number)?))) {
        if let Some(call) = does(name).filter(|_| !IN_MEMORY.contains(&number)) {
            twins.entry(call).or_default().push(known_as(number));
        }
    }
    for (call, name) in (1..).zip(SOCKET_CALLS) {
        twins.entry(name).or_default().push(by_socketcall(call));
    }
    twins
});

/// Calls that find their arguments in memory: `select` and `mmap` as they were before Linux 2.0, and
/// `ipc`, which stands for many. Conditions on arguments would look in the wrong place.
const IN_MEMORY: [u32; 3] = [82, 90, 117];

/// What `socketcall` makes, by its first argument from 1 on (`include/uapi/linux/net.h`).
const SOCKET_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    // `send` and `recv`.
    "sendto",
    "recvfrom",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

fn i386(number: u32) -> Option<&'static str> {
    let call = x86::Sysno::new(usize::try_from(number).ok()?)?;
    (number != SOCKETCALL).then(|| call.name())
}

/// Which call of this architecture does what one of i386 does, by its name.
fn does(name: &'static str) -> Option<&'static str> {
    let by_name = |name: &str| name.parse::<Sysno>().ok().map(|call| call.name());
    let other = match name {
        "_llseek" => "lseek",
        "_newselect" => "select",
        "fadvise64_64" => "fadvise64",
        "fstatat64" => "newfstatat",
        "mmap2" => "mmap",
        "oldfstat" => "fstat",
        "oldlstat" => "lstat",
        "oldolduname" | "olduname" => "uname",
        "oldstat" => "stat",
        "ugetrlimit" => "getrlimit",
        "umount" => "umount2",
        "waitpid" => "wait4",
        // Others are named after the size of what they take, where that has grown.
        _ => {
            let suffixes = ["", "_time64", "64", "32"].iter();
            return suffixes
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find_map(by_name);
        }
    };
    by_name(other)
}

#[cfg(test)]
mod tests {
    use injector_common::socket_calls;

    use super::*;

    fn twins(name: &str) -> Vec<u32> {
        let call: Syscall = name.parse().expect(name);
        let mut known = call.known_as();
        assert_eq!(known.next(), Some(call.number));
        known.collect()
    }

    /// By syscall_32.tbl.
    #[test]
    fn calls_have_their_twins() {
        for (name, numbers) in [
            ("read", &[3][..]),
            ("openat", &[295]),
            ("openat2", &[437]),
            ("mmap", &[192]),
            ("lseek", &[19, 140]),
            ("stat", &[18, 106, 195]),
            ("fcntl", &[55, 221]),
            ("setuid", &[23, 213]),
            ("pread64", &[180]),
            ("getdents64", &[220]),
            ("futex", &[240, 422]),
            ("select", &[142]),
            ("clock_gettime", &[265, 403]),
            ("umount2", &[22, 52]),
            // There is none.
            ("accept", &[]),
            ("semop", &[]),
            ("arch_prctl", &[384]),
        ] {
            let alone = twins(name).into_iter();
            let alone: Vec<u32> = alone
                .filter(|&call| call < by_socketcall(0))
                .map(|call| call - known_as(0))
                .collect();
            assert_eq!(alone, numbers, "{name}");
        }
    }

    #[test]
    fn calls_of_socketcall_are_twins_too() {
        assert_eq!(twins("connect"), [known_as(362), by_socketcall(3)]);
        assert_eq!(twins("accept"), [by_socketcall(5)]);
        let sendto = [known_as(369), by_socketcall(9), by_socketcall(11)];
        assert_eq!(twins("sendto"), sendto);
    }

    /// Or it would be hit as two.
    #[test]
    fn no_call_is_the_twin_of_two() {
        let mut all: Vec<u32> = TWINS.values().flatten().copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(count > 380, "{count}");
    }

    /// The programs go by numbers.
    #[test]
    fn programs_look_where_twins_name_sockets_and_peers() {
        for number in 0..MAX_CALLS {
            let name = Sysno::new(number as usize).map_or("", |call| call.name());
            for twin in TWINS.get(name).into_iter().flatten().copied() {
                let told = |call| {
                    (
                        socket_calls::makes_socket(call),
                        socket_calls::address_argument(call),
                        socket_calls::has_header(call),
                    )
                };
                let mut expected = told(number);
                if twin == by_socketcall(9) {
                    // `send` names nobody.
                    expected.1 = 0;
                }
                assert_eq!(told(twin), expected, "{name}: {twin}");
            }
        }
    }
}
