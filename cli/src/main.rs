//! The oneloop echo server and echo benchmark.

#![forbid(unsafe_code)]

mod address;
mod args;
mod bench;
mod echo;
mod guard;
mod units;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command};

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let result = match Arguments::parse().command {
        Command::Echo(arguments) => echo::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Guard(arguments) => return guard::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by eprintln, which panics if that fails.
            let _ = writeln!(io::stderr(), "oneloop: {error:#}");
            ExitCode::FAILURE
        }
    }
}
