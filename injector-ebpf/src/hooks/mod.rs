//! The programs, one module per family of hooks.

mod packet;
mod process;
mod security;
mod syscall;
