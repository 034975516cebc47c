//! The key-value server on a simulated network with faults, and what it promises whatever happens.
//!
//! That these tests see something was tried with bugs put into the server; CONTRIBUTING.md has the list.

#[path = "resp_kv/crashes.rs"]
mod crashes;
#[path = "resp_kv/model.rs"]
mod model;
#[path = "resp_kv/scenarios.rs"]
mod scenarios;
#[path = "../examples/resp_kv/server/mod.rs"]
#[allow(dead_code, reason = "some of it is for the program")]
mod server;
#[path = "resp_kv/simulated.rs"]
mod simulated;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

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
pub(crate) fn ask(sim: &mut Simulation, served: Served<Server>, command: &str) -> Vec<u8> {
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
