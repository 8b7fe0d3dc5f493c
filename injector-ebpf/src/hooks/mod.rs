//! The programs, one module per family of hooks.

mod packet;
mod parity;
mod process;
mod security;
mod syscall;
