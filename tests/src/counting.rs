//! Programs of somebody else's at an interface, as those of a container network are: they count
//! what passes them.

use std::{
    borrow::Cow,
    ffi::c_long,
    fs,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::Context as _;
use aya::programs::{
    LinkOrder, SchedClassifier, TcAttachType, loaded_programs,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions},
};

use crate::{bare, netns::Netns};

/// `BPF_MAP_CREATE`
const MAP_CREATE: c_long = 0;
/// `BPF_MAP_LOOKUP_ELEM`
const MAP_LOOKUP: c_long = 1;
/// `BPF_MAP_TYPE_ARRAY`
const TYPE_ARRAY: u32 = 2;
/// `BPF_PROG_TYPE_SCHED_CLS`
const TYPE_CLASSIFIER: u32 = 3;

/// What a program says of each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// The next program is asked (`TCX_NEXT`, `TC_ACT_UNSPEC`).
    Next,
    /// The packet goes on, and no other program is asked (`TCX_PASS`, `TC_ACT_OK`).
    Pass,
}

/// A side of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where packets arrive.
    Ingress,
    /// Where they leave.
    Egress,
}

impl Side {
    const fn attach_type(self) -> TcAttachType {
        match self {
            Self::Ingress => TcAttachType::Ingress,
            Self::Egress => TcAttachType::Egress,
        }
    }
}

/// Where among the programs of an interface one is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Before all that are there.
    First,
    /// Behind them.
    Last,
}

/// The head of `union bpf_attr` for `BPF_MAP_CREATE`; the rest is zero.
#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    rest: [u64; 8],
}

/// The same for `BPF_MAP_LOOKUP_ELEM`.
#[repr(C)]
#[derive(Default)]
struct MapLookup {
    map_fd: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A program at one side of an interface, with its count.
#[derive(Debug)]
pub struct Counting {
    count: OwnedFd,
    id: u32,
    _program: OwnedFd,
    _link: Option<SchedClassifierLink>,
}

impl Counting {
    /// Attaches one by a TCX link, which goes with this value.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn at(
        netns: &Netns,
        link: &str,
        side: Side,
        order: Order,
        says: Says,
    ) -> anyhow::Result<Self> {
        let order = match order {
            Order::First => LinkOrder::first(),
            Order::Last => LinkOrder::last(),
        };
        let options = TcAttachOptions::TcxOrder(order);
        Self::attach(netns, link, side, options, says).map(|(counting, link)| Self {
            _link: Some(link),
            ..counting
        })
    }

    /// Attaches one as a filter of this priority, which stays until it is removed. The interface
    /// has a clsact qdisc.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn filter(
        netns: &Netns,
        link: &str,
        side: Side,
        priority: u16,
        says: Says,
    ) -> anyhow::Result<Self> {
        let options = TcAttachOptions::Netlink(NlOptions {
            priority,
            ..NlOptions::default()
        });
        let (counting, link) = Self::attach(netns, link, side, options, says)?;
        // Its end would look for the filter in the namespace of whoever drops it.
        std::mem::forget(link);
        Ok(counting)
    }

    fn attach(
        netns: &Netns,
        link: &str,
        side: Side,
        options: TcAttachOptions,
        says: Says,
    ) -> anyhow::Result<(Self, SchedClassifierLink)> {
        let count = make_count()?;
        let program = bare::load_program(&instructions(&count, says), TYPE_CLASSIFIER, 0, 0)?;
        let id = id(&program)?;
        let info = loaded_programs().find(|info| info.as_ref().is_ok_and(|info| info.id() == id));
        let info = info.context("the program that was just loaded")??;
        let mut classifier = SchedClassifier::from_program_info(info, Cow::Borrowed("counting"))?;
        let link = netns.enter(|| {
            let link = classifier.attach_with_options(link, side.attach_type(), options)?;
            classifier.take_link(link)
        })?;
        let counting = Self {
            count,
            id,
            _program: program,
            _link: None,
        };
        Ok((counting, link))
    }

    /// How many packets it has seen.
    ///
    /// # Panics
    ///
    /// When the kernel does not tell.
    #[must_use]
    #[track_caller]
    pub fn seen(&self) -> u64 {
        let (key, mut value) = (0u32, 0u64);
        let attribute = MapLookup {
            map_fd: self.count.as_raw_fd().cast_unsigned(),
            key: &raw const key as u64,
            value: &raw mut value as u64,
            ..MapLookup::default()
        };
        // SAFETY: the structure begins as the kernel expects it, and key and value have the
        // sizes that the map was made with.
        unsafe { bare::call(MAP_LOOKUP, &attribute) }.expect("read a count");
        value
    }

    /// The program's id.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }
}

/// Ids of the programs with TCX links at one side of an interface, in the order in which they are
/// asked.
///
/// # Panics
///
/// When the kernel does not tell.
#[must_use]
#[track_caller]
pub fn programs_at(netns: &Netns, link: &str, side: Side) -> Vec<u32> {
    let found = netns.enter(|| SchedClassifier::query_tcx(link, side.attach_type()));
    let (_, programs) = found.expect("the programs of an interface");
    programs
        .iter()
        .map(aya::programs::ProgramInfo::id)
        .collect()
}

/// A map with room for one number.
fn make_count() -> anyhow::Result<OwnedFd> {
    let attribute = MapCreate {
        map_type: TYPE_ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        ..MapCreate::default()
    };
    // SAFETY: the structure begins as the kernel expects it.
    unsafe { bare::bpf(MAP_CREATE, &attribute) }.context("cannot make a map of the test's own")
}

/// `*count += 1` at once, and the verdict.
fn instructions(count: &OwnedFd, says: Says) -> [u64; 6] {
    let count = u64::from(count.as_raw_fd().cast_unsigned());
    let verdict: i32 = match says {
        Says::Next => -1,
        Says::Pass => 0,
    };
    [
        // r1 = the map's value, by its descriptor
        0x0000_0000_0000_2118 | count << 32,
        0,
        // r2 = 1
        0x0000_0001_0000_02b7,
        // lock *(u64 *)r1 += r2
        0x0000_0000_0000_21db,
        // r0 = verdict
        0x0000_0000_0000_00b7 | u64::from(verdict.cast_unsigned()) << 32,
        // exit
        0x0000_0000_0000_0095,
    ]
}

/// The id of a loaded program.
fn id(program: &OwnedFd) -> anyhow::Result<u32> {
    let path = format!("/proc/self/fdinfo/{}", program.as_raw_fd());
    let info = fs::read_to_string(path)?;
    let id = info.lines().find_map(|line| line.strip_prefix("prog_id:"));
    Ok(id.context("no id of a program")?.trim().parse()?)
}
