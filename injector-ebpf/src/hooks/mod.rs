//! The programs, one module per family of hooks.

mod connect;
mod packet;
mod parity;
mod passing;
mod process;
mod security;
mod syscall;
