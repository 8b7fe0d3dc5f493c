//! Where a CPU works on one packet.

use injector_common::{
    ends::Ends,
    faults::{
        net_corrupt::{Region, Sums},
        net_reset::StreamKey,
    },
    names::MAX_RULES,
    packet::Facts,
};

use crate::{
    answer::Draft,
    dns::{Asked, MAX_ASKED},
    faults::dns::Message,
    ledger::Told,
    maps::SPACE,
};

/// This CPU's space for the packet at hand, in a map and not on the stack: the
/// verifier walks what follows once for each value that it knows to be different,
/// and of what lies in a map it knows nothing.
///
/// No other packet comes between on the same CPU: the hooks run with bottom
/// halves disabled, and send nothing before they are done with it.
pub(crate) struct Workspace {
    pub(crate) facts: Facts,
    /// The socket that it arrives for.
    pub(crate) receiver: Receiver,
    /// What of it is to be damaged.
    pub(crate) region: Region,
    /// How many of its bytes are damaged.
    pub(crate) changes: u32,
    /// What that does to its checksum.
    pub(crate) sums: Sums,
    /// The answer to it.
    pub(crate) draft: Draft,
    /// Its TCP connection.
    pub(crate) stream: StreamKey,
    /// How many queries of DNS it brings; only known if some rule asks.
    pub(crate) asked_count: u32,
    /// These.
    pub(crate) asked: [Asked; MAX_ASKED],
    /// What answers them.
    pub(crate) message: Message,
    /// What is told of it to the ledger, by each rule.
    pub(crate) told: [Told; MAX_RULES as usize],
    /// Rules that hit it, and have not told the ledger yet.
    pub(crate) hit: u64,
    /// What the rule drew for it that answers it; before, what a rule that counts per flow drew.
    pub(crate) draw: u64,
    number: u64,
}

/// It was not looked for.
pub(crate) const UNKNOWN: u64 = 0;
/// There is none.
pub(crate) const NOBODY: u64 = 1;
/// There is one.
pub(crate) const SOCKET: u64 = 2;

/// What is known of a packet's receiver.
pub(crate) struct Receiver {
    pub(crate) ends: Ends,
    /// [`UNKNOWN`], [`NOBODY`] or [`SOCKET`].
    pub(crate) found: u64,
    /// The rules aimed at it.
    pub(crate) mask: u64,
    /// Room for `struct bpf_fib_lookup`, by which it is asked where a packet goes.
    pub(crate) route: [u32; ROUTE_WORDS],
}

/// Words of `struct bpf_fib_lookup` (`linux/bpf.h`, Linux 4.18).
pub(crate) const ROUTE_WORDS: usize = 16;

impl Workspace {
    /// This CPU's.
    #[inline(always)]
    pub(crate) fn get() -> Option<*mut Self> {
        SPACE.get_ptr_mut(0)
    }

    /// Notes for the ledger what number the packet has for a rule.
    #[inline(always)]
    pub(crate) fn note_number(&mut self, rule: u32, n: u64) {
        *self.told(rule) = Told { n, wait_ns: 0 };
    }

    /// Notes for the ledger how long the packet waits for a rule.
    #[inline(always)]
    pub(crate) fn note_wait(&mut self, rule: u32, wait_ns: u64) {
        self.told(rule).wait_ns = wait_ns;
    }

    /// What is told of it by a rule.
    #[inline(always)]
    pub(crate) fn told(&mut self, rule: u32) -> &mut Told {
        // Not compared with a bound: Linux 6.1 forgets it where the number was on the
        // stack meanwhile.
        &mut self.told[(rule % MAX_RULES) as usize]
    }

    /// The same number, of which the verifier knows nothing any more.
    #[inline(always)]
    pub(crate) fn forget(&mut self, number: u64) -> u64 {
        let place = &raw mut self.number;
        // SAFETY: an aligned u64 of a map value that belongs to this CPU.
        unsafe {
            place.write_volatile(number);
            place.read_volatile()
        }
    }
}
