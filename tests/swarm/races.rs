//! Calls to a friend of whom several addresses are known, some of them wrong, by these or by his name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use oneloop::sim::Simulation;
use oneloop::{
    Address, CloseReason, ConnectError, Connection, Context, Destination, Error, Key, Limits,
    Origin, ReactorLimits, StreamHandler, Time, TimerId,
};

use super::echo::Echo;
use super::{Life, Lives, assert_all_closed, conclude, pattern, serve, tight, within};

/// Makes one call after the other, and all of them meet their friend in time, but for those that cannot.
struct Caller {
    lives: Lives,
    /// In the order of the calls, from the last.
    calls: Vec<(Destination, Kind)>,
    /// By their tags.
    pending: BTreeMap<u64, (Kind, Key, Time)>,
    done: u64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    /// He is among them.
    Friend,
    /// He is not.
    Nobody,
    /// It is given up at some moment.
    GivenUp,
}

const CALLS: usize = 12;
/// With all that can be tried before him, and what may be late: stalls, jobs one after the other, and a slow one.
const FRIEND_AT_LAST: Duration = Duration::from_millis(3 * 250 + 1000 + 3000);

impl Caller {
    fn call(&mut self, cx: &mut Context<'_>) {
        let Some((to, kind)) = self.calls.pop() else { return };
        let tag = self.calls.len() as u64;
        let key = cx.connect(to, tag);
        self.pending.insert(tag, (kind, key, cx.now()));
        let pause = cx.random() % 600_000;
        cx.set_handler_timer(Duration::from_micros(pause));
    }
}

impl StreamHandler for Caller {
    type Session = Life;

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.call(cx);
    }

    fn on_handler_timer(&mut self, _: TimerId, cx: &mut Context<'_>) {
        for (kind, key, _) in self.pending.values() {
            if *kind == Kind::GivenUp && cx.random().is_multiple_of(2) {
                cx.close_key(*key);
            }
        }
        self.call(cx);
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Life {
        let Origin::Connected(tag) = conn.origin() else { panic!("nobody calls back") };
        let (kind, key, since) = self.pending.remove(&tag).expect("one outcome a call");
        assert_eq!(key, conn.key());
        assert_ne!(kind, Kind::Nobody, "there is nobody");
        let took = conn.now().since(since);
        assert!(took <= FRIEND_AT_LAST, "{took:?}");
        conn.send(&pattern(0, 100)).ignore();
        self.lives.open(conn)
    }

    fn on_data(
        &mut self,
        life: &mut Life,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        life.consume(conn, data);
        if life.received == 100 {
            conn.close();
        }
        Ok(data.len())
    }

    fn on_close(&mut self, life: Life, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        assert_eq!((reason, life.received), (CloseReason::Closed, 100));
        self.done += 1;
        self.lives.close(&life, key);
    }

    fn on_connect_failed(&mut self, key: Key, tag: u64, error: ConnectError, _: &mut Context<'_>) {
        let (kind, of, _) = self.pending.remove(&tag).expect("one outcome a call");
        assert_eq!(key, of);
        self.done += 1;
        match (kind, error) {
            (Kind::Nobody, ConnectError::Refused) => {}
            (Kind::GivenUp, ConnectError::Cancelled) => {}
            _ => panic!("{kind:?} failed: {error}"),
        }
    }
}

pub fn races(sim: &mut Simulation) {
    let friend = serve(sim, Echo::default(), tight());
    let hole = sim.add_reactor(ReactorLimits::new().connections_max(8));
    let own = ReactorLimits::new().connections_max(CALLS);
    let reactor = sim.add_reactor(own);
    sim.partition(reactor, hole);
    // Nobody answers at the first two of them, and the others are refused at once.
    let wrong = [
        SocketAddr::new(sim.ip_v6(hole), 7000),
        SocketAddr::new(sim.ip(hole), 7000),
        SocketAddr::new(sim.ip_v6(friend.reactor), 1),
        SocketAddr::new(sim.ip(friend.reactor), 1),
    ];
    sim.set_name("friend", &[sim.ip_v6(hole), sim.ip_v6(friend.reactor), friend.address.ip()]);
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let mut addresses: Vec<SocketAddr> =
            (0..within(sim, 0..4)).map(|_| wrong[within(sim, 0..wrong.len())]).collect();
        let place = within(sim, 0..addresses.len() + 1);
        addresses.insert(place, friend.address);
        let named: Address = "friend:7000".parse().expect("a good address");
        calls.push(match within(sim, 0..6) {
            0 => (wrong[2..].to_vec().into(), Kind::Nobody),
            1 => (addresses.into(), Kind::GivenUp),
            2 => (named.into(), Kind::GivenUp),
            3 => (named.into(), Kind::Friend),
            _ => (addresses.into(), Kind::Friend),
        });
    }
    let caller = Caller { lives: Lives::default(), calls, pending: BTreeMap::new(), done: 0 };
    let handler = sim[reactor].add(caller);
    let limits = Limits::new().connect_timeout(Duration::from_secs(10));
    sim[reactor].set_connect_limits(limits).expect("good limits");
    sim.run_for(Duration::from_secs(60));
    sim.run_until_idle();
    conclude(sim, &[friend.reactor, reactor], &[], true);
    let caller = sim[reactor].handler(handler);
    assert_eq!(caller.done, CALLS as u64, "{:?}", caller.pending);
    assert_all_closed(&caller.lives);
    assert_all_closed(&sim.handler(friend).lives);
}
