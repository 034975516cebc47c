use super::*;

use oneloop::sim::{Check, Faults, Harness, Script, Served, Simulation, all_splits};
use oneloop::{CloseReason, ReactorLimits};

fn harness() -> Harness<Framed<Tally>> {
    Harness::with_limits(Framed::new(Tally::default()), limits())
}

#[test]
fn what_is_added_is_told_and_kept() {
    let mut harness = harness();
    harness.feed("add apples 3\nadd apples 4\nget apples\nget pears\n");
    assert_eq!(
        harness.output(),
        b"apples 3\napples 7\napples 7\nerror: nobody has added anything to this\n"
    );
}

#[test]
fn who_quits_is_told_how_much_there_was() {
    let mut harness = harness();
    harness.feed("add a 1\nquit\nadd a 1\n");
    assert_eq!(harness.output(), b"a 1\nbye, after 2 commands\n");
    assert_eq!(harness.closed(), Some(CloseReason::Closed));
    assert_eq!(harness.handler().handler().totals["a"], 1, "what came after it does not count");
}

#[test]
fn the_answers_do_not_depend_on_the_cuts() {
    all_splits(
        b"add a 1\r\nget a\nquit\n",
        || Framed::new(Tally::default()),
        |harness| assert_eq!(harness.output(), b"a 1\na 1\nbye, after 3 commands\n"),
    );
}

#[test]
fn a_total_that_would_be_too_large_stays_as_it_is() {
    let mut harness = harness();
    harness.feed(format!("add a {}\nadd a 1\nget a\n", i64::MAX));
    let max = i64::MAX;
    let expected = format!("a {max}\nerror: the total would be too large\na {max}\n");
    assert_eq!(harness.output(), expected.as_bytes());
}

#[test]
fn the_longest_name_has_an_answer() {
    let name = "x".repeat(LINE_BYTES_MAX - "add  -9".len());
    let mut harness = harness();
    harness.feed(format!("add {name} -9\nget {name}\n"));
    assert_eq!(harness.output(), format!("{name} -9\n").repeat(2).as_bytes());
}

#[test]
fn a_line_without_an_end_is_told_and_ends_the_connection() {
    let mut harness = harness();
    harness.feed([b'x'; LINE_BYTES_MAX + 1]);
    assert_eq!(harness.output(), b"error: a frame is over its limit of 200 bytes\n");
    assert_eq!(harness.closed(), Some(CloseReason::BadFrame));
}

#[test]
fn a_line_that_is_no_text_is_told_and_the_next_one_is_answered() {
    let mut harness = harness();
    harness.feed(b"add \xff 1\nadd a 1\n");
    assert_eq!(harness.output(), b"error: a command is UTF-8 text\na 1\n");
}

#[test]
fn who_is_silent_or_does_not_finish_a_line_is_disconnected() {
    for (begun, seconds, reason) in
        [("", 60, CloseReason::IdleTimeout), ("add a", 10, CloseReason::MessageTimeout)]
    {
        let mut harness = harness();
        harness.feed(begun);
        harness.advance(Duration::from_secs(seconds - 1));
        assert_eq!(harness.output(), b"", "it has a second left");
        harness.advance(Duration::from_secs(1));
        assert_eq!(harness.output(), b"error: too slow\n");
        assert_eq!(harness.closed(), Some(reason));
    }
}

fn serve(sim: &mut Simulation) -> Served<Framed<Tally>> {
    let options = ListenOptions::new().limits(limits());
    sim.serve_with(Framed::new(Tally::default()), ReactorLimits::new(), &options)
}

#[test]
fn when_the_server_ends_its_clients_are_told() {
    let mut sim = Simulation::new(1);
    let server = serve(&mut sim);
    let script = Script::new()
        .send("add a 1\n")
        .expect("a 1\n")
        .expect("bye, the server ends\n")
        .expect_end()
        .close();
    let client = sim.client(server.address, script);
    sim.run_until_idle();
    sim[server.reactor].drain(DRAIN_TIME);
    sim.run_until_idle();
    sim.assert_done(client);
    sim.assert_empty(server.reactor);
}

#[test]
fn no_addition_that_was_answered_is_lost_and_none_counts_twice() {
    const CLIENTS: usize = 5;
    const EACH: usize = 20;
    Check::new("no_addition_that_was_answered_is_lost_and_none_counts_twice")
        .seeds(200)
        .faults(Faults::some())
        .run(|sim| {
            let server = serve(sim);
            let one_line = |bytes: &[u8]| Some(bytes.iter().position(|byte| *byte == b'\n')? + 1);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    // A server that has run out of descriptors closes.
                    let mut script = Script::new().may_end();
                    for _ in 0..EACH {
                        script = script.send("add a 1\n").expect_with(one_line);
                    }
                    sim.client(server.address, script.close())
                })
                .collect();
            sim.run_until_idle();
            let answers = clients
                .iter()
                .map(|client| sim.received(*client).iter().filter(|byte| **byte == b'\n').count());
            let answers: usize = answers.sum();
            let tally = sim.handler(server).handler();
            let total = tally.totals.get("a").map_or(0, |total| *total as usize);
            // Each client waits for one answer at most.
            assert!((answers..=answers + CLIENTS).contains(&total), "{total}, {answers} answered");
        });
}
