//! The command line of `rexd`.
fn main() {}
