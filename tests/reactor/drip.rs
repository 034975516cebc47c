//! Clients that hold their place by a byte now and then, and what the others notice of them: nothing.

use std::io::{Read, Write};
use std::time::Duration;

use oneloop::{CloseReason, Limits};

use crate::support::*;

const DRIPPERS: usize = 200;
const TALKERS: usize = 10;
const MESSAGE_TIMEOUT: Duration = Duration::from_millis(150);
const DRIP_EVERY: Duration = Duration::from_millis(10);

/// Answers whole lines; the beginning of one stays where it is.
fn lines() -> Recorder {
    Recorder::new().data(|conn, data| {
        let whole = data.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        conn.send(&data[..whole]).ignore();
        Ok(whole)
    })
}

/// A client that sends a line, waits for it, and sends the next one.
struct Talker {
    stream: TcpStream,
    answered: usize,
    /// In which turn the line was sent that has no answer yet.
    asked: Option<u64>,
    turns_max: u64,
}

const LINE: &[u8] = b"a line\n";

impl Talker {
    fn go_on(&mut self, turn: u64) {
        let mut buffer = [0; LINE.len()];
        match self.asked {
            None => {
                self.stream.write_all(LINE).unwrap();
                self.asked = Some(turn);
            }
            Some(asked) => {
                if let Ok(count) = self.stream.read(&mut buffer) {
                    assert_eq!(&buffer[..count], LINE, "one segment, answered by one write");
                    self.answered += 1;
                    self.turns_max = self.turns_max.max(turn - asked);
                    self.asked = None;
                }
            }
        }
    }
}

#[test]
fn who_drips_is_cut_off_and_who_talks_is_served_in_the_next_turns_all_the_while() {
    let limits =
        Limits::new().message_timeout(MESSAGE_TIMEOUT).linger_timeout(Duration::from_millis(20));
    let mut server = Server::with_limits(lines(), limits);
    let mut talkers: Vec<Talker> = (0..TALKERS)
        .map(|_| {
            let stream = server.connect();
            stream.set_nonblocking(true).unwrap();
            Talker { stream, answered: 0, asked: None, turns_max: 0 }
        })
        .collect();
    let mut drippers: Vec<TcpStream> = (0..DRIPPERS).map(|_| server.connect()).collect();
    server.until("all are in", |calls| calls.opened().len() == DRIPPERS + TALKERS);
    server.calls.clear();
    let start = Instant::now();
    let mut last = None::<Instant>;
    while server.reactor.stats().closes(CloseReason::MessageTimeout) < DRIPPERS as u64 {
        assert!(start.elapsed() < DEADLINE, "{:?}", server.reactor.stats());
        if last.is_none_or(|last| last.elapsed() >= DRIP_EVERY) {
            last = Some(Instant::now());
            // Who was cut off takes no more, and closes as polite clients do.
            drippers.retain_mut(|dripper| dripper.write(b"x").is_ok_and(|count| count == 1));
        }
        let turn = server.reactor.stats().turns;
        for talker in &mut talkers {
            talker.go_on(turn);
        }
        server.reactor.turn(Some(Duration::from_millis(1))).unwrap();
    }
    assert!(start.elapsed() >= MESSAGE_TIMEOUT, "nobody is cut off early");
    for talker in &talkers {
        assert!(talker.answered > 3, "{} answers", talker.answered);
        assert!(talker.turns_max <= 4, "an answer took {} turns", talker.turns_max);
    }
    let stats = server.reactor.stats();
    assert_eq!(stats.closes_total(), DRIPPERS as u64, "and nobody else");
}
