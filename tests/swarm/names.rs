//! Many calls by name while look-ups are slow, fail, and are more than there is room for; and callers who do not wait
//! for them.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use oneloop::address::{Endpoint, Host};
use oneloop::sim::{Faults, ReactorId, Simulation};
use oneloop::{
    Address, Backoff, CloseReason, ConnectError, ConnectOptions, Connection, Context, Error, Key,
    Limits, NameError, Origin, ReactorLimits, Resolver, Sent, StreamHandler, Time, TimerId,
};

use super::echo::Echo;
use super::{Life, Lives, assert_all_closed, conclude, pattern, serve, tight, within};

/// A host that is slow now and then, so that several answers wait for it at once.
pub(super) fn slow_host() -> Faults {
    let stall = Duration::from_millis(20);
    Faults::lossless().stalls(0.2).stall_max(stall).failed_lookups(0.2)
}

/// What a call is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// He is found.
    Friend,
    /// Nobody is called that.
    Nobody,
    /// Nobody can say who is, as long as the first of two tries may take.
    Cut,
    /// It is given up at some moment.
    GivenUp,
    /// It has hardly the time for a look-up.
    Hasty,
}

const KINDS: [Kind; 5] = [Kind::Friend, Kind::Nobody, Kind::Cut, Kind::GivenUp, Kind::Hasty];

/// How far a call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waits(Key),
    /// Nobody waits for it, and its end is yet to be told.
    GivenUp(Key),
    Over,
}

#[derive(Clone, Copy)]
struct Call {
    kind: Kind,
    state: State,
    since: Time,
    /// It does not time out before.
    has_at_least: Duration,
    /// Bytes that were sent before it is open.
    sent: usize,
}

/// What became of the look-ups of a call.
#[derive(Clone, Copy, Default)]
struct Asked {
    times: usize,
    /// Nobody could say, because of the cut, or although there was none.
    failed: [usize; 2],
    is_cut: bool,
    is_over: bool,
    for_nobody: usize,
}

/// Asks the simulation, and writes it down, by the number of the call. Clones write into one book.
#[derive(Clone)]
struct Clerk {
    of: Arc<dyn Resolver>,
    book: Arc<Mutex<Vec<Asked>>>,
}

impl Clerk {
    fn new(of: &Arc<dyn Resolver>, kinds: &[Kind]) -> Clerk {
        let asked = |kind: &Kind| Asked { is_cut: *kind == Kind::Cut, ..Asked::default() };
        let book = kinds.iter().map(asked).collect();
        Clerk { of: Arc::clone(of), book: Arc::new(Mutex::new(book)) }
    }

    fn book(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.book.lock().expect("nothing under the lock panics")
    }
}

impl Resolver for Clerk {
    fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, NameError> {
        let number = match endpoint.host() {
            Host::Name(name) => name.strip_prefix("call-").and_then(|number| number.parse().ok()),
            _ => None,
        };
        let number: usize = number.expect("the name of a call");
        let asked = &mut self.book()[number];
        asked.times += 1;
        asked.for_nobody += usize::from(asked.is_over);
        if asked.is_cut {
            asked.failed[0] += 1;
            return Err(NameError::Failed("the line is cut".into()));
        }
        let found = self.of.addresses(endpoint);
        asked.failed[1] += usize::from(matches!(found, Err(NameError::Failed(_))));
        found
    }
}

/// What the caller knows of who is asked for names.
struct Desk {
    clerk: Clerk,
    /// For so many look-ups there is room.
    room: usize,
    /// There is, or was at some time, not enough of it for all calls.
    is_small: bool,
}

/// What a timer of the caller's is for.
#[derive(Clone, Copy)]
enum Due {
    Calls,
    Speak(usize),
    GiveUp(usize),
    EndOfCut(usize),
}

struct Caller {
    lives: Lives,
    kinds: Vec<Kind>,
    /// Those that were made, by their tags.
    calls: Vec<Call>,
    timers: Vec<(TimerId, Due)>,
    /// Who is asked for names, if it is not the simulation alone.
    desk: Option<Desk>,
    /// Every turn delivers all answers that there are, so that they take up no room when names are asked for.
    takes_all: bool,
    is_stopped: bool,
}

const CALLS: usize = 60;

impl Caller {
    fn set_timer(&mut self, cx: &mut Context<'_>, after: Duration, due: Due) {
        self.timers.push((cx.set_handler_timer(after), due));
    }

    fn call(&mut self, cx: &mut Context<'_>) {
        let Some(kind) = self.kinds.get(self.calls.len()).copied() else { return };
        let number = self.calls.len();
        let random = cx.random();
        let wait = Duration::from_micros(200 + random % 2000);
        let (times, timeout) = match kind {
            Kind::Cut => (1, Duration::from_micros(500 + random / 4096 % 8000)),
            Kind::Hasty => (0, Duration::from_micros(1 + random / 4096 % 10_000)),
            _ => (0, Duration::from_secs(10)),
        };
        let options = ConnectOptions::new()
            .limits(Limits::new().connect_timeout(timeout))
            .retry(times, Backoff::new(wait, wait));
        let name: Address = format!("call-{number}:7000").parse().expect("a good address");
        let key = cx.connect_with(name, number as u64, &Rc::new(options));
        let has_at_least = timeout + wait / 2 * times;
        let (state, since) = (State::Waits(key), cx.now());
        self.calls.push(Call { kind, state, since, has_at_least, sent: 0 });
        // Perhaps while it rests between two tries.
        let early = Duration::from_micros(cx.random() % 12_000);
        self.set_timer(cx, early, Due::Speak(number));
        match kind {
            // Before a second try that follows on a time-out.
            Kind::Cut => self.set_timer(cx, timeout, Due::EndOfCut(number)),
            Kind::GivenUp => {
                let after = Duration::from_micros(random / 4096 % 15_000);
                self.set_timer(cx, after, Due::GiveUp(number));
            }
            _ => {}
        }
    }

    fn speak(&mut self, number: usize, cx: &mut Context<'_>) {
        let call = &mut self.calls[number];
        if let State::Waits(key) = call.state
            && cx.send_to(key, &pattern(call.sent, 10)) == Sent::Ok
        {
            call.sent += 10;
        }
    }

    fn give_up(&mut self, number: usize, cx: &mut Context<'_>) {
        if let State::Waits(key) = self.calls[number].state {
            self.calls[number].state = State::GivenUp(key);
            match number % 2 {
                0 => cx.close_key(key),
                _ => cx.abort_key(key),
            }
        }
    }

    fn end(&mut self, number: usize) {
        self.calls[number].state = State::Over;
        if let Some(desk) = &self.desk {
            desk.clerk.book()[number].is_over = true;
        }
    }

    /// Whether there may have been no room for the look-up of a call: so many names were to be asked for, at most one
    /// for each of those who wait, that nobody had been asked for yet.
    fn may_be_busy(&self, number: usize) -> bool {
        let Some(desk) = &self.desk else { return false };
        if self.calls[number].kind == Kind::Cut || !self.takes_all {
            // Its second try is made before the answers of its turn are taken.
            return desk.is_small;
        }
        let asked = desk.clerk.book();
        let is_before = |other: &usize| match self.calls[*other] {
            Call { state: State::GivenUp(_) | State::Over, .. } => false,
            Call { kind: Kind::Cut, .. } => true,
            _ => *other < number && asked[*other].times == 0,
        };
        (0..self.calls.len()).filter(is_before).count() >= desk.room
    }

    /// Whether the last try of a call can have failed because nobody could say.
    fn may_have_failed(&self, number: usize) -> bool {
        let Some(desk) = &self.desk else { return true };
        let [by_cut, otherwise] = desk.clerk.book()[number].failed;
        // The second try begins after the cut, unless the first one was over before, by a failure itself.
        let is_second_cut = by_cut > 1 || desk.is_small && by_cut > 0;
        otherwise > 0 || is_second_cut
    }

    /// All are over, and nobody was asked in vain.
    fn conclude(&self) {
        assert_all_closed(&self.lives);
        assert!(self.calls.iter().all(|call| call.state == State::Over), "a call has no end");
        assert!(self.is_stopped || self.calls.len() == CALLS, "a handler's timer is lost");
        let Some(desk) = &self.desk else { return };
        for (kind, asked) in self.kinds.iter().zip(&*desk.clerk.book()) {
            let tries = if *kind == Kind::Cut { 2 } else { 1 };
            assert!(asked.times <= tries, "{} look-ups for a call of {tries}", asked.times);
            assert_eq!(asked.for_nobody, 0, "a name is looked up for nobody");
        }
    }
}

impl StreamHandler for Caller {
    type Session = (Life, usize);

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.set_timer(cx, Duration::ZERO, Due::Calls);
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        let place = self.timers.iter().position(|(id, _)| *id == timer).expect("it was set");
        match self.timers.swap_remove(place).1 {
            Due::Speak(number) => self.speak(number, cx),
            Due::GiveUp(number) => self.give_up(number, cx),
            Due::EndOfCut(number) => {
                if let Some(desk) = &self.desk {
                    desk.clerk.book()[number].is_cut = false;
                }
            }
            Due::Calls => {
                for _ in 0..1 + cx.random() % 8 {
                    self.call(cx);
                }
                let pause = match cx.random() % 4 {
                    0 => Duration::from_secs(1),
                    _ => Duration::from_micros(cx.random() % 10_000),
                };
                if self.calls.len() < CALLS {
                    self.set_timer(cx, pause, Due::Calls);
                }
            }
        }
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> (Life, usize) {
        let Origin::Connected(tag) = conn.origin() else { panic!("nobody calls back") };
        let number = tag as usize;
        let Call { kind, state, sent, .. } = self.calls[number];
        assert_eq!(state, State::Waits(conn.key()), "a call that nobody waits for");
        assert_ne!(kind, Kind::Nobody, "there is nobody");
        self.end(number);
        conn.send(&pattern(sent, 100 - sent)).ignore();
        (self.lives.open(conn), number)
    }

    fn on_data(
        &mut self,
        (life, _): &mut (Life, usize),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        life.consume(conn, data);
        if life.received == 100 {
            conn.close();
        }
        Ok(data.len())
    }

    fn on_close(
        &mut self,
        (life, number): (Life, usize),
        key: Key,
        reason: CloseReason,
        _: &mut Context<'_>,
    ) {
        let is_whole = reason == CloseReason::Closed && life.received == 100;
        let is_stopped = self.is_stopped && reason == CloseReason::Stopped;
        assert!(is_whole || is_stopped, "{:?}: {reason}", self.calls[number].kind);
        self.lives.close(&life, key);
    }

    fn on_connect_failed(&mut self, key: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>) {
        let number = tag as usize;
        let Call { kind, state, since, has_at_least, .. } = self.calls[number];
        match (kind, error) {
            _ if state == State::GivenUp(key) => assert_eq!(error, ConnectError::Cancelled),
            _ if state != State::Waits(key) => panic!("{kind:?} failed, and was {state:?}"),
            (Kind::Nobody, ConnectError::NameNotFound) => {}
            (Kind::Cut | Kind::Hasty, ConnectError::TimedOut) => {
                let took = cx.now() - since;
                assert!(took >= has_at_least, "{kind:?} had {took:?}, not {has_at_least:?}");
            }
            (_, ConnectError::NameLookup) => {
                assert!(self.may_have_failed(number), "{kind:?}: another look-up has failed");
            }
            (_, ConnectError::ResolverBusy) => {
                assert!(self.may_be_busy(number), "{kind:?}: there was room for a look-up");
            }
            (_, ConnectError::Stopped) => assert!(self.is_stopped),
            _ => panic!("{kind:?} failed: {error}"),
        }
        self.end(number);
    }
}

impl Desk {
    /// Takes its place, for some look-ups or for all that there may be.
    fn open(&mut self, sim: &mut Simulation, reactor: ReactorId) {
        self.room = if within(sim, 0..2) == 0 { CALLS } else { within(sim, 1..6) };
        self.is_small |= self.room < CALLS;
        let threads = within(sim, 1..4);
        sim[reactor].set_resolver(self.clerk.clone(), threads, self.room);
    }
}

/// Calls by names for these addresses, or the last of them.
fn kinds(sim: &mut Simulation, ways: &[IpAddr]) -> Vec<Kind> {
    let kinds: Vec<Kind> = (0..CALLS).map(|_| KINDS[within(sim, 0..KINDS.len())]).collect();
    for (number, kind) in kinds.iter().enumerate() {
        let known = if *kind == Kind::Nobody { ways.len() } else { within(sim, 0..ways.len()) };
        sim.set_name(&format!("call-{number}"), &ways[known..]);
    }
    kinds
}

/// Twice, before a stop or after one; the clerk may change meanwhile.
pub(super) fn names(sim: &mut Simulation) {
    let friend = serve(sim, Echo::default(), tight());
    let hole = sim.add_reactor(ReactorLimits::new().connections_max(8));
    let takes_all = within(sim, 0..2) == 0;
    let messages = if takes_all { 1024 } else { within(sim, 1..3) };
    let own = ReactorLimits::new().connections_max(CALLS).messages_per_turn_max(messages);
    let reactor = sim.add_reactor(own);
    sim.partition(reactor, hole);
    let ways = [sim.ip_v6(hole), sim.ip_v6(friend.reactor), friend.address.ip()];
    let names = sim[reactor].resolver();
    let has_clerk = within(sim, 0..4) > 0;
    for _ in 0..2 {
        let kinds = kinds(sim, &ways);
        let clerk = Clerk::new(&names, &kinds);
        let mut desk = has_clerk.then_some(Desk { clerk, room: 0, is_small: false });
        if let Some(desk) = &mut desk {
            desk.open(sim, reactor);
        }
        let (lives, calls, timers) = (Lives::default(), Vec::new(), Vec::new());
        let caller = Caller { lives, kinds, calls, timers, desk, takes_all, is_stopped: false };
        let handler = sim[reactor].add(caller);
        for _ in 0..within(sim, 0..3) {
            let moment = within(sim, 0..50_000) as u64;
            sim.run_for(Duration::from_micros(moment));
            if let Some(mut desk) = sim[reactor].handler_mut(handler).desk.take() {
                desk.open(sim, reactor);
                sim[reactor].handler_mut(handler).desk = Some(desk);
            }
        }
        if within(sim, 0..4) == 0 {
            let moment = within(sim, 0..200_000) as u64;
            sim.run_for(Duration::from_micros(moment));
            sim[reactor].handler_mut(handler).is_stopped = true;
            sim[reactor].stop();
        }
        sim.run_for(Duration::from_secs(100));
        sim[reactor].handler(handler).conclude();
    }
    conclude(sim, &[friend.reactor, reactor], &[], true);
    assert_all_closed(&sim.handler(friend).lives);
}
