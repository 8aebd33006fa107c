//! The `tollgate` binary: parses its arguments and calls a verb.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate::cli::main()
}
