//! What a scripted client does.

use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::Time;

/// What a client does, in order. It reads all the while, unless it is told not to.
///
/// ```
/// use std::time::Duration;
/// use oneloop::sim::Script;
///
/// let script = Script::new()
///     .send("GET a\n")
///     .expect("VALUE 1\n")
///     .wait(Duration::from_secs(60))
///     .shutdown()
///     .expect_end();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Script {
    pub(super) steps: VecDeque<(Step, Place)>,
    pub(super) may_end: bool,
    /// What is said after which nothing can be sent any more, if it was.
    end_of_output: Option<&'static str>,
}

/// The line of the test that wrote a step.
pub(super) type Place = &'static Location<'static>;

#[derive(Clone, Debug)]
pub(super) enum Step {
    Send(Vec<u8>, usize),
    Expect(Vec<u8>),
    ExpectBytes(usize),
    Respond(Look),
    ExpectEnd,
    Wait(Duration),
    Until(Time),
    Read(Pace),
    Shutdown,
    Close,
    Reset,
    Vanish,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Pace {
    AtOnce,
    /// So many bytes, then so long nothing.
    Slowly(usize, Duration),
    Not,
}

/// A test's own code, which is shown what was received: how many of these bytes it takes, and what is to
/// be sent then; `None` as long as they are too few.
type OwnCode = dyn Fn(&[u8]) -> Option<(usize, Vec<u8>)>;

#[derive(Clone)]
pub(super) struct Look(pub(super) Rc<OwnCode>);

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look(..)")
    }
}

impl Script {
    /// Does nothing, and stays: it keeps its connection open and reads.
    pub fn new() -> Script {
        Script::default()
    }

    #[track_caller]
    fn assert_can_send(&self) {
        if let Some(step) = self.end_of_output {
            panic!("nothing can be sent after `{step}`");
        }
    }

    #[track_caller]
    fn with(mut self, step: Step) -> Script {
        self.steps.push_back((step, Location::caller()));
        self
    }

    /// Sends these bytes, as fast as they are taken.
    ///
    /// # Panics
    ///
    /// If a step before has sent the end of file, or closed.
    #[must_use]
    #[track_caller]
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Script {
        self.assert_can_send();
        self.with(Step::Send(bytes.as_ref().to_vec(), 0))
    }

    /// Waits for these bytes, which have to be the next ones. Others fail the simulation.
    #[must_use]
    #[track_caller]
    pub fn expect(self, bytes: impl AsRef<[u8]>) -> Script {
        self.with(Step::Expect(bytes.as_ref().to_vec()))
    }

    /// Waits for that many bytes, whatever they are.
    #[must_use]
    #[track_caller]
    pub fn expect_bytes(self, count: usize) -> Script {
        self.with(Step::ExpectBytes(count))
    }

    /// Waits for bytes that `look` takes, where it is not known before which these are. It is shown all that
    /// was received and that no step before took, whenever there may be something new, perhaps the same again, and gives
    /// how many of them it takes, or `None` as long as they are too few. What must not be is for it to
    /// assert.
    ///
    /// ```
    /// use oneloop::sim::Script;
    ///
    /// // One line, which is a number.
    /// let script = Script::new().send("time\n").expect_with(|bytes| {
    ///     let end = bytes.iter().position(|byte| *byte == b'\n')?;
    ///     assert!(bytes[..end].iter().all(u8::is_ascii_digit), "{}", bytes.escape_ascii());
    ///     Some(end + 1)
    /// });
    /// ```
    #[must_use]
    #[track_caller]
    pub fn expect_with(self, look: impl Fn(&[u8]) -> Option<usize> + 'static) -> Script {
        self.with(Step::Respond(Look(Rc::new(move |bytes| Some((look(bytes)?, Vec::new()))))))
    }

    /// The same, and sends what follows from them: a token that the server gave, an answer to its
    /// challenge. `answer` gives how many bytes it takes, and what is to be sent. For a client that
    /// reacts to more than a script can list, take a handler.
    ///
    /// # Panics
    ///
    /// If a step before has sent the end of file, or closed.
    ///
    /// ```
    /// use oneloop::sim::Script;
    ///
    /// let script = Script::new().respond(|bytes| {
    ///     let end = bytes.iter().position(|byte| *byte == b'\n')?;
    ///     Some((end + 1, [b"PONG ", &bytes[..=end]].concat()))
    /// });
    /// ```
    #[must_use]
    #[track_caller]
    pub fn respond(self, answer: impl Fn(&[u8]) -> Option<(usize, Vec<u8>)> + 'static) -> Script {
        self.assert_can_send();
        self.with(Step::Respond(Look(Rc::new(answer))))
    }

    /// Waits for the server's end of file, with nothing before it that was not expected.
    #[must_use]
    #[track_caller]
    pub fn expect_end(self) -> Script {
        self.with(Step::ExpectEnd)
    }

    /// No step, wherever it stands, but about the whole script: the server may close when it likes. An
    /// end of file before what is expected is no failure then, and
    /// [`assert_all_done`](super::Simulation::assert_all_done) does not ask for the steps that are left.
    #[must_use]
    pub fn may_end(mut self) -> Script {
        self.may_end = true;
        self
    }

    /// Waits.
    #[must_use]
    #[track_caller]
    pub fn wait(self, duration: Duration) -> Script {
        self.with(Step::Wait(duration))
    }

    /// From now on reads at most `bytes`, and no more than 1 MiB, each time that `every` has passed.
    ///
    /// # Panics
    ///
    /// If either is zero.
    #[must_use]
    #[track_caller]
    pub fn read_slowly(self, bytes: usize, every: Duration) -> Script {
        assert!(bytes > 0 && every > Duration::ZERO, "a slow reader reads, and takes its time");
        self.with(Step::Read(Pace::Slowly(bytes, every)))
    }

    /// From now on reads nothing.
    #[must_use]
    #[track_caller]
    pub fn stop_reading(self) -> Script {
        self.with(Step::Read(Pace::Not))
    }

    /// From now on reads all at once again.
    #[must_use]
    #[track_caller]
    pub fn read_on(self) -> Script {
        self.with(Step::Read(Pace::AtOnce))
    }

    /// Sends the end of file, and goes on reading.
    #[must_use]
    #[track_caller]
    pub fn shutdown(mut self) -> Script {
        self.end_of_output = Some("shutdown");
        self.with(Step::Shutdown)
    }

    /// Closes; with unread bytes that resets the connection.
    #[must_use]
    #[track_caller]
    pub fn close(mut self) -> Script {
        self.end_of_output = Some("close");
        self.with(Step::Close)
    }

    /// Resets the connection.
    #[must_use]
    #[track_caller]
    pub fn reset(mut self) -> Script {
        self.end_of_output = Some("reset");
        self.with(Step::Reset)
    }

    /// Vanishes without a word: from now on nothing reaches the other side, in either direction.
    #[must_use]
    #[track_caller]
    pub fn vanish(self) -> Script {
        self.with(Step::Vanish)
    }
}
