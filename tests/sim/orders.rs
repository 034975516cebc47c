//! What a test orders at one place: calls that fail, reads and writes of so many bytes, resets.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use oneloop::CloseReason;
use oneloop::sim::{
    Call, Check, ClientOptions, End, Faults, Kernel, Party, Script, Simulation, sweep,
};

use super::{Echo, SECOND, hello, served_echo};

const KERNELS: [Kernel; 2] = [Kernel::Linux, Kernel::Contract];

/// What was said by the panic of it.
fn failure(run: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("it has to fail");
    *panic.downcast::<String>().expect("a message")
}

#[test]
fn reads_are_cut_where_the_test_says_on_both_kernels() {
    for kernel in KERNELS {
        for (faults, sends) in [(Faults::none(), 1), (Faults::none(), 3)] {
            let mut sim = Simulation::with(1, kernel, faults);
            let echo = served_echo(&mut sim);
            sim.cut_reads(Party::Clients, echo.reactor, [1, 7, 3]);
            let text = b"0123456789abcdef";
            let mut script = Script::new();
            for part in text.chunks(text.len().div_ceil(sends)) {
                script = script.send(part);
            }
            let client = sim.client(echo.address, script.expect(text).close());
            sim.run_until_idle();
            let pieces = &sim.handler(echo).pieces;
            let expected: [&[u8]; 4] = [b"0", b"1234567", b"89a", b"bcdef"];
            assert_eq!(*pieces, expected, "{kernel:?}");
            sim.assert_done(client);
            sim.assert_all_done();
        }
    }
}

#[test]
fn a_piece_that_comes_in_parts_is_given_in_parts_and_ends_where_it_ends() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let echo = served_echo(&mut sim);
        sim.cut_reads(Party::Clients, echo.reactor, [4, 2]);
        let script = Script::new().send("ab").expect("ab").send("cdefg").expect("cdefg").close();
        sim.client(echo.address, script);
        sim.run_until_idle();
        let expected: [&[u8]; 4] = [b"ab", b"cd", b"ef", b"g"];
        assert_eq!(sim.handler(echo).pieces, expected, "{kernel:?}");
        sim.assert_all_done();
    }
}

#[test]
fn the_last_piece_ends_where_it_ends_whatever_comes_right_behind_it() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let echo = served_echo(&mut sim);
        sim.cut_reads(Party::Clients, echo.reactor, [1]);
        sim.cut_writes(Party::Clients, echo.reactor, [3]);
        sim.client(echo.address, hello().close());
        sim.run_until_idle();
        let pieces = &sim.handler(echo).pieces;
        assert_eq!((&pieces[0][..], pieces.concat()), (&b"h"[..], b"hello".to_vec()), "{kernel:?}");
        sim.assert_all_done();
    }
}

#[test]
fn an_end_of_file_comes_behind_the_last_piece() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let echo = served_echo(&mut sim);
        sim.cut_reads(Party::Clients, echo.reactor, [1; 5]);
        let script = Script::new().send("hello").shutdown().expect("hello").expect_end();
        sim.client(echo.address, script);
        sim.run_until_idle();
        assert_eq!(sim.handler(echo).pieces.len(), 5, "{kernel:?}");
        assert_eq!(sim.handler(echo).closed, [CloseReason::PeerClosed]);
        sim.assert_all_done();
    }
}

#[test]
fn pieces_wait_for_a_handler_that_pauses() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let echo = sim.serve(Echo { is_paused: true, ..Echo::default() });
        sim.cut_reads(Party::Clients, echo.reactor, [2, 2]);
        sim.client(echo.address, Script::new().send("hello").expect("hello").close());
        sim.run_for(10 * SECOND);
        let expected: [&[u8]; 3] = [b"he", b"ll", b"o"];
        assert_eq!(sim.handler(echo).pieces, expected, "{kernel:?}");
        sim.assert_all_done();
    }
}

#[test]
fn writes_take_as_much_as_the_test_says_on_both_kernels() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let echo = served_echo(&mut sim);
        sim.cut_writes(echo.reactor, Party::Clients, [3, 1]);
        sim.client(echo.address, Script::new().send("hello world").expect("hello world").close());
        sim.run_until_idle();
        let trace = sim.trace();
        let is_write = |entry: &&oneloop::sim::Entry| {
            entry.what == "write" && entry.who == oneloop::sim::Who::Reactor(0)
        };
        let taken: Vec<u64> = trace.iter().filter(is_write).map(|entry| entry.value).collect();
        assert_eq!(taken, [3, 1, 7], "{kernel:?}");
        sim.assert_all_done();
    }
}

#[test]
fn a_reset_comes_behind_exactly_so_many_bytes_for_both_sides() {
    for kernel in KERNELS {
        for bytes in 0..=11 {
            let mut sim = Simulation::with(1, kernel, Faults::none());
            let echo = served_echo(&mut sim);
            sim.reset_after(Party::Clients, echo.reactor, bytes);
            let script = Script::new().send("hello").expect("hello").send(" world");
            let client = sim.client(echo.address, script.expect_bytes(100));
            sim.run_until_idle();
            let got: usize = sim.handler(echo).pieces.iter().map(Vec::len).sum();
            assert_eq!(got, bytes, "{kernel:?}");
            assert_eq!(sim.handler(echo).closed, [CloseReason::Reset], "{kernel:?}");
            assert_eq!(sim.end(client), Some(End::Reset), "{kernel:?}");
            sim.assert_empty(echo.reactor);
        }
    }
}

#[test]
fn a_reset_of_what_the_server_sends_leaves_the_client_so_much() {
    for kernel in KERNELS {
        for bytes in 0..=5 {
            let mut sim = Simulation::with(1, kernel, Faults::none());
            let echo = served_echo(&mut sim);
            sim.reset_after(echo.reactor, Party::Clients, bytes);
            let client = sim.client(echo.address, hello());
            sim.run_until_idle();
            assert_eq!(sim.received(client), &b"hello"[..bytes], "{kernel:?}");
            assert_eq!(sim.end(client), Some(End::Reset), "{kernel:?}");
        }
    }
}

#[test]
fn what_a_connection_sends_behind_its_reset_is_not_for_the_next_order() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none().latency_min(SECOND / 100));
        let echo = served_echo(&mut sim);
        for _ in 0..2 {
            sim.reset_after(Party::Clients, echo.reactor, 3);
        }
        // The second word is under way before the reset has come about.
        let script = || Script::new().send("hello").wait(SECOND / 1000).send("again").expect_end();
        let first = sim.client(echo.address, script());
        sim.run_until_idle();
        let second = sim.client(echo.address, script());
        sim.run_until_idle();
        for client in [first, second] {
            assert_eq!(sim.end(client), Some(End::Reset), "{kernel:?}");
        }
        assert_eq!(sim.handler(echo).pieces, [b"hel", b"hel"], "{kernel:?}");
    }
}

#[test]
fn an_order_is_for_its_link_and_its_direction_only() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let options = ClientOptions::new().ip("10.1.0.1".parse().unwrap());
    let script = Script::new().wait(SECOND).send("hello").expect("hello");
    let far = sim.client_with(echo.address, script, options);
    sim.reset_after(far, echo.reactor, 3);
    sim.cut_reads(far, echo.reactor, [1]);
    sim.cut_writes(far, echo.reactor, [2]);
    let near = sim.client(echo.address, hello().close());
    sim.run_until(|sim| sim.is_done(near));
    assert_eq!(sim.handler(echo).pieces, [b"hello"]);
    sim.run_until_idle();
    let expected: [&[u8]; 3] = [b"hello", b"h", b"el"];
    assert_eq!(sim.handler(echo).pieces, expected);
    assert_eq!(sim.end(far), Some(End::Reset));
    // Of which the reset left nothing to write.
    sim.heal();
}

#[test]
fn pieces_hold_under_every_other_fault() {
    for kernel in KERNELS {
        Check::new("pieces").seeds(30).kernel(kernel).faults(Faults::lossless()).run(|sim| {
            let echo = served_echo(sim);
            sim.cut_reads(Party::Clients, echo.reactor, [5, 9]);
            sim.cut_writes(echo.reactor, Party::Clients, [4, 4]);
            let text = b"a text that is longer than the pieces";
            sim.client(echo.address, Script::new().send(text).expect(text).close());
            sim.run_for(60 * SECOND);
            let mut ends = Vec::new();
            for piece in &sim.handler(echo).pieces {
                ends.push(ends.last().unwrap_or(&0) + piece.len());
            }
            assert!(ends.contains(&5) && ends.contains(&14), "{ends:?}");
            sim.assert_all_done();
        });
    }
}

#[test]
fn an_order_that_never_came_to_pass_is_named_with_its_line() {
    let order = |order: fn(&mut Simulation)| {
        failure(|| {
            let mut sim = Simulation::new(1);
            order(&mut sim);
            sim.run_until_idle();
            sim.assert_all_done();
        })
    };
    let line = line!() + 3;
    let call = order(|sim| {
        let echo = served_echo(sim);
        sim.fail_next(echo.reactor, Call::Shutdown, io::ErrorKind::NotConnected);
        sim.client(echo.address, hello());
    });
    assert!(call.starts_with("Call::Shutdown was to fail (Transport endpoint"), "{call}");
    assert!(call.ends_with(&format!(": ordered at tests/sim/orders.rs:{line}")), "{call}");
    let reads = order(|sim| {
        let echo = served_echo(sim);
        sim.cut_reads(Party::Clients, echo.reactor, [1, 2, 3]);
        sim.reset_after(Party::Clients, echo.reactor, 7);
        sim.client(echo.address, Script::new().send("ab").expect("ab"));
    });
    assert!(reads.starts_with("[1, 3] bytes were to be read piece by piece"), "{reads}");
    assert!(reads.ends_with("(and 1 more)"), "{reads}");
    let reset = order(|sim| {
        let echo = served_echo(sim);
        sim.reset_after(Party::Clients, echo.reactor, 7);
        sim.client(echo.address, hello());
    });
    assert!(reset.starts_with("a reset was to come 2 bytes later, and did not"), "{reset}");
}

#[test]
fn nobody_has_to_ask_whether_an_order_came_to_pass() {
    let ordered = |sim: &mut Simulation| {
        let echo = served_echo(sim);
        sim.fail_next(echo.reactor, Call::Accept, io::ErrorKind::ConnectionAborted);
        sim.run_until_idle();
    };
    let expected = "Call::Accept was to fail";
    let dropped = failure(|| ordered(&mut Simulation::new(1)));
    assert!(dropped.starts_with(expected), "{dropped}");
    let checked = failure(|| Check::new("orders").seeds(1).run(ordered));
    assert!(checked.starts_with(expected), "{checked}");
    let swept = failure(|| {
        sweep(1, Kernel::Linux, ordered);
    });
    assert!(swept.starts_with(expected), "{swept}");
}

#[test]
fn heal_withdraws_what_was_ordered() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.fail_next(echo.reactor, Call::Read, io::ErrorKind::TimedOut);
    sim.cut_reads(Party::Clients, echo.reactor, [1]);
    sim.cut_writes(echo.reactor, Party::Clients, [1]);
    sim.reset_after(Party::Clients, echo.reactor, 2);
    sim.heal();
    sim.client(echo.address, hello());
    sim.run_until_idle();
    assert_eq!(sim.handler(echo).pieces, [b"hello"]);
    sim.assert_all_done();
}

#[test]
#[should_panic(expected = "a piece has one byte at least")]
fn a_piece_without_bytes_is_refused() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.cut_reads(Party::Clients, echo.reactor, [1, 0]);
}
