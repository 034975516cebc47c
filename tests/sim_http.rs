//! The example `http` in simulation: on both kernels and under faults, every request has its answer, in order and
//! once, and no byte of a body is another one.

#![allow(unreachable_pub, reason = "the modules are parts of a test")]

#[path = "http/answer.rs"]
mod answer;
#[path = "http/memory.rs"]
mod memory;
#[path = "http/plan.rs"]
mod plan;
#[allow(dead_code, reason = "the directory of the file system is the program's")]
#[path = "../examples/http/server/mod.rs"]
mod server;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use oneloop::sim::{Check, ClientId, End, Faults, ReactorId, Script, Simulation};
use oneloop::{Ended, ListenOptions};

use answer::Answer;
use memory::Memory;
use plan::{Exchange, FILES, Random, content, get, once_in, pieces};

/// Every so many of the seeds: a debug build walks over everything after every turn.
const SHARE: u64 = if cfg!(debug_assertions) { 4 } else { 1 };

const PATIENCE: Duration = Duration::from_secs(15);

/// A server of files in memory.
struct Site {
    reactor: ReactorId,
    address: SocketAddr,
    files: Arc<Memory>,
}

impl Site {
    fn new(sim: &mut Simulation) -> Site {
        Site::with_jobs(sim, server::JOBS_MAX)
    }

    /// A server that has no more than so many looks at files and parts under way.
    fn with_jobs(sim: &mut Simulation, jobs_max: usize) -> Site {
        let files = Arc::new(Memory::default());
        for (path, length) in FILES {
            files.put(path, content(path, 0, length));
        }
        let reactor = sim.add_reactor(server::reactor_limits().connections_max(64));
        let address = SocketAddr::new(sim.ip(reactor), 80);
        let options = ListenOptions::new().limits(server::limits(PATIENCE));
        // None of these files is long enough for a memory file.
        let served = Arc::clone(&files) as _;
        let server = server::add(&mut sim[reactor], served, jobs_max, 0).unwrap();
        sim[reactor].listen_with(server, address, &options).unwrap();
        Site { reactor, address, files }
    }
}

/// A client, and what it asks.
struct Client {
    id: ClientId,
    plan: Rc<Vec<Exchange>>,
}

/// How a client may end.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    /// When it has all its answers.
    Orderly,
    /// The same, or when the server ends it.
    AsTheServerLikes,
    /// Anywhere.
    Anyhow,
}

impl Client {
    /// Any client: it sends requests one by one, all at once, or in pieces that have nothing to do with them; and reads
    /// the answers slowly, late, or at once.
    fn any(sim: &mut Simulation, site: &Site, ends: Ends) -> Client {
        let random: Random<'_> = &mut || sim.random();
        let plan = (0..1 + random() % 10).map(|_| Exchange::any(random, &site.files));
        let plan = plan.map(|exchange| exchange.may_time_out(ends == Ends::Anyhow));
        let mut plan: Vec<_> = plan.collect();
        let says_close = once_in(random, 4);
        if says_close {
            let last = plan.pop().unwrap();
            plan.push(last.close());
        }
        let plan = Rc::new(plan);
        let script = script(random, &plan, ends, says_close);
        Client { id: sim.client(site.address, script), plan }
    }

    /// Whatever became of it: what it received are the answers to its requests, in their order, and the last one may not
    /// be whole. Gives how many are, and how many bytes there are of the one that is not.
    fn answers(&self, sim: &Simulation) -> (usize, usize) {
        let mut received = sim.received(self.id);
        for (count, exchange) in self.plan.iter().enumerate() {
            let Some((_, length)) = exchange.read(received) else {
                exchange.check_beginning(received);
                return (count, received.len());
            };
            received = &received[length..];
        }
        assert!(received.is_empty(), "more than was asked for: {}", answer::shown(received));
        (self.plan.len(), 0)
    }
}

fn script(random: Random<'_>, plan: &Rc<Vec<Exchange>>, ends: Ends, says_close: bool) -> Script {
    let count = plan.len();
    let one_by_one = once_in(random, 3);
    let shuts_down = !one_by_one && once_in(random, 4);
    let resets_at = if ends == Ends::Anyhow { random() as usize % (2 * count) } else { count };
    let mut script = Script::new();
    if ends != Ends::Orderly {
        script = script.may_end();
    }
    match random() % 6 {
        0 => script = script.read_slowly(500, Duration::from_millis(20)),
        1 => script = script.stop_reading(),
        _ => {}
    }
    if !one_by_one {
        for piece in pieces(random, plan) {
            script = script.send(piece);
            if once_in(random, 4) {
                script = script.wait(Duration::from_millis(random() % 1_000));
            }
        }
        if once_in(random, 2) {
            script = script.wait(Duration::from_millis(random() % 5_000));
        }
        if shuts_down {
            script = script.shutdown();
        }
    }
    script = script.read_on();
    if once_in(random, 4) {
        script = script.read_slowly(2_000, Duration::from_millis(30));
    }
    for i in 0..count {
        if i == resets_at && !shuts_down {
            return script.reset();
        }
        if one_by_one {
            script = script.send(&plan[i].sent);
        }
        let plan = Rc::clone(plan);
        script = script.expect_with(move |bytes| plan[i].read(bytes).map(|(_, length)| length));
    }
    if says_close || shuts_down { script.expect_end() } else { script.close() }
}

/// Puts other versions in the place of all files, of the same lengths, while clients ask for them.
fn replace_files(sim: &mut Simulation, site: &Site) {
    for version in 1..3 {
        sim.run_for(Duration::from_millis(300));
        for (path, length) in FILES {
            site.files.put(path, content(path, version, length));
        }
    }
}

fn some_clients(sim: &mut Simulation, site: &Site, ends: Ends) -> Vec<Client> {
    (0..1 + sim.random() % 4).map(|_| Client::any(sim, site, ends)).collect()
}

/// A second after it was replaced, and when no look at it is under way, which may take three, an older file is served to
/// nobody.
fn assert_is_up_to_date(sim: &mut Simulation, site: &Site) {
    sim.run_for(Duration::from_millis(4_200));
    let script = Script::new().send(FILES.map(|(path, _)| get(path)).concat()).shutdown();
    let client = sim.client(site.address, script);
    sim.run_until_idle();
    let answers = Answer::read_all(sim.received(client), &["GET"; FILES.len()]);
    for ((path, _), answer) in FILES.iter().zip(answers) {
        let is_latest = answer.body == *site.files.latest(path);
        assert!(is_latest, "not what it is now: {path}: {:?}", answer.fields);
    }
}

#[test]
fn every_request_is_answered_in_order_and_once() {
    let check = Check::new("every_request_is_answered_in_order_and_once");
    check.seeds(200 / SHARE).faults(Faults::lossless()).run(|sim| {
        let site = Site::new(sim);
        let clients = some_clients(sim, &site, Ends::Orderly);
        replace_files(sim, &site);
        sim.run_until_idle();
        sim.assert_all_done();
        for client in clients {
            assert_eq!(client.answers(sim), (client.plan.len(), 0));
        }
        assert_is_up_to_date(sim, &site);
        sim.run_for(10 * PATIENCE);
        sim.assert_empty(site.reactor);
    });
}

/// Connections are reset, hosts vanish, descriptors run out: what is received until then is right, and afterwards all
/// is well.
#[test]
fn whatever_happens_what_is_received_is_right() {
    let check = Check::new("whatever_happens_what_is_received_is_right");
    check.seeds(200 / SHARE).faults(Faults::some()).run(|sim| {
        let site = Site::new(sim);
        let clients = some_clients(sim, &site, Ends::Anyhow);
        replace_files(sim, &site);
        sim.run_for(10 * PATIENCE);
        for client in clients {
            client.answers(sim);
        }
        sim.heal();
        let last = Client::any(sim, &site, Ends::Orderly);
        sim.run_for(10 * PATIENCE);
        sim.assert_done(last.id);
        assert_eq!(last.answers(sim), (last.plan.len(), 0));
        assert_is_up_to_date(sim, &site);
        sim.assert_empty(site.reactor);
    });
}

/// They asked for the look at the file, which is still under way when they go.
#[test]
fn who_asks_and_resets_leaves_no_old_file_to_others() {
    let check = Check::new("who_asks_and_resets_leaves_no_old_file_to_others");
    check.seeds(100 / SHARE).faults(Faults::lossless()).run(|sim| {
        let site = Site::new(sim);
        assert_is_up_to_date(sim, &site);
        replace_files(sim, &site);
        for _ in 0..4 {
            // Just before others ask.
            let wait = Duration::from_micros(900_000 + sim.random() % 100_000);
            let script = Script::new().wait(wait).send(FILES.map(|(path, _)| get(path)).concat());
            let wait = Duration::from_micros(sim.random() % 2_000);
            sim.client(site.address, script.wait(wait).reset());
        }
        assert_is_up_to_date(sim, &site);
    });
}

/// A look may take longer than what it brings is fresh. Then the next one is asked for before it has come.
#[test]
fn an_old_file_is_given_up_however_long_looks_take_and_however_often_it_is_asked_for() {
    let name = "an_old_file_is_given_up_however_long_looks_take_and_however_often_it_is_asked_for";
    // As long as the server's threads can keep up with.
    let slow = Duration::from_secs(3);
    let faults = Faults::none().slow_jobs(1.0).slow_job_max(slow);
    Check::new(name).seeds(40 / SHARE).faults(faults).run(|sim| {
        const PATH: &str = "/small.txt";
        let site = Site::new(sim);
        for version in 0..3 {
            site.files.put(PATH, content(PATH, version, FILES[0].1));
            let ask = |sim: &mut Simulation| {
                sim.run_for(Duration::from_millis(500));
                sim.client(site.address, Script::new().send(get(PATH)).shutdown())
            };
            // For as long as a look takes, and half of that.
            let _early: Vec<_> = (0..9).map(|_| ask(sim)).collect();
            let late: Vec<_> = (0..20).map(|_| ask(sim)).collect();
            sim.run_for(4 * slow);
            for client in late {
                let answers = Answer::read_all(sim.received(client), &["GET"]);
                assert!(answers[0].body == *site.files.latest(PATH), "still the old one");
            }
        }
    });
}

/// What comes before it has been answered; what comes after it is not even looked at.
#[test]
fn a_request_that_is_refused_is_the_last_one() {
    let check = Check::new("a_request_that_is_refused_is_the_last_one");
    check.seeds(100 / SHARE).faults(Faults::lossless()).run(|sim| {
        let site = Site::new(sim);
        let random: Random<'_> = &mut || sim.random();
        let mut plan: Vec<_> =
            (0..random() % 5).map(|_| Exchange::any(random, &site.files)).collect();
        plan.push(Exchange::refused(random, &site.files));
        let bytes = pieces(random, &plan).concat();
        let after = get("/small.txt").repeat(random() as usize % 3);
        let mut script = Script::new().send(bytes).send(after);
        let plan = Rc::new(plan);
        for i in 0..plan.len() {
            let plan = Rc::clone(&plan);
            script = script.expect_with(move |bytes| plan[i].read(bytes).map(|(_, length)| length));
        }
        sim.client(site.address, script.expect_end());
        sim.run_until_idle();
        sim.assert_all_done();
    });
}

/// Begun at any moment. Nobody is cut off, and who is under way when it begins is answered.
#[test]
fn a_drain_ends_no_answer_in_the_middle() {
    let check = Check::new("a_drain_ends_no_answer_in_the_middle");
    check.seeds(100 / SHARE).faults(Faults::lossless()).run(|sim| {
        let site = Site::new(sim);
        let clients = some_clients(sim, &site, Ends::AsTheServerLikes);
        let moment = sim.random() % 3_000;
        sim.run_for(Duration::from_millis(moment));
        sim[site.reactor].drain(10 * PATIENCE);
        sim.run_for(20 * PATIENCE);
        let report = sim[site.reactor].report().expect("it has ended");
        assert_eq!((report.end, report.connections_cut), (Ended::Drained, 0), "{report}");
        for client in clients {
            assert_eq!(client.answers(sim).1, 0, "an answer is not whole");
        }
    });
}

/// As those of a pool of connections: they are told, and the drain does not take up all of its time for them.
#[test]
fn a_drain_does_not_wait_for_idle_clients_to_close() {
    let check = Check::new("a_drain_does_not_wait_for_idle_clients_to_close");
    // Who waits for a file is not idle.
    let faults = Faults::lossless().slow_jobs(0.0);
    check.seeds(100 / SHARE).faults(faults).run(|sim| {
        const LATER: Duration = Duration::from_millis(500);
        let site = Site::new(sim);
        let silent = Script::new().wait(10 * PATIENCE).may_end();
        let served = Script::new().send(get("/large.bin")).wait(10 * PATIENCE).may_end();
        // An empty line is no request, nor a part of one.
        let says_nothing = Script::new().send("\r\n").wait(10 * PATIENCE).may_end();
        let nearly_nothing = Script::new().send("\r").wait(10 * PATIENCE).may_end();
        // More than fits into both sockets: it is under way when the drain begins.
        site.files.put("/huge.bin", content("/huge.bin", 0, 1_000_000));
        let busy = |path| {
            let script = Script::new().stop_reading().send(get(path)).wait(PATIENCE / 2 + LATER);
            script.read_on().wait(10 * PATIENCE).may_end()
        };
        // The same, and it turns out to be shorter than was said.
        site.files.put("/cut.bin", content("/cut.bin", 0, 8 * 128 * 1024));
        site.files.say_length("/cut.bin", 2_000_000);
        // Half of a request has come by then.
        let half = Script::new().send("GET /small.txt HTTP/1.1\r\n").wait(PATIENCE / 2 + LATER);
        let half = half.send("Host: a\r\n\r\n").wait(10 * PATIENCE).may_end();
        let [huge, cut] = ["/huge.bin", "/cut.bin"].map(busy);
        let clients = [silent, served, says_nothing, huge, half, nearly_nothing, cut];
        let clients = clients.map(|script| sim.client(site.address, script));
        sim.run_for(PATIENCE / 2);
        sim[site.reactor].drain(PATIENCE);
        sim.run_for(LATER + Duration::from_secs(5));
        let report = sim[site.reactor].report().expect("it waits for clients that are idle");
        assert_eq!((report.end, report.connections_cut), (Ended::Drained, 0), "{report}");
        assert_eq!(sim.received(clients[0]), b"");
        let answers = Answer::read_all(sim.received(clients[1]), &["GET"]);
        assert!(answers[0].body == *site.files.latest("/large.bin"));
        assert_eq!(sim.received(clients[2]), b"");
        let answers = Answer::read_all(sim.received(clients[3]), &["GET"]);
        assert!(answers[0].body == *site.files.latest("/huge.bin"));
        let answers = Answer::read_all(sim.received(clients[4]), &["GET"]);
        assert!(answers[0].body == *site.files.latest("/small.txt") && answers[0].is_last());
        assert_eq!(sim.received(clients[5]), b"");
        assert!(sim.received(clients[6]).ends_with(&site.files.latest("/cut.bin")));
    });
}

/// Parts that overlap are sent as a whole, also when all of them together are longer than any number.
#[test]
fn a_part_of_the_longest_file_is_served_and_several_of_all_are_not() {
    let check = Check::new("a_part_of_the_longest_file_is_served_and_several_of_all_are_not");
    check.seeds(1).faults(Faults::none()).run(|sim| {
        let site = Site::new(sim);
        site.files.say_length("/large.bin", i64::MAX as u64);
        for (ranges, status) in [("0-,0-,0-", "HTTP/1.1 200 "), ("5-", "HTTP/1.1 206 ")] {
            let head = "GET /large.bin HTTP/1.1\r\nHost: a\r\n";
            let sent = format!("{head}Range: bytes={ranges}\r\n\r\n");
            let client = sim.client(site.address, Script::new().send(sent).shutdown());
            sim.run_until_idle();
            let received = sim.received(client);
            assert!(received.starts_with(status.as_bytes()), "{}", answer::shown(received));
        }
    });
}

/// It may hold a hundred thousand.
#[test]
fn a_directory_is_read_only_for_a_page_of_its_names() {
    let check = Check::new("a_directory_is_read_only_for_a_page_of_its_names");
    check.seeds(20 / SHARE).faults(Faults::none()).run(|sim| {
        let site = Site::new(sim);
        for name in 0..10 {
            site.files.put(&format!("/names/{name}"), Vec::new());
        }
        for (method, path, status, names_read) in [
            ("GET", "/names", 301, 0),
            ("HEAD", "/names", 301, 0),
            ("HEAD", "/names/", 200, 0),
            ("GET", "/names/", 200, 10),
        ] {
            let sent = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
            let client = sim.client(site.address, Script::new().send(sent).shutdown());
            sim.run_until_idle();
            let answers = Answer::read_all(sim.received(client), &[method]);
            assert_eq!((answers.len(), answers[0].status), (1, status), "{method} {path}");
            assert_eq!(site.files.names_read(), names_read, "{method} {path}");
        }
    });
}

/// It is why some hundred slow downloads do not use up the memory, and nobody else is cut off for it.
#[test]
fn who_reads_a_large_file_slowly_or_not_at_all_has_none_of_it_in_memory() {
    let check = Check::new("who_reads_a_large_file_slowly_or_not_at_all_has_none_of_it_in_memory");
    check.seeds(40 / SHARE).faults(Faults::lossless()).run(|sim| {
        const CLIENTS: usize = 8;
        let site = Site::new(sim);
        site.files.put("/huge.bin", content("/huge.bin", 0, 2_000_000));
        for i in 0..CLIENTS {
            let script = Script::new().read_slowly(20_000, Duration::from_millis(50));
            let script = script.send(get("/huge.bin").repeat(2));
            let read_for = Duration::from_millis(sim.random() % 5_000);
            let script = if i % 2 == 0 { script } else { script.wait(read_for).stop_reading() };
            sim.client(site.address, script.may_end());
        }
        sim.run_for(PATIENCE / 2);
        let stats = sim[site.reactor].stats();
        assert_eq!(stats.closes_total(), 0, "somebody is cut off: {stats:?}");
        let bytes = stats.memory_bytes_peak;
        assert!(bytes <= CLIENTS * server::READER_BYTES_MAX, "{} each", bytes / CLIENTS);
    });
}

/// Who asks for a file is to ask again; who has a part of one gets the rest later.
#[test]
fn too_much_to_do_ends_no_answer_in_the_middle() {
    let check = Check::new("too_much_to_do_ends_no_answer_in_the_middle");
    check.seeds(40 / SHARE).faults(Faults::lossless()).run(|sim| {
        // Who reads a block keeps all others from that.
        let site = Site::with_jobs(sim, 1);
        site.files.put("/huge.bin", content("/huge.bin", 0, 1_000_000));
        let mut clients = Vec::new();
        for i in 0..10 {
            let script = Script::new().wait(Duration::from_millis(i / 2 * 10));
            let script = script.read_slowly(40_000, Duration::from_millis(1));
            clients.push(sim.client(site.address, script.send(get("/huge.bin")).shutdown()));
        }
        sim.run_for(Duration::from_secs(60)); // whoever is to try again does so by a timer
        sim.assert_all_done();
        let answers =
            clients.iter().map(|client| Answer::read_all(sim.received(*client), &["GET"]));
        let sent: Vec<_> = answers.flatten().filter(|answer| answer.status != 503).collect();
        assert!(!sent.is_empty(), "everybody is refused");
        assert!(sent.iter().all(|answer| answer.body == *site.files.latest("/huge.bin")));
    });
}

#[test]
fn too_much_to_do_keeps_nobody_from_what_is_in_memory() {
    let check = Check::new("too_much_to_do_keeps_nobody_from_what_is_in_memory");
    check.seeds(40 / SHARE).faults(Faults::lossless()).run(|sim| {
        let site = Site::with_jobs(sim, 1);
        assert_eq!(ask_beside_others(sim, &site, 0, "").1, 200);
        sim.run_for(Duration::from_secs(2)); // so that it has to be looked at
        let (refused, status) = ask_beside_others(sim, &site, 10, "/large.bin");
        assert!(refused > 0, "there is not too much to do");
        assert_eq!(status, 200);
    });
}

/// A clock that ticks every few milliseconds tells two changes between its ticks by nothing.
#[test]
fn a_file_that_has_just_changed_is_read_again() {
    let check = Check::new("a_file_that_has_just_changed_is_read_again");
    check.seeds(20 / SHARE).faults(Faults::lossless()).run(|sim| {
        let site = Site::new(sim);
        site.files.set_unsettled(true);
        assert_is_up_to_date(sim, &site);
        site.files.overwrite("/small.txt", content("/small.txt", 7, FILES[0].1));
        site.files.set_unsettled(false);
        assert_is_up_to_date(sim, &site);
    });
}

#[test]
fn what_is_in_memory_is_served_also_when_no_file_can_be_opened() {
    let check = Check::new("what_is_in_memory_is_served_also_when_no_file_can_be_opened");
    check.seeds(20 / SHARE).faults(Faults::lossless()).run(|sim| {
        let site = Site::new(sim);
        assert_eq!(ask_beside_others(sim, &site, 0, "").1, 200);
        site.files.set_busy(true);
        for _ in 0..2 {
            sim.run_for(Duration::from_secs(2)); // so that it has to be looked at
            assert_eq!(ask_beside_others(sim, &site, 1, "/large.bin"), (1, 200));
        }
        site.files.set_busy(false);
        assert_is_up_to_date(sim, &site);
    });
}

/// A client asks for a small file when so many others have asked for something else: how many of those are refused, and
/// what the client's answer is.
fn ask_beside_others(sim: &mut Simulation, site: &Site, count: usize, path: &str) -> (usize, u16) {
    let mut ask = |path| sim.client(site.address, Script::new().send(get(path)).shutdown());
    let others: Vec<_> = (0..count).map(|_| ask(path)).collect();
    let small = ask("/small.txt");
    sim.run_for(Duration::from_secs(5)); // whoever is to try again does so by a timer
    let status = |client| Answer::read_all(sim.received(client), &["GET"])[0].status;
    (others.into_iter().filter(|other| status(*other) == 503).count(), status(small))
}

/// A large answer is under way, which its reader does not take, and requests wait behind it.
#[test]
fn in_a_drain_the_last_answer_says_that_it_is_the_last() {
    let check = Check::new("in_a_drain_the_last_answer_says_that_it_is_the_last");
    check.seeds(100 / SHARE).faults(Faults::lossless()).run(|sim| {
        let site = Site::new(sim);
        let count = 1 + sim.random() as usize % 5;
        // More than fits into both sockets.
        site.files.put("/huge.bin", content("/huge.bin", 0, 1_000_000));
        let sent = get("/huge.bin") + &get("/small.txt").repeat(count);
        let script = Script::new().stop_reading().send(sent).wait(Duration::from_secs(2)).read_on();
        let client = sim.client(site.address, script.may_end());
        sim.run_for(Duration::from_secs(1));
        sim[site.reactor].drain(PATIENCE);
        sim.run_for(2 * PATIENCE);
        assert_eq!(sim.end(client), Some(End::Ended));
        let answers = answers_of_a_drain(sim, client);
        let is_whole = answers.first().is_some_and(|a| a.body == *site.files.latest("/huge.bin"));
        assert!(is_whole, "the answer that was under way is not whole");
        // What was not read yet when the answer before it began may be left to another connection.
        assert!((2..=1 + count).contains(&answers.len()), "{} answers", answers.len());
    });
}

/// All answers, which are whole, and of which the last one says that it is that.
fn answers_of_a_drain(sim: &Simulation, client: ClientId) -> Vec<Answer> {
    let (mut received, mut answers) = (sim.received(client), Vec::new());
    while let Some((answer, length)) = Answer::read(received, "GET", true) {
        answers.push(answer);
        received = &received[length..];
    }
    let says_so: Vec<_> = answers.iter().map(Answer::is_last).collect();
    assert!(received.is_empty(), "{says_so:?}, and one is not whole: {}", answer::shown(received));
    assert_eq!(says_so.iter().position(|is_last| *is_last), Some(answers.len() - 1), "{says_so:?}");
    answers
}

#[test]
fn in_a_drain_who_is_always_sending_a_request_is_told() {
    let check = Check::new("in_a_drain_who_is_always_sending_a_request_is_told");
    check.seeds(100 / SHARE).faults(Faults::lossless()).run(|sim| {
        let site = Site::new(sim);
        let request = get("/small.txt");
        let (begin, end) = request.split_at(1 + sim.random() as usize % (request.len() - 1));
        let mut script = Script::new().send(begin);
        for _ in 0..200 {
            let wait = Duration::from_millis(sim.random() % 200);
            script = script.send(end.to_string() + begin).wait(wait);
        }
        let client = sim.client(site.address, script.may_end());
        let moment = Duration::from_millis(1_000 + sim.random() % 1_000);
        sim.run_for(moment);
        sim[site.reactor].drain(PATIENCE);
        sim.run_for(2 * PATIENCE);
        answers_of_a_drain(sim, client);
    });
}

/// Its answer was on its way when the drain began: all of it is in the kernel, which throws it away when a connection is
/// closed while something comes in.
#[test]
fn a_drain_cuts_off_no_slow_reader_that_goes_on_asking() {
    let check = Check::new("a_drain_cuts_off_no_slow_reader_that_goes_on_asking");
    check.seeds(100 / SHARE).faults(Faults::lossless()).run(|sim| {
        let site = Site::new(sim);
        let length = 10_000 + sim.random() as usize % 90_000;
        site.files.put("/page.txt", content("/page.txt", 0, length));
        let script = Script::new().read_slowly(2_000, Duration::from_millis(50));
        let mut script = script.send(get("/page.txt")).wait(Duration::from_secs(1));
        for _ in 0..30 {
            script = script.send(get("/small.txt")).wait(Duration::from_millis(100));
        }
        let client = sim.client(site.address, script.may_end());
        sim.run_for(Duration::from_millis(500));
        sim[site.reactor].drain(PATIENCE);
        sim.run_for(2 * PATIENCE);
        let received = sim.received(client);
        let (answer, _) = Answer::read(received, "GET", true).expect("the answer is not whole");
        assert!(answer.body == *site.files.latest("/page.txt"));
    });
}

/// RFC 9110, section 15.5.9.
#[test]
fn who_takes_too_long_is_told_so_and_who_is_idle_is_not() {
    let check = Check::new("who_takes_too_long_is_told_so_and_who_is_idle_is_not");
    check.seeds(100 / SHARE).faults(Faults::lossless()).run(|sim| {
        let site = Site::new(sim);
        let get = "GET /small.txt HTTP/1.1\r\nHost: a\r\n";
        let part = Duration::from_millis(PATIENCE.as_millis() as u64 / 4);
        // A byte now and then is not enough, be it of a head or of a body.
        let mut slow_head = Script::new().send(get);
        let mut slow_body =
            Script::new().send("POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n");
        for _ in 0..30 {
            slow_head = slow_head.send("X").wait(part);
            slow_body = slow_body.send("X").wait(part);
        }
        let slow = [slow_head, slow_body].map(|script| sim.client(site.address, script.may_end()));
        let stalled = Script::new().send(get.repeat(3)).may_end();
        let stalled = sim.client(site.address, stalled);
        let idle = sim.client(site.address, Script::new().expect_end());
        let served = sim.client(site.address, Script::new().send(format!("{get}\r\n")).may_end());
        let unread = plan::get("/large.bin").repeat(20);
        sim.client(site.address, Script::new().stop_reading().send(unread).may_end());
        sim.run_for(8 * PATIENCE);
        for client in slow.into_iter().chain([stalled]) {
            let answers = Answer::read_all(sim.received(client), &["GET"]);
            assert_eq!(answers[0].status, 408);
            assert!(answers[0].is_last());
        }
        sim.assert_done(idle);
        let answers = Answer::read_all(sim.received(served), &["GET"]);
        assert_eq!(answers[0].status, 200);
        assert_eq!(sim[site.reactor].connections(), 0, "somebody is not cut off");
    });
}
