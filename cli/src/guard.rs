//! `oneloop __ends-with-parent COMMAND...`: a command that the kernel kills when its parent ends.
//!
//! A server that was started for a measurement must not outlive it, not even when the measurement is
//! killed and can do nothing more. The kernel sees to it: PR_SET_PDEATHSIG of prctl(2). A process can ask
//! for it only for itself, and keeps it over execve(2). So this program asks, and then becomes the
//! command.
//!
//! What the command starts in turn does not inherit it. And the parent that counts is the thread that
//! started this process: so servers are started by the main thread.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::args::GuardArguments;

/// How the subcommand is called.
pub(crate) const NAME: &str = "__ends-with-parent";

/// Begins the line on standard output that says why the command cannot be run. It is there and not on
/// standard error because the parent reads it, and tells.
const REFUSAL: &str = "oneloop cannot run ";

/// What to write before a command so that it ends with the process that starts it.
///
/// # Errors
///
/// The system does not tell where this program is.
pub(crate) fn prefix() -> Result<[String; 2]> {
    Ok([own_program()?, NAME.into()])
}

/// The path of this program.
///
/// # Errors
///
/// The system does not tell, or it cannot stand between other words.
pub(crate) fn own_program() -> Result<String> {
    let program = std::env::current_exe().context("where is this program?")?;
    Ok(program.to_str().context("the path of this program is not UTF-8")?.into())
}

/// Why the command could not be run, if that is what a line says.
pub(crate) fn parse_refusal(line: &str) -> Option<&str> {
    line.strip_prefix(REFUSAL).map(str::trim_end)
}

/// Becomes the command; returns only if that is not possible.
pub(crate) fn run(arguments: &GuardArguments) -> ExitCode {
    let error = become_command(&arguments.command);
    // Who does not read it any more need not know.
    let _ = writeln!(io::stdout(), "{REFUSAL}{error}");
    ExitCode::FAILURE
}

fn become_command(command: &[OsString]) -> String {
    let Some((program, arguments)) = command.split_first() else { return "nothing".into() };
    let error = match end_with_parent() {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    };
    format!("{}: {error}", program.display())
}

fn end_with_parent() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before. Then the other end of standard input, which is its alone, is closed:
    // the kernel closes a process's files before it tells of its end.
    let mut stdin = [PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::empty())];
    poll(&mut stdin, Some(&Timespec::default()))?;
    match stdin[0].revents().contains(PollFlags::HUP) {
        true => Err(io::Error::other("whoever started it is gone")),
        false => Ok(()),
    }
}
