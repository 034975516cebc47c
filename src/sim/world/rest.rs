//! What has to be true when nothing happens any more, and when everybody has left.

use super::{ClientId, ReactorId, Simulation};
use crate::core::Source;
use crate::readiness::Readiness;
use crate::sim::faults::Kernel;
use crate::stream::flag::*;

impl Simulation {
    /// Checks that a client has taken every step of its script.
    ///
    /// # Panics
    ///
    /// If it has not, with the step that it is at and what it has received since the one before.
    #[track_caller]
    pub fn assert_done(&self, client: ClientId) {
        if let Some(step) = self.client_of(client).step_left() {
            panic!("client {} is not done: {step}", client.index);
        }
    }

    /// Checks that every client has taken every step of its script, but for those that
    /// [may end](super::super::Script::may_end) and whose connection is over; and that all that the test
    /// ordered has come to pass: calls that were to [fail](Simulation::fail_next),
    /// [reads](Simulation::cut_reads) and [writes](Simulation::cut_writes) of so many bytes,
    /// [resets](Simulation::reset_after).
    ///
    /// # Panics
    ///
    /// If one has not, with the step that it is at; and how many others. Of an order, with the line of the
    /// test that gave it.
    #[track_caller]
    pub fn assert_all_done(&self) {
        let left = self.clients.iter().enumerate().filter(|(_, client)| client.waits());
        let mut left = left.filter_map(|(index, client)| Some((index, client.step_left()?)));
        if let Some((index, step)) = left.next() {
            let others = match left.count() {
                0 => String::new(),
                count => format!(" (and {count} more)"),
            };
            panic!("client {index} is not done: {step}{others}");
        }
        self.assert_ordered();
    }

    /// Checks that nothing waits that could go on.
    #[track_caller]
    pub(super) fn assert_rest(&self) {
        for (number, reactor) in self.reactors.iter().enumerate() {
            let Some(reactor) = reactor else { continue };
            reactor.verify();
            assert!(!reactor.core.has_work(), "reactor {number} rests, and has work");
            let core = &reactor.core;
            let lists = [&core.ready, &core.accept, &core.flush, &core.poked, &core.due];
            assert!(
                lists.iter().all(|list| list.is_empty()),
                "reactor {number} forgets a work list"
            );
            assert!(reactor.mailroom.is_empty(), "reactor {number} forgets its mail");
            let net = self.network.net.borrow();
            for (key, source) in reactor.core.sources.iter() {
                let Some(socket) = reactor.sockets.of(key) else { continue };
                let Some(socket) = net.sockets.get(socket.key) else { continue };
                let kernel = socket.readiness();
                let waits = match source {
                    Source::Stream(stream) if stream.has(DEAD | CONNECTING) => false,
                    Source::Stream(stream) => {
                        kernel.contains(Readiness::READABLE) && stream.wants_read()
                            || kernel.contains(Readiness::WRITABLE) && stream.has(HAS_OUTPUT)
                            || kernel.contains(Readiness::ERROR) && net.kernel == Kernel::Linux
                    }
                    Source::Listener(listener) => {
                        kernel.contains(Readiness::READABLE) && !listener.is_muted()
                    }
                    Source::Raw(_) | Source::Candidate(_) => false,
                    Source::Datagram(state) => {
                        kernel.contains(Readiness::READABLE)
                            || kernel.contains(Readiness::ERROR)
                            || kernel.contains(Readiness::WRITABLE) && state.has_output()
                    }
                };
                assert!(!waits, "reactor {number}: {key} waits for ever: {source:?}, {kernel:?}");
                let is_told = socket.asked.contains(Readiness::WRITABLE);
                let has_nothing = match source {
                    Source::Stream(stream) => stream.has(GENERAL) && !stream.has(HAS_OUTPUT | DEAD),
                    Source::Datagram(state) => !state.has_output(),
                    _ => false,
                };
                let is_told_in_vain = is_told && has_nothing;
                assert!(!is_told_in_vain, "reactor {number}: {key} has nothing to write, and asks");
            }
        }
    }

    /// Checks that a reactor is as it was at the start, but for its listeners and datagram sockets: no
    /// connection, no buffer, no timer and no descriptor is left. Intervals may be left, of handlers and datagram sockets,
    /// for they go on as long as these.
    ///
    /// # Panics
    ///
    /// If something is left.
    #[track_caller]
    pub fn assert_empty(&mut self, id: ReactorId) {
        let reactor = &mut self[id];
        assert_eq!(reactor.connections(), 0, "connections are left");
        assert_eq!(reactor.stats().memory_bytes, 0, "buffers are left");
        // Those of ended connections are swept now and then, and never fire.
        let sources = &reactor.core.sources;
        reactor.core.timers.sweep(|key| sources.get(key).is_some());
        assert_eq!(reactor.core.attempts.len(), 0, "attempts are left");
        let stats = reactor.stats();
        let opened = stats.accepts + stats.connects + stats.adoptions;
        assert_eq!(stats.closes_total(), opened, "who opened was told of the end, once");
        assert!(!reactor.core.timers.any_fires_once(), "a timer is left");
        assert_eq!(reactor.core.deadlines.next(), None, "a deadline is left");
        assert_eq!(stats.datagram_bytes_waiting, 0, "datagrams are left");
        let listeners = reactor.listeners.len();
        let datagrams = reactor.stats().datagram_sockets;
        let slots = reactor.core.sources.len();
        assert_eq!(slots, listeners + datagrams + reactor.raws.len(), "slots are left");
        let reserves = usize::from(reactor.reserve.is_some());
        let host = reactor.sockets.driver.host();
        let descriptors = self.network.net.borrow_mut().host(host).descriptors;
        assert_eq!(descriptors, listeners + datagrams + reserves, "descriptors are left");
    }
}
