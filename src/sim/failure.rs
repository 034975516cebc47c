//! Why a run failed, and whether two runs failed for the same reason.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use super::world::Simulation;

/// Why a run failed.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    message: String,
    /// The line that the message is about: a step of a script, or else the one that panicked.
    place: String,
    /// The line of the test that was run then, if that is another one.
    run_at: Option<String>,
}

/// Runs a test, and tells why it failed, with its panic, if it did.
pub(super) fn caught(
    sim: &mut Simulation,
    test: &impl Fn(&mut Simulation),
) -> Result<(), (Box<dyn Any + Send>, Failure)> {
    install_hook();
    let result = catch_unwind(AssertUnwindSafe(|| test(sim)));
    result.map_err(|panic| {
        let failure = Failure::of(&*panic, Some(sim));
        (panic, failure)
    })
}

/// The same for what needs no simulation.
pub(super) fn caught_alone(run: impl FnOnce()) -> Result<(), (Box<dyn Any + Send>, Failure)> {
    install_hook();
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let failure = Failure::of(&*panic, None);
        (panic, failure)
    })
}

/// Does something without the messages that panics print.
pub(super) fn quietly<T>(run: impl FnOnce() -> T) -> T {
    let before = IS_QUIET.replace(true);
    let result = run();
    IS_QUIET.set(before);
    result
}

/// Whether nobody reads what a failure prints.
pub(super) fn is_quiet() -> bool {
    IS_QUIET.get()
}

/// The same without the message that a panic prints: a failing run is run again many times.
pub(super) fn quiet(sim: &mut Simulation, test: &impl Fn(&mut Simulation)) -> Option<Failure> {
    quietly(|| caught(sim, test)).err().map(|(_, failure)| failure)
}

impl Failure {
    fn of(panic: &(dyn Any + Send), sim: Option<&Simulation>) -> Failure {
        let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_string(),
            (_, Some(text)) => text.clone(),
            _ => "a panic without a message".to_string(),
        };
        let place = PLACE.with_borrow(String::clone);
        let place = sim.and_then(Simulation::failed_step).unwrap_or(place);
        let run_at = sim.and_then(Simulation::run_at);
        let run_at = run_at.filter(|run_at| !run_at.ends_with(&format!(" {place}")));
        Failure { message, place, run_at }
    }

    /// Whether it is the same failure, be it with other values.
    pub(super) fn is_same_as(&self, other: &Failure) -> bool {
        self.place == other.place && without_values(&self.message) == without_values(&other.message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        // The message of a script's step ends with its place.
        let is_told = self.message.ends_with(&self.place);
        if !is_told {
            write!(f, "\n  at {}", self.place)?;
        }
        self.run_at.as_ref().map_or(Ok(()), |run_at| write!(f, "\n  in {run_at}"))
    }
}

/// A message without the numbers and the texts that are another run's.
fn without_values(message: &str) -> String {
    let mut text = String::new();
    let mut letters = message.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                text.push_str("\"..\"");
                while let Some(letter) = letters.next()
                    && letter != '"'
                {
                    if letter == '\\' {
                        letters.next();
                    }
                }
            }
            '0'..='9' if text.ends_with('N') => {}
            '0'..='9' => text.push('N'),
            _ => text.push(letter),
        }
    }
    // Bytes that are printed as a list are more or fewer.
    while text.contains("N, N") {
        text = text.replace("N, N", "N");
    }
    text
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where this thread panicked last.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has panics remembered, and not printed where they are not wanted.
fn install_hook() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if let Some(place) = info.location() {
                PLACE.replace(format!("{}:{}", place.file(), place.line()));
            }
            if !IS_QUIET.get() {
                loud(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_the_same_with_other_values_and_another_one_elsewhere() {
        let failure = |message: &str, place: &str| Failure {
            message: message.to_string(),
            place: place.to_string(),
            run_at: None,
        };
        let first = failure(r#"client 0: expected "a\"" and received "b""#, "a.rs:1");
        let is_same = |message, place| failure(message, place).is_same_as(&first);
        assert!(is_same(r#"client 12: expected "" and received "other \" one""#, "a.rs:1"));
        assert!(!is_same(r#"client 0: expected "a" and received "b", and the end"#, "a.rs:1"));
        assert!(!is_same(r#"client 0: expected "a\"" and received "b""#, "a.rs:2"));
        let lists = ["left: [1, 22, 3, 4], right: [5]", "left: [1], right: [2, 30]"];
        assert!(failure(lists[0], "").is_same_as(&failure(lists[1], "")));
    }
}
