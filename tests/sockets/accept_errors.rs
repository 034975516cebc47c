//! Accepting when it fails: without descriptors, without memory, and with errors of single connections.
//! In processes of their own, whose calls fail as strace(1) is told; a simulation has faults for that,
//! and tests of its own (`sim.rs`, `swarm/doors.rs`).

use std::time::{Duration, Instant};

use crate::child::{Child, is_served};
use crate::support::*;

/// 64 descriptors, 200 clients: those that got in are served, the others learn that they did not, the
/// server rests meanwhile, and when there is room again the next client gets in.
#[test]
fn without_descriptors_the_server_serves_on_sheds_rests_and_recovers_by_itself() {
    assert!(kernel::may_open(512));
    let mut child = Child::start(Some(64));
    let mut clients: Vec<TcpStream> = (0..200).map(|_| connect(child.address)).collect();
    let mut served = Vec::new();
    while let Some(mut client) = clients.pop() {
        if is_served(&mut client) {
            served.push(client);
        }
    }
    let report = child.report();
    assert!((40..64).contains(&served.len()), "{} of 200 were served", served.len());
    assert_eq!(report.get("connections"), served.len() as u64);
    assert_eq!(report.get("sheds"), 200 - served.len() as u64);

    // More of them wait at the door while the established ones go on.
    let waiting: Vec<TcpStream> = (0..100).map(|_| connect(child.address)).collect();
    for _ in 0..5 {
        for client in &mut served {
            assert!(is_served(client), "an established connection");
        }
    }
    // And while nobody says anything: one question ends the time before and one the time after.
    let turns = child.report().get("turns");
    let (cpu, start) = (kernel::cpu_time(child.pid), Instant::now());
    let mut late = connect(child.address);
    assert!(!is_served(&mut late), "it has to wait for a retry, and is shed");
    let deadline = Duration::from_millis(1500);
    while start.elapsed() < deadline {
        std::thread::sleep(deadline.saturating_sub(start.elapsed()));
    }
    let (cpu, elapsed) = (kernel::cpu_time(child.pid) - cpu, start.elapsed());
    let turns = child.report().get("turns") - turns;
    println!("{turns} polls and {cpu:?} on a processor within {elapsed:?}");
    assert!(turns as f64 / elapsed.as_secs_f64() < 100.0, "{turns} polls in {elapsed:?}");
    assert!(cpu < elapsed / 10, "{cpu:?} on a processor in {elapsed:?}");

    // Room again. Nobody else knocks.
    drop(waiting);
    let rest = served.split_off(5);
    drop(served);
    child.until("the server has seen them go", |report| {
        report.get("connections") == rest.len() as u64
    });
    let mut next = Vec::new();
    for _ in 0..5 {
        next.push(connect(child.address));
        assert!(next.last_mut().is_some_and(is_served));
    }
}

/// Another thread may take the reserved descriptor while it is given up. As soon as there is one
/// again, it is reserved first.
#[test]
fn a_reserved_descriptor_that_was_lost_is_taken_again() {
    // The reserve, the listener, the connection to the parent; the fourth one is the reserve again.
    let mut child = Child::start_short_and_failing(Some(64), "socket", "error=EMFILE:when=4");
    let mut served = Vec::new();
    loop {
        let mut client = connect(child.address);
        if !is_served(&mut client) {
            break; // the reserve is lost with it
        }
        served.push(client);
    }
    assert_eq!(child.report().get("sheds"), 1);
    let mut next: Vec<TcpStream> = (0..20).map(|_| connect(child.address)).collect();
    let served: usize = next.iter_mut().map(|client| usize::from(is_served(client))).sum();
    assert_eq!(served, 0, "the descriptor that is left is the reserve");
}

/// A client that is at the door when descriptors end, and for which nothing is shed, waits for the
/// retry and for nobody else.
#[test]
fn a_client_that_waited_for_a_resource_is_served_without_another_one_coming() {
    for error in ["ENFILE", "EMFILE", "ENOBUFS", "ENOMEM"] {
        // The attempt, the one after giving up the reserve, and two more.
        let mut child = Child::start_with_failing("accept4", &format!("error={error}:when=1..4"));
        let mut client = connect(child.address);
        assert!(is_served(&mut client), "{error}");
        let report = child.report();
        assert_eq!(report.get("accepts"), 1, "{error}");
        assert!(report.get("accept_errors") >= 1, "{error}");
        assert_eq!(report.get("sheds"), 0, "{error}");
    }
}

/// Errors that belong to the connection that was to be accepted (accept(2)), and a signal.
#[test]
fn an_error_of_one_connection_is_passed_over() {
    for error in
        ["ECONNABORTED", "EINTR", "EPROTO", "EPERM", "ENETDOWN", "EHOSTUNREACH", "ETIMEDOUT"]
    {
        let mut child = Child::start_with_failing("accept4", &format!("error={error}:when=1..3"));
        let mut client = connect(child.address);
        let start = Instant::now();
        assert!(is_served(&mut client), "{error}");
        let mut next = connect(child.address);
        assert!(is_served(&mut next), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5), "{error} is no reason to wait");
        let report = child.report();
        assert_eq!(report.get("accepts"), 2, "{error}");
        assert_eq!(report.get("accept_errors"), if error == "EINTR" { 0 } else { 3 }, "{error}");
    }
}

/// Nobody knows this error; it ends nothing either.
#[test]
fn an_unknown_error_of_accept_ends_nothing() {
    let mut child = Child::start_with_failing("accept4", "error=EUCLEAN:when=1..2");
    let mut client = connect(child.address);
    assert!(is_served(&mut client));
    assert_eq!(child.report().get("accepts"), 1);
}

/// A filter denies the call, and takes nobody out of the backlog: the client stays at the door.
#[test]
fn an_error_of_one_connection_that_stays_is_no_reason_to_try_all_the_time() {
    let mut child = Child::start_with_failing("accept4", "error=EPERM");
    let _waits = connect(child.address);
    child.until("it has failed", |report| report.get("accept_errors") > 64);
    let (turns, start) = (child.report().get("turns"), Instant::now());
    let pause = Duration::from_millis(500);
    while start.elapsed() < pause {
        std::thread::sleep(pause.saturating_sub(start.elapsed()));
    }
    let turns = child.report().get("turns") - turns;
    assert!(turns < 200, "{turns} turns in {:?}", start.elapsed());
}
