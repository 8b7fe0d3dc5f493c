//! The programs, one module per family of hooks.

mod answering;
mod connect;
mod function;
mod hop;
mod modify_return;
mod packet;
mod parity;
mod passing;
mod process;
mod security;
mod send;
mod sleeping;
mod syscall;
