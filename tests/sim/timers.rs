//! Many timers, timers of long, and timers among everything else, in virtual time: what no machine waits for.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use crate::long::*;
use oneloop::sim::{Faults, Kernel, Network, SimDriver, SimSocket};
use oneloop::{
    Connection, Context, Error, HandlerId, Limits, ListenOptions, Reactor, ReactorLimits,
    StreamHandler, Time, TimerId,
};

/// Notes what fires.
#[derive(Default)]
struct Clock {
    fired: Vec<(TimerId, Time)>,
}

impl StreamHandler for Clock {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        _: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        Ok(data.len())
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        self.fired.push((timer, cx.now()));
    }
}

fn clock(network: &Network, own: ReactorLimits) -> (Reactor<SimDriver>, HandlerId<Clock>) {
    let driver = network.driver(Faults::none());
    let mut reactor = Reactor::with_driver(driver, own.connections_max(16)).unwrap();
    let clock = reactor.add(Clock::default());
    (reactor, clock)
}

#[test]
fn a_million_timers_fire_in_the_order_of_their_moments() {
    let mut random = Random(seed());
    let count = 1_000_000 / SCALE;
    let network = Network::new(1, Kernel::Linux);
    let own = ReactorLimits::new();
    let max = 1024;
    let (mut reactor, clock) = clock(&network, own.timers_per_turn_max(max));
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let mut cx = reactor.context(clock);
    let start = cx.now();
    let mut after = || Duration::from_nanos(random.below(3600 * 1_000_000_000));
    let mut timers: Vec<(TimerId, Time)> = Vec::with_capacity(count);
    for _ in 0..count {
        let after = after();
        timers.push((cx.set_handler_timer(after), start + after));
    }
    // A third is moved, to earlier and later moments, and a third is cancelled.
    for (number, (timer, at)) in timers.iter_mut().enumerate() {
        match number % 3 {
            0 => {
                let after = after();
                assert!(cx.rearm_timer(*timer, after));
                *at = start + after;
            }
            1 => {
                assert!(cx.cancel_timer(*timer));
                *at = Time::NEVER;
            }
            _ => {}
        }
    }
    timers.retain(|(_, at)| *at != Time::NEVER);
    timers.sort_by_key(|(_, at)| *at);
    while reactor.handler(clock).fired.len() < timers.len() {
        assert!(network.now() < start + 4000 * SECOND, "a timer is lost");
        // Now and then the loop comes late, and there are too many for a turn.
        if reactor.stats().turns.is_multiple_of(1000) {
            network.pass(20 * SECOND);
        }
        let before = reactor.handler(clock).fired.len();
        reactor.turn(None).unwrap();
        assert!(reactor.handler(clock).fired.len() - before <= max, "too many in a turn");
    }
    let fired = &reactor.handler(clock).fired;
    for ((timer, at), (due, moment)) in fired.iter().zip(&timers) {
        // Two of one moment, of which one was moved, come in either order.
        let is_it = timer == due || timers.iter().any(|other| other == &(*timer, *moment));
        assert!(is_it, "{timer:?} instead of {due:?}, which is due at {moment:?}");
        assert!(at >= moment, "early");
    }
    assert_eq!(fired.len(), timers.len());
    assert_eq!(reactor.next_wait(), None);
}

#[test]
fn a_timer_of_sixty_days_fires_then_and_the_loop_sleeps_until_then() {
    // epoll_wait(2) takes at most 24.8 days at a time, and the driver may wake up early.
    let network = Network::new(1, Kernel::Linux);
    let (mut reactor, clock) = clock(&network, ReactorLimits::new());
    reactor.turn(Some(Duration::ZERO)).unwrap();
    let start = network.now();
    let timer = reactor.context(clock).set_handler_timer(60 * DAY);
    let beat = reactor.context(clock).set_handler_interval(50 * DAY);
    while reactor.handler(clock).fired.len() < 3 {
        reactor.turn(Some(2 * DAY)).unwrap(); // as such a driver
        assert!(reactor.stats().turns < 70, "{:?}", reactor.stats());
    }
    let fired = reactor.handler(clock).fired.clone();
    let due = [(beat, 50), (timer, 60), (beat, 100)];
    for ((timer, at), (due, days)) in fired.into_iter().zip(due) {
        let after = at - start;
        assert!(timer == due && after >= days * DAY && after < days * DAY + MS, "{after:?}");
    }
}

/// In one turn so many timers fire.
const TIMERS_PER_TURN: usize = 10;

/// A ping that is there when a turn begins is answered within so many turns.
const TURNS: u64 = 1;

/// Answers pings and swallows floods, among timers of zero that are set again whenever they fire.
struct Busy {
    timers: usize,
    /// How many timers fired in each turn that fired some.
    fired: Vec<(u64, usize)>,
    /// Which timers are set, and how often each has fired before.
    each: HashMap<TimerId, usize>,
    flooded: usize,
}

impl StreamHandler for Busy {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.each = (0..self.timers).map(|_| (cx.set_handler_timer(Duration::ZERO), 0)).collect();
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        (): &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        match data[0] {
            b'f' => self.flooded += data.len(),
            _ => conn.send(data).ignore(),
        }
        Ok(data.len())
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        let turn = cx.stats().turns;
        match self.fired.last_mut() {
            Some(last) if last.0 == turn => last.1 += 1,
            _ => self.fired.push((turn, 1)),
        }
        let count = self.each.remove(&timer).expect("it is set");
        self.each.insert(cx.set_handler_timer(Duration::ZERO), count + 1);
    }
}

#[test]
fn a_storm_of_timers_floods_and_pings_do_not_starve_each_other() {
    for (kernel, timers) in [(Kernel::Linux, 1000), (Kernel::Contract, 1000), (Kernel::Linux, 5)] {
        let network = Network::new(seed(), kernel);
        let own = ReactorLimits::new().connections_max(64).timers_per_turn_max(TIMERS_PER_TURN);
        let mut reactor = Reactor::with_driver(network.driver(Faults::none()), own).unwrap();
        let (fired, each) = (Vec::new(), HashMap::new());
        let busy = reactor.add(Busy { timers, fired, each, flooded: 0 });
        let limits = Limits::new().read_bytes_per_turn_max(4096);
        let options = ListenOptions::new().limits(limits);
        let listener = reactor.listen_with(busy, "10.0.0.1:7000", &options).unwrap();
        let address = reactor.listener_address(listener).unwrap().inet().unwrap();
        let host = network.host(Faults::none());
        let mut floods: Vec<SimSocket> = (0..4).map(|_| host.connect(address).unwrap()).collect();
        let mut pinging = host.connect(address).unwrap();
        while reactor.connections() < 5 {
            reactor.turn(Some(MS)).unwrap();
        }
        for number in 0..200 {
            for flood in &mut floods {
                while flood.write(&[b'f'; 8192]).is_ok() {}
            }
            pinging.write_all(b"p").unwrap();
            network.pass(Duration::from_micros(1)); // it arrives
            let before = reactor.stats().turns;
            let flooded = reactor.handler(busy).flooded;
            let mut answer = [0; 2];
            loop {
                reactor.turn(Some(MS)).unwrap();
                network.pass(Duration::from_micros(1));
                let turns = reactor.stats().turns - before;
                assert!(turns <= TURNS, "{turns} turns, and no answer to ping {number}");
                match pinging.read(&mut answer) {
                    Ok(count) => break assert_eq!(answer[..count], *b"p"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            assert!(reactor.handler(busy).flooded > flooded, "the floods go on, too");
        }
        let busy = reactor.handler(busy);
        let (first, share) = (busy.fired[0].0, TIMERS_PER_TURN.min(timers));
        for (number, turn) in (first..).zip(&busy.fired) {
            assert_eq!(*turn, (number, share), "a share of the timers in every turn");
        }
        let (least, most) = (busy.each.values().min(), busy.each.values().max());
        let (least, most) = (least.unwrap(), most.unwrap());
        assert!(most - least <= 1 && *most > 0, "each in its turn: {least} to {most} times");
    }
}
