//! The reactor's timers beside binary heaps, under loads that cancel nearly all they set.
//!
//! So many connections have a timer of 30 seconds each, and a message comes on each of them every three
//! seconds. Time passes by a message's share of that from one operation to the next; nothing fires.
//!
//! - *put off*: the message puts off its connection's timer, as an idle time-out is.
//! - *set and cancel*: the message sets another timer of 30 seconds, and its answer cancels it.
//!
//! All structures do the same operations, in turns within one run. Compare the columns of one run: the
//! nanoseconds are the machine's.
//!
//! ```sh
//! cargo run --release -p oneloop-timers
//! ```

mod heap;

// The library's own files: they are private to it.
#[path = "../../../src/clock.rs"]
#[allow(dead_code, unreachable_pub)]
mod clock;
#[path = "../../../src/key.rs"]
#[allow(dead_code, unreachable_pub)]
mod key;
#[cfg(test)]
#[path = "../../../src/random.rs"]
mod random;
#[path = "../../../src/table.rs"]
#[allow(dead_code)]
mod table;
#[path = "../../../src/timer/mod.rs"]
#[allow(dead_code, unreachable_pub)]
mod timer;

use std::time::{Duration, Instant};

use clock::Time;
use heap::Heap;
use timer::{Purpose, TimerId, Timers};

const TIMEOUT: Duration = Duration::from_secs(30);
const BETWEEN_MESSAGES: Duration = Duration::from_secs(3);
const ROUNDS: usize = 5;

/// Something that keeps timers.
trait Keeper {
    type Id: Copy;
    fn set(&mut self, at: Time) -> Self::Id;
    fn cancel(&mut self, id: Self::Id);
    fn put_off(&mut self, id: Self::Id, at: Time) -> Self::Id;
    /// Lets time pass; nothing is due.
    fn advance(&mut self, now: Time);
}

impl Keeper for Timers {
    type Id = TimerId;

    fn set(&mut self, at: Time) -> TimerId {
        Timers::set(self, at, Duration::ZERO, Purpose::Handler(0))
    }

    fn cancel(&mut self, id: TimerId) {
        assert!(Timers::cancel(self, id));
    }

    fn put_off(&mut self, id: TimerId, at: Time) -> TimerId {
        assert!(self.rearm(id, at));
        id
    }

    fn advance(&mut self, now: Time) {
        if self.next().is_some_and(|next| next <= now) {
            let mut due = Vec::new();
            self.take_due(now, usize::MAX, &mut due);
            assert!(due.is_empty());
        }
    }
}

#[derive(Clone, Copy)]
enum Load {
    PutOff,
    SetAndCancel,
}

/// A structure in the middle of its load.
struct Run<K: Keeper> {
    keeper: K,
    load: Load,
    ids: Vec<K::Id>,
    operations: usize,
}

impl<K: Keeper> Run<K> {
    fn start(mut keeper: K, load: Load, count: usize) -> Run<K> {
        // Those that nobody puts off have to stay to come.
        let timeout = match load {
            Load::PutOff => TIMEOUT,
            Load::SetAndCancel => Duration::from_secs(1 << 20),
        };
        let ids = (0..count).map(|operation| keeper.set(moment(operation, count) + timeout));
        let mut run = Run { ids: ids.collect(), keeper, load, operations: count };
        // Until as much is left behind as will ever be: ten messages in the time of one time-out.
        run.go_on(11 * count);
        run
    }

    /// Does so many operations; gives nanoseconds for each.
    fn go_on(&mut self, operations: usize) -> f64 {
        let count = self.ids.len();
        let start = Instant::now();
        for _ in 0..operations {
            let now = moment(self.operations, count);
            match self.load {
                Load::PutOff => {
                    // In an order that no cache foresees.
                    let which = self.operations.wrapping_mul(STRIDE) % count;
                    self.ids[which] = self.keeper.put_off(self.ids[which], now + TIMEOUT);
                }
                Load::SetAndCancel => {
                    let id = self.keeper.set(now + TIMEOUT);
                    self.keeper.cancel(id);
                }
            }
            self.keeper.advance(now);
            self.operations += 1;
        }
        start.elapsed().as_nanos() as f64 / operations as f64
    }
}

/// A prime, so that its multiples visit all timers before they come back.
const STRIDE: usize = 7_368_787;

/// When the operation of this number happens.
fn moment(operation: usize, count: usize) -> Time {
    let nanos = operation as u128 * BETWEEN_MESSAGES.as_nanos() / count as u128;
    Time::from_nanos(nanos as u64)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn compare(load: Load) {
    println!("{:>12} {:>8} {:>8} {:>11}", "live timers", "wheel", "heap", "heap:wheel");
    for count in [10_000, 100_000, 1_000_000] {
        let mut wheel = Run::start(Timers::new(), load, count);
        let mut heap = Run::start(Heap::new(), load, count);
        let operations = count.max(1_000_000);
        let rounds = (0..ROUNDS).map(|_| (wheel.go_on(operations), heap.go_on(operations)));
        let (of_wheel, of_heap) = rounds.unzip();
        let (wheel, heap) = (median(of_wheel), median(of_heap));
        println!("{count:>12} {wheel:>8.0} {heap:>8.0} {:>10.1}x", heap / wheel);
    }
}

fn main() {
    println!("Nanoseconds an operation, median of {ROUNDS} rounds.");
    println!("\nput off:");
    compare(Load::PutOff);
    println!("\nset and cancel:");
    compare(Load::SetAndCancel);
}
