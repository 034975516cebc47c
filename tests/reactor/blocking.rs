//! Work that blocks: where its results go, what bounds it, what a panic does, and the end.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::*;
use oneloop::{
    Blocking, CloseReason, Connection, Context, Error, HandlerId, Key, MessageHandler, PostError,
    ReactorLimits, StreamHandler, blocking,
};

#[derive(Clone, PartialEq, Debug)]
enum Heard {
    Result(Key, u64),
    Own(u64),
    Undelivered(Key, u64),
    Close(Key, CloseReason),
}

/// Has a job done for each byte that it is shown: a digit is squared, `p` panics, `c` closes.
struct Squares {
    blocking: Blocking<u64>,
    heard: Rc<RefCell<Vec<Heard>>>,
    opened: Rc<RefCell<Vec<Key>>>,
}

impl StreamHandler for Squares {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        self.opened.borrow_mut().push(conn.key());
    }

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        for byte in data.iter().copied() {
            match byte {
                b'c' => conn.close(),
                b'p' => self.blocking.run_for(conn.key(), || panic!("one that is meant"))?,
                _ => {
                    let number = u64::from(byte - b'0');
                    self.blocking.run_for(conn.key(), move || number * number)?;
                }
            }
        }
        Ok(data.len())
    }

    fn on_close(&mut self, (): (), key: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.heard.borrow_mut().push(Heard::Close(key, reason));
    }
}

impl MessageHandler<u64> for Squares {
    fn on_message(&mut self, _: &mut (), conn: &mut Connection<'_>, result: u64) {
        self.heard.borrow_mut().push(Heard::Result(conn.key(), result));
        conn.send(format!("{result}\n").as_bytes()).ignore();
    }

    fn on_handler_message(&mut self, result: u64, _: &mut Context<'_>) {
        self.heard.borrow_mut().push(Heard::Own(result));
    }

    fn on_undelivered(&mut self, key: Key, result: u64, _: &mut Context<'_>) {
        self.heard.borrow_mut().push(Heard::Undelivered(key, result));
    }
}

struct Service {
    reactor: Reactor,
    handler: HandlerId<Squares>,
    address: std::net::SocketAddr,
    heard: Rc<RefCell<Vec<Heard>>>,
    opened: Rc<RefCell<Vec<Key>>>,
    blocking: Blocking<u64>,
}

impl Service {
    fn new(threads: usize, jobs_max: usize) -> Service {
        let (blocking, inbox) = blocking(threads, jobs_max);
        let handler =
            Squares { blocking: blocking.clone(), heard: Rc::default(), opened: Rc::default() };
        let (heard, opened) = (Rc::clone(&handler.heard), Rc::clone(&handler.opened));
        let limits = ReactorLimits::new().connections_max(64);
        let mut reactor = Reactor::with_limits(limits).unwrap();
        let handler = reactor.add(handler);
        reactor.attach(handler, inbox).unwrap();
        let listener = reactor.listen(handler, "127.0.0.1:0").unwrap();
        let address = reactor.listener_address(listener).unwrap().inet().unwrap();
        Service { reactor, handler, address, heard, opened, blocking }
    }

    fn open(&mut self) -> (TcpStream, Key) {
        let before = self.opened.borrow().len();
        let client = connect(self.address);
        let opened = Rc::clone(&self.opened);
        run_until(&mut self.reactor, "it opens", |_| opened.borrow().len() > before);
        (client, self.opened.borrow()[before])
    }

    fn until(&mut self, what: &str, is_done: impl Fn(&[Heard]) -> bool) {
        let heard = Rc::clone(&self.heard);
        run_until(&mut self.reactor, what, |_| is_done(&heard.borrow()));
    }
}

fn write(client: &mut TcpStream, data: &[u8]) {
    use std::io::Write;
    client.write_all(data).unwrap();
}

#[test]
fn a_result_comes_to_the_connection_that_the_job_is_for() {
    let mut service = Service::new(1, 8);
    let (mut anna, anna_key) = service.open();
    let (mut bob, bob_key) = service.open();
    write(&mut anna, b"3");
    write(&mut bob, b"4");
    service.until("both have their results", |heard| heard.len() == 2);
    let mut heard = service.heard.borrow().clone();
    heard.sort_by_key(|heard| if let Heard::Result(_, number) = heard { *number } else { 0 });
    assert_eq!(heard, [Heard::Result(anna_key, 9), Heard::Result(bob_key, 16)]);
}

#[test]
fn one_thread_does_jobs_in_order() {
    let mut service = Service::new(1, 16);
    let (mut client, key) = service.open();
    write(&mut client, b"0123456789");
    service.until("all results are there", |heard| heard.len() == 10);
    let squares: Vec<_> = (0..10).map(|number| Heard::Result(key, number * number)).collect();
    assert_eq!(*service.heard.borrow(), squares);
}

#[test]
fn a_job_for_the_handler_is_answered_to_it() {
    let mut service = Service::new(2, 2);
    service.blocking.run(|| 7).unwrap();
    service.until("the result is there", |heard| heard.len() == 1);
    assert_eq!(*service.heard.borrow(), [Heard::Own(7)]);
}

#[test]
fn a_result_for_a_connection_that_is_gone_is_counted() {
    let mut service = Service::new(1, 2);
    let (mut client, key) = service.open();
    write(&mut client, b"5c");
    service.until("the result is there", |heard| heard.contains(&Heard::Undelivered(key, 25)));
    let stats = service.reactor.stats();
    assert_eq!((stats.messages, stats.messages_undelivered), (0, 1));
}

#[test]
fn jobs_are_bounded_until_their_results_are_delivered() {
    let mut service = Service::new(1, 2);
    service.blocking.run(|| 1).unwrap();
    service.blocking.run(|| 2).unwrap();
    assert!(matches!(service.blocking.run(|| 3), Err(PostError::Full(_))));
    if HAS_KERNEL {
        // Both are done, and not delivered: still too many.
        let (sender, done) = mpsc::channel();
        service.until("they are delivered", |heard| heard.len() == 2);
        for _ in 0..2 {
            let sender = sender.clone();
            service.blocking.run(move || sender.send(()).map_or(0, |()| 4)).unwrap();
        }
        done.recv_timeout(DEADLINE).unwrap();
        done.recv_timeout(DEADLINE).unwrap();
        let job = service.blocking.run(|| 5).unwrap_err().into_message();
        assert_eq!(job(), 5, "the job comes back");
        service.until("they are delivered", |heard| heard.len() == 4);
    }
    service.until("they are delivered", |heard| heard.len() >= 2);
    service.blocking.run(|| 6).unwrap();
    service.until("it is delivered", |heard| heard.contains(&Heard::Own(6)));
}

#[test]
fn a_job_that_panics_closes_its_connection_only() {
    let mut service = Service::new(1, 8);
    let (mut anna, anna_key) = service.open();
    let (mut bob, bob_key) = service.open();
    write(&mut anna, b"p");
    service.blocking.run(|| panic!("one that is meant")).unwrap();
    run_until(&mut service.reactor, "two panics", |reactor| reactor.stats().job_panics == 2);
    drop(anna);
    service
        .until("it closes", |heard| heard.contains(&Heard::Close(anna_key, CloseReason::Panicked)));
    // The thread goes on.
    write(&mut bob, b"2");
    service.until("the result is there", |heard| heard.contains(&Heard::Result(bob_key, 4)));
    assert_eq!(service.reactor.stats().panics, 0, "of callbacks");
}

/// Panics when it is dropped; so does what it then says.
struct Bad;

impl Drop for Bad {
    fn drop(&mut self) {
        panic_any(Worse);
    }
}

struct Worse;

impl Drop for Worse {
    fn drop(&mut self) {
        panic!("as the test wants");
    }
}

#[test]
fn a_thread_goes_on_after_a_panic_that_panics_again_when_it_is_dropped() {
    let mut service = Service::new(1, 8);
    service.blocking.run(|| panic_any(Bad)).unwrap();
    service.blocking.run(|| 7).unwrap();
    service.until("the other one is done", |heard| heard.contains(&Heard::Own(7)));
    assert_eq!(service.reactor.stats().job_panics, 1);
}

#[test]
fn jobs_given_before_the_inbox_is_attached_wait() {
    let (blocking, inbox) = blocking(1, 2);
    blocking.run(|| 1).unwrap();
    blocking.run(|| 2).unwrap();
    assert!(matches!(blocking.run(|| 3), Err(PostError::Full(_))));
    let handler =
        Squares { blocking: blocking.clone(), heard: Rc::default(), opened: Rc::default() };
    let heard = Rc::clone(&handler.heard);
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(handler);
    reactor.attach(handler, inbox).unwrap();
    run_until(&mut reactor, "both are done", |_| heard.borrow().len() == 2);
    assert_eq!(*heard.borrow(), [Heard::Own(1), Heard::Own(2)]);
}

/// Tells when it is dropped.
struct Told(mpsc::Sender<()>);

impl Drop for Told {
    fn drop(&mut self) {
        // Nobody may be left to hear.
        let _ = self.0.send(());
    }
}

#[test]
fn the_end_drops_jobs_that_have_not_begun_and_takes_no_more() {
    for how in 0..3 {
        let mut service = Service::new(1, 2);
        let (told, heard) = mpsc::channel();
        let held = Told(told);
        if how == 2 {
            // Nothing is attached, so that nothing begins.
            let (blocking, inbox) = blocking(1, 1);
            blocking.run(move || drop(held)).unwrap();
            drop(inbox);
            assert!(matches!(blocking.run(|| ()), Err(PostError::Ended(_))));
            heard.recv_timeout(DEADLINE).unwrap();
            continue;
        }
        let (release, wait) = mpsc::channel::<()>();
        if HAS_KERNEL {
            let (begun, has_begun) = mpsc::channel();
            service
                .blocking
                .run(move || {
                    begun.send(()).unwrap();
                    wait.recv().map_or(0, |()| 1)
                })
                .unwrap();
            has_begun.recv_timeout(DEADLINE).unwrap();
        }
        service
            .blocking
            .run(move || {
                drop(held);
                1
            })
            .unwrap();
        let blocking = service.blocking.clone();
        if how == 0 {
            service.reactor.stop();
        } else {
            drop(service);
        }
        heard.try_recv().expect("it is dropped at once, while another job runs");
        assert!(matches!(blocking.run(|| 1), Err(PostError::Ended(_))));
        // Nobody waits for the job that runs; it ends when it likes.
        drop(release);
    }
}

/// Tells when it is dropped, and panics.
struct Unwilling(#[allow(dead_code, reason = "held")] Told);

impl Drop for Unwilling {
    fn drop(&mut self) {
        panic!("as the test wants");
    }
}

#[test]
fn jobs_that_panic_when_a_stop_drops_them_are_all_dropped_and_counted() {
    let mut service = Service::new(1, 8);
    let (release, wait) = mpsc::channel::<()>();
    if HAS_KERNEL {
        let (begun, has_begun) = mpsc::channel();
        let busy = move || {
            begun.send(()).unwrap();
            wait.recv().map_or(0, |()| 1)
        };
        service.blocking.run(busy).unwrap();
        has_begun.recv_timeout(DEADLINE).unwrap();
    }
    let (told, heard) = mpsc::channel();
    for number in 0..3 {
        let held = Unwilling(Told(told.clone()));
        let job = move || {
            drop(held);
            number
        };
        service.blocking.run(job).unwrap();
    }
    let stop = AssertUnwindSafe(|| service.reactor.stop());
    catch_unwind(stop).unwrap_err();
    assert_eq!(heard.try_iter().count(), 3);
    service.reactor.stop();
    let report = service.reactor.report().unwrap();
    let running = u64::from(HAS_KERNEL);
    assert_eq!((report.jobs_unanswered, report.messages_undelivered), (3 + running, 0));
    assert_eq!(service.reactor.stats().jobs_unanswered, 3 + running);
    assert!(report.to_string().contains("jobs"), "{report}");
    drop(release);
}

#[test]
fn a_result_that_is_not_delivered_is_an_unanswered_job_and_no_message() {
    let mut service = Service::new(1, 8);
    let (told, heard) = mpsc::channel();
    for _ in 0..2 {
        let told = Told(told.clone());
        let job = move || {
            drop(told);
            1
        };
        service.blocking.run(job).unwrap();
    }
    if HAS_KERNEL {
        for _ in 0..2 {
            heard.recv_timeout(DEADLINE).unwrap(); // they are done
        }
    }
    service.reactor.stop();
    let stats = service.reactor.stats();
    assert_eq!((stats.jobs_unanswered, stats.messages_undelivered, stats.messages), (2, 0, 0));
}

#[test]
fn the_last_giver_leaves_jobs_that_are_still_done() {
    thread_local!(static TOLD: RefCell<Option<Told>> = const { RefCell::new(None) });
    for is_idle in [false, true] {
        let mut service = Service::new(1, 8);
        let (told, thread_ended) = mpsc::channel();
        for number in 0..4 {
            let told = Told(told.clone());
            let job = move || {
                if HAS_KERNEL {
                    TOLD.set(Some(told)); // for as long as the thread lives
                }
                number
            };
            service.blocking.run(job).unwrap();
        }
        drop(told);
        if is_idle {
            service.until("all are done", |heard| heard.len() == 4);
        }
        let (other, _inbox) = blocking(1, 1);
        // The handler has one, too.
        service.reactor.handler_mut(service.handler).blocking = other.clone();
        service.blocking = other;
        service.until("all are done", |heard| heard.len() == 4);
        assert_eq!(*service.heard.borrow(), [0, 1, 2, 3].map(Heard::Own));
        // The thread ends by itself.
        while HAS_KERNEL {
            match thread_ended.recv_timeout(DEADLINE) {
                Ok(()) => {}
                Err(error) => {
                    assert_eq!(error, mpsc::RecvTimeoutError::Disconnected);
                    break;
                }
            }
        }
    }
}

#[test]
fn halves_are_dropped_in_any_order() {
    for order in 0..6 {
        let (blocking, inbox) = blocking::<u64>(2, 4);
        let handler =
            Squares { blocking: blocking.clone(), heard: Rc::default(), opened: Rc::default() };
        let mut reactor = Reactor::new().unwrap();
        let handler = reactor.add(handler);
        reactor.attach(handler, inbox).unwrap();
        let (told, heard) = mpsc::channel();
        let held = Told(told);
        blocking
            .run(move || {
                drop(held);
                1
            })
            .unwrap();
        let clone = blocking.clone();
        let (mut reactor, mut blocking, mut clone) = (Some(reactor), Some(blocking), Some(clone));
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for which in orders[order] {
            match which {
                0 => reactor = None,
                1 => blocking = None,
                _ => clone = None,
            }
        }
        assert!(reactor.is_none() && blocking.is_none() && clone.is_none());
        // Done or dropped, it is gone.
        heard.recv_timeout(DEADLINE).unwrap();
    }
}

#[test]
fn four_threads_of_jobs_under_load() {
    let _watchdog = Watchdog::new("all jobs are done");
    const JOBS: u64 = 20_000;
    let mut service = Service::new(4, 64);
    let (mut given, mut sum) = (0, 0);
    let heard = Rc::clone(&service.heard);
    while given < JOBS {
        match service.blocking.run(move || given) {
            Ok(()) => given += 1,
            Err(error) => {
                assert!(error.is_full());
                service.reactor.turn(Some(Duration::from_millis(1))).unwrap();
            }
        }
    }
    let total = |heard: &[Heard]| heard.len() as u64;
    run_until(&mut service.reactor, "all are done", |_| total(&heard.borrow()) == JOBS);
    for heard in heard.borrow().iter() {
        let Heard::Own(number) = heard else { panic!("{heard:?}") };
        sum += number;
    }
    assert_eq!(sum, JOBS * (JOBS - 1) / 2);
    service.reactor.verify();
}
