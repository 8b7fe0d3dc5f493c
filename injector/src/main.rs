//! injector

fn main() {}
