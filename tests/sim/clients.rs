//! Scripted clients.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use oneloop::sim::{ClientId, End, Faults, Kernel, Party, Script, Simulation};
use oneloop::{CloseReason, Connection, Error, StreamHandler};

use super::{Echo, Flood, SECOND, hello, served_echo};

#[test]
#[should_panic(expected = r#"client 1: expected "hallo" and received "hello""#)]
fn other_bytes_than_expected_fail_the_test() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, hello());
    sim.client(echo.address, Script::new().send("hello").expect("hallo"));
    sim.run_until_idle();
}

#[test]
fn a_step_that_fails_or_is_left_is_told_with_its_line() {
    let message = |run: fn(&mut Simulation, ClientId)| {
        let mut sim = Simulation::new(1);
        let echo = served_echo(&mut sim);
        let client = sim.client(echo.address, hello().send("you").expect("me"));
        let panic = catch_unwind(AssertUnwindSafe(|| run(&mut sim, client))).unwrap_err();
        panic.downcast_ref::<String>().expect("a message").clone()
    };
    let line = line!() - 4;
    let failed = message(|sim, _| sim.run_until_idle());
    let place = format!("\n  at {}:{line}, step 4 of 4", file!());
    assert!(failed.ends_with(&place), "{failed}");
    let left = message(|sim, client| sim.assert_done(client));
    assert!(left.starts_with("client 0 is not done: sending"), "{left}");
    assert!(left.contains(", at tests/sim.rs:"), "{left}");
}

#[test]
#[should_panic(expected = r#"expected "hello" and received "hell", and then the end of file"#)]
fn an_end_before_what_is_expected_fails_the_test() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, Script::new().send("hell").shutdown().expect("hello"));
    sim.run_until_idle();
}

#[test]
fn a_client_that_may_end_leaves_instead() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let script = Script::new().send("hell").shutdown().expect("hello").may_end();
    let client = sim.client(echo.address, script);
    sim.run_until_idle();
    assert!(!sim.is_done(client));
    assert_eq!(sim.end(client), Some(End::Ended));
    sim.assert_empty(echo.reactor);
}

#[test]
#[should_panic(expected = r#"expected the end of file and received "hello""#)]
fn bytes_before_the_expected_end_fail_the_test() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, Script::new().send("hello").shutdown().expect_end());
    sim.run_until_idle();
}

#[test]
#[should_panic(expected = r#"client 0 is not done: expecting "more""#)]
fn a_client_that_is_not_done_says_what_it_waits_for() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello().expect("more"));
    sim.run_until_idle();
    sim.assert_done(client);
}

#[test]
fn a_slow_reader_reads_that_many_bytes_each_time() {
    let mut sim = Simulation::new(1);
    let flood = sim.serve(Flood(100));
    let script = Script::new().read_slowly(10, SECOND).expect_bytes(100).close();
    let client = sim.client(flood.address, script);
    sim.run_for(4 * SECOND + SECOND / 2);
    assert_eq!(sim.received(client).len(), 50);
    sim.run_until_idle();
    assert_eq!(sim.received(client).len(), 100);
    sim.assert_done(client);
    assert_eq!(sim.end(client), Some(End::Left));
}

#[test]
fn a_slow_reader_may_read_much_each_time() {
    let mut sim = Simulation::new(1);
    let flood = sim.serve(Flood(60_000));
    let script = Script::new().stop_reading().wait(SECOND).read_slowly(20_000, SECOND);
    let client = sim.client(flood.address, script.expect_bytes(60_000).close());
    sim.run_for(2 * SECOND + SECOND / 2);
    assert_eq!(sim.received(client).len(), 40_000);
    sim.run_until_idle();
    sim.assert_done(client);
}

#[test]
fn a_slow_reader_with_nothing_to_read_is_at_rest() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let script = Script::new().read_slowly(1, SECOND).send("hello").expect("hello");
    let client = sim.client(echo.address, script);
    sim.run_until_idle();
    sim.assert_done(client);
}

#[test]
fn a_client_that_stops_reading_is_sent_the_rest_when_it_reads_on() {
    let mut sim = Simulation::new(1);
    let flood = sim.serve(Flood(900_000));
    let script = Script::new().stop_reading().wait(SECOND).read_on().expect_bytes(900_000).close();
    let client = sim.client(flood.address, script);
    sim.run_for(SECOND / 2);
    assert_eq!(sim.received(client), b"");
    assert!(sim[flood.reactor].stats().memory_bytes > 400_000, "what the kernels do not hold");
    sim.run_until_idle();
    sim.assert_done(client);
    sim.assert_empty(flood.reactor);
}

#[test]
fn a_client_that_closes_with_unread_bytes_resets() {
    for (read_first, reason) in [(true, CloseReason::PeerClosed), (false, CloseReason::Reset)] {
        let mut sim = Simulation::new(1);
        let echo = served_echo(&mut sim);
        let script = Script::new().send("hello");
        let script = if read_first { script } else { script.stop_reading() };
        sim.client(echo.address, script.wait(SECOND).close());
        sim.run_until_idle();
        assert_eq!(sim.handler(echo).closed, [reason]);
        sim.assert_empty(echo.reactor);
    }
}

#[test]
fn a_client_that_resets_is_a_reset_to_the_server() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello().reset());
    sim.run_until_idle();
    assert_eq!(sim.end(client), Some(End::Left));
    assert_eq!(sim.handler(echo).closed, [CloseReason::Reset]);
}

#[test]
fn a_peer_that_vanished_times_out_at_the_end_of_the_retransmissions() {
    let mut sim = Simulation::new(1);
    let flood = sim.serve(Echo { is_paused: true, ..Echo::default() });
    let client = sim.client(flood.address, hello().send("more").wait(SECOND / 2).vanish());
    // The answer to "more" is written when the timer resumes, and then nobody is there.
    sim.run_for(600 * SECOND);
    assert_eq!(sim.handler(flood).closed, []);
    sim.run_for(1800 * SECOND);
    assert_eq!(sim.handler(flood).closed, [CloseReason::Io(io::ErrorKind::TimedOut)]);
    assert_eq!(sim.received(client), b"hello");
    sim.assert_empty(flood.reactor);
}

#[test]
fn a_connect_to_nobody_is_refused() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let nobody = SocketAddr::new(echo.address.ip(), 7001);
    let client = sim.client(nobody, hello());
    sim.run_until_idle();
    assert_eq!(sim.end(client), Some(End::Failed(io::ErrorKind::ConnectionRefused)));
}

#[test]
fn a_difference_in_many_bytes_is_told_with_those_around_it() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let mut bytes = vec![b'x'; 10_000];
    let script = Script::new().send(&bytes);
    bytes[5000] = b'y';
    sim.client(echo.address, script.expect(&bytes));
    let panic = catch_unwind(AssertUnwindSafe(|| sim.run_until_idle())).unwrap_err();
    let message = panic.downcast_ref::<String>().expect("a message");
    assert!(message.contains("byte 5000 of 10000 is another one"), "{message}");
    let x = "x".repeat(15);
    let shown = format!(r#"expected "…x{x}y{x}…" and received "…x{x}x{x}…":"#);
    assert!(message.contains(&shown), "{message}");
}

#[test]
fn nothing_is_sent_after_the_end() {
    let scripts: [fn(Script) -> Script; 3] = [Script::shutdown, Script::close, Script::reset];
    for (end, name) in scripts.into_iter().zip(["shutdown", "close", "reset"]) {
        let panic = catch_unwind(|| end(hello()).wait(SECOND).send("more")).unwrap_err();
        let message = panic.downcast_ref::<String>().expect("a message");
        assert_eq!(*message, format!("nothing can be sent after `{name}`"));
    }
}

/// Resets whoever comes.
struct Rude;

impl StreamHandler for Rude {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.abort();
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }
}

#[test]
fn a_connection_that_opened_and_was_reset_at_once_is_a_reset() {
    for seed in 0..20 {
        let mut sim = Simulation::new(seed);
        let rude = sim.serve(Rude);
        let client = sim.client(rude.address, hello());
        sim.run_until_idle();
        assert_eq!(sim.end(client), Some(End::Reset));
    }
}

#[test]
#[should_panic(expected = r#"client 1 is not done: expecting "more""#)]
fn whoever_waits_for_ever_is_found_among_all_clients() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, hello().close());
    sim.client(echo.address, hello().expect("more").may_end());
    sim.client(echo.address, hello().expect("much more"));
    sim.run_until_idle();
    sim.assert_all_done();
}

#[test]
fn clients_that_may_end_and_whose_connection_is_over_are_done_enough() {
    let mut sim = Simulation::new(1);
    let (echo, rude) = (served_echo(&mut sim), sim.serve(Rude));
    sim.client(echo.address, hello().shutdown().expect("more").may_end());
    sim.client(rude.address, hello().may_end());
    sim.client(echo.address, hello().close());
    sim.run_until_idle();
    sim.assert_all_done();
}

/// The first line of what was received, with its end.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some(&bytes[..=end])
}

#[test]
fn a_client_takes_what_its_own_code_takes() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let script = Script::new()
        .send("12")
        .expect_with(|bytes| (bytes.len() == 2).then_some(1))
        .expect("2")
        .send("3")
        .wait(SECOND)
        .send("4\n5")
        .expect_with(|bytes| line(bytes).map(<[u8]>::len))
        .expect("5");
    let client = sim.client(echo.address, script);
    sim.run_until_idle();
    sim.assert_done(client);
    sim.assert_all_done();
}

#[test]
fn a_client_responds_with_what_follows_from_what_it_received() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let longer = |bytes: &[u8]| Some((line(bytes)?.len(), [b"+", line(bytes)?].concat()));
    let script = Script::new().send("a\n").respond(longer).respond(longer).expect("++a\n");
    // Each client has its own run of the same script.
    let clients = [script.clone(), script].map(|script| sim.client(echo.address, script));
    sim.run_until_idle();
    for client in clients {
        sim.assert_done(client);
        assert_eq!(sim.received(client), b"a\n+a\n++a\n");
    }
}

#[test]
#[should_panic(expected = "not a number")]
fn what_a_client_looks_at_may_fail_the_test() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let script = Script::new().send("x\n").expect_with(|bytes| {
        assert!(bytes[0].is_ascii_digit(), "not a number");
        Some(bytes.len())
    });
    sim.client(echo.address, script);
    sim.run_until_idle();
}

#[test]
#[should_panic(expected = "its own code takes 3 bytes and was shown 2")]
fn a_client_cannot_take_what_it_was_not_shown() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, Script::new().send("ab").expect_with(|_| Some(3)));
    sim.run_until_idle();
}

#[test]
#[should_panic(
    expected = r#"received "ab", of which its own code takes nothing, and then the end"#
)]
fn an_end_of_file_before_a_client_takes_anything_fails_the_test() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.client(echo.address, Script::new().send("ab").shutdown().expect_with(|_| None));
    sim.run_until_idle();
}

#[test]
#[should_panic(expected = "expecting bytes that its own code takes, at tests/sim/clients.rs:")]
fn a_client_that_takes_nothing_is_not_done() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, Script::new().send("ab").expect_with(|_| None));
    sim.run_until_idle();
    sim.assert_done(client);
}

#[test]
#[should_panic(expected = "nothing can be sent after `shutdown`")]
fn nobody_responds_after_the_end() {
    let _ = Script::new().shutdown().respond(|bytes| Some((bytes.len(), Vec::new())));
}

/// Sends a word, and resets.
struct Rejecting;

impl StreamHandler for Rejecting {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.send(b"enough").ignore();
        conn.close();
        Ok(data.len() / 2)
    }
}

/// tcp(7): what was received before is still there when a write has met the reset.
#[test]
fn who_is_writing_when_a_reset_comes_has_what_came_before_it() {
    for seed in 0..20 {
        for kernel in [Kernel::Linux, Kernel::Contract] {
            let mut sim = Simulation::with(seed, kernel, Faults::none());
            let rejecting = sim.serve(Rejecting);
            sim.reset_after(rejecting.reactor, Party::Clients, 6);
            let client =
                sim.client(rejecting.address, Script::new().send([0; 1 << 20]).expect("enough"));
            sim.run_until_idle();
            assert_eq!(sim.received(client), b"enough", "seed {seed} on {kernel:?}");
            assert_eq!(sim.end(client), Some(End::Reset), "seed {seed} on {kernel:?}");
        }
    }
}

#[test]
fn who_shuts_down_after_a_reset_that_it_has_not_noticed_was_reset() {
    let mut sim = Simulation::new(1);
    let rejecting = sim.serve(Rejecting);
    sim.reset_after(rejecting.reactor, Party::Clients, 3);
    let script = Script::new().stop_reading().send("a").wait(SECOND).shutdown().read_on();
    let client = sim.client(rejecting.address, script);
    sim.run_until_idle();
    assert_eq!((sim.received(client), sim.end(client)), (&b"eno"[..], Some(End::Reset)));
}

#[test]
fn whose_connect_is_under_way_is_not_called_open() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let client = sim.client(echo.address, hello());
    let failure = catch_unwind(AssertUnwindSafe(|| sim.assert_done(client))).unwrap_err();
    let failure = failure.downcast::<String>().expect("a message");
    assert!(failure.ends_with("its connection is not open yet"), "{failure}");
    sim.run_until_idle();
}
