//! The fairness bound, in budgets, under many seeds: what no clock of a shared machine can blur.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::{Check, Faults, Kernel, Script};
use oneloop::{Connection, Error, Limits, ListenOptions, ReactorLimits, StreamHandler, TimerId};

const FLOODS: usize = 4;
const QUIET: usize = 20;
const BUDGET: usize = 4096;
const PINGS: usize = 30;

/// Bytes of floods that the server was shown so far.
type Shown = Rc<Cell<usize>>;

/// Floods begin with an `f`; everything else is a ping: how much of the floods was shown when it was
/// sent.
struct Server {
    shown: Shown,
    waited_max: Rc<Cell<usize>>,
}

impl StreamHandler for Server {
    /// Whether it is a flood, once that is known.
    type Session = Option<bool>;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Option<bool> {
        None
    }

    fn on_data(
        &mut self,
        is_flood: &mut Option<bool>,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        if *is_flood.get_or_insert(data[0] == b'f') {
            self.shown.set(self.shown.get() + data.len());
            return Ok(data.len());
        }
        let Some(ping) = data.first_chunk::<9>() else { return Ok(0) };
        let sent_at = u64::from_le_bytes(ping[1..].try_into()?) as usize;
        if ping[0] == b'p' {
            self.waited_max.set(self.waited_max.get().max(self.shown.get() - sent_at));
        }
        conn.send(ping).ignore();
        Ok(9)
    }
}

/// Sends a ping, and some time after its answer the next one.
struct Quiet {
    shown: Shown,
    answered: Rc<Cell<usize>>,
}

impl Quiet {
    fn ping(&self, conn: &mut Connection<'_>, kind: u8) {
        conn.send(&[kind]).ignore();
        conn.send(&(self.shown.get() as u64).to_le_bytes()).ignore();
    }
}

impl StreamHandler for Quiet {
    type Session = usize;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> usize {
        self.ping(conn, b'o'); // not counted: it has to be accepted first
        0
    }

    fn on_data(
        &mut self,
        answers: &mut usize,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        if data.len() < 9 {
            return Ok(0);
        }
        *answers += 1;
        self.answered.set(self.answered.get() + 1);
        if *answers == PINGS {
            conn.close();
        } else {
            let after = conn.random() % 1000;
            conn.set_timer(Duration::from_micros(after));
        }
        Ok(9)
    }

    fn on_timer(&mut self, _: &mut usize, conn: &mut Connection<'_>, _: TimerId) {
        self.ping(conn, b'p');
    }
}

/// A ping that is sent while floods are under way is served after the rest of the turn in which it
/// comes, and in the next one: at most a budget of every flood in each.
#[test]
fn a_quiet_connection_waits_for_two_budgets_of_each_flood_at_most() {
    let name = "a_quiet_connection_waits_for_two_budgets_of_each_flood_at_most";
    let faults = Faults::none().short_reads(0.2).short_writes(0.2).reordered_events(0.3);
    for kernel in [Kernel::Linux, Kernel::Contract] {
        Check::new(name)
            .kernel(kernel)
            .seeds(if cfg!(debug_assertions) { 2 } else { 50 })
            .faults(faults.clone())
            .run(|sim| {
                let (shown, waited_max, answered) = <(Shown, Shown, Shown)>::default();
                let server = sim.add_reactor(ReactorLimits::new().connections_max(64));
                let handler =
                    Server { shown: Rc::clone(&shown), waited_max: Rc::clone(&waited_max) };
                let handler = sim[server].add(handler);
                let limits = Limits::new().read_bytes_per_turn_max(BUDGET);
                let options = ListenOptions::new().limits(limits);
                let listener = sim[server].listen_with(handler, "10.0.0.2:7000", &options).unwrap();
                let address = sim[server].listener_address(listener).unwrap().inet().unwrap();
                for _ in 0..FLOODS {
                    sim.client(address, Script::new().send(vec![b'f'; 4 << 20]).close());
                }
                let client = sim.add_reactor(ReactorLimits::new().connections_max(64));
                let handler = Quiet { shown: Rc::clone(&shown), answered: Rc::clone(&answered) };
                let quiet = sim[client].add(handler);
                // Where a short read is a late arrival, and after a short write, a ping is not there
                // yet: that is not the server's time.
                if kernel == Kernel::Linux {
                    sim.set_link_faults(server, client, Faults::none());
                }
                for tag in 0..QUIET {
                    sim[client].context(quiet).connect(address, tag as u64);
                }
                sim.run_until(|_| answered.get() == QUIET * PINGS);
                assert!(shown.get() > PINGS * BUDGET, "the floods were under way");
                let bound = 2 * FLOODS * BUDGET;
                assert!(waited_max.get() <= bound, "waited for {} bytes", waited_max.get());
            });
    }
}
