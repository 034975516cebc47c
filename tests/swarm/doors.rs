//! Who comes in, and who goes out: limits of connections, descriptors, outbound connects.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use oneloop::sim::{ClientId, End, Script, Simulation};
use oneloop::{
    Backoff, CloseReason, ConnectError, ConnectOptions, Connection, Context, Error, Key, Limits,
    ListenOptions, Origin, ReactorLimits, StreamHandler, Time, TimerId,
};

use super::echo::Echo;
use super::{Life, Lives, assert_all_closed, conclude, pattern, serve_with, talker, tight, within};

/// An echo that is never shown more connections than there may be.
#[derive(Default)]
struct House {
    echo: Echo,
    /// By listener.
    open: Vec<(Origin, usize)>,
}

const HOUSE_MAX: usize = 4;
const ROOM_MAX: usize = 3;

impl House {
    fn count(&mut self, origin: Origin) -> &mut usize {
        let place = self.open.iter().position(|open| open.0 == origin).unwrap_or(self.open.len());
        if place == self.open.len() {
            self.open.push((origin, 0));
        }
        &mut self.open[place].1
    }
}

impl StreamHandler for House {
    type Session = (Life, Origin);

    fn on_open(&mut self, conn: &mut Connection<'_>) -> (Life, Origin) {
        let origin = conn.origin();
        *self.count(origin) += 1;
        assert!(*self.count(origin) <= ROOM_MAX, "a listener is over its limit");
        assert!(conn.stats().connections <= HOUSE_MAX, "the reactor is over its limit");
        (self.echo.on_open(conn), origin)
    }

    fn on_data(
        &mut self,
        (life, _): &mut (Life, Origin),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.echo.on_data(life, conn, data)
    }

    fn on_peer_closed(&mut self, _: &mut (Life, Origin), conn: &mut Connection<'_>) {
        conn.abort();
    }

    fn on_timer(&mut self, (life, _): &mut (Life, Origin), conn: &mut Connection<'_>, id: TimerId) {
        self.echo.on_timer(life, conn, id);
    }

    fn on_close(
        &mut self,
        (life, origin): (Life, Origin),
        key: Key,
        reason: CloseReason,
        cx: &mut Context<'_>,
    ) {
        *self.count(origin) -= 1;
        self.echo.on_close(life, key, reason, cx);
    }
}

/// More clients than there are places: all who wait are served in the end; who is turned away for its
/// address is told.
pub fn full_house(sim: &mut Simulation) {
    let own = ReactorLimits::new().connections_max(HOUSE_MAX);
    let served = serve_with(sim, House::default(), own, tight().connections_max(ROOM_MAX));
    let strict = tight().connections_max(ROOM_MAX).connections_per_address_max(2);
    let options = ListenOptions::new().limits(strict);
    let by_address = SocketAddr::new(served.address.ip(), 7001);
    sim[served.reactor].listen_with(served.handler, by_address, &options).expect("a free port");
    let (mut clients, mut turned_away) = (Vec::new(), Vec::new());
    for _ in 0..within(sim, 1..20) {
        let pause = Duration::from_micros(within(sim, 0..100_000) as u64);
        let script = talker(sim).wait(pause);
        let (script, end) = match within(sim, 0..4) {
            0 => (script.reset(), End::Left),
            1 => (script.shutdown(), End::Reset),
            _ => (script.close(), End::Left),
        };
        match within(sim, 0..3) {
            0 => turned_away.push(sim.client(by_address, script)),
            _ => clients.push((sim.client(served.address, script), end)),
        }
    }
    let ids: Vec<ClientId> = clients.iter().map(|(client, _)| *client).collect();
    conclude(sim, &[served.reactor], &ids, true);
    for (client, end) in clients {
        assert_eq!(sim.end(client), Some(end), "{client:?} waited to be served");
    }
    for client in turned_away {
        assert!(sim.end(client).is_some(), "{client:?} hears nothing");
    }
    for address in [served.address, by_address] {
        let script = Script::new().send(pattern(0, 10)).expect(pattern(0, 10)).close();
        let late = sim.client(address, script);
        sim.run_for(Duration::from_secs(10));
        assert_eq!(sim.end(late), Some(End::Left), "nobody is in, and {address} is closed");
    }
    assert_all_closed(&sim.handler(served).echo.lives);
}

/// No descriptor is left for them: clients that come are told so, again and again.
pub fn told(sim: &mut Simulation) {
    let own = ReactorLimits::new().connections_max(64);
    let served = serve_with(sim, Echo::default(), own, tight());
    let guest = || Script::new().send(pattern(0, 10)).expect(pattern(0, 10)).wait(HOUR).close();
    let guests = [sim.client(served.address, guest()), sim.client(served.address, guest())];
    sim.run_for(Duration::from_secs(2));
    for number in 0..4 {
        // The listener's, the guests', and the reserved one; which at times is not to be had.
        let descriptors = if number == 1 { 3 } else { 4 };
        sim.set_descriptors_max(served.reactor, descriptors);
        let others: Vec<ClientId> = (0..3)
            .map(|_| sim.client(served.address, Script::new().may_end().wait(HOUR)))
            .collect();
        sim.run_for(Duration::from_secs(10));
        for other in others.iter().filter(|_| descriptors == 4) {
            assert!(sim.end(*other).is_some(), "{other:?} hears nothing: {number}");
        }
    }
    for guest in guests {
        assert_eq!(sim.end(guest), None, "who is in stays in");
    }
    sim.heal();
    conclude(sim, &[served.reactor], &guests, true);
}

const HOUR: Duration = Duration::from_secs(3600);

/// Calls others: each of its calls has exactly one outcome, in its time.
struct Caller {
    lives: Lives,
    friend: SocketAddr,
    own: SocketAddr,
    calls: u64,
    /// What may come of each call, when it was made, and whether there was no place for it then.
    pending: BTreeMap<u64, (Call, Time, bool)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Call {
    Friend,
    Nobody,
    /// Given up right away, or a bit later.
    GivenUp,
    /// From the very address that it is to.
    Itself,
}

const CALLS: u64 = 12;

/// What may be as late as that: a stall, and what is left of the turn.
const SLACK: Duration = Duration::from_secs(1);

impl Caller {
    fn call(&mut self, cx: &mut Context<'_>) {
        self.calls += 1;
        let random = cx.random();
        let nobody = SocketAddr::new(self.friend.ip(), 1);
        let (call, address) = match random % 4 {
            0 if (random / 4).is_multiple_of(4) => (Call::Itself, self.own),
            0 => (Call::Nobody, nobody),
            1 => (Call::GivenUp, self.friend),
            _ => (Call::Friend, self.friend),
        };
        let (now, is_full) = (cx.now(), cx.stats().connections >= CALLERS_MAX);
        self.pending.insert(self.calls, (call, now, is_full));
        let key = match call {
            Call::Itself => {
                let from = ConnectOptions::new().from(address);
                let limits = Limits::new().connect_timeout(PATIENCE);
                cx.connect_with(address, self.calls, &Rc::new(from.limits(limits)))
            }
            Call::Nobody => {
                let limits = Limits::new().connect_timeout(PATIENCE);
                let again = ConnectOptions::new().limits(limits).retry(1, Backoff::new(WAIT, WAIT));
                cx.connect_with(address, self.calls, &Rc::new(again))
            }
            _ => cx.connect(address, self.calls),
        };
        if call == Call::GivenUp && (random / 4).is_multiple_of(2) {
            cx.close_key(key);
        }
        if self.calls < CALLS {
            cx.set_handler_timer(Duration::from_micros(random / 64 % 2_000_000));
        }
    }
}

struct Talk {
    life: Life,
    call: Call,
}

impl StreamHandler for Caller {
    type Session = Talk;

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.call(cx);
    }

    fn on_handler_timer(&mut self, _: TimerId, cx: &mut Context<'_>) {
        self.call(cx);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Talk {
        let Origin::Connected(tag) = conn.origin() else { panic!("nobody calls back") };
        let (call, _, is_full) = self.pending.remove(&tag).expect("one outcome a call");
        let is_hopeless = matches!(call, Call::Nobody | Call::Itself);
        assert!(!is_hopeless && !is_full, "there is nobody, or no place");
        if call == Call::GivenUp {
            conn.close();
        } else {
            conn.send(&pattern(0, 100)).ignore();
        }
        Talk { life: self.lives.open(conn), call }
    }

    fn on_data(
        &mut self,
        talk: &mut Talk,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        talk.life.consume(conn, data);
        match talk.life.received {
            // Longer than a connect may take.
            100 => _ = conn.set_timer(Duration::from_secs(15)),
            200 => conn.close(),
            _ => {}
        }
        Ok(data.len())
    }

    fn on_timer(&mut self, _: &mut Talk, conn: &mut Connection<'_>, _: TimerId) {
        conn.send(&pattern(100, 100)).ignore();
    }

    fn on_close(&mut self, talk: Talk, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        assert_eq!(reason, CloseReason::Closed);
        assert!(talk.call != Call::Friend || talk.life.received == 200, "closed too early");
        self.lives.close(&talk.life, key);
    }

    fn on_connect_failed(&mut self, _: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>) {
        let (call, since, is_full) = self.pending.remove(&tag).expect("one outcome a call");
        let took = cx.now().since(since);
        match (call, error) {
            (Call::Nobody, ConnectError::Refused) => {
                assert!(took >= WAIT / 2 && took <= PATIENCE + WAIT + PATIENCE + SLACK, "{took:?}");
            }
            (Call::Nobody, ConnectError::TimedOut) => {
                let most = PATIENCE + WAIT + PATIENCE + SLACK;
                assert!(took >= PATIENCE + WAIT / 2 && took <= most, "gave up after {took:?}");
            }
            (Call::Itself, ConnectError::SelfConnected) => {}
            (Call::Itself, ConnectError::AddressUnavailable) => {} // another one has not ended yet
            (Call::GivenUp, ConnectError::Cancelled) => {}
            (_, ConnectError::TooManyConnections) => assert!(is_full, "there was a place"),
            _ if is_full => panic!("there was no place: {call:?} failed: {error}"),
            (_, ConnectError::TimedOut) => {
                assert!(took >= PATIENCE && took <= PATIENCE + SLACK, "timed out after {took:?}");
            }
            _ => panic!("{call:?} failed: {error}"),
        }
    }
}

const CALLERS_MAX: usize = 6;
const PATIENCE: Duration = Duration::from_secs(10);
/// Before the second try.
const WAIT: Duration = Duration::from_secs(2);

pub fn callers(sim: &mut Simulation) {
    let friend = sim.serve(Echo::default());
    let reactor = sim.add_reactor(ReactorLimits::new().connections_max(CALLERS_MAX));
    let caller = Caller {
        lives: Lives::default(),
        friend: friend.address,
        own: SocketAddr::new(sim.ip(reactor), 2),
        calls: 0,
        pending: BTreeMap::new(),
    };
    let handler = sim[reactor].add(caller);
    sim[reactor].set_connect_limits(Limits::new().connect_timeout(PATIENCE)).expect("good limits");
    sim.run_for(Duration::from_secs(200));
    sim.run_until_idle();
    sim.assert_empty(reactor);
    sim.assert_empty(friend.reactor);
    let caller = sim[reactor].handler(handler);
    assert_eq!(caller.calls, CALLS, "a handler's timer is lost");
    assert!(caller.pending.is_empty(), "{:?}", caller.pending);
    assert_all_closed(&caller.lives);
    assert_all_closed(&sim.handler(friend).lives);
}
