//! `secai-build`: words on the command line → the library → a result on standard output.

mod cmd;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cmd::run() {
        Ok(code) => code,
        Err(error) => cmd::report(&error),
    }
}
