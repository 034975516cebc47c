//! Tests that are made to fail run in a process of their own, so that one can read what they print.

#![allow(dead_code, reason = "every test file uses a part of it")]

use std::process::Command;

#[path = "../support/apart.rs"]
mod apart;
#[path = "../support/test_name.rs"]
mod test_name;

use apart::apart;
use test_name::full_name_of;

/// Runs a test that fails, in a process of its own, with these variables; gives all it printed.
pub(crate) fn failing(name: &str, variables: &[(&str, &str)]) -> String {
    let (is_ok, text) = run(name, variables);
    assert!(!is_ok, "{name} did not fail:\n{text}");
    text
}

pub(crate) fn run(name: &str, variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("ONELOOP_SIM_") {
            command.env_remove(variable);
        }
    }
    let output = command
        .args(["--exact", &full_name_of(name), "--include-ignored", "--nocapture"])
        .env("RUST_BACKTRACE", "0")
        .env("CARGO_PKG_NAME", "a-crate-that-uses-it")
        .env("CARGO_MANIFEST_DIR", "/somewhere/else")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stderr) + &text(&output.stdout))
}

/// What stands between the two.
pub(crate) fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let rest = text.split_once(start).unwrap_or_else(|| panic!("no {start:?}:\n{text}")).1;
    rest.split_once(end).unwrap_or_else(|| panic!("no {end:?}:\n{text}")).0
}

/// The variables of the command that is printed.
pub(crate) fn command(text: &str) -> Vec<(&str, &str)> {
    let line = between(text, "run it again", " cargo test");
    let (_, command) = line.split_once("\n  ").expect("a line of its own");
    command.split(' ').filter_map(|word| word.split_once('=')).collect()
}
