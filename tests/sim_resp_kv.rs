//! The key-value server on a simulated network with faults, and what it promises whatever happens.
//!
//! That these tests see something was tried with bugs put into the server; CONTRIBUTING.md has the list.

#![cfg(feature = "sim")]

#[path = "resp_kv/crashes.rs"]
mod crashes;
#[path = "resp_kv/model.rs"]
mod model;
#[path = "../examples/resp_kv/server/mod.rs"]
#[allow(dead_code, reason = "some of it is for the program")]
mod server;
#[path = "resp_kv/simulated.rs"]
mod simulated;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use oneloop::CloseReason;
use oneloop::sim::{Check, ClientId, Faults, Script, Served, Simulation};

use model::Model;
use server::Server;
use simulated::{any_batch, encode, reply_length, serve, texts};

/// Longer than any of the scripts takes, whatever the network does to it.
pub(crate) const LONG: Duration = Duration::from_secs(600);

/// Runs a scenario under many seeds: without a loss, in which everything has to be done in the end, and with all faults,
/// in which connections end at any time.
fn check(name: &str, seeds: u64, scenario: impl Fn(&mut Simulation, bool)) {
    Check::new(name).seeds(seeds / 2).faults(Faults::lossless()).run(|sim| scenario(sim, false));
    let lossy = Check::new(name).seeds(seeds / 2).base(seeds / 2).faults(Faults::some());
    lossy.run(|sim| scenario(sim, true));
}

/// Lets everything happen, and ends all faults; whoever can be done then is done.
fn run(sim: &mut Simulation, is_lossy: bool) {
    sim.run_for(LONG);
    if is_lossy {
        sim.heal();
        sim.run_for(LONG); // for those who are back
    }
    sim.run_until_idle();
    sim.assert_all_done();
}

fn add(sim: &mut Simulation, served: Served<Server>, script: Script, is_lossy: bool) -> ClientId {
    let script = if is_lossy { script.may_end() } else { script };
    sim.client(served.address, script)
}

/// What a new client is told, after all faults have ended.
fn ask(sim: &mut Simulation, served: Served<Server>, command: &str) -> Vec<u8> {
    let script = Script::new().send(command.to_owned() + "\r\n").expect_with(reply_length).close();
    let client = sim.client(served.address, script);
    sim.run_until_idle();
    sim.assert_done(client);
    sim.received(client).to_vec()
}

/// Notes the texts of so many replies.
fn note_replies(mut script: Script, count: u64, notes: &Rc<RefCell<Vec<String>>>) -> Script {
    for _ in 0..count {
        let notes = Rc::clone(notes);
        script = script.expect_with(move |bytes| {
            let length = reply_length(bytes)?;
            notes.borrow_mut().extend(texts(&bytes[..length]));
            Some(length)
        });
    }
    script
}

#[test]
fn each_command_of_a_pipeline_has_its_reply_once_and_in_order() {
    check("each_command_of_a_pipeline_has_its_reply_once_and_in_order", 200, |sim, is_lossy| {
        let served = serve(sim);
        for client in 0..1 + sim.random() % 4 {
            let (mut model, mut script) = (Model::default(), Script::new());
            for _ in 0..1 + sim.random() % 5 {
                let (mut sent, mut expected) = (Vec::new(), String::new());
                for command in any_batch(sim, &format!("client{client}")) {
                    sent.extend(encode(sim, &command));
                    expected += &model.reply(&command);
                }
                script = script.send(sent).expect(expected);
            }
            add(sim, served, script.shutdown().expect_end(), is_lossy);
        }
        run(sim, is_lossy);
        sim.assert_empty(served.reactor);
    });
}

#[test]
fn a_counter_of_many_counts_each_step_once() {
    check("a_counter_of_many_counts_each_step_once", 100, |sim, is_lossy| {
        let served = serve(sim);
        let mut sent = 0;
        let mut counted = Vec::new();
        for _ in 0..1 + sim.random() % 6 {
            let (mut script, notes) = (Script::new(), Rc::default());
            for _ in 0..sim.random() % 5 {
                let steps = 1 + sim.random() % 20;
                script = script.send("INCR counter\r\n".repeat(steps as usize));
                script = note_replies(script, steps, &notes);
                sent += steps;
            }
            add(sim, served, script.close(), is_lossy);
            counted.push(notes);
        }
        run(sim, is_lossy);
        let counter = ask(sim, served, "GET counter");
        let counter: u64 = texts(&counter).first().map_or(0, |text| text.parse().unwrap_or(0));
        let mut all = BTreeSet::new();
        for notes in counted {
            let numbers: Vec<u64> =
                notes.borrow().iter().map(|text| text.parse().unwrap()).collect();
            assert!(numbers.is_sorted(), "{numbers:?}");
            assert!(numbers.iter().all(|number| all.insert(*number)), "twice in {numbers:?}");
        }
        assert!(all.last().is_none_or(|last| *last <= counter));
        assert!(is_lossy || all.len() as u64 == sent && counter == sent, "{counter} of {sent}");
    });
}

#[test]
fn an_element_goes_to_one_of_those_who_wait_and_only_once() {
    check("an_element_goes_to_one_of_those_who_wait_and_only_once", 160, |sim, is_lossy| {
        let served = serve(sim);
        let (producers, each) = (1 + sim.random() % 3, sim.random() % 30);
        for producer in 0..producers {
            let mut script = Script::new();
            for i in 0..each {
                let list = sim.random() % 2;
                script = script.send(format!("RPUSH list{list} {producer}-{i:03}\r\n"));
                if sim.random().is_multiple_of(3) {
                    script = script.wait(Duration::from_millis(sim.random() % 50));
                }
            }
            script = note_replies(script, each, &Rc::default());
            add(sim, served, script.close(), is_lossy);
        }
        let (mut received, mut one_leaves) = (Vec::new(), false);
        for _ in 0..1 + sim.random() % 4 {
            let (mut script, notes) = (Script::new(), Rc::default());
            for _ in 0..sim.random() % 8 {
                let pops = 1 + sim.random() % 5;
                for _ in 0..pops {
                    let time_out = ["0.05", "1", "20"][sim.random() as usize % 3];
                    let lists = ["list0 list1", "list1 list0", "list0"][sim.random() as usize % 3];
                    script = script.send(format!("BLPOP {lists} {time_out}\r\nECHO -\r\n"));
                }
                script = note_replies(script, 2 * pops, &notes);
            }
            if sim.random().is_multiple_of(4) {
                script = script.send("BLPOP list0 list1 0\r\n").wait(Duration::from_millis(30));
                one_leaves = true;
            }
            add(sim, served, script.close(), is_lossy);
            received.push(notes);
        }
        run(sim, is_lossy);
        let mut all = BTreeSet::new();
        for notes in received {
            let mut last = BTreeMap::new();
            let notes = notes.borrow();
            // Behind each pop comes an echo, whether it got something or not.
            for popped in notes.split(|text| text == "-").filter(|popped| !popped.is_empty()) {
                let [list, element] = popped else {
                    panic!("{popped:?} is no list and its element")
                };
                let (producer, _) = element.split_once('-').unwrap();
                let before = last.insert((list.clone(), producer.to_string()), element.clone());
                assert!(before.as_ref() < Some(element), "{element} after {before:?}");
                assert!(all.insert(element.clone()), "{element} was given to two");
            }
        }
        for list in ["list0", "list1"] {
            for element in texts(&ask(sim, served, &format!("LRANGE {list} 0 -1"))) {
                assert!(all.insert(element.clone()), "{element} was given away and is still there");
            }
        }
        assert!(is_lossy || one_leaves || all.len() as u64 == producers * each, "{all:?}");
    });
}

#[test]
fn messages_come_in_order_and_once() {
    check("messages_come_in_order_and_once", 100, |sim, is_lossy| {
        let served = serve(sim);
        let mut heard = Vec::new();
        let count = sim.random() % 40;
        for _ in 0..1 + sim.random() % 4 {
            let is_pattern = sim.random().is_multiple_of(2);
            let subscribe = if is_pattern { "PSUBSCRIBE n*\r\n" } else { "SUBSCRIBE news\r\n" };
            let notes = Rc::default();
            let start = Duration::from_millis(sim.random() % 100);
            let mut script = Script::new().wait(start).send(subscribe).expect_with(reply_length);
            if sim.random().is_multiple_of(3) {
                script = script.read_slowly(100, Duration::from_millis(10));
            }
            script = note_replies(script, count, &notes).may_end();
            sim.client(served.address, script);
            heard.push((start, notes));
        }
        let mut script = Script::new().wait(Duration::from_millis(sim.random() % 500));
        let receivers = Rc::default();
        for i in 0..count {
            script = script
                .send(format!("PUBLISH news {i}{}\r\n", ".".repeat(sim.random() as usize % 300)));
            script = script.wait(Duration::from_millis(sim.random() % 10));
        }
        script = note_replies(script, count, &receivers);
        add(sim, served, script.close(), is_lossy);
        sim.run_for(LONG);
        if is_lossy {
            sim.heal();
        }
        sim.run_until_idle();
        let mut heard_total = 0;
        for (_, notes) in heard {
            let notes = notes.borrow();
            // The last text of each message is what was published.
            let messages =
                notes.iter().filter(|text| text.starts_with(|c: char| c.is_ascii_digit()));
            let numbers: Vec<u64> =
                messages.map(|text| text.trim_end_matches('.').parse().unwrap()).collect();
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
            heard_total += numbers.len() as u64;
        }
        let told: u64 = receivers.borrow().iter().map(|text| text.parse::<u64>().unwrap()).sum();
        assert!(is_lossy || heard_total == told, "{heard_total} of {told}");
    });
}

#[test]
fn a_transaction_is_seen_as_a_whole_or_not_at_all() {
    check("a_transaction_is_seen_as_a_whole_or_not_at_all", 100, |sim, is_lossy| {
        let served = serve(sim);
        let start = Script::new().send("MSET one 500 two 500\r\n").expect("+OK\r\n").close();
        let start = sim.client(served.address, if is_lossy { start.may_end() } else { start });
        sim.run_for(LONG);
        if !sim.is_done(start) {
            return;
        }
        for _ in 0..1 + sim.random() % 4 {
            let mut script = Script::new();
            for _ in 0..1 + sim.random() % 10 {
                let sum = sim.random() % 100;
                let change = format!("DECRBY one {sum}\r\nINCRBY two {sum}\r\n");
                script = script.send(format!("MULTI\r\n{change}EXEC\r\n"));
                script = script.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n").expect_with(reply_length);
            }
            add(sim, served, script.close(), is_lossy);
        }
        for _ in 0..1 + sim.random() % 2 {
            let mut script = Script::new();
            for _ in 0..20 {
                script = script.send("MGET one two\r\n").expect_with(|bytes| {
                    let length = reply_length(bytes)?;
                    let values = texts(&bytes[..length]);
                    let sum: i64 = values.iter().map(|text| text.parse::<i64>().unwrap()).sum();
                    assert_eq!(sum, 1000, "{values:?}");
                    Some(length)
                });
            }
            add(sim, served, script.close(), is_lossy);
        }
        run(sim, is_lossy);
    });
}

#[test]
fn a_watched_key_changes_under_nobodys_transaction() {
    check("a_watched_key_changes_under_nobodys_transaction", 100, |sim, is_lossy| {
        let served = serve(sim);
        let added = Rc::new(Cell::new(0));
        let mut tried = 0;
        for _ in 0..1 + sim.random() % 4 {
            let mut script = Script::new();
            for _ in 0..1 + sim.random() % 8 {
                tried += 1;
                script = script.send("WATCH sum\r\n").expect("+OK\r\n").send("GET sum\r\n");
                script = script.respond(|bytes| {
                    let length = reply_length(bytes)?;
                    let sum =
                        texts(&bytes[..length]).first().map_or(0, |text| text.parse().unwrap());
                    let next: u64 = sum + 1;
                    Some((length, format!("MULTI\r\nSET sum {next}\r\nEXEC\r\n").into_bytes()))
                });
                let added = Rc::clone(&added);
                script = script.expect("+OK\r\n+QUEUED\r\n").expect_with(move |bytes| {
                    let length = reply_length(bytes)?;
                    added.set(added.get() + u64::from(bytes.starts_with(b"*1")));
                    Some(length)
                });
            }
            add(sim, served, script.close(), is_lossy);
        }
        run(sim, is_lossy);
        let sum = ask(sim, served, "GET sum");
        let sum: u64 = texts(&sum).first().map_or(0, |text| text.parse().unwrap());
        assert!(sum >= added.get() && sum <= tried, "{sum}, of {} and {tried}", added.get());
        assert!(is_lossy || sum == added.get(), "{sum} and not {}", added.get());
    });
}

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
fn a_drain_carries_out_what_was_postponed_and_waits_for_no_pause() {
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let pausing = Script::new().send("CLIENT PAUSE 100000\r\n").expect("+OK\r\n").expect_end();
    sim.client(served.address, pausing);
    sim.run_for(Duration::from_secs(1));
    let incr = |key| {
        let postponed = Script::new().send(format!("INCR {key}\r\n").repeat(3000));
        postponed.expect((1..=3000).map(|n| format!(":{n}\r\n")).collect::<String>()).expect_end()
    };
    let postponed = ["a", "b"].map(|key| sim.client(served.address, incr(key)));
    sim.run_for(Duration::from_secs(1));
    assert_eq!(postponed.map(|client| sim.received(client)), [b"", b""]);
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
fn a_pause_that_was_postponed_does_not_hold_up_a_drain() {
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let pausing = Script::new().send("CLIENT PAUSE 100000\r\n").expect("+OK\r\n").close();
    sim.client(served.address, pausing);
    sim.run_for(Duration::from_secs(1));
    let postponed = Script::new().send("CLIENT PAUSE 100000\r\nSET a b\r\nBLPOP list 0\r\n");
    sim.client(served.address, postponed.expect("+OK\r\n+OK\r\n").expect_end());
    sim.run_for(Duration::from_secs(1));
    sim[served.reactor].drain(Duration::from_secs(5));
    sim.run_for(Duration::from_millis(1500));
    sim.assert_all_done();
}

#[test]
fn a_time_to_wait_that_is_nearly_zero_is_not_for_ever() {
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let script = Script::new().send("BLPOP list 1e-400\r\n").expect("*-1\r\n");
    let zero = script.send("BLPOP list 0.0e9\r\n").wait(Duration::from_secs(100));
    let client = sim.client(served.address, zero.send("PING\r\n"));
    sim.run_for(Duration::from_secs(200));
    assert_eq!(sim.received(client), b"*-1\r\n");
}

#[test]
fn who_has_watched_a_key_that_changed_watches_no_more() {
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
        .send("SET b 1\r\nCLIENT INFO\r\nWATCH c\r\nMULTI\r\nEXEC\r\nMULTI\r\nEXEC\r\n")
        .expect("+OK\r\n")
        .expect_with(is(" watch=0 "))
        .expect("+OK\r\n+OK\r\n*-1\r\n+OK\r\n*0\r\n")
        .close();
    let client = sim.client(served.address, script);
    sim.run_for(LONG);
    sim.assert_done(client);
}

/// The replies are short, and so are the commands, and each of them looks at all keys.
#[test]
fn who_sends_costly_commands_gives_the_turn_back() {
    const KEYS: usize = 5000;
    const COMMANDS: usize = 200;
    let mut sim = Simulation::new(1);
    let served = serve(&mut sim);
    let pairs: String = (0..KEYS).map(|i| format!(" {i} x")).collect();
    sim.client(
        served.address,
        Script::new().send(format!("MSET{pairs}\r\n")).expect("+OK\r\n").close(),
    );
    sim.run_for(Duration::from_secs(1));
    let turns = sim[served.reactor].stats().turns;
    let costly = Script::new().send("KEYS none\r\n".repeat(COMMANDS));
    sim.client(served.address, costly.expect("*0\r\n".repeat(COMMANDS)).close());
    sim.run_for(Duration::from_secs(10));
    sim.assert_all_done();
    let turns = sim[served.reactor].stats().turns - turns;
    assert!(turns as usize > KEYS * COMMANDS / 20_000, "{turns} turns");
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
