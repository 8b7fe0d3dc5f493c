//! The shipped binary, given what it must refuse: exit code, the field's name
//! and what is allowed, on stderr, and nothing on stdout.
//!
//! Nothing here needs the BPF programs: every command line is answered before
//! anything would be changed.

mod files;
mod hosts;
mod options;
mod output;
mod plans;
mod support;
mod targets;
