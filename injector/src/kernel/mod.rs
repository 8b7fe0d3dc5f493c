//! The kernel boundary: the only module that knows aya, and the only one that
//! changes the kernel's state.

mod actuator;
mod btf;
mod cgroup;
pub mod clock;
mod counters;
pub mod features;
mod journal;
mod leftovers;
mod links;
mod log;
mod netlink;
mod netns;
mod object;
mod queue;
mod sockets;
mod wire;

pub use actuator::KernelActuator;
pub use leftovers::{StopReport, stop_all};
pub use object::Programs;
