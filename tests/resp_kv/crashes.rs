//! The file of the simulated server, when the machine crashes, and what is in it then.

use std::time::Duration;

use oneloop::sim::{Check, Faults, Harness, Script, Simulation};

use crate::LONG;
use crate::model::{Model, questions};
use crate::server::{Policy, Server};
use crate::simulated::{Disk, any_batch, count_replies, encode, serve_file};

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
        let mut server = Server::new(|| 1);
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
            refused += usize::from(Server::new(|| 1).replay(&bytes[..]).is_err());
        }
    }
    assert!(refused > 100, "{refused}");
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
    Check::new(name).seeds(60).faults(Faults::lossless()).run(|sim| {
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
