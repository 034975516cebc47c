//! Which system calls can be made to fail, by name or by number, and who is told.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use oneloop::address::UnixName;
use oneloop::sim::{Call, Faults, Kernel, ReactorId, SimSource, Simulation, sweep};
use oneloop::{
    Connection, Context, Datagram, DatagramHandler, DatagramSocket, Drained, Error, Interest,
    Interface, Key, ReactorLimits, SourceHandler, StreamHandler,
};

use super::{Echo, SECOND};

const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));
const ENODEV: i32 = 19;

/// What failed, of all that was asked.
type Failed = Vec<io::Error>;

/// Asks for both addresses of each connection, and for who is at its other end.
#[derive(Default)]
struct Asker(Failed);

impl StreamHandler for Asker {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        self.0.extend(conn.local_address().err());
        self.0.extend(conn.peer_address().err());
        self.0.extend(conn.peer_credentials().err());
        conn.close();
    }

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }
}

/// Joins a group and leaves it.
#[derive(Default)]
struct Member(Failed);

impl DatagramHandler for Member {
    fn on_bound(&mut self, socket: &mut DatagramSocket<'_>) {
        let joined = socket.join(GROUP, &Interface::Any);
        if joined.is_ok() {
            self.0.extend(socket.leave(GROUP, &Interface::Any).err());
        }
        self.0.extend(joined.err());
    }

    fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, _: Datagram<'_>) {}
}

struct Raw;

impl SourceHandler for Raw {
    type Source = SimSource;

    fn on_readable(&mut self, _: Key, _: &mut SimSource, _: &mut Context<'_>) -> Drained {
        Drained::Yes
    }
}

fn add(sim: &mut Simulation) -> ReactorId {
    sim.add_reactor(ReactorLimits::new().connections_max(16))
}

/// A Unix connection, a pipe, a raw source and a datagram socket, and what failed.
fn act(sim: &mut Simulation, id: ReactorId) -> Failed {
    let name = UnixName::from_abstract("door").unwrap();
    let asker = sim[id].add(Asker::default());
    let listened = sim[id].listen(asker, name.clone()).err();
    sim[id].context(asker).connect(name, 0);
    let echo = sim[id].add(Echo::default());
    let (end, _other) = sim.network().host(Faults::none()).pipe();
    let adopted = sim[id].adopt(echo, end, 0).err();
    let added = sim[id].add_source(Raw, SimSource::new(), Interest::Readable).err();
    let member = sim[id].add_datagram_handler(Member::default());
    let bound = sim[id].bind(member, "0.0.0.0:5353").err();
    sim.run_for(SECOND);
    let mut failed: Failed = [listened, adopted, added, bound].into_iter().flatten().collect();
    failed.append(&mut sim[id].handler_mut(asker).0);
    failed.append(&mut sim[id].handler_mut(member).0);
    failed
}

#[test]
fn what_a_handler_asks_for_fails_when_it_is_told_to() {
    let calls = [
        Call::Adopt,
        Call::LocalAddress,
        Call::PeerAddress,
        Call::PeerCredentials,
        Call::Membership,
    ];
    for call in calls {
        let mut sim = Simulation::new(1);
        let id = add(&mut sim);
        sim.fail_next(id, call, io::Error::from_raw_os_error(ENODEV));
        let failed = act(&mut sim, id);
        assert_eq!(failed.len(), 1, "{call:?}: {failed:?}");
        let text = failed[0].to_string();
        assert!(text.contains(&format!("os error {ENODEV}")), "{call:?}: {text}");
        sim.assert_all_done();
    }
    let mut sim = Simulation::new(1);
    let id = add(&mut sim);
    assert_eq!(act(&mut sim, id).len(), 0, "without an order");
}

#[test]
fn a_raw_source_is_told_that_it_cannot_be_watched() {
    let mut sim = Simulation::new(1);
    let id = add(&mut sim);
    let source = SimSource::new();
    sim.fail_next(id, Call::Register, io::ErrorKind::StorageFull);
    let error = sim[id].add_source(Raw, source.clone(), Interest::Readable).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(sim[id].add_source(Raw, source, Interest::Readable).is_ok());
}

#[test]
fn a_sweep_reaches_what_a_handler_asks_for() {
    let told = RefCell::new(BTreeSet::new());
    sweep(1, Kernel::Linux, |sim| {
        sim.keep_trace(usize::MAX);
        let id = add(sim);
        act(sim, id);
        let told_now = sim.trace().into_iter().filter(|entry| entry.what == "told to fail");
        told.borrow_mut().extend(told_now.filter_map(|entry| entry.error));
    });
    let told = told.into_inner();
    for name in ["adopt", "address?", "peer?", "credentials?", "membership"] {
        assert!(told.contains(name), "{name}: {told:?}");
    }
}
