//! `oneloop __ends-with-parent`, by which `oneloop bench` starts every server.

mod support;

use std::process::{Child, Command, Stdio};

use support::process::{Process, kill};
use support::{ONELOOP, eventually};

/// A shell that stands for the bench: its standard input is that of all it starts.
fn shell(script: &str) -> Child {
    let script = format!("{script}; true"); // so that it does not become the command
    let mut command = Command::new("sh");
    command.args(["-c", &script, ONELOOP]).stdin(Stdio::piped()).spawn().unwrap()
}

fn descendant(pid: u32, name: &str) -> Option<Process> {
    let children = Process::children_of(pid);
    let found = children.iter().find(|child| child.name == name).cloned();
    found.or_else(|| children.iter().find_map(|child| descendant(child.pid.unsigned_abs(), name)))
}

fn assert_ends_with_the_shell(script: &str, name: &str) {
    let mut shell = shell(script);
    let process = eventually("the command runs", || descendant(shell.id(), name));
    kill(shell.id());
    eventually("the command ends", || process.is_gone().then_some(()));
    shell.wait().unwrap();
}

#[test]
fn a_command_ends_with_its_parent() {
    assert_ends_with_the_shell("\"$0\" __ends-with-parent sleep 100", "sleep");
}

#[test]
fn a_command_under_a_tool_ends_with_the_parent_of_the_tool() {
    let tool = "\"$0\" __ends-with-parent strace -f -c -o /dev/null";
    assert_ends_with_the_shell(&format!("{tool} \"$0\" __ends-with-parent sleep 100"), "sleep");
}

#[test]
fn a_command_whose_parent_is_gone_already_does_not_run() {
    // Again if a process that another test is just starting has the other end of the pipe, too.
    eventually("it does not run", || {
        let (stdin, ours) = std::io::pipe().unwrap();
        drop(ours);
        let words = ["__ends-with-parent", "echo", "it runs"];
        let output = Command::new(ONELOOP).args(words).stdin(stdin).output().unwrap();
        let says = String::from_utf8_lossy(&output.stdout);
        (!output.status.success() && says.contains("is gone")).then_some(())
    });
}

#[test]
fn a_command_has_its_arguments_as_they_are() {
    let words = ["__ends-with-parent", "printf", "%s,", "--help", "-x", "--", "a b"];
    let output = Command::new(ONELOOP).args(words).stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "--help,-x,--,a b,");
}

#[test]
fn the_help_does_not_speak_of_it() {
    let output = Command::new(ONELOOP).arg("--help").output().unwrap();
    assert!(!String::from_utf8_lossy(&output.stdout).contains("__"), "{output:?}");
}
