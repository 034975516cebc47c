//! What the log tells: of one echo, so that a student can follow it; and of a mistake.

use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::{COUNTS_AS_LINUX, Recorder, Server, alone_also_in_simulation, run_until};
use oneloop::{Connection, Error, StreamHandler};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Notebook;

impl log::Log for Notebook {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("oneloop")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.lock().unwrap().push(format!("{} {}", record.level(), record.args()));
        }
    }

    fn flush(&self) {}
}

#[test]
fn at_trace_level_the_log_tells_every_step_of_one_echo_in_order() {
    // A process has one logger.
    const NAME: &str = "at_trace_level_the_log_tells_every_step_of_one_echo_in_order";
    if !alone_also_in_simulation(NAME) {
        return;
    }
    log::set_logger(&Notebook).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let mut server = Server::new(Recorder::echo());
    let (mut client, key) = server.open();
    client.write_all(b"hello").unwrap();
    assert_eq!(server.read(&mut client, 5), b"hello");
    drop(client);
    server.until_closed(1);
    let lines = LINES.lock().unwrap().clone();
    // Linux tells all that is true; a driver need not.
    let end = if COUNTS_AS_LINUX { "readable+writable+read-closed" } else { "readable" };
    let story = [
        String::from("INFO 0#1: listening on 127.0.0.1:"),
        String::from("TRACE 0#1: event: readable"),
        format!("DEBUG {key}: accepted 127.0.0.1:"),
        format!("TRACE {key}: event: readable"),
        format!("TRACE {key}: read 5 bytes of at most 65536"),
        format!("TRACE {key}: wrote 5 bytes"),
        format!("TRACE {key}: event: {end}"),
        format!("TRACE {key}: read the end of file"),
        format!("DEBUG {key}: closed: the peer closed, 5 in, 5 out"),
    ];
    let mut rest = lines.iter();
    for step in &story {
        assert!(rest.any(|line| line.starts_with(step)), "missing: {step}\n{lines:#?}");
    }
}

/// Sets timers of both kinds, and hears of neither.
struct Deaf;

impl StreamHandler for Deaf {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.set_timer(Duration::ZERO);
        conn.set_handler_timer(Duration::ZERO);
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, _: &[u8]) -> Result<usize, Error> {
        Ok(0)
    }
}

#[test]
fn a_timer_that_its_handler_does_not_hear_of_is_logged() {
    const NAME: &str = "a_timer_that_its_handler_does_not_hear_of_is_logged";
    if !alone_also_in_simulation(NAME) {
        return;
    }
    log::set_logger(&Notebook).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let mut server = Server::new(Recorder::echo());
    let deaf = server.reactor.add(Deaf);
    let address = server.address;
    server.reactor.context(deaf).connect(address, 0);
    run_until(&mut server.reactor, "both are logged", |_| LINES.lock().unwrap().len() == 2);
    let mut lines = LINES.lock().unwrap().clone();
    lines.sort();
    assert!(lines[0].ends_with("has no on_timer"), "{lines:?}");
    assert!(lines[1].ends_with("has no on_handler_timer"), "{lines:?}");
}
