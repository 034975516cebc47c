//! The simulated server in one course of events each, without faults.

use std::cell::Cell;
use std::time::Duration;

use oneloop::CloseReason;
use oneloop::sim::{Script, Simulation};

use crate::simulated::{reply_length, serve};
use crate::{LONG, ask};

/// Of more than eight megabytes the last part has to be taken within a minute, as in Redis; of less, whenever it likes.
#[test]
fn a_subscriber_with_much_output_is_dropped_after_a_minute() {
    for (messages, seconds, is_dropped) in [(160, 50, false), (160, 70, true), (100, 500, false)] {
        let mut sim = Simulation::new(1);
        let served = serve(&mut sim);
        let slow =
            Script::new().send("SUBSCRIBE news\r\n").expect_with(reply_length).stop_reading();
        let slow = slow.wait(Duration::from_secs(seconds)).read_on().may_end();
        let slow = sim.client(served.address, slow);
        sim.run_for(Duration::from_secs(1)); // it waits from now on
        let message = format!("PUBLISH news {}\r\n", "x".repeat(60_000)).repeat(messages);
        let script = Script::new().send(message).expect(":1\r\n".repeat(messages)).close();
        let publisher = sim.client(served.address, script);
        sim.run_for(LONG);
        sim.assert_done(publisher);
        let dropped = sim[served.reactor].stats().closes(CloseReason::OutputSoftTimeout);
        assert_eq!(dropped, u64::from(is_dropped), "{messages} messages, after {seconds} s");
        let has_all = sim.received(slow).len() > messages * 60_000;
        assert_ne!(has_all, is_dropped, "{messages} messages, after {seconds} s");
    }
}

#[test]
fn keys_keep_their_deadlines_when_most_others_are_removed() {
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let names = |count: u64| (0..count).map(|number| format!(" {number}")).collect::<String>();
    let set = (0..200).map(|number| format!(" {number} x")).collect::<String>();
    let script = Script::new()
        .send(format!("MSET{set}\r\nSET 197 x PX 1000\r\nSET 199 x PX 3000\r\n"))
        .expect("+OK\r\n".repeat(3))
        .send(format!("DEL{}\r\nPTTL 197\r\nPTTL 199\r\n", names(197)))
        .expect(":197\r\n:1000\r\n:3000\r\n")
        .wait(Duration::from_secs(2))
        .send("DBSIZE\r\nPTTL 199\r\n")
        .expect(":2\r\n:1000\r\n")
        .wait(Duration::from_secs(2))
        .send("DBSIZE\r\nEXISTS 198\r\n")
        .expect(":1\r\n:1\r\n")
        .close();
    let client = sim.client(served.address, script);
    sim.run_for(LONG);
    sim.assert_done(client);
}

/// What expires at one moment is removed in parts, of a thousand entries or so.
#[test]
fn keys_that_expire_together_leave_others_their_turns() {
    // Five seconds after the simulation's clock begins, which is that of the year 2000.
    let members: String = (0..1000).map(|member| format!(" {member}")).collect();
    let small: String =
        (0..20_000).map(|key| format!("SET {key} x PXAT 946684805000\r\n")).collect();
    let large =
        (0..20).map(|key| format!("SADD {key}{members}\r\nPEXPIREAT {key} 946684805000\r\n"));
    let long = (0..40).map(|key| format!("SET {key:064000} x PXAT 946684805000\r\n"));
    for (set, replies) in [(small, 20_000), (large.collect(), 40), (long.collect(), 40)] {
        let mut sim = Simulation::new(1);
        let served = serve(&mut sim);
        let count = move |bytes: &[u8]| {
            (bytes.iter().filter(|byte| **byte == b'\n').count() == replies).then_some(bytes.len())
        };
        let script = Script::new().send(set).expect_with(count).wait(Duration::from_secs(9));
        let client = sim.client(served.address, script.send("DBSIZE\r\n").expect(":0\r\n").close());
        let turns = |sim: &Simulation| sim[served.reactor].stats().turns;
        sim.run_for(Duration::from_secs(4));
        let before = turns(&sim);
        sim.run_for(Duration::from_millis(500));
        let quiet = turns(&sim) - before;
        sim.run_for(Duration::from_millis(1000));
        let turns = turns(&sim) - before;
        assert!(turns > 2 * quiet + 15, "{turns} turns, {quiet} of them before");
        sim.run_for(LONG);
        sim.assert_done(client);
    }
}

#[test]
fn a_watched_key_that_has_expired_undoes_the_transaction_though_nobody_has_looked() {
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let script = Script::new()
        .send("SET a 1 PX 30\r\nWATCH a\r\nMULTI\r\nSET b 1\r\n")
        .expect("+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n")
        .wait(Duration::from_millis(40)) // which is before those that have expired are looked for
        .send("EXEC\r\nEXISTS a b\r\n")
        .expect("*-1\r\n:0\r\n")
        .close();
    let client = sim.client(served.address, script);
    sim.run_for(LONG);
    sim.assert_done(client);
}

#[test]
fn a_drain_does_not_wait_for_the_end_of_a_pause() {
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let pausing = Script::new().send("CLIENT PAUSE 100000\r\n").expect("+OK\r\n").expect_end();
    sim.client(served.address, pausing);
    sim.run_for(Duration::from_secs(1));
    let postponed = Script::new().send("INCR a\r\n".repeat(3000)).expect_end();
    sim.client(served.address, postponed);
    sim.run_for(Duration::from_secs(1));
    sim[served.reactor].drain(Duration::from_secs(5));
    sim.run_for(Duration::from_millis(1500));
    sim.assert_all_done();
}

#[test]
fn a_postponed_command_of_a_client_that_has_left_is_not_carried_out() {
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let pausing = Script::new().send("CLIENT PAUSE 60000\r\n").expect("+OK\r\n").close();
    sim.client(served.address, pausing);
    sim.run_for(Duration::from_secs(1));
    sim.client(served.address, Script::new().send("INCR a\r\n").close());
    let stays = Script::new().send("INCR b\r\nINCR b\r\nPING\r\n");
    let stays = stays.expect(":1\r\n:2\r\n+PONG\r\n").close();
    let stays = sim.client(served.address, stays);
    sim.run_for(Duration::from_secs(50));
    assert_eq!(sim.received(stays), b"");
    sim.run_for(Duration::from_secs(10));
    sim.assert_all_done();
    assert_eq!(ask(&mut sim, served, "MGET a b"), b"*2\r\n$-1\r\n$1\r\n2\r\n");
}

#[test]
fn a_postponed_command_is_a_part_of_the_input_that_is_accounted_for() {
    const VALUE_BYTES: usize = 1 << 20;
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let pausing = Script::new().send("CLIENT PAUSE 60000\r\n").expect("+OK\r\n").close();
    sim.client(served.address, pausing);
    sim.run_for(Duration::from_secs(1));
    let set =
        format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${VALUE_BYTES}\r\n{}\r\n", "x".repeat(VALUE_BYTES));
    let postponed = Script::new().send(set).expect("+OK\r\n").close();
    sim.client(served.address, postponed);
    sim.run_for(Duration::from_secs(10));
    assert!(sim[served.reactor].stats().memory_bytes > VALUE_BYTES);
    sim.run_for(Duration::from_secs(60));
    sim.assert_all_done();
}

thread_local! {
    /// What this thread panics at when it is to be logged.
    static UNLOGGABLE: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// A log that fails in the middle of a command.
struct FailingLog;

impl log::Log for FailingLog {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        let fails = |text| record.args().to_string() == text;
        assert!(!UNLOGGABLE.get().is_some_and(fails), "the log fails");
    }

    fn flush(&self) {}
}

#[test]
fn the_replies_to_a_client_that_ends_with_a_panic_are_nobody_elses() {
    log::set_logger(&FailingLog).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    UNLOGGABLE.set(Some("SHUTDOWN"));
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    sim[served.reactor].let_panics_through(false);
    let script = Script::new().send("INCR a\r\nSHUTDOWN\r\n").expect_end();
    let panics = sim.client(served.address, script);
    sim.run_until_idle();
    sim.assert_done(panics);
    assert_eq!(sim[served.reactor].stats().panics, 1);
    assert_eq!(ask(&mut sim, served, "GET a"), b"$1\r\n1\r\n");
}

#[test]
fn what_is_published_within_a_transaction_comes_behind_its_replies() {
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let script = Script::new()
        .send("MULTI\r\nSUBSCRIBE news\r\nPUBLISH news x\r\nEXEC\r\n")
        .expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n")
        .expect("*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n:1\r\n")
        .expect("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n")
        .close();
    let client = sim.client(served.address, script);
    sim.run_for(LONG);
    sim.assert_done(client);
}

#[test]
fn who_has_watched_a_key_that_changed_watches_it_until_exec() {
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let is = |words: &'static str| {
        move |bytes: &[u8]| {
            let length = reply_length(bytes)?;
            assert!(str::from_utf8(bytes).unwrap().contains(words), "{}", bytes.escape_ascii());
            Some(length)
        }
    };
    let script = Script::new()
        .send("WATCH a b\r\nCLIENT INFO\r\n")
        .expect("+OK\r\n")
        .expect_with(is(" watch=2 "))
        .send("SET b 1\r\nWATCH b c\r\nCLIENT INFO\r\nMULTI\r\nEXEC\r\nCLIENT INFO\r\nMULTI\r\nEXEC\r\n")
        .expect("+OK\r\n+OK\r\n")
        .expect_with(is(" watch=3 "))
        .expect("+OK\r\n*-1\r\n")
        .expect_with(is(" watch=0 "))
        .expect("+OK\r\n*0\r\n")
        .close();
    let client = sim.client(served.address, script);
    sim.run_for(LONG);
    sim.assert_done(client);
}

/// The replies are short, and so are the commands, and each of them looks at all keys or elements.
#[test]
fn who_sends_costly_commands_gives_the_turn_back() {
    const ENTRIES: usize = 5000;
    const COMMANDS: usize = 200;
    for (command, reply) in [("KEYS none", "*0\r\n"), ("LREM list 0 none", ":0\r\n")] {
        let mut sim = Simulation::new(1);
        let served = serve(&mut sim);
        let pairs: String = (0..ENTRIES).map(|i| format!(" {i} x")).collect();
        let elements = " x".repeat(ENTRIES);
        let fill = Script::new()
            .send(format!("MSET{pairs}\r\nRPUSH list{elements}\r\n"))
            .expect(format!("+OK\r\n:{ENTRIES}\r\n"));
        sim.client(served.address, fill.close());
        sim.run_for(Duration::from_secs(1));
        let turns = sim[served.reactor].stats().turns;
        let costly = Script::new().send(format!("{command}\r\n").repeat(COMMANDS));
        sim.client(served.address, costly.expect(reply.repeat(COMMANDS)).close());
        sim.run_for(Duration::from_secs(10));
        sim.assert_all_done();
        let turns = sim[served.reactor].stats().turns - turns;
        assert!(turns as usize > ENTRIES * COMMANDS / 50_000, "{turns} turns of {command}");
    }
}

/// The answers are short, and for each of them a pattern takes many steps, also if it is given up.
#[test]
fn who_has_slow_patterns_tried_gives_the_turn_back() {
    let (key, channel) = ("x".repeat(60_000), "a".repeat(256));
    let slow = |stars: usize| format!("*{}b", "a".repeat(stars));
    let bad = "x".repeat(1000);
    for (count, command, reply) in [
        (20, "SCAN 0 MATCH *xxxxxxxxb".to_string(), "*2\r\n$1\r\n0\r\n*0\r\n"),
        (20, "KEYS *xxxxxxxxb".to_string(), "*0\r\n"),
        (6, format!("KEYS *{bad}b"), "-ERR the pattern takes too long\r\n"),
        (20, format!("PUBLISH {channel} x"), ":0\r\n"),
    ] {
        let mut sim = Simulation::new(1);
        let served = serve(&mut sim);
        let set = Script::new().send(format!("SET {key} x\r\n")).expect("+OK\r\n").close();
        sim.client(served.address, set);
        let patterns: String = (100..130).map(|stars| slow(stars) + " ").collect();
        let subscriber = Script::new().send(format!("PSUBSCRIBE {patterns}\r\n"));
        sim.client(served.address, subscriber);
        sim.run_for(Duration::from_secs(1));
        let mut turns = |sent: String, replies: String| {
            let before = sim[served.reactor].stats().turns;
            let client = Script::new().send(sent).expect(replies).close();
            let client = sim.client(served.address, client);
            sim.run_for(Duration::from_secs(10));
            sim.assert_done(client);
            (sim[served.reactor].stats().turns - before) as usize
        };
        let cheap = turns("PING\r\n".into(), "+PONG\r\n".into());
        let costly = turns(format!("{command}\r\n").repeat(count), reply.repeat(count));
        assert!(costly + 1 >= cheap + count, "{costly} and {cheap} turns of {command:.20}");
    }
}

/// The answers are short, and for each of them all clients are looked at.
#[test]
fn who_asks_about_all_clients_gives_the_turn_back() {
    const CLIENTS: usize = 60;
    const COMMANDS: usize = 5000;
    for command in ["CLIENT KILL ID 0", "INFO server"] {
        let mut sim = Simulation::new(1);
        let served = serve(&mut sim);
        let others: Vec<_> =
            (0..CLIENTS).map(|_| sim.client(served.address, Script::new())).collect();
        sim.run_for(Duration::from_secs(1));
        let turns = sim[served.reactor].stats().turns;
        let mut costly = Script::new().send(format!("{command}\r\n").repeat(COMMANDS));
        for _ in 0..COMMANDS {
            costly = costly.expect_with(reply_length);
        }
        let costly = sim.client(served.address, costly.close());
        sim.run_for(Duration::from_secs(10));
        sim.assert_done(costly);
        assert_eq!(sim[served.reactor].stats().connections, others.len());
        let turns = sim[served.reactor].stats().turns - turns;
        assert!(turns as usize > CLIENTS * COMMANDS / 16_000, "{turns} turns of {command}");
    }
}

/// All clients that wait get a turn between the messages of one that sends many, to many.
#[test]
fn who_publishes_to_many_gives_the_turn_back() {
    const SUBSCRIBERS: usize = 50;
    const MESSAGES: usize = 900;
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    for _ in 0..SUBSCRIBERS {
        let script = Script::new().send("SUBSCRIBE news\r\n").expect_with(reply_length);
        let texts = (0..MESSAGES).map(|_| "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n");
        sim.client(served.address, script.expect(texts.collect::<String>()).close());
    }
    sim.run_for(Duration::from_secs(1));
    let turns = sim[served.reactor].stats().turns;
    let messages = "PUBLISH news x\r\n".repeat(MESSAGES);
    let replies = format!(":{SUBSCRIBERS}\r\n").repeat(MESSAGES);
    let publisher = Script::new().send(messages).expect(replies).close();
    sim.client(served.address, publisher);
    sim.run_for(Duration::from_secs(10));
    sim.assert_all_done();
    let turns = sim[served.reactor].stats().turns - turns;
    let least = SUBSCRIBERS * MESSAGES / 2000;
    assert!(turns as usize > least, "{turns} turns for {SUBSCRIBERS} x {MESSAGES} messages");
}

/// They are made up to the bound before they are refused.
#[test]
fn who_asks_for_replies_that_are_too_large_gives_the_turn_back() {
    const COMMANDS: usize = 10;
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let value = "x".repeat(50 << 20);
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n{value}\r\n", value.len());
    sim.client(served.address, Script::new().send(set).expect("+OK\r\n").close());
    sim.run_for(Duration::from_secs(10));
    let turns = sim[served.reactor].stats().turns;
    let refused = "-ERR the reply would be too large\r\n".repeat(COMMANDS);
    let costly = Script::new().send("MGET a a a\r\n".repeat(COMMANDS)).expect(refused);
    sim.client(served.address, costly.close());
    sim.run_for(Duration::from_secs(10));
    sim.assert_all_done();
    let turns = sim[served.reactor].stats().turns - turns;
    assert!(turns as usize > COMMANDS, "{turns} turns");
    // Within a transaction, where it cannot, the rest is refused.
    let count = 5 * COMMANDS;
    let exec = format!("MULTI\r\n{}EXEC\r\n", "MGET a a a\r\n".repeat(count));
    let queued = format!("+OK\r\n{}*{count}\r\n", "+QUEUED\r\n".repeat(count));
    let exec = Script::new().send(exec).expect(queued);
    let client = sim.client(served.address, exec.expect_with(reply_length).close());
    sim.run_for(Duration::from_secs(10));
    let received = String::from_utf8_lossy(sim.received(client));
    assert!(received.ends_with("-ERR the transaction takes too long\r\n"), "{received}");
}
