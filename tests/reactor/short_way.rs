//! The common case has a way of its own through the loop. While every step is logged it is not taken:
//! the general code runs instead. So a logger that is told everything is how to hold the two against
//! each other.

use std::time::Duration;

use crate::support::{Call, Recorder, Server, alone_also_in_simulation, random};
use log::LevelFilter;
use oneloop::{Connection, Error};

struct Nowhere;

impl log::Log for Nowhere {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {}

    fn flush(&self) {}
}

/// Does what the first byte asks for.
fn obey(conn: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
    match data[0] {
        b'e' => conn.send(data).ignore(),
        b'-' => {}
        b'2' => {
            conn.send(data).ignore();
            conn.send_shared(data.into()).ignore();
            conn.send(b"after").ignore();
        }
        b'h' => return Ok(data.len().div_ceil(2)),
        b'k' if data.len() < 300 => return Ok(0),
        b'a' if data.len() > 1 => {
            conn.again();
            return Ok(1);
        }
        b'n' => conn.need(data.len() + 50),
        b'p' => {
            let key = conn.key();
            conn.pause();
            conn.poke(key);
            return Ok(data.len().div_ceil(2));
        }
        b'b' => conn.send(&vec![b'b'; 150_000]).ignore(),
        b's' => conn.shutdown_write(),
        b'c' => {
            conn.send(b"bye").ignore();
            conn.close();
            return Ok(data.len() / 2);
        }
        b'x' => conn.abort(),
        b'f' => return Err("asked to fail".into()),
        b'm' => return Ok(data.len() + 1),
        b'!' => panic!("asked to panic"),
        _ => {}
    }
    Ok(data.len())
}

fn recorder() -> Recorder {
    Recorder::new().data(obey).poke(|conn| conn.resume())
}

/// What there is to see from both sides of one script: the calls, what the client got, and how the
/// bytes were counted.
fn play(seed: u64) -> (Vec<Call>, Vec<u8>, [u64; 5]) {
    let mut state = seed;
    let mut server = Server::new(recorder());
    let (mut client, _) = server.open();
    for _ in 0..1 + random(&mut state) % 12 {
        // Mostly what leaves the connection alive.
        const COMMANDS: &[u8] = b"eeeeee--22hhkkaannppbseecxfm!";
        let command = COMMANDS[random(&mut state) as usize % COMMANDS.len()];
        let length = [1, 2, 64, 200, 1000][random(&mut state) as usize % 5];
        let message = vec![command; length];
        let before = server.reactor.stats().bytes_in;
        if server.write(&mut client, &message).is_some() {
            break;
        }
        let is_over = |server: &Server| !server.calls.closed().is_empty();
        let target = before + length as u64;
        while server.reactor.stats().bytes_in < target && !is_over(&server) {
            server.reactor.turn(Some(Duration::from_millis(5))).unwrap();
        }
        while server.reactor.next_wait() == Some(Duration::ZERO) {
            server.reactor.turn(None).unwrap();
        }
        if is_over(&server) {
            break;
        }
    }
    client.shutdown(std::net::Shutdown::Write).ok();
    let (received, _) = server.read_to_end(&mut client);
    drop(client);
    server.until_closed(1);
    let stats = server.reactor.stats();
    let counted = [
        stats.bytes_in,
        stats.bytes_out,
        stats.bytes_discarded,
        stats.panics,
        stats.closes_total(),
    ];
    (server.calls.all(), received, counted)
}

#[test]
fn the_short_way_does_what_the_general_way_does() {
    // The log level belongs to the whole process.
    const NAME: &str = "the_short_way_does_what_the_general_way_does";
    if !alone_also_in_simulation(NAME) {
        return;
    }
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // Those that are asked for would fill the screen.
        if panic.payload().downcast_ref() != Some(&"asked to panic") {
            report(panic);
        }
    }));
    log::set_logger(&Nowhere).unwrap();
    for seed in 0..2000 {
        log::set_max_level(LevelFilter::Off);
        let short = play(seed);
        log::set_max_level(LevelFilter::Trace);
        let general = play(seed);
        // Peers' ports differ; keys do not, because both are the first connections of their reactors.
        let calls = |calls: &[Call]| -> Vec<Call> {
            calls.iter().filter(|call| !matches!(call, Call::Accept(_))).cloned().collect()
        };
        assert_eq!(calls(&short.0), calls(&general.0), "seed {seed}");
        assert!(short.1 == general.1, "seed {seed}: the client got something else");
        assert_eq!(short.2, general.2, "seed {seed}");
    }
}
