//! The simulated kernel does what the real one does: the same scripts over loopback and in simulation,
//! compared by what handlers and clients saw.

// Once is enough, see CONTRIBUTING.md.
#![cfg(debug_assertions)]
#![allow(clippy::duplicate_mod, reason = "the same scripts in two worlds")]

#[path = "parity/seen.rs"]
mod seen;
mod support;
#[path = "parity/unix.rs"]
mod unix;

use std::io::ErrorKind;

use oneloop::{Context, Key, Limits};

use support::{Recorder, file_of, pattern, random};

/// Over loopback.
#[path = "parity"]
mod real {
    pub(crate) use crate::support::world;

    pub(crate) mod play;
}

/// In simulation, with the kernel that does what Linux does.
#[path = "parity"]
mod simulated {
    pub(crate) const KERNEL: oneloop::sim::Kernel = oneloop::sim::Kernel::Linux;

    pub(crate) mod play;
    #[path = "../support/sim.rs"]
    pub(crate) mod world;
}

/// One client, or peer, of one handler; in the end it closes.
struct Script {
    name: String,
    recorder: fn() -> Recorder,
    limits: Limits,
    /// The reactor connects, and the client is the one that accepts.
    is_outbound: bool,
    /// The client comes over a Unix socket.
    is_unix: bool,
    /// The client's socket holds little.
    is_small: bool,
    steps: Vec<Step>,
}

/// What a client does, or somebody to the connection from outside.
#[derive(Clone, Copy)]
enum Step {
    /// Until nothing happens any more.
    Settle,
    Send(usize),
    Read(usize),
    ReadToEnd,
    /// The same, a little in each turn.
    ReadSlowly,
    ReadWhatIsThere,
    SendAndRead(usize),
    HalfClose,
    Close,
    Reset,
    Do(fn(&mut Context<'_>, Key)),
    UntilOpen,
    UntilShown(usize),
    UntilClosed,
}

// Handlers

fn echo() -> Recorder {
    Recorder::echo()
}

fn listens() -> Recorder {
    Recorder::new()
}

fn keeps() -> Recorder {
    Recorder::new().data(|_, _| Ok(0))
}

fn replies_and_closes() -> Recorder {
    Recorder::new().data(|conn, data| {
        conn.send(b"reply").ignore();
        conn.close();
        Ok(data.len())
    })
}

fn aborts() -> Recorder {
    Recorder::new().data(|conn, data| {
        conn.send(b"dropped").ignore();
        conn.abort();
        Ok(data.len())
    })
}

fn half_closes() -> Recorder {
    Recorder::new().data(|conn, data| {
        conn.send(b"last words").ignore();
        conn.shutdown_write();
        Ok(data.len())
    })
}

fn fails() -> Recorder {
    Recorder::new().data(|conn, _| {
        conn.send(b"not in vain").ignore();
        Err("on purpose".into())
    })
}

fn pauses() -> Recorder {
    Recorder::echo().open(|conn| conn.pause())
}

fn greets() -> Recorder {
    Recorder::echo().open(|conn| conn.send(b"welcome").ignore())
}

fn stays_when_the_peer_closes() -> Recorder {
    Recorder::echo().peer_closed(|_| {})
}

fn answers_the_end() -> Recorder {
    Recorder::new().peer_closed(|conn| {
        conn.send(&pattern(100_000)).ignore();
        conn.close();
    })
}

fn sends_a_file_and_closes() -> Recorder {
    let file = file_of(&pattern(MUCH));
    Recorder::new().data(move |conn, data| {
        conn.send(b"head").ignore();
        conn.send_file(&file, 1000..MUCH as u64).ignore();
        conn.send(b"end").ignore();
        conn.close();
        Ok(data.len())
    })
}

fn sends_a_file_that_is_too_short() -> Recorder {
    let file = file_of(&pattern(100_000));
    Recorder::new().data(move |conn, data| {
        conn.send_file(&file, 0..100_001).ignore();
        conn.send(b"never").ignore();
        Ok(data.len())
    })
}

fn says_much_and_closes() -> Recorder {
    Recorder::new().data(|conn, data| {
        conn.send(&pattern(MUCH)).ignore();
        conn.close();
        Ok(data.len())
    })
}

fn says_much() -> Recorder {
    Recorder::new().data(|conn, data| {
        conn.send(&pattern(MUCH)).ignore();
        Ok(data.len())
    })
}

/// More than sockets hold on either side.
const MUCH: usize = 16 << 20;

const RECORDERS: [fn() -> Recorder; 10] = [
    echo,
    listens,
    keeps,
    replies_and_closes,
    aborts,
    half_closes,
    fails,
    pauses,
    greets,
    stays_when_the_peer_closes,
];

/// What somebody else does to the connection.
const DEEDS: [fn(&mut Context<'_>, Key); 6] = [
    |cx, key| cx.pause_key(key),
    |cx, key| cx.resume_key(key),
    |cx, key| cx.close_key(key),
    |cx, key| cx.abort_key(key),
    |cx, key| cx.shutdown_write_key(key),
    |cx, key| cx.send_to(key, &[b's'; 3000]).ignore(),
];

const PAUSE: Step = Step::Do(DEEDS[0]);
const RESUME: Step = Step::Do(DEEDS[1]);
const CLOSE_KEY: Step = Step::Do(DEEDS[2]);
const ABORT_KEY: Step = Step::Do(DEEDS[3]);
const SHUTDOWN_KEY: Step = Step::Do(DEEDS[4]);
const SEND_TO: Step = Step::Do(DEEDS[5]);

fn script(name: &str, recorder: fn() -> Recorder, steps: &[Step]) -> Script {
    Script {
        name: name.into(),
        recorder,
        limits: Limits::new().output_bytes_max(64 << 20),
        is_outbound: false,
        is_unix: false,
        is_small: false,
        steps: steps.to_vec(),
    }
}

fn compare(script: &Script) {
    let real = real::play::play(script);
    let simulated = simulated::play::play(script);
    assert_eq!(simulated, real, "{}: left in simulation, right in the kernel", script.name);
}

// Facts

/// What a client does.
fn of_clients() -> Vec<Script> {
    use Step::*;
    vec![
        script("send and expect", echo, &[Send(1000), Read(1000), Send(1), Read(1)]),
        script("half-close", echo, &[Send(1000), HalfClose, ReadToEnd, UntilClosed]),
        script("close at once", listens, &[Close, UntilClosed]),
        script("data and end at once", listens, &[Send(1000), Close, UntilClosed]),
        script("before the accept", echo, &[Send(100_000), HalfClose, ReadToEnd]),
        script("nothing but an end", echo, &[HalfClose, ReadToEnd]),
        script("reset at once", listens, &[Reset, UntilClosed]),
        script("reset when open", listens, &[UntilOpen, Reset, UntilClosed]),
        script("reset after data", listens, &[Send(1000), Reset, UntilClosed]),
        script("reset right behind data", listens, &[UntilOpen, Send(1000), Reset, UntilClosed]),
        script("reset behind an end", listens, &[Send(1000), HalfClose, Reset, UntilClosed]),
        script(
            "abort right behind much",
            pauses,
            &[Send(9), UntilOpen, SEND_TO, SEND_TO, Settle, ABORT_KEY, ReadToEnd],
        ),
        script("reset after read data", listens, &[Send(9), UntilShown(9), Reset, UntilClosed]),
        script(
            "reset after an end",
            stays_when_the_peer_closes,
            &[Send(9), HalfClose, Settle, Reset, UntilClosed],
        ),
        script("close with unread data", echo, &[Send(1000), Settle, Close, UntilClosed]),
        script("unread data and an end", greets, &[UntilOpen, Settle, HalfClose, Settle, Close]),
        script("kept data", keeps, &[Send(1000), Settle, HalfClose, ReadToEnd]),
    ]
}

#[test]
fn data_ends_and_resets_of_a_client_are_the_same() {
    of_clients().iter().for_each(compare);
}

/// What a handler does.
fn of_handlers() -> Vec<Script> {
    use Step::*;
    vec![
        script("reply and close", replies_and_closes, &[Send(9), ReadToEnd, Close, UntilClosed]),
        script("abort", aborts, &[Send(9), ReadToEnd]),
        script(
            "abort, and the client writes",
            aborts,
            &[Send(9), UntilClosed, Settle, Send(9), Send(9), ReadToEnd],
        ),
        script(
            "abort, and the client reads twice",
            aborts,
            &[Send(9), UntilClosed, Settle, ReadToEnd, ReadToEnd, Send(9)],
        ),
        script("half-close", half_closes, &[Send(9), ReadToEnd, Send(1000), Close, UntilClosed]),
        script("error", fails, &[Send(9), ReadToEnd, Close, UntilClosed]),
        script("close while the peer sends", replies_and_closes, &[Send(4 << 20), ReadToEnd]),
        script("close of a paused one", pauses, &[Send(1000), Settle, CLOSE_KEY, ReadToEnd]),
        script("abort of a paused one", pauses, &[Send(1000), Settle, ABORT_KEY, ReadToEnd]),
        script(
            "pause and resume",
            pauses,
            &[
                Send(1000),
                Settle,
                RESUME,
                Read(1000),
                PAUSE,
                Send(9),
                HalfClose,
                Settle,
                RESUME,
                ReadToEnd,
            ],
        ),
        script("reset of a paused one", pauses, &[Send(1000), Settle, Reset, UntilClosed]),
        script("end of a paused one", pauses, &[Close, Settle, RESUME, UntilClosed]),
        script("output after the peer's end", answers_the_end, &[HalfClose, ReadToEnd]),
        script("output to a peer that closed", answers_the_end, &[Close, UntilClosed]),
        script(
            "output to a peer that is gone",
            stays_when_the_peer_closes,
            &[UntilOpen, Close, Settle, SEND_TO, Settle, SEND_TO, UntilClosed],
        ),
        script(
            "close after the peer's end",
            stays_when_the_peer_closes,
            &[Send(9), HalfClose, Settle, SEND_TO, SHUTDOWN_KEY, ReadToEnd],
        ),
        // tcp(7) does not tell: what comes after an end of file is an end of file, also after a reset,
        // which only a write meets; and where both sides have ended, it does nothing at all.
        script(
            "a reset after an end",
            stays_when_the_peer_closes,
            &[
                UntilOpen,
                SHUTDOWN_KEY,
                Settle,
                ReadWhatIsThere,
                ABORT_KEY,
                Settle,
                ReadWhatIsThere,
                Send(9),
                ReadWhatIsThere,
            ],
        ),
        script(
            "a reset after both ends",
            replies_and_closes,
            &[UntilOpen, Send(1), Settle, ABORT_KEY, HalfClose, Settle, Send(1), ReadWhatIsThere],
        ),
        script("both half-close", half_closes, &[Send(9), Settle, HalfClose, ReadToEnd]),
    ]
}

#[test]
fn what_handlers_do_to_a_client_is_the_same() {
    of_handlers().iter().for_each(compare);
}

/// More than buffers hold.
fn of_much() -> Vec<Script> {
    use Step::*;
    let small =
        |name, recorder, steps: &[Step]| Script { is_small: true, ..script(name, recorder, steps) };
    let hasty = |script: Script| Script {
        limits: script.limits.linger_timeout(std::time::Duration::from_millis(50)),
        ..script
    };
    vec![
        small("both ways", echo, &[SendAndRead(8 << 20), HalfClose, ReadToEnd]),
        script("both ways in large buffers", echo, &[SendAndRead(8 << 20), HalfClose, ReadToEnd]),
        small("a slow reader", says_much_and_closes, &[Send(1), ReadToEnd, Close, UntilClosed]),
        small("a file", sends_a_file_and_closes, &[Send(1), ReadToEnd, Close, UntilClosed]),
        small("a part of a file", sends_a_file_and_closes, &[Send(1), Read(100_000), Reset]),
        small("a short file", sends_a_file_that_is_too_short, &[Send(9), ReadToEnd, UntilClosed]),
        small("a very slow reader", answers_the_end, &[Send(1), HalfClose, ReadSlowly]),
        small("a reader that closes in the middle", says_much, &[Send(1), Read(100_000), Close]),
        small("a reader that resets in the middle", says_much, &[Send(1), Read(100_000), Reset]),
        small("a half-close before much", says_much, &[Send(1), HalfClose, Settle, ReadToEnd]),
        small("an abort in the middle", says_much, &[Send(1), Read(1000), ABORT_KEY, UntilClosed]),
        small("a close in the middle", says_much, &[Send(1), Read(1000), CLOSE_KEY, ReadToEnd]),
        hasty(small("a peer that takes nothing", says_much_and_closes, &[Send(1), UntilClosed])),
        hasty(small(
            "a peer that does not close",
            replies_and_closes,
            &[Send(1), ReadToEnd, UntilClosed, Settle, Send(1), Settle, Send(1)],
        )),
    ]
}

#[test]
fn what_fills_buffers_is_the_same() {
    of_much().iter().for_each(compare);
}

#[test]
fn outbound_connections_are_the_same() {
    use Step::*;
    let outbound = |name, recorder, steps: &[Step]| Script {
        is_outbound: true,
        ..script(name, recorder, steps)
    };
    let scripts = [
        outbound("send and expect", echo, &[Send(1000), Read(1000)]),
        outbound("a greeting", greets, &[Read(7), Send(9), Read(9)]),
        outbound("data and end at once", listens, &[Send(1000), Close, UntilClosed]),
        outbound("reset at once", listens, &[Reset, UntilClosed]),
        outbound("reset after data", listens, &[Send(1000), Reset, UntilClosed]),
        outbound("reply and close", replies_and_closes, &[Send(1), ReadToEnd]),
        outbound("abort", aborts, &[Send(1), ReadToEnd]),
    ];
    scripts.iter().for_each(compare);
}

#[test]
fn a_refused_connect_is_the_same() {
    let calls = |(calls, kind): (Vec<support::Call>, ErrorKind)| (format!("{calls:?}"), kind);
    assert_eq!(calls(simulated::play::refused()), calls(real::play::refused()));
}

#[test]
fn connects_from_an_address_of_ones_choice_end_the_same_way() {
    let all = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "203.0.113.1", "the peer's", "its own"];
    for from in all {
        let (real, simulated) = (real::play::come_from(from), simulated::play::come_from(from));
        assert_eq!(simulated, real, "from {from}: left in simulation");
    }
}

#[test]
fn of_several_addresses_the_same_one_is_connected() {
    let places: [&[&str]; 5] = [
        &["listens", "listens"],
        &["127.0.0.1", "listens"],
        &["::1", "listens", "listens"],
        &["127.0.0.1", "::1", "listens"],
        &["::1", "127.0.0.1"],
    ];
    for places in places {
        assert_eq!(simulated::play::race(places), real::play::race(places), "{places:?}");
    }
}

#[test]
fn addresses_of_listeners_are_the_same() {
    let all = [
        "0.0.0.0",
        "127.0.0.1",
        "127.0.0.2",
        "::",
        "only ::",
        "::1",
        "::ffff:127.0.0.1",
        "shared 0.0.0.0",
        "shared 127.0.0.1",
        "203.0.113.1",
        "2001:db8::1",
    ];
    for first in all {
        for second in all {
            let simulated = simulated::play::listen_twice(first, second);
            // The port that the kernel gives for the first address another process may have at the
            // second one. That is no fact about addresses; with another port it will not be so again.
            let is_in_use = |error: &Option<ErrorKind>| *error == Some(ErrorKind::AddrInUse);
            let tries: Vec<_> = (0..if is_in_use(&simulated) { 1 } else { 5 })
                .map(|_| real::play::listen_twice(first, second))
                .collect();
            let real = *tries.iter().find(|error| !is_in_use(error)).unwrap_or(&tries[0]);
            assert_eq!(simulated, real, "{first}, then {second}: left in simulation");
        }
    }
}

#[test]
fn addresses_of_connections_are_the_same() {
    let listens = ["0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1", "::ffff:127.0.0.1"];
    let connects = ["0.0.0.0", "127.0.0.1", "127.0.0.2", "::", "::1"];
    for at in listens {
        for to in connects {
            let real = real::play::reach(at, to);
            let simulated = simulated::play::reach(at, to);
            assert_eq!(simulated, real, "{at}, from a client to {to}: left in simulation");
        }
    }
}

#[test]
fn a_shared_port_is_shared_by_both() {
    assert!(real::play::is_spread(), "over loopback");
    assert!(simulated::play::is_spread(), "in simulation");
}

/// Whatever a client and others do, one after the other, to whatever handler.
fn random_script(seed: u64) -> Script {
    let mut state = seed;
    let recorder = RECORDERS[random(&mut state) as usize % RECORDERS.len()];
    let mut steps = Vec::new();
    let mut text = String::new();
    if !random(&mut state).is_multiple_of(4) {
        steps.push(Step::UntilOpen);
        text += " open";
    }
    for _ in 0..1 + random(&mut state) % 8 {
        let roll = random(&mut state);
        let (step, name) = match roll % 16 {
            0..=4 => {
                let count = [1, 9, 1000, 5000][(roll / 16 % 4) as usize];
                (Step::Send(count), format!("Send({count})"))
            }
            5..=8 => (Step::ReadWhatIsThere, "ReadWhatIsThere".into()),
            9 => (Step::HalfClose, "HalfClose".into()),
            10 => (Step::Close, "Close".into()),
            11 => (Step::Reset, "Reset".into()),
            _ => {
                let deed = (roll / 16) as usize % DEEDS.len();
                let names = ["PAUSE", "RESUME", "CLOSE", "ABORT", "SHUTDOWN", "SEND_TO"];
                (Step::Do(DEEDS[deed]), names[deed].into())
            }
        };
        text += &format!(" {name}");
        steps.push(step);
        // Or the next one comes before the reactor has looked.
        if !random(&mut state).is_multiple_of(3) {
            steps.push(Step::Settle);
            text += ",";
        }
    }
    // Nobody is left paused.
    steps.extend([Step::ReadWhatIsThere, Step::Close, RESUME, Step::Settle, CLOSE_KEY]);
    script(&format!("seed {seed}:{text}"), recorder, &steps)
}

#[test]
fn random_scripts_are_the_same() {
    (0..150).for_each(|seed| compare(&random_script(seed)));
}
