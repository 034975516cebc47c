//! Limits with short deadlines, and what is missed of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use oneloop::{Deadline, Limits, Time};

use super::*;

pub const MS: Duration = Duration::from_millis(1);

/// Long for loopback on a busy machine, short for a person.
pub const SHORT: Duration = Duration::from_millis(100);

/// Limits under which a connection waits for ever, and one that closes hardly lingers.
pub fn patient() -> Limits {
    Limits::new()
        .idle_timeout(Duration::MAX)
        .message_timeout(Duration::MAX)
        .write_stall_timeout(Duration::MAX)
        .output_soft_timeout(Duration::MAX)
        .linger_timeout(10 * MS)
}

/// Deadlines that were missed, and when.
pub type Missed = Rc<RefCell<Vec<(Deadline, Time)>>>;

/// Has the recorder note what it misses.
pub fn noting(recorder: Recorder) -> (Recorder, Missed) {
    let missed = Missed::default();
    let noted = Rc::clone(&missed);
    let recorder = recorder.deadline(move |conn, deadline| {
        noted.borrow_mut().push((deadline, conn.now()));
        None
    });
    (recorder, missed)
}

/// What the only connection missed, and how long after `since`.
pub fn only(missed: &Missed, since: Time) -> (Deadline, Duration) {
    let missed = missed.borrow();
    assert_eq!(missed.len(), 1, "{missed:?}");
    (missed[0].0, missed[0].1 - since)
}

/// Turns the reactor for a while.
pub fn turn_for(server: &mut Server, duration: Duration) {
    let start = Instant::now();
    run_until(&mut server.reactor, "some time passes", |_| start.elapsed() >= duration);
}

pub fn now(server: &mut Server) -> Time {
    let handler = server.handler;
    server.reactor.context(handler).now()
}
