//! Datagrams in a simulated network that loses, doubles and delays them, and in kernels that take none for a
//! while or fail. All of it at once is a workload of the swarm.

#[path = "datagrams/addresses.rs"]
mod addresses;
#[path = "datagrams/groups.rs"]
mod groups;
#[path = "datagrams/unix.rs"]
mod unix;

use std::io::ErrorKind;

use oneloop::sim::{Call, Faults, Kernel, Simulation};
use oneloop::{
    CloseReason, Datagram, DatagramHandler, DatagramLimits, DatagramOptions, DatagramSocket,
    ReactorLimits,
};

use crate::workloads::datagrams::{Pair, TRIES, pair, run};

/// What both reactors sent, received and dropped.
fn counts(pair: &Pair, sim: &Simulation) -> (u64, u64, u64) {
    let stats = [pair.echo, pair.asker].map(|id| sim[id].stats().clone());
    let sum = |count: fn(&oneloop::Stats) -> u64| stats.iter().map(count).sum();
    (
        sum(|stats| stats.datagrams_out),
        sum(|stats| stats.datagrams_in),
        sum(|stats| stats.datagrams_dropped),
    )
}

const KERNELS: [Kernel; 2] = [Kernel::Linux, Kernel::Contract];

#[test]
fn without_faults_every_question_is_asked_and_answered_once() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let pair = pair(&mut sim, 100, false);
        run(&mut sim, &pair);
        let asker = pair.asker(&sim);
        assert_eq!((asker.asked, asker.answers, asker.repeated), (100, 100, 0));
        assert_eq!(counts(&pair, &sim), (200, 200, 0));
    }
}

#[test]
fn what_is_lost_does_not_come_and_what_is_doubled_comes_twice() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none().lost_datagrams(1.0));
        let lost = pair(&mut sim, 4, false);
        run(&mut sim, &lost);
        assert_eq!(lost.asker(&sim).given_up, 4);
        assert_eq!(counts(&lost, &sim), (4 * u64::from(TRIES), 0, 0));

        let mut sim = Simulation::with(1, kernel, Faults::none().duplicated_datagrams(1.0));
        let doubled = pair(&mut sim, 4, false);
        run(&mut sim, &doubled);
        assert_eq!((doubled.asker(&sim).answers, doubled.asker(&sim).repeated), (4, 12));
    }
}

#[test]
fn what_is_late_comes_after_what_was_sent_later() {
    struct Notes(Vec<u8>);

    impl DatagramHandler for Notes {
        fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, datagram: Datagram<'_>) {
            self.0.extend(datagram.data);
        }
    }

    let mut sim = Simulation::with(1, Kernel::Linux, Faults::none().late_datagrams(0.3));
    let id = sim.add_reactor(ReactorLimits::new().connections_max(16));
    let handler = sim[id].add_datagram_handler(Notes(Vec::new()));
    let key = sim[id].bind(handler, "127.0.0.1:0").unwrap();
    let to = sim[id].datagram_address(key).unwrap();
    for number in 0..50 {
        sim[id].context(handler).send_datagram(key, Some(&to), &[number]).ignore();
    }
    sim.run_until_idle();
    let mut came = sim[id].handler(handler).0.clone();
    assert!(!came.is_sorted(), "{came:?}");
    came.sort_unstable();
    assert_eq!(came, (0..50).collect::<Vec<u8>>(), "each of them once");
}

/// The kernel takes nothing for a while: what waits leaves when it tells that there is room.
#[test]
fn a_full_kernel_delays_and_loses_nothing() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none().full_sends(0.5));
        let pair = pair(&mut sim, 100, true);
        run(&mut sim, &pair);
        assert_eq!(pair.asker(&sim).answers, 100);
        assert_eq!(counts(&pair, &sim), (200, 200, 0));
        assert_eq!(pair.asker(&sim).failed, []);
    }
}

/// ... of which it cannot be asked: better an end than a wait for ever.
#[test]
fn a_socket_that_cannot_be_told_of_room_is_closed() {
    let mut sim = Simulation::with(1, Kernel::Linux, Faults::none().full_sends(1.0));
    let pair = pair(&mut sim, 4, false);
    sim.fail_next(pair.asker, Call::AskWritable, ErrorKind::OutOfMemory);
    sim.run_until_idle();
    let reason = CloseReason::Io(ErrorKind::OutOfMemory);
    assert_eq!(pair.asker(&sim).closed, Some(reason));
    sim.assert_empty(pair.asker);
}

#[test]
fn an_error_of_a_call_is_told_and_survived() {
    for (call, is_dropped) in [(Call::SendDatagram, true), (Call::Receive, false)] {
        let mut sim = Simulation::new(1);
        let pair = pair(&mut sim, 4, false);
        sim.fail_next(pair.asker, call, ErrorKind::NetworkUnreachable);
        run(&mut sim, &pair);
        assert_eq!(pair.asker(&sim).failed, [ErrorKind::NetworkUnreachable], "{call:?}");
        assert_eq!(pair.asker(&sim).answers, 4);
        assert_eq!(counts(&pair, &sim).2, u64::from(is_dropped));
    }
}

#[test]
fn a_socket_that_gives_nothing_but_errors_is_closed() {
    let mut sim = Simulation::new(1);
    let pair = pair(&mut sim, 4, false);
    for _ in 0..64 {
        sim.fail_next(pair.echo, Call::Receive, ErrorKind::OutOfMemory);
    }
    sim.run_until(|sim| sim[pair.echo].stats().datagram_sockets == 0);
    assert_eq!(sim[pair.echo].stats().datagram_errors, 64);
    assert!(sim[pair.echo].datagram_address(pair.key).is_err());
}

/// A receive queue that is full drops, of which nobody is told. So many did Linux 6.18 keep, with its usual 212,992
/// bytes (`net.core.rmem_default`) and with an `SO_RCVBUF` of 4096.
#[test]
fn what_a_receiver_has_no_room_for_is_lost() {
    struct Counts(usize);

    impl DatagramHandler for Counts {
        fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, _: Datagram<'_>) {
            self.0 += 1;
        }
    }

    let lengths = [0, 197, 198, 645, 1000, 4000, 8000, 20_000, 30_000, 40_000, 65_507];
    let usual = [256, 256, 166, 166, 92, 25, 12, 10, 6, 5, 3];
    let small = [9, 9, 6, 6, 3, 1, 1, 1, 1, 1, 1];
    for (buffer, kept) in [(212_992 / 2, usual), (4096, small)] {
        for (length, kept) in lengths.into_iter().zip(kept) {
            let faults = Faults::none().receive_buffer_bytes(buffer);
            let mut sim = Simulation::with(1, Kernel::Linux, faults);
            let id = sim.add_reactor(ReactorLimits::new().connections_max(16));
            let handler = sim[id].add_datagram_handler(Counts(0));
            let limits = DatagramLimits::new().queue_len_max(1000).queue_bytes_max(1 << 30);
            let limits = limits.datagrams_per_turn_max(1000).bytes_per_turn_max(1 << 30);
            let options = DatagramOptions::new().limits(limits);
            let key = sim[id].bind_with(handler, "127.0.0.1:0", &options).unwrap();
            let to = sim[id].datagram_address(key).unwrap();
            // They all leave in the turn before the one that reads.
            for _ in 0..300 {
                sim[id].context(handler).send_datagram(key, Some(&to), &vec![7; length]).ignore();
            }
            sim.run_until_idle();
            let counts = sim[id].handler(handler).0;
            assert_eq!(counts, kept, "of {length} bytes in {buffer}");
            assert_eq!(sim[id].stats().datagrams_out, 300);
        }
    }
}

/// What nobody there could see the effect of is not taken in silence.
#[test]
fn what_the_simulated_kernel_does_not_have_is_refused() {
    struct Idle;

    impl DatagramHandler for Idle {
        fn on_datagram(&mut self, _: &mut DatagramSocket<'_>, _: Datagram<'_>) {}
    }

    let mut sim = Simulation::new(1);
    let id = sim.add_reactor(ReactorLimits::new().connections_max(16));
    let handler = sim[id].add_datagram_handler(Idle);
    for (options, name) in [
        (DatagramOptions::new().receive_buffer_bytes(9), "receive_buffer_bytes"),
        (DatagramOptions::new().send_buffer_bytes(9), "send_buffer_bytes"),
        (DatagramOptions::new().gather(true), "gather"),
    ] {
        let error = sim[id].bind_with(handler, "*:0", &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().ends_with(&format!("{name} is not to be had in the simulation")));
    }
}

/// Who reads the trace of a failure sees whose it was.
#[test]
fn the_trace_has_the_key_of_a_socket_that_is_closed() {
    let mut sim = Simulation::new(1);
    let pair = pair(&mut sim, 4, false);
    run(&mut sim, &pair);
    let sent = sim.trace().into_iter().filter(|entry| entry.what == "send");
    let keys: Vec<_> = sent.map(|entry| entry.key).collect();
    assert_eq!(keys.len(), 8);
    assert!(keys.iter().all(Option::is_some), "{keys:?}");
}

/// Nobody is there for a while, of which a socket that is connected is told.
#[test]
fn who_asks_goes_on_while_nobody_is_there() {
    for kernel in KERNELS {
        let mut sim = Simulation::with(1, kernel, Faults::none());
        let pair = pair(&mut sim, 8, true);
        sim[pair.echo].stop();
        run(&mut sim, &pair);
        let asker = pair.asker(&sim);
        assert_eq!((asker.answers, asker.given_up), (0, 8));
        assert!(asker.failed.iter().all(|kind| *kind == ErrorKind::ConnectionRefused));
        assert!(asker.failed.len() > 20, "{}", asker.failed.len());
        assert_eq!(counts(&pair, &sim).2, 0, "all have left");
    }
}
