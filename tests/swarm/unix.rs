//! Unix sockets: two processes of a machine, one of which calls the other, and both of which are slow at times.

use std::time::Duration;

use oneloop::address::UnixName;
use oneloop::sim::{Faults, Simulation};
use oneloop::{
    CloseReason, ConnectError, Connection, Context, Error, Key, Limits, ListenOptions,
    ReactorLimits, SocketAddress, StreamHandler, TimerId,
};

use super::echo::Echo;
use super::{Life, Lives, assert_all_closed, conclude, pattern, serve, tight, within};

/// Sends so much at once to each of those that it calls, and takes it back at its own pace.
struct Caller {
    lives: Lives,
    server: UnixName,
    sizes: Vec<usize>,
    done: usize,
}

struct Call {
    life: Life,
    size: usize,
}

impl StreamHandler for Caller {
    type Session = Call;

    fn on_start(&mut self, cx: &mut Context<'_>) {
        for tag in 0..self.sizes.len() as u64 {
            cx.connect(self.server.clone(), tag);
        }
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Call {
        let oneloop::Origin::Connected(tag) = conn.origin() else { panic!("nobody calls back") };
        let server = SocketAddress::Unix(self.server.clone());
        assert_eq!(conn.peer_address().expect("it is connected"), server);
        let size = self.sizes[tag as usize];
        conn.send(&pattern(0, size)).ignore();
        if conn.random().is_multiple_of(2) {
            conn.shutdown_write();
        }
        Call { life: self.lives.open(conn), size }
    }

    fn on_data(
        &mut self,
        call: &mut Call,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        call.life.consume(conn, data);
        let random = conn.random();
        if call.life.received == call.size {
            conn.set_timer(LINGERING);
        } else if random.is_multiple_of(8) {
            conn.pause();
            conn.set_timer(Duration::from_micros(random / 8 % 5000));
        }
        Ok(data.len())
    }

    fn on_timer(&mut self, call: &mut Call, conn: &mut Connection<'_>, _: TimerId) {
        if call.life.received == call.size {
            conn.close();
        }
        conn.resume();
    }

    fn on_close(&mut self, call: Call, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        assert!(matches!(reason, CloseReason::Closed | CloseReason::PeerClosed), "{reason}");
        assert_eq!(call.life.received, call.size, "all of it comes back");
        self.done += 1;
        self.lives.close(&call.life, key);
    }

    fn on_connect_failed(&mut self, _: Key, _: u64, error: ConnectError, _: &mut Context<'_>) {
        panic!("{error}");
    }
}

/// How long a call goes on with nothing left to say, so that it is seen to rest.
const LINGERING: Duration = Duration::from_secs(1);

/// With buffers that one write fills.
pub fn small() -> Faults {
    Faults::lossless().send_buffer_bytes(4000)
}

pub fn unix(sim: &mut Simulation) {
    let name = match sim.seed() % 2 {
        0 => UnixName::from_path("/run/app.sock"),
        _ => UnixName::from_abstract("app"),
    };
    let name = name.expect("a good name");
    let served = serve(sim, Echo::default(), tight());
    // Nobody is turned away: the backlog has room for all.
    let options = ListenOptions::new().limits(tight()).backlog(8);
    let listening = sim[served.reactor].listen_with(served.handler, name.clone(), &options);
    listening.expect("it is nobody's");
    let own = ReactorLimits::new().connections_max(16);
    let reactor = sim.add_reactor_beside(served.reactor, own);
    let sizes: Vec<usize> = (0..within(sim, 1..6)).map(|_| within(sim, 1..40_000)).collect();
    let calls = sizes.len();
    let caller = Caller { lives: Lives::default(), server: name, sizes, done: 0 };
    let handler = sim[reactor].add(caller);
    // Over its watermark it would not read, as the server does not, and both would wait.
    let limits = Limits::new().output_bytes_high(64 * 1024);
    sim[reactor].set_connect_limits(limits).expect("good limits");
    sim.run_for(LINGERING / 2);
    sim.run_until_idle();
    conclude(sim, &[served.reactor, reactor], &[], true);
    assert_eq!(sim[reactor].handler(handler).done, calls, "one call is not over");
    assert_all_closed(&sim[reactor].handler(handler).lives);
    assert_all_closed(&sim.handler(served).lives);
}
