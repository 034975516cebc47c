//! The file of the simulated server, when the machine crashes, and what is in it then.

use std::time::Duration;

use oneloop::sim::{Check, Faults, Harness, Script, Served, Simulation};

use crate::LONG;
use crate::model::{Model, questions};
use crate::server::{Policy, Server};
use crate::simulated::{
    Disk, WAITING_BYTES_MAX, any_batch, count_replies, encode, reply_length, serve_file,
};

/// What the keys of one client are after each step of what it did: the replies to questions about them.
fn states(commands: &[Vec<String>], prefix: &str) -> Vec<Option<String>> {
    let mut model = Model::default();
    let mut states = vec![Some(state(&model, prefix))];
    for command in commands {
        model.reply(command);
        states.push((!model.is_in_transaction()).then(|| state(&model, prefix)));
    }
    states
}

fn state(model: &Model, prefix: &str) -> String {
    let mut model = model.clone();
    questions(prefix).iter().map(|question| model.reply(question)).collect()
}

/// Under `always` the reply comes after the record; so whatever was acknowledged is there after a crash, and of the rest as
/// much as the client had sent, in order, and no half of a transaction.
#[test]
fn nothing_acknowledged_is_lost_by_a_crash_at_any_byte_of_the_file() {
    let name = "crashes::nothing_acknowledged_is_lost_by_a_crash_at_any_byte_of_the_file";
    Check::new(name).seeds(200).faults(Faults::some()).run(|sim| {
        let disk = Disk::default();
        disk.lock().bytes_max = Some(sim.random() as usize % 4000);
        let served = serve_file(sim, &disk, Policy::Always);
        let mut clients = Vec::new();
        for number in 0..1 + sim.random() % 3 {
            let (prefix, mut model, mut script) =
                (format!("client{number}"), Model::default(), Script::new());
            let mut commands = Vec::new();
            for _ in 0..1 + sim.random() % 12 {
                let (mut sent, mut expected) = (Vec::new(), String::new());
                for command in any_batch(sim, &prefix) {
                    sent.extend(encode(sim, &command));
                    expected += &model.reply(&command);
                    commands.push(command);
                }
                script = script.send(sent).expect(expected);
            }
            clients.push((sim.client(served.address, script.close().may_end()), prefix, commands));
        }
        // The crash comes at any time if the file does not bring it about.
        let at = Duration::from_micros(sim.random() % 300_000);
        let at = if sim.random().is_multiple_of(2) { at } else { LONG };
        sim.run_for(at);
        sim.crash(served.reactor);
        disk.crash(sim.random() as usize);
        sim.heal();
        sim.set_faults(Faults::none());
        let served = serve_file(sim, &disk, Policy::Always);
        for (client, prefix, commands) in clients {
            let acknowledged = count_replies(sim.received(client));
            let questions: Vec<u8> =
                questions(&prefix).iter().flat_map(|words| encode(sim, words)).collect();
            let asked = sim.client(served.address, Script::new().send(questions));
            sim.run_until_idle();
            let found = String::from_utf8(sim.received(asked).to_vec()).unwrap();
            let states = states(&commands, &prefix);
            // A transaction's first commands are acknowledged by nothing but that they are queued.
            let first = states[..=acknowledged].iter().rposition(Option::is_some).unwrap();
            let is_one = states[first..].iter().flatten().any(|state| *state == found);
            assert!(
                is_one,
                "{prefix}: of {} commands {acknowledged} were acknowledged",
                commands.len()
            );
        }
    });
}

#[test]
fn a_file_that_is_cut_anywhere_is_read_to_its_last_whole_record() {
    let (bytes, states) = written();
    let mut reached = 0;
    for cut in 0..=bytes.len() {
        let mut server = Server::new();
        let replayed = server.replay(&bytes[..cut]).unwrap();
        assert_eq!(replayed.whole_bytes + replayed.torn_bytes, cut as u64);
        let found = state_of(server);
        let now = states[reached..].iter().position(|state| state.as_ref() == Some(&found));
        reached += now.unwrap_or_else(|| panic!("cut at {cut}, it is in no state since {reached}"));
    }
    assert_eq!(states[reached], states[states.len() - 1]);
}

#[test]
fn a_file_that_is_damaged_is_refused_or_read_and_never_a_panic() {
    let (bytes, _) = written();
    let mut refused = 0;
    for at in 0..bytes.len() {
        for other in [b'!', b'9', b'\r', 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] = other;
            refused += usize::from(Server::new().replay(&bytes[..]).is_err());
        }
    }
    assert!(refused > 100, "{refused}");
}

const MULTI: &str = "*1\r\n$5\r\nMULTI\r\n";

#[test]
fn a_record_that_is_no_whole_change_is_refused_with_its_place() {
    for record in ["*1\r\n$3\r\nSET\r\n", "*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "*1\r\n$5\r\nWATCH\r\n"]
    {
        let error = Server::new().replay(record.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        assert!(error.to_string().starts_with("damaged at byte 0: "), "{record:?}: {error}");
        // Also within a transaction whose end never comes.
        let error = Server::new().replay([MULTI, record].concat().as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("damaged at byte 15: "), "{record:?}: {error}");
    }
}

/// Only a file that was cut ends within a transaction: one that begins within another would hide all behind it.
#[test]
fn a_transaction_within_another_is_refused_with_its_place() {
    let error = Server::new().replay(MULTI.repeat(2).as_bytes()).unwrap_err();
    assert!(error.to_string().starts_with("damaged at byte 15: "), "{error}");
}

#[test]
fn what_a_file_brings_back_is_no_change_since_the_start() {
    let (bytes, _) = written();
    let mut server = Server::new();
    assert!(server.replay(&bytes[..]).unwrap().whole_bytes > 0);
    let mut harness = Harness::new(server);
    harness.feed("INFO persistence\r\n");
    let info = String::from_utf8(harness.output()).unwrap();
    assert!(info.contains("changes_since_start:0\r\n"), "{info}");
}

/// Of a server that ends nobody takes the news of its last write; the error is kept with the file.
#[test]
fn why_the_last_records_could_not_be_written_is_told_in_the_end() {
    let (mut sim, disk) = (Simulation::new(1), Disk::default());
    disk.lock().bytes_max = Some(0);
    let served = serve_file(&mut sim, &disk, Policy::EverySecond);
    let script = Script::new().send("SET a 1\r\nSHUTDOWN\r\n").may_end();
    sim.client(served.address, script);
    sim.run_for(LONG);
    for _ in 0..2 {
        let error = sim[served.reactor].handler_mut(served.handler).finish().unwrap_err();
        assert_eq!(error.to_string(), "nobody hears of it");
    }
}

/// A file that one client's commands made, and the states of its keys after each of them.
fn written() -> (Vec<u8>, Vec<Option<String>>) {
    let (mut sim, disk) = (Simulation::new(1), Disk::default());
    let served = serve_file(&mut sim, &disk, Policy::Always);
    let commands: Vec<_> = (0..5).flat_map(|_| any_batch(&mut sim, "client0")).collect();
    let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(&mut sim, command)).collect();
    let client = sim.client(served.address, Script::new().send(bytes));
    sim.run_until_idle();
    assert_eq!(count_replies(sim.received(client)), commands.len());
    let bytes = disk.lock().bytes.clone();
    (bytes, states(&commands, "client0"))
}

/// The replies to questions about the keys of a client.
fn state_of(server: Server) -> String {
    let mut harness = Harness::new(server);
    for question in questions("client0") {
        harness.feed(question.join(" ") + "\r\n");
    }
    String::from_utf8(harness.output()).unwrap()
}

#[test]
fn under_everysec_a_crash_loses_no_more_than_the_last_two_seconds() {
    let name = "crashes::under_everysec_a_crash_loses_no_more_than_the_last_two_seconds";
    // A disk that stands still loses more.
    Check::new(name).seeds(60).faults(Faults::lossless().slow_jobs(0.0)).run(|sim| {
        let disk = Disk::default();
        let served = serve_file(sim, &disk, Policy::EverySecond);
        let mut script = Script::new();
        for number in 1..=50 {
            let pause = Duration::from_millis(sim.random() % 300);
            script = script.send("RPUSH list x\r\n").expect(format!(":{number}\r\n")).wait(pause);
        }
        let client = sim.client(served.address, script);
        let mut acknowledged = Vec::new();
        for _ in 0..sim.random() % 100 {
            sim.run_for(Duration::from_millis(100));
            acknowledged.push(count_replies(sim.received(client)));
        }
        sim.crash(served.reactor);
        disk.crash(sim.random() as usize);
        let served = serve_file(sim, &disk, Policy::EverySecond);
        let two_seconds_before = acknowledged.len().checked_sub(20);
        let least = two_seconds_before.map_or(0, |at| acknowledged[at]);
        let asked = sim.client(served.address, Script::new().send("LLEN list\r\n"));
        sim.run_for(LONG);
        let length = str::from_utf8(sim.received(asked)).unwrap().trim_matches([':', '\r', '\n']);
        let length: usize = length.parse().unwrap();
        assert!(length >= least, "{length} are left, and {least} were there two seconds before");
    });
}

#[test]
fn a_key_is_there_until_its_deadline_and_not_after_also_over_a_crash() {
    const LOOK: &str = "EXISTS a\r\nEXISTS b\r\n";
    let (mut sim, disk) = (Simulation::new(1), Disk::default());
    let millis = Duration::from_millis;
    let served = serve_file(&mut sim, &disk, Policy::Always);
    let script = Script::new()
        .send("SET a 1 PX 1000\r\nSET b 1 PX 3000\r\n")
        .expect("+OK\r\n+OK\r\n")
        .wait(millis(900))
        .send(LOOK)
        .expect(":1\r\n:1\r\n")
        .wait(millis(200))
        .send(LOOK)
        .expect(":0\r\n:1\r\n");
    let client = sim.client(served.address, script);
    sim.run_for(millis(1500));
    sim.assert_done(client);
    sim.crash(served.reactor);
    let served = serve_file(&mut sim, &disk, Policy::Always);
    let script = Script::new()
        .send(LOOK)
        .expect(":0\r\n:1\r\n")
        .send("PTTL b\r\n")
        .expect(":1500\r\n")
        .wait(millis(1500))
        .send(LOOK)
        .expect(":0\r\n:0\r\n");
    let client = sim.client(served.address, script);
    sim.run_for(millis(2000));
    sim.assert_done(client);
}

#[test]
fn replies_that_wait_for_the_disk_have_a_bound() {
    const VALUE_BYTES: usize = 131_000; // of which eight leave no room
    let (mut sim, disk) = (Simulation::new(1), Disk::default());
    let served = serve_file(&mut sim, &disk, Policy::Always);
    set_large(&mut sim, served, VALUE_BYTES / 2, 2);
    // All at the same time, so that all wait for the same sync.
    let ask = |_| Script::new().send("SET n 1\r\nGET large\r\n").may_end();
    let clients: Vec<_> = (0..30).map(|i| sim.client(served.address, ask(i))).collect();
    let small = |_| Script::new().send("SET n 1\r\n").expect("+OK\r\n").close();
    let small: Vec<_> = (0..10).map(|i| sim.client(served.address, small(i))).collect();
    sim.run_for(LONG);
    small.iter().for_each(|client| sim.assert_done(*client)); // whatever others have asked for
    let received = clients.iter().map(|client| sim.received(*client).len());
    let received: Vec<usize> = received.filter(|bytes| *bytes > 0).collect();
    assert!(received.iter().all(|bytes| *bytes > VALUE_BYTES), "as a whole or not: {received:?}");
    assert_eq!(received.len(), WAITING_BYTES_MAX * 3 / 4 / VALUE_BYTES);
}

#[test]
fn replies_of_all_sizes_leave_room_for_small_ones_that_wait_for_the_disk() {
    let (mut sim, disk) = (Simulation::new(1), Disk::default());
    let served = serve_file(&mut sim, &disk, Policy::Always);
    let sizes: Vec<usize> = (5..=15).rev().map(|power| 1 << power).collect();
    let set = |size: &usize| format!("SET {size} {}\r\n", "x".repeat(*size));
    let set = Script::new().send(sizes.iter().map(set).collect::<String>());
    let prepared = sim.client(served.address, set.expect("+OK\r\n".repeat(sizes.len())));
    set_large(&mut sim, served, 60_000, 2);
    sim.assert_done(prepared);
    let names = sizes.iter().map(usize::to_string);
    for name in std::iter::once("large".into()).chain(names) {
        for _ in 0..8 {
            let ask = Script::new().send(format!("SET n 1\r\nGET {name}\r\n"));
            sim.client(served.address, ask.may_end());
        }
    }
    let small = |_| Script::new().send("SET n 1\r\n").expect("+OK\r\n").close();
    let mut small: Vec<_> = (0..10).map(|i| sim.client(served.address, small(i))).collect();
    // Also for those who have waited.
    let wait = |_| Script::new().send("BLPOP none 0.0001\r\n").expect("*-1\r\n").close();
    small.extend((0..10).map(|i| sim.client(served.address, wait(i))));
    sim.run_for(LONG);
    small.iter().for_each(|client| sim.assert_done(*client));
}

/// Sets the key `large`, in so many parts of so many bytes.
fn set_large(sim: &mut Simulation, served: Served<Server>, part_bytes: usize, parts: usize) {
    let append = format!("APPEND large {}\r\n", "x".repeat(part_bytes)).repeat(parts);
    let lengths: String = (1..=parts).map(|part| format!(":{}\r\n", part * part_bytes)).collect();
    let client = sim.client(served.address, Script::new().send(append).expect(lengths).close());
    sim.run_until_idle();
    sim.assert_done(client);
}

#[test]
fn who_has_sent_all_gets_the_replies_that_wait_for_the_disk() {
    for seed in 1..=100 {
        let (mut sim, disk) = (Simulation::new(seed), Disk::default());
        let served = serve_file(&mut sim, &disk, Policy::Always);
        let script = Script::new().send("SET a 1\r\nBLPOP list 0.00001\r\nINCR a\r\n").shutdown();
        let script = script.expect("+OK\r\n*-1\r\n:2\r\n").expect_end();
        let client = sim.client(served.address, script);
        sim.run_for(LONG);
        sim.assert_done(client);
    }
}

/// A client whose replies wait for the disk is shown no more commands when a message leaves that has waited, too.
#[test]
fn a_message_that_leaves_adds_nothing_to_the_replies_that_wait() {
    const MESSAGES: usize = 5000; // which leave in several turns
    let (mut sim, disk) = (Simulation::new(1), Disk::default());
    let served = serve_file(&mut sim, &disk, Policy::Always);
    set_large(&mut sim, served, 60_000, 5);
    let at = Duration::from_secs(1);
    let publish = format!("MULTI\r\nSET a 1\r\n{}EXEC\r\n", "PUBLISH news x\r\n".repeat(MESSAGES));
    let publisher = sim.client(served.address, Script::new().wait(at).send(publish));
    let greeting = |bytes: &[u8]| bytes.ends_with(b"*0\r\n").then_some(bytes.len());
    let subscriber = Script::new().send("HELLO 3\r\n").expect_with(greeting);
    let subscriber = subscriber
        .send("SUBSCRIBE news\r\n")
        .expect_with(|bytes| bytes.ends_with(b":1\r\n").then_some(bytes.len()));
    let commands = format!("SET a 1\r\n{}", "GET large\r\n".repeat(10));
    let subscriber = subscriber.wait(at).send(commands).may_end();
    let subscriber = sim.client(served.address, subscriber);
    sim.run_for(LONG);
    let received = sim.received(subscriber).len();
    assert!(received > 10 * 300_000, "{received} bytes were received before the end");
    assert!(sim.received(publisher).ends_with(b":1\r\n"));
}

#[test]
fn a_message_that_waits_for_the_disk_takes_its_memory_once() {
    let (mut sim, disk) = (Simulation::new(1), Disk::default());
    let served = serve_file(&mut sim, &disk, Policy::Always);
    let hear = || Script::new().send("SUBSCRIBE news\r\n").expect_with(reply_length);
    let hear = || hear().expect_with(reply_length).close();
    let subscribers: Vec<_> = (0..30).map(|_| sim.client(served.address, hear())).collect();
    sim.run_for(Duration::from_secs(1)); // they subscribe
    let publish = format!("SET a 1\r\nPUBLISH news {}\r\nINFO persistence\r\n", "x".repeat(30_000));
    let publish = Script::new().send(publish).expect("+OK\r\n:30\r\n").expect_with(|bytes| {
        let length = reply_length(bytes)?;
        let info = str::from_utf8(&bytes[..length]).unwrap();
        let held = info.split("aof_held_bytes:").nth(1).unwrap().split("\r\n").next().unwrap();
        let held: usize = held.parse().unwrap();
        assert!((30_000..40_000).contains(&held), "{held} bytes are held");
        Some(length)
    });
    let publisher = sim.client(served.address, publish.close());
    sim.run_for(LONG);
    sim.assert_done(publisher);
    subscribers.iter().for_each(|subscriber| sim.assert_done(*subscriber));
}

/// All that waits for one sync may be much, and others have their turn meanwhile.
#[test]
fn what_waits_for_the_disk_leaves_in_several_turns() {
    const SUBSCRIBERS: usize = 50;
    const PUBLISHERS: usize = 12;
    const MESSAGES: usize = 20;
    let (mut sim, disk) = (Simulation::new(1), Disk::default());
    let served = serve_file(&mut sim, &disk, Policy::Always);
    let message = "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n";
    for _ in 0..SUBSCRIBERS {
        let script = Script::new().send("SUBSCRIBE news\r\n").expect_with(reply_length);
        sim.client(served.address, script.expect(message.repeat(PUBLISHERS * MESSAGES)).close());
    }
    sim.run_for(Duration::from_secs(1)); // they subscribe
    for _ in 0..PUBLISHERS {
        let publish = format!("SET a 1\r\n{}", "PUBLISH news x\r\n".repeat(MESSAGES));
        let replies = format!(":{SUBSCRIBERS}\r\n").repeat(MESSAGES);
        let script = Script::new().send(publish).expect("+OK\r\n").expect(replies).close();
        sim.client(served.address, script);
    }
    let (mut last, mut most) = (sim[served.reactor].stats().bytes_out, 0);
    let end = sim.now() + LONG;
    sim.run_until(|sim| {
        let bytes_out = sim[served.reactor].stats().bytes_out;
        most = most.max(bytes_out - last);
        last = bytes_out;
        sim[served.reactor].stats().connections == 0 || sim.now() > end
    });
    sim.assert_all_done();
    let all = SUBSCRIBERS * PUBLISHERS * MESSAGES * message.len();
    assert!(most < all as u64 / 2, "{most} bytes of {all} in one turn");
}

#[test]
fn who_waits_gets_the_replies_that_wait_for_the_disk_when_the_server_ends() {
    let (mut sim, disk) = (Simulation::new(1), Disk::default());
    let served = serve_file(&mut sim, &disk, Policy::Always);
    let at = Duration::from_secs(1);
    let waiting = Script::new().wait(at).send("SET a 1\r\nBLPOP list 0\r\n");
    let waiting = sim.client(served.address, waiting.expect("+OK\r\n").expect_end());
    let end = Script::new().wait(at + Duration::from_micros(100)).send("SHUTDOWN\r\n").expect_end();
    let end = sim.client(served.address, end);
    sim.run_for(LONG);
    sim.assert_done(waiting);
    sim.assert_done(end);
}

#[test]
fn while_too_many_records_wait_for_the_disk_nothing_is_changed() {
    const CLIENTS: usize = 8;
    let (mut sim, disk) = (Simulation::new(1), Disk::default());
    let served = serve_file(&mut sim, &disk, Policy::Always);
    let value = "x".repeat(WAITING_BYTES_MAX / 2);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let set = ["SET".to_string(), number.to_string(), value.clone()];
            let sent = [encode(&mut sim, &set), format!("STRLEN {number}\r\n").into()].concat();
            sim.client(served.address, Script::new().send(sent))
        })
        .collect();
    sim.run_for(LONG);
    let replies: Vec<&[u8]> = clients.iter().map(|client| sim.received(*client)).collect();
    let refused = b"-ERR too many changes wait for the disk\r\n:0\r\n";
    let refused = replies.iter().filter(|reply| **reply == refused).count();
    let done = replies.iter().filter(|reply| ***reply == b"+OK\r\n:524288\r\n"[..]).count();
    assert!(refused > 0 && refused + done == CLIENTS, "{refused} refused and {done} done");
}

/// With a transaction that is refused then the client's next commands are none of it.
#[test]
fn a_transaction_that_cannot_be_recorded_is_over() {
    let (mut sim, disk) = (Simulation::new(1), Disk::default());
    let served = serve_file(&mut sim, &disk, Policy::Always);
    let value = "x".repeat(WAITING_BYTES_MAX * 3 / 4);
    let set = |sim: &mut Simulation, key: &str| {
        encode(sim, &["SET".to_string(), key.to_string(), value.clone()])
    };
    let script = Script::new().send("MULTI\r\nSET a 1\r\n").expect("+OK\r\n+QUEUED\r\n");
    let script = script.wait(Duration::from_millis(1)).send("EXEC\r\nGET a\r\n");
    let client = sim.client(served.address, script);
    for key in ["b", "c", "d"] {
        let sent = set(&mut sim, key);
        sim.client(served.address, Script::new().send(sent));
    }
    sim.run_for(LONG);
    let replies = String::from_utf8_lossy(sim.received(client));
    assert!(replies.ends_with("-ERR too many changes wait for the disk\r\n$-1\r\n"), "{replies}");
}
