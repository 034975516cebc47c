//! Mail: mailboxes and blocking work that post to connections, to handlers and to nobody, from outside
//! and from callbacks, until somebody stops or drains the reactor from outside.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::{ClientId, Script, Served, Simulation};
use oneloop::{
    CloseReason, Connection, Context, Ended, Error, Handle, Key, ListenOptions, MessageHandler,
    ReactorLimits, StreamHandler, TimerId, Wait, blocking, mailbox,
};

use super::letters::{Book, Letter, Outlet, Target};
use super::{Life, Lives, assert_all_closed, conclude, pattern, serve_with, talker, tight, within};

/// How long it takes until somebody who was out of room, or whose job is being done, tries again.
const RETRY: Duration = Duration::from_micros(300);

/// Longer than a drain is late: a stall and a jump of the clock in each of its last turns.
const LATE_MAX: Duration = Duration::from_secs(30);

/// Echoes by mail: what it is sent goes through a mailbox, and back when it comes out of it.
struct Clerk {
    lives: Lives,
    book: Rc<RefCell<Book>>,
    /// Those that it has closed itself.
    closed: Vec<Key>,
    /// It holds up a drain.
    is_stubborn: bool,
}

impl Clerk {
    /// Now and then a message makes another one, which belongs to the next turn.
    fn go_on(&self, cx: &mut Context<'_>) {
        let random = cx.random();
        if random.is_multiple_of(3) {
            let book = &mut self.book.borrow_mut();
            let to = book.someone(random / 3);
            book.post_any(random / 64, to, Some(cx.stats().turns));
        }
    }
}

impl StreamHandler for Clerk {
    type Session = Life;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Life {
        self.book.borrow_mut().known.push(conn.key());
        self.lives.open(conn)
    }

    fn on_data(
        &mut self,
        life: &mut Life,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let random = conn.random();
        let count = data.len().min(1 + random as usize % 2000);
        let book = &mut self.book.borrow_mut();
        let key = conn.key();
        match book.post_in_order(key, &data[..count]) {
            Target::Taken => {
                life.consume(conn, &data[..count]);
                if (random / 4096).is_multiple_of(32) {
                    // What is on its way to it is for nobody now.
                    self.closed.push(key);
                    conn.close();
                } else if count < data.len() {
                    conn.again();
                }
                Ok(count)
            }
            Target::Full => {
                conn.pause();
                conn.set_timer(RETRY);
                Ok(0)
            }
            Target::Gone => {
                self.closed.push(key);
                conn.close();
                Ok(data.len())
            }
        }
    }

    fn on_timer(&mut self, _: &mut Life, conn: &mut Connection<'_>, _: TimerId) {
        conn.resume();
    }

    fn on_drain(&mut self, _: &mut Life, conn: &mut Connection<'_>) {
        if !self.is_stubborn {
            self.closed.push(conn.key());
            conn.close();
        }
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, _: &mut Context<'_>) {
        self.lives.close(&life, key);
        self.closed.push(key);
    }
}

impl MessageHandler<Letter> for Clerk {
    fn on_message(&mut self, life: &mut Life, conn: &mut Connection<'_>, letter: Letter) {
        assert_eq!(life.key, conn.key());
        assert_eq!(letter.to, Some(conn.key()), "a message for another connection");
        assert!(!self.closed.contains(&conn.key()), "a message for one that has closed");
        conn.send(&letter.bytes).ignore();
        self.book.borrow_mut().take(letter, conn.stats().turns);
        self.go_on(conn);
    }

    fn on_handler_message(&mut self, letter: Letter, cx: &mut Context<'_>) {
        assert_eq!(letter.to, None);
        self.book.borrow_mut().take(letter, cx.stats().turns);
        self.go_on(cx);
    }

    fn on_undelivered(&mut self, key: Key, letter: Letter, cx: &mut Context<'_>) {
        assert_eq!(letter.to, Some(key));
        self.book.borrow_mut().take(letter, cx.stats().turns);
        self.go_on(cx);
    }
}

/// Another handler of the reactor, whose connections get no mail: nobody knows their sessions' type.
struct Neighbour {
    lives: Lives,
    book: Rc<RefCell<Book>>,
}

impl StreamHandler for Neighbour {
    type Session = Life;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Life {
        self.book.borrow_mut().known.push(conn.key());
        self.lives.open(conn)
    }

    fn on_data(
        &mut self,
        life: &mut Life,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        life.consume(conn, data);
        conn.send(data).ignore();
        Ok(data.len())
    }

    fn on_close(&mut self, life: Life, key: Key, _: CloseReason, _: &mut Context<'_>) {
        self.lives.close(&life, key);
    }
}

/// What somebody does from outside besides posting, at a tick of its own.
#[derive(Clone, Copy)]
enum Order {
    Drain(Duration),
    Stop,
}

/// In a reactor of its own, as on another thread: posts a little at every tick, and gives orders.
struct Crier {
    book: Rc<RefCell<Book>>,
    handle: Handle,
    ticks_left: usize,
    orders: Vec<(usize, Order)>,
}

impl StreamHandler for Crier {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        cx.set_handler_timer(Duration::ZERO);
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        _: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_handler_timer(&mut self, _: TimerId, cx: &mut Context<'_>) {
        let book = &mut self.book.borrow_mut();
        for _ in 0..cx.random() % 12 {
            let random = cx.random();
            let to = book.someone(random);
            book.post_any(random / 1024, to, None);
        }
        if cx.random().is_multiple_of(64) {
            book.give_up(cx.random());
        }
        for (_, order) in self.orders.extract_if(.., |(tick, _)| *tick == self.ticks_left) {
            let asked = match order {
                Order::Drain(timeout) => {
                    book.note_drain(timeout);
                    self.handle.drain(timeout)
                }
                Order::Stop => {
                    book.note_stop();
                    self.handle.stop()
                }
            };
            asked.expect("the reactor is there");
        }
        self.ticks_left -= 1;
        if self.ticks_left > 0 {
            // In a long pause the others fall asleep.
            let pause = match cx.random() % 8 {
                0 => Duration::from_millis(cx.random() % 5000),
                _ => Duration::from_micros(cx.random() % 2000),
            };
            cx.set_handler_timer(pause);
        } else {
            book.give_up_all();
        }
    }
}

/// With the outlets of the book attached to it.
fn serve_clerk(sim: &mut Simulation) -> (Served<Clerk>, Rc<RefCell<Book>>) {
    let messages = within(sim, 1..9);
    let own = ReactorLimits::new().connections_max(64).messages_per_turn_max(messages);
    let book = Rc::<RefCell<Book>>::default();
    let is_stubborn = within(sim, 0..2) == 0;
    let clerk =
        Clerk { lives: Lives::default(), book: Rc::clone(&book), closed: Vec::new(), is_stubborn };
    let limits = tight().idle_timeout(Duration::from_secs(3600));
    let served = serve_with(sim, clerk, own, limits);
    let mut outlets = Vec::new();
    for _ in 0..within(sim, 1..5) {
        let capacity = within(sim, 1..24);
        let (sender, inbox) = mailbox(capacity);
        sim[served.reactor].attach(served.handler, inbox).unwrap();
        outlets.push(Outlet::mailbox(sender, capacity));
    }
    for _ in 0..within(sim, 0..3) {
        let (threads, jobs_max) = (within(sim, 1..4), within(sim, 1..12));
        let (blocking, inbox) = blocking(threads, jobs_max);
        sim[served.reactor].attach(served.handler, inbox).unwrap();
        outlets.push(Outlet::jobs(blocking, threads, jobs_max));
    }
    book.borrow_mut().open(outlets, messages, sim.network());
    (served, book)
}

/// Some, a few of them at the same tick.
fn orders(sim: &mut Simulation, ticks: usize) -> Vec<(usize, Order)> {
    let mut orders = Vec::new();
    for _ in 0..within(sim, 0..4) {
        let order = match within(sim, 0..5) {
            0 => Order::Stop,
            1 => Order::Drain(Duration::ZERO),
            2 => Order::Drain(Duration::from_secs(60)),
            _ => Order::Drain(Duration::from_secs(600)),
        };
        orders.push((1 + within(sim, 0..ticks) / 8 * 8, order));
    }
    orders
}

pub(super) fn mail(sim: &mut Simulation) {
    let (served, book) = serve_clerk(sim);
    if within(sim, 0..2) == 0 {
        sim[served.reactor].set_wait(Wait::Spin(Duration::from_micros(20)));
    }
    let neighbour = Neighbour { lives: Lives::default(), book: Rc::clone(&book) };
    let neighbour = sim[served.reactor].add(neighbour);
    let address = (sim.ip(served.reactor), 7001);
    sim[served.reactor]
        .listen_with(neighbour, address, &ListenOptions::new().limits(tight()))
        .unwrap();
    let handle = sim[served.reactor].handle().unwrap();
    let ticks = within(sim, 1..60);
    let orders = orders(sim, ticks);
    let crier = Crier { book: Rc::clone(&book), handle, ticks_left: ticks, orders };
    let crier = sim.serve(crier);

    let mut clients: Vec<ClientId> = (0..within(sim, 1..8))
        .map(|number| {
            let script = talker(sim);
            let script = if within(sim, 0..4) == 0 { script.reset() } else { script.close() };
            let port = if number % 4 == 3 { 7001 } else { 7000 };
            sim.client((served.address.ip(), port), script)
        })
        .collect();
    let script = Script::new().may_end().send(pattern(0, 1)).wait(Duration::from_secs(1500));
    clients.push(sim.client(served.address, script.close()));
    conclude(sim, &[served.reactor, crier.reactor], &clients, false);

    assert_all_closed(&sim.handler(served).lives);
    let reactor = &sim[served.reactor];
    assert_all_closed(&reactor.handler(neighbour).lives);
    let (stats, book) = (reactor.stats(), book.borrow());
    let known = stats.messages + stats.messages_undelivered + stats.jobs_unanswered;
    assert_eq!(book.posted(), known, "what was posted is delivered, or counted");
    match reactor.report() {
        None => {
            assert_eq!(book.left(), 0, "messages are lost");
            assert!(!book.may_end(), "an order was not heard");
        }
        Some(report) => {
            assert!(book.may_end(), "{report}");
            assert!(book.is_stopped() || report.end != Ended::Stopped, "{report}");
            if let Some(time) = book.drain_time() {
                assert!(report.duration <= time + LATE_MAX, "{report}: it had {time:?}");
            }
        }
    }
}
