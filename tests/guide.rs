//! The examples of `docs/testing-your-protocol.md`: every piece of code and of output in the guide is
//! compared with this file, and with what it prints.

// Once is enough, see CONTRIBUTING.md.
#![cfg(debug_assertions)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use oneloop::sim::{
    Check, ClientOptions, End, Faults, Harness, Kernel, Party, Script, Simulation, all_splits,
    sweep,
};
use oneloop::{
    CloseReason, Connection, Context, Error, MessageHandler, StreamHandler, TimerId, mailbox,
};

/// Finds the first line: without its end, and the length of both.
type FirstLine = fn(&[u8]) -> Option<(&[u8], usize)>;

/// A store of words. Each line is a command and has one answer: `put NAME VALUE`, `get NAME`.
struct Store {
    first_line: FirstLine,
    values: HashMap<String, String>,
}

const IDLE: Duration = Duration::from_secs(600);

impl StreamHandler for Store {
    type Session = TimerId;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> TimerId {
        conn.set_timer(IDLE)
    }

    fn on_data(
        &mut self,
        idle: &mut TimerId,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        conn.rearm_timer(*idle, IDLE);
        let mut done = 0;
        while let Some((line, length)) = (self.first_line)(&data[done..]) {
            let answer = self.answer(&String::from_utf8_lossy(line));
            conn.send(format!("{answer}\r\n").as_bytes()).ignore();
            done += length;
        }
        Ok(done)
    }

    fn on_timer(&mut self, _: &mut TimerId, conn: &mut Connection<'_>, _: TimerId) {
        conn.send(b"bye\r\n").ignore();
        conn.close();
    }
}

impl Store {
    fn new(first_line: FirstLine) -> Store {
        Store { first_line, values: HashMap::new() }
    }

    fn answer(&mut self, line: &str) -> String {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["put", name, value] => {
                self.values.insert(name.to_string(), value.to_string());
                "ok".to_string()
            }
            ["get", name] => self.values.get(name).map_or("none", String::as_str).to_string(),
            _ => "what?".to_string(),
        }
    }
}

/// The first line without its end, and the length of both. A line ends with \n, \r or \r\n.
fn hasty(data: &[u8]) -> Option<(&[u8], usize)> {
    let end = data.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    let length = if data[end..].starts_with(b"\r\n") { 2 } else { 1 };
    Some((&data[..end], end + length))
}

/// The same, mended: a line ends with \n, and a \r before it belongs to the end.
fn patient(data: &[u8]) -> Option<(&[u8], usize)> {
    let end = data.iter().position(|byte| *byte == b'\n')?;
    let line = &data[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
}

fn check_store(check: Check, make: fn() -> Store) {
    check.seeds(200).faults(Faults::lossless()).run(|sim| {
        let store = sim.serve(make());
        let client = sim.client(
            store.address,
            Script::new()
                .send("put a 1\r\nget a\r\n")
                .expect("ok\r\n1\r\n")
                .shutdown()
                .expect_end(),
        );
        sim.run_until_idle();
        sim.assert_done(client);
    });
}

#[test]
#[ignore = "it fails: the guide shows how"]
fn the_hasty_store_answers_each_line_once() {
    check_store(Check::new("the_hasty_store_answers_each_line_once"), || Store::new(hasty));
}

#[test]
fn the_patient_store_answers_each_line_once() {
    check_store(Check::new("the_patient_store_answers_each_line_once"), || Store::new(patient));
}

#[test]
fn one_message_at_once_shows_no_bug() {
    let mut harness = Harness::new(Store::new(hasty));
    harness.feed("put a 1\r\nget a\r\n");
    assert_eq!(harness.output(), b"ok\r\n1\r\n");
}

#[test]
fn a_cut_between_cr_and_lf_is_a_line_too_many() {
    let mut harness = Harness::new(Store::new(hasty));
    harness.feed("put a 1\r");
    harness.feed("\n");
    assert_eq!(harness.output(), b"ok\r\nwhat?\r\n");
}

#[test]
fn the_answers_do_not_depend_on_the_cuts() {
    let input = b"put a 1\r\nget a\r\n";
    all_splits(
        input,
        || Store::new(patient),
        |harness| {
            assert_eq!(harness.output(), b"ok\r\n1\r\n");
        },
    );
}

#[test]
fn an_end_of_file_is_answered_with_ours() {
    let mut harness = Harness::new(Store::new(patient));
    harness.feed("get a\r\nget b");
    harness.end();
    assert_eq!(harness.output(), b"none\r\n");
    assert!(harness.is_over());
    assert_eq!(harness.closed(), Some(CloseReason::PeerClosed));
}

#[test]
fn an_idle_client_is_dismissed_after_ten_minutes() {
    let mut harness = Harness::new(Store::new(patient));
    harness.advance(Duration::from_secs(599));
    harness.feed("get a\r\n");
    harness.advance(Duration::from_secs(599));
    assert_eq!(harness.output(), b"none\r\n");
    harness.advance(Duration::from_secs(1));
    assert_eq!(harness.output(), b"bye\r\n");
    assert_eq!(harness.closed(), Some(CloseReason::Closed));
}

#[test]
fn a_slow_client_does_not_hold_up_the_others() {
    let mut sim = Simulation::new(1);
    let store = sim.serve(Store::new(patient));
    let slow = Script::new()
        .read_slowly(1, Duration::from_secs(1))
        .send("get a\r\n")
        .expect("none\r\n")
        .shutdown();
    let quick = Script::new().send("put a 1\r\n").expect("ok\r\n").shutdown().expect_end();
    let slow = sim.client(store.address, slow);
    let quick = sim.client(store.address, quick);
    sim.run_until(|sim| sim.is_done(quick));
    assert_eq!(sim.received(slow), b"n");
    sim.run_until_idle();
    assert_eq!(sim.received(slow), b"none\r\n");
    assert_eq!(sim.end(slow), Some(End::Ended));
    assert_eq!(sim[store.reactor].stats().closes(CloseReason::PeerClosed), 2);
    sim.assert_empty(store.reactor);
}

/// Asks a store for a name as soon as its reactor runs, and keeps the answer.
struct Asker {
    store: SocketAddr,
    answer: Vec<u8>,
}

impl StreamHandler for Asker {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.connect(self.store, 0);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        conn.send(b"get a\r\n").ignore();
    }

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.answer.extend_from_slice(data);
        conn.close();
        Ok(data.len())
    }
}

#[test]
fn a_handler_can_be_the_client() {
    let mut sim = Simulation::new(1);
    let store = sim.serve(Store::new(patient));
    let asker = sim.serve(Asker { store: store.address, answer: Vec::new() });
    sim.run_until_idle();
    assert_eq!(sim.handler(asker).answer, b"none\r\n");
}

#[test]
fn a_client_can_send_back_what_it_was_told() {
    let mut sim = Simulation::new(1);
    let store = sim.serve(Store::new(patient));
    let script = Script::new()
        .send("put a 1\r\nget a\r\n")
        .expect("ok\r\n")
        .respond(|bytes| {
            let (value, length) = patient(bytes)?;
            Some((length, [b"put b ", value, b"\r\nget b\r\n"].concat()))
        })
        .expect("ok\r\n1\r\n")
        .close();
    let client = sim.client(store.address, script);
    sim.run_until_idle();
    sim.assert_done(client);
}

/// Other threads may give it commands, too.
impl MessageHandler<String> for Store {
    fn on_handler_message(&mut self, line: String, _: &mut Context<'_>) {
        self.answer(&line);
    }
}

#[test]
fn a_command_that_is_posted_is_done() {
    let mut sim = Simulation::new(1);
    let store = sim.serve(Store::new(patient));
    let (sender, inbox) = mailbox(16);
    sim[store.reactor].attach(store.handler, inbox).unwrap();
    sender.post("put a 1".to_string()).unwrap();
    sim.run_until_idle();
    let script = Script::new().send("get a\r\n").expect("1\r\n").close();
    let client = sim.client(store.address, script);
    sim.run_until_idle();
    sim.assert_done(client);
}

#[test]
fn ten_thousand_idle_minutes_pass_at_once() {
    let start = Instant::now();
    let mut sim = Simulation::new(1);
    let store = sim.serve(Store::new(patient));
    let mut script = Script::new();
    for _ in 0..1000 {
        script = script.send("get a\r\n").expect("none\r\n").wait(Duration::from_secs(599));
    }
    let client = sim.client(store.address, script.expect("bye\r\n").expect_end());
    sim.run_for(Duration::from_secs(1000 * 599 + 600));
    sim.assert_done(client);
    assert!(start.elapsed() < Duration::from_secs(10), "of ours");
}

#[test]
fn who_is_far_away_and_then_cut_off_does_not_disturb_the_others() {
    let mut sim = Simulation::new(1);
    let store = sim.serve(Store::new(patient));
    let script = || Script::new().send("put a 1\r\n").expect("ok\r\n").wait(IDLE / 2).close();
    let way = Duration::from_millis(200);
    let far = ClientOptions::new()
        .ip("10.1.0.1".parse().unwrap())
        .faults(Faults::none().latency_min(way).latency_max(way));
    let far = sim.client_with(store.address, script(), far);
    let near = sim.client(store.address, script());
    sim.run_for(Duration::from_secs(1));
    sim.partition(far, store.reactor);
    sim.run_for(IDLE / 2);
    sim.assert_done(near);
    // Its end never comes. The store says goodbye and waits for it no longer than it has to.
    sim.run_for(2 * IDLE);
    assert_eq!(sim[store.reactor].connections(), 0);
    // Nothing that the parted sent arrives: it still believes that it is connected.
    assert_eq!(sim.received(far), b"ok\r\n");
}

#[test]
fn answers_do_not_depend_on_what_the_kernel_gives_and_takes() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let store = sim.serve(Store::new(patient));
        sim.cut_reads(Party::Clients, store.reactor, [1, 7, 3]);
        sim.cut_writes(store.reactor, Party::Clients, [3]);
        let script = Script::new().send("put a 1\r\nget a\r\n").expect("ok\r\n1\r\n");
        sim.client(store.address, script.close());
        sim.run_until_idle();
        sim.assert_all_done();
    }
}

#[test]
fn half_a_command_does_nothing() {
    let mut sim = Simulation::new(1);
    let store = sim.serve(Store::new(patient));
    sim.reset_after(Party::Clients, store.reactor, "put a 1\r".len());
    let client = sim.client(store.address, Script::new().send("put a 1\r\n").expect("ok\r\n"));
    sim.run_until_idle();
    assert_eq!(sim.end(client), Some(End::Reset));
    assert!(sim.handler(store).values.is_empty());
}

#[test]
fn whatever_happens_the_store_is_there_afterwards() {
    let faults = Faults::some();
    Check::new("whatever_happens_the_store_is_there_afterwards").faults(faults).run(|sim| {
        let store = sim.serve(Store::new(patient));
        for _ in 0..5 {
            sim.client(
                store.address,
                Script::new().send("put a 1\r\n").expect("ok\r\n").close().may_end(),
            );
        }
        sim.run_for(Duration::from_secs(10));
        sim.heal();
        let last = Script::new().send("put a 2\r\nget a\r\n").expect("ok\r\n2\r\n").close();
        let last = sim.client(store.address, last);
        sim.run_for(2 * IDLE);
        sim.assert_done(last);
        sim.run_until_idle();
        sim.assert_empty(store.reactor);
    });
}

#[test]
fn every_client_has_its_own_answers() {
    Check::new("every_client_has_its_own_answers").faults(Faults::lossless()).run(|sim| {
        let store = sim.serve(Store::new(patient));
        for client in 0..1 + sim.random() % 5 {
            let mut script = Script::new();
            for _ in 0..sim.random() % 10 {
                let value = sim.random();
                let commands = format!("put {client} {value}\r\nget {client}\r\n");
                script = script.send(commands).expect(format!("ok\r\n{value}\r\n"));
            }
            sim.client(store.address, script.close());
        }
        sim.run_until_idle();
        sim.assert_all_done();
    });
}

#[test]
fn no_failing_system_call_ends_the_store() {
    let runs = sweep(1, Kernel::Linux, |sim| {
        let store = sim.serve(Store::new(patient));
        let script = Script::new().send("get a\r\n").expect("none\r\n").close().may_end();
        let first = sim.client(store.address, script.clone());
        sim.run_for(Duration::from_secs(10));
        let last = sim.client(store.address, script);
        sim.run_for(Duration::from_secs(10));
        // A call is for one connection at most, or it was the one that listens.
        let is_served = sim.is_done(first) || sim.is_done(last);
        assert!(is_served || sim[store.reactor].stats().accepts == 0);
    });
    assert!(runs > 10, "{runs}");
}

const HASTY: &str = "the_hasty_store_answers_each_line_once";

/// Runs the hasty store's test in a process of its own, which fails, and gives what `Check` reports.
fn report(variables: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ONELOOP_SIM_") {
            command.env_remove(name);
        }
    }
    let output = command
        .args(["--exact", HASTY, "--include-ignored", "--nocapture"])
        .envs(variables.iter().copied())
        .env("CARGO_PKG_NAME", "oneloop")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    assert!(!output.status.success(), "the bug was not found");
    let text = String::from_utf8(output.stderr).unwrap();
    let start = text.find(&format!("{HASTY}: seed ")).unwrap_or_else(|| panic!("{text}"));
    let end = text.find("--include-ignored").unwrap_or_else(|| panic!("{text}"));
    text[start..end].to_string() + "--include-ignored\n"
}

fn guide() -> String {
    std::fs::read_to_string("docs/testing-your-protocol.md").unwrap()
}

/// The fenced blocks of this kind.
fn blocks<'a>(guide: &'a str, kind: &str) -> Vec<&'a str> {
    let start = format!("\n```{kind}\n");
    guide.split(&start).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_check_finds_the_bug_and_its_command_shows_it_again() {
    let found = report(&[]);
    let bug = r#"client 0: expected the end of file and received "what?\r\n""#;
    assert!(found.contains(bug), "{found}");
    let command = found.lines().last().unwrap();
    let variables: Vec<_> = command.split(' ').filter_map(|word| word.split_once('=')).collect();
    let names: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["ONELOOP_SIM_SEED", "ONELOOP_SIM_ONLY"]);
    assert_eq!(report(&variables), found);
}

/// `ONELOOP_GUIDE=write` writes it into the guide.
#[test]
fn the_guide_prints_what_the_check_prints() {
    let (guide, found) = (guide(), report(&[]));
    let old = blocks(&guide, "text").into_iter().find(|block| block.contains(": seed "));
    let old = old.expect("the guide shows a report");
    if std::env::var("ONELOOP_GUIDE").is_ok_and(|what| what == "write") {
        let new = guide.replace(old, &found);
        return std::fs::write("docs/testing-your-protocol.md", new).unwrap();
    }
    let help = "ONELOOP_GUIDE=write cargo test --features sim --test guide brings it up to date";
    assert_eq!(old, found, "{help}");
}

#[test]
fn the_guide_shows_the_code_of_this_file() {
    let (guide, file) = (guide(), include_str!("guide.rs"));
    let blocks = blocks(&guide, "rust");
    assert!(blocks.len() >= 10);
    for block in blocks {
        assert!(file.contains(block), "only in the guide:\n{block}");
    }
}

/// `docs/readiness.md` names deliberate bugs that its reader can put in, and files to read.
#[test]
fn what_the_page_about_readiness_names_is_there() {
    let page = include_str!("../docs/readiness.md");
    let bugs = include_str!("mutants/mutants.toml");
    let mut names = 0;
    // What is in code style: every second piece.
    for name in page.split('`').skip(1).step_by(2) {
        let is_bug = name.contains('-') && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        if is_bug {
            assert!(bugs.contains(&format!("name = \"{name}\"\n")), "there is no bug {name}");
            names += 1;
        }
        if name.starts_with("src/") || name.starts_with("benches/") {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
            assert!(root.join(name).exists(), "there is no {name}");
            names += 1;
        }
    }
    assert!(names > 30, "only {names} were found");
}
