//! The command `rexd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    rexd::cli::main()
}
