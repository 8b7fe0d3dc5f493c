//! The kernel boundary: the only module that knows aya, and the only one that
//! changes the kernel's state.

mod actuator;
mod btf;
mod cgroup;
mod chain;
pub mod clock;
mod clsact;
mod control_file;
mod counters;
mod delay_tables;
pub mod features;
mod files;
pub mod guardian;
mod hits;
mod journal;
mod leftovers;
mod links;
mod log;
mod missed;
mod modify_return;
mod needs;
mod netlink;
mod netns;
mod object;
mod owner;
mod parts;
mod processes;
mod queue;
mod seen;
mod sites;
mod sockets;
mod symbols;
mod tc;
pub mod timens;
pub mod waker;
mod wire;
mod words;

pub use actuator::{KernelActuator, Undelivered, check_room};
pub use hits::Hits;
pub use leftovers::{StopReport, stop_all};
pub use needs::Needs;
pub use object::Programs;
