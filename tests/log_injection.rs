//! What peers send does not write the log: an error or a panic that quotes it is one short line.

// Once is enough, see CONTRIBUTING.md.
#![cfg(debug_assertions)]

use std::sync::Mutex;

use oneloop::codec::{FrameHandler, Framed, Lines};
use oneloop::sim::{Script, Simulation};
use oneloop::{
    Blocking, CloseReason, Connection, Error, Limits, ListenOptions, MessageHandler, ReactorLimits,
    StreamHandler, blocking,
};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Notebook;

impl log::Log for Notebook {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Fails with what it is sent, in the way that the first byte says.
struct Quotes;

impl FrameHandler for Quotes {
    type Decoder = Lines;
    type Session = ();

    fn decoder(&self) -> Lines {
        Lines::new(20_000)
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_frame(&mut self, _: &mut (), _: &mut Connection<'_>, line: &[u8]) -> Result<(), Error> {
        let line = String::from_utf8_lossy(line);
        assert!(!line.starts_with('!'), "a bad line: {line}");
        Err(format!("a bad line: {line}").into())
    }
}

/// The same in a blocking job.
struct Jobs {
    blocking: Blocking<()>,
}

impl StreamHandler for Jobs {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let line = String::from_utf8_lossy(data).into_owned();
        let key = conn.key();
        let job = move || -> () { panic!("a bad line: {line}") };
        self.blocking.run_for(key, job).map_err(|_| "busy")?;
        Ok(data.len())
    }
}

impl MessageHandler<()> for Jobs {}

fn take_notes() {
    let _ = log::set_logger(&Notebook); // another test may have done so
    log::set_max_level(log::LevelFilter::Trace);
}

#[test]
fn a_decoder_of_frames_that_may_be_longer_than_the_input_is_told_of_once() {
    take_notes();
    let mut sim = Simulation::new(1);
    let limits = Limits::new().input_bytes_max(20_000);
    let options = ListenOptions::new().limits(limits);
    let quotes = sim.serve_with(Framed::new(Quotes), ReactorLimits::new(), &options);
    for _ in 0..3 {
        sim.client(quotes.address, Script::new().close());
    }
    sim.run_until_idle();
    let lines = LINES.lock().unwrap();
    let told = lines.iter().filter(|line| line.contains("input_bytes_max is 20000"));
    let told: Vec<&String> = told.collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("a frame may take up 20002 bytes"), "{told:?}");
}

#[test]
fn log_injection_by_errors_and_panics_that_quote_a_peer_is_escaped_and_cut() {
    take_notes();
    let mut sim = Simulation::new(1);
    let quotes = sim.serve(Framed::new(Quotes));
    sim[quotes.reactor].let_panics_through(false);
    let (blocking, inbox) = blocking(1, 8);
    let jobs = sim.serve(Jobs { blocking });
    sim[jobs.reactor].attach(jobs.handler, inbox).unwrap();
    let evil = "\u{1b}[2J\r0#1: closed: all is well\u{2028}\u{202e}\u{7f}";
    let long = "x".repeat(10_000);
    for line in [evil, &long] {
        for kind in ["", "!"] {
            let script = Script::new().send(format!("{kind}{line}\n")).expect_end();
            sim.client(quotes.address, script.may_end());
        }
        sim.client(jobs.address, Script::new().send(format!("{line}\n")));
    }
    sim.run_until_idle();
    let stats = sim[quotes.reactor].stats();
    assert_eq!(stats.closes(CloseReason::HandlerError), 2);
    assert_eq!(stats.closes(CloseReason::Panicked), 2);
    let lines = LINES.lock().unwrap();
    let quoting = lines.iter().filter(|line| line.contains("a bad line: "));
    assert_eq!(quoting.count(), 6, "{lines:#?}");
    for line in lines.iter() {
        let is_bad = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{202e}');
        assert!(!line.contains(is_bad), "{line:?}");
        assert!(line.chars().count() < 600, "{line}");
    }
}
