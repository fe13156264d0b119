//! The command `rexd`.

use std::process::ExitCode;

/// glibc keeps what a thousand stalled streams gave back: hyper's read buffers stay in its arenas, and with musl, static
/// images would be slow. This one returns them to the system.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    rexd::cli::main()
}
