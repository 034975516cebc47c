//! What happens to hosts: calls that fail, reactors that end and come back.

use std::io;

use oneloop::sim::{Call, End, Party, Script, Simulation};
use oneloop::{CloseReason, ReactorLimits};

use super::{Echo, SECOND, hello, served_echo};

#[test]
fn the_next_call_of_a_kind_fails_with_the_error_that_was_named() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.run_until_idle();
    sim.fail_next(echo.reactor, Call::Read, io::ErrorKind::TimedOut);
    let first = sim.client(echo.address, hello());
    sim.run_until_idle();
    assert_eq!(sim.handler(echo).closed, [CloseReason::Io(io::ErrorKind::TimedOut)]);
    assert!(!sim.is_done(first));
    let second = sim.client(echo.address, hello());
    sim.run_until_idle();
    sim.assert_done(second);
}

#[test]
fn a_failing_accept_does_what_its_error_demands() {
    let (emfile, enobufs) = (24, 105);
    for (number, errors, sheds, waits) in [
        (emfile, 1, 1, false),
        (enobufs, 1, 0, true),
        (
            io::Error::from(io::ErrorKind::ConnectionAborted).raw_os_error().unwrap_or(103),
            1,
            0,
            false,
        ),
    ] {
        let mut sim = Simulation::new(1);
        let echo = served_echo(&mut sim);
        sim.fail_next(echo.reactor, Call::Accept, io::Error::from_raw_os_error(number));
        let script = hello().may_end();
        let client = sim.client(echo.address, script);
        sim.run_until_idle();
        let stats = sim[echo.reactor].stats();
        assert_eq!((stats.accept_errors, stats.sheds), (errors, sheds), "{number}");
        let is_shed = sheds > 0;
        assert_eq!(sim.is_done(client), !is_shed && !waits, "{number}");
        sim.run_for(5 * SECOND);
        assert_eq!(sim.is_done(client), !is_shed, "{number}");
    }
}

#[test]
fn several_calls_fail_one_after_another() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.fail_next(echo.reactor, Call::Write, io::ErrorKind::BrokenPipe);
    sim.fail_next(echo.reactor, Call::Write, io::ErrorKind::HostUnreachable);
    for _ in 0..3 {
        sim.client(echo.address, hello().may_end());
        sim.run_until_idle();
    }
    let unreachable = CloseReason::Io(io::ErrorKind::HostUnreachable);
    assert_eq!(sim.handler(echo).closed, [CloseReason::Reset, unreachable]);
}

#[test]
#[should_panic(expected = "no system call fails with")]
fn an_error_that_no_call_has_is_refused() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.fail_next(echo.reactor, Call::Read, io::ErrorKind::InvalidData);
}

#[test]
fn a_reactor_that_is_removed_ends_as_a_process_does() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let open = sim.client(echo.address, hello().expect_end());
    let paused = sim.serve(Echo { is_paused: true, ..Echo::default() });
    let unread = sim.client(paused.address, hello().send("more").expect("more"));
    sim.run_for(SECOND / 10);
    sim.remove(echo.reactor);
    sim.remove(paused.reactor);
    let late = sim.client(echo.address, hello());
    sim.run_until_idle();
    sim.assert_done(open);
    assert_eq!(sim.end(unread), Some(End::Reset));
    assert_eq!(sim.end(late), Some(End::Failed(io::ErrorKind::ConnectionRefused)));
}

#[test]
fn nobody_hears_of_a_crash_until_the_host_is_back() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let script = || hello().wait(10 * SECOND).send("more").expect("more");
    let talker = sim.client(echo.address, script());
    let listener = sim.client(echo.address, hello().expect_end());
    sim.run_for(SECOND);
    sim.crash(echo.reactor);
    let late = sim.client(echo.address, hello().close());
    sim.run_for(60 * SECOND);
    for client in [talker, listener, late] {
        assert_eq!(sim.end(client), None);
    }
    let again = sim.restart(echo, Echo::default());
    assert_eq!(again.address, echo.address);
    sim.run_for(120 * SECOND);
    assert_eq!(sim.end(talker), Some(End::Reset), "an answer to what it sent again");
    assert_eq!(sim.end(listener), None, "it asks nothing, and is told nothing");
    sim.assert_done(late);
}

#[test]
fn a_crash_without_a_return_times_out() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let talker = sim.client(echo.address, hello().wait(SECOND).send("more").expect("more"));
    sim.run_for(SECOND / 2);
    sim.crash(echo.reactor);
    let late = sim.client(echo.address, hello());
    sim.run_until_idle();
    for client in [talker, late] {
        assert_eq!(sim.end(client), Some(End::Failed(io::ErrorKind::TimedOut)));
    }
}

#[test]
fn a_crash_takes_all_reactors_of_the_machine() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    let beside = sim.add_reactor_beside(echo.reactor, ReactorLimits::new().connections_max(4));
    let handler = sim[beside].add(Echo::default());
    let address = (sim.ip(beside), 7001);
    sim[beside].listen(handler, address).unwrap();
    let client = sim.client(address, hello());
    sim.run_until_idle();
    sim.assert_done(client);
    sim.crash(echo.reactor);
    sim.partition(Party::Clients, echo.reactor);
    let late = sim.client(address, Script::new());
    sim.run_until_idle();
    assert_eq!(sim.end(late), Some(End::Failed(io::ErrorKind::TimedOut)));
}

#[test]
#[should_panic(expected = "reactor 0 was removed")]
fn a_removed_reactor_is_no_more() {
    let mut sim = Simulation::new(1);
    let echo = served_echo(&mut sim);
    sim.remove(echo.reactor);
    let _ = sim[echo.reactor].stats();
}
