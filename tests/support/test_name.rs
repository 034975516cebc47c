//! The name of a test as its program knows it.

use std::process::Command;
use std::thread;

use super::apart;

/// Of this program's tests the one of that name, with the modules that it is in. If there are several, the one in the
/// module of the test that asks.
///
/// # Panics
///
/// If there is none, or the test that asks is none of several.
pub(crate) fn full_name_of(name: &str) -> String {
    let mut list = Command::new(std::env::current_exe().unwrap());
    let list = apart(|| list.arg("--list").output()).unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
    let mut found: Vec<&str> =
        tests.filter(|test| test.rsplit("::").next() == Some(name)).collect();
    if found.len() > 1 {
        let this = thread::current();
        let modules = |test: &str| test.rsplit_once("::").map(|(modules, _)| modules.to_owned());
        found.retain(|test| modules(test) == this.name().and_then(modules));
    }
    assert_eq!(found.len(), 1, "tests called {name}: {found:?}");
    found[0].to_owned()
}
