//! Mail and blocking work in simulation: the same seed does the same, under faults, on both kernels.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::{Check, Faults, Kernel, Script, Simulation};
use oneloop::{
    Blocking, Connection, Context, Error, HandleError, Key, MessageHandler, StreamHandler,
    blocking, mailbox,
};

/// Answers each byte with what a job makes of it, and tells all members what is posted.
struct Service {
    blocking: Blocking<u8>,
    members: Vec<Key>,
    results: Rc<RefCell<Vec<u8>>>,
}

impl StreamHandler for Service {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        self.members.push(conn.key());
    }

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let mut given = 0;
        for byte in data {
            let upper = byte.to_ascii_uppercase();
            let job = move || upper;
            if self.blocking.run_for(conn.key(), job).is_err() {
                break; // too many: the rest is shown again after the next result
            }
            given += 1;
        }
        Ok(given)
    }
}

impl MessageHandler<u8> for Service {
    fn on_message(&mut self, _: &mut (), conn: &mut Connection<'_>, result: u8) {
        self.results.borrow_mut().push(result);
        conn.send(&[result]).ignore();
    }

    fn on_handler_message(&mut self, result: u8, cx: &mut Context<'_>) {
        self.results.borrow_mut().push(result);
        for member in &self.members {
            cx.send_to(*member, &[result]).ignore();
        }
    }
}

fn serve(
    sim: &mut Simulation,
    workers: usize,
) -> (oneloop::sim::Served<Service>, Rc<RefCell<Vec<u8>>>) {
    let (blocking, inbox) = blocking(workers, 64);
    let results = Rc::<RefCell<Vec<u8>>>::default();
    let service = Service { blocking, members: Vec::new(), results: Rc::clone(&results) };
    let served = sim.serve(service);
    sim[served.reactor].attach(served.handler, inbox).unwrap();
    (served, results)
}

/// Or a report names it among the faults that acted.
#[test]
fn what_happens_to_look_ups_is_not_decided_about_other_jobs() {
    let decisions = [0.0, 0.5].map(|failed_lookups| {
        let faults = Faults::none().failed_lookups(failed_lookups);
        let mut sim = Simulation::with(1, Kernel::Linux, faults);
        let (served, results) = serve(&mut sim, 1);
        for number in 0..8 {
            let job = move || number;
            assert!(sim[served.reactor].handler(served.handler).blocking.run(job).is_ok());
        }
        sim.run_until_idle();
        assert_eq!(results.borrow().len(), 8);
        sim.decisions()
    });
    assert_eq!(decisions[0], decisions[1]);
}

#[test]
fn mail_and_jobs_are_the_same_in_every_run_of_a_seed() {
    for kernel in [Kernel::Linux, Kernel::Contract] {
        Check::new("mail").seeds(40).kernel(kernel).faults(Faults::lossless()).twice().run(|sim| {
            let (served, results) = serve(sim, 3);
            let (sender, inbox) = mailbox(8);
            sim[served.reactor].attach(served.handler, inbox).unwrap();
            let clients = [b"abcdefgh", b"ijklmnop"]
                .map(|sent| sim.client(served.address, Script::new().send(sent).expect_bytes(8)));
            let mut posted = 0;
            let mut steps = 0;
            let handle = sim[served.reactor].handle().unwrap();
            sim.run_until(|sim| {
                steps += 1;
                if steps % 7 == 0 && posted < 5 && sender.post(b'0' + posted).is_ok() {
                    posted += 1;
                }
                clients.iter().all(|client| sim.is_done(*client)) && posted == 5
            });
            assert_eq!(handle.stats(Duration::ZERO).unwrap_err(), HandleError::TimedOut);
            sim.run_until_idle();
            let results = results.borrow().clone();
            let posts: Vec<u8> = results.iter().copied().filter(u8::is_ascii_digit).collect();
            assert_eq!(posts, b"01234", "of one sender, in order");
            let answers: HashSet<u8> = results.into_iter().collect();
            assert_eq!(answers.len(), 21, "each once");
            assert_eq!(sim[served.reactor].stats().messages, 21);
        });
    }
}

#[test]
fn several_workers_end_in_any_order_and_one_in_the_order_of_the_jobs() {
    let order = |seed, workers| {
        let mut sim = Simulation::new(seed);
        let (served, results) = serve(&mut sim, workers);
        sim.client(served.address, Script::new().send("abcdefgh").expect_bytes(8).close());
        sim.run_until_idle();
        results.borrow().clone()
    };
    let orders: HashSet<_> = (0..20).map(|seed| order(seed, 3)).collect();
    assert!(orders.len() > 10, "{} orders", orders.len());
    for seed in 0..20 {
        assert_eq!(order(seed, 1), b"ABCDEFGH");
        assert_eq!(order(seed, 3), order(seed, 3));
    }
}

#[test]
fn a_job_takes_its_time() {
    let mut sim = Simulation::new(1);
    let (served, results) = serve(&mut sim, 1);
    sim[served.reactor].handler(served.handler).blocking.run(|| 1).unwrap();
    let start = sim.now();
    sim.run_until_idle();
    assert_eq!(*results.borrow(), [1]);
    assert!(sim.now() > start);
}

#[test]
fn one_worker_does_one_job_at_a_time_and_a_slow_one_holds_up_those_behind_it() {
    let took = |workers, faults| {
        let mut sim = Simulation::with(1, Kernel::Linux, faults);
        let (served, results) = serve(&mut sim, workers);
        for number in 0..40 {
            sim[served.reactor].handler(served.handler).blocking.run(move || number).unwrap();
        }
        let start = sim.now();
        sim.run_until_idle();
        assert_eq!(results.borrow().len(), 40);
        sim.now() - start
    };
    let [one, four] = [1, 4].map(|workers| took(workers, Faults::none()));
    assert!(one > Duration::from_millis(100), "40 jobs of up to 10 ms each took {one:?}");
    assert!(four * 2 < one, "{four:?} with four workers, and {one:?} with one");
    let slow = Faults::none().slow_jobs(1.0).slow_job_max(Duration::from_secs(1));
    let slow = took(1, slow);
    assert!(slow > Duration::from_secs(10), "40 jobs of up to a second each took {slow:?}");
}

#[test]
fn a_stop_by_a_handle_closes_everything() {
    let mut sim = Simulation::new(1);
    let (served, _) = serve(&mut sim, 1);
    let client = sim.client(served.address, Script::new().send("a").expect("A").expect_end());
    sim.run_until(|sim| sim.received(client) == b"A");
    sim[served.reactor].handle().unwrap().stop().unwrap();
    sim.run_until_idle();
    assert_eq!(sim[served.reactor].connections(), 0);
}
