//! What a peer announces, and does not send: a length in front of a frame takes no memory, overflows nothing, and a
//! frame that comes byte by byte takes a time that is linear in its length.

mod support;

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use oneloop::codec::{
    Decoder, Delimited, Encoder, FrameHandler, Framed, LengthFrame, LengthPrefixed, LengthWidth,
    Lines, VarintPrefixed,
};
use oneloop::{CloseReason, Connection, Error, Limits, ListenOptions, Reactor, ReactorLimits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use support::{alone, run_until};

const BODY_BYTES_MAX: usize = 16 << 20;

/// Takes frames of up to 16 MiB, and forgets them.
struct Sink;

impl FrameHandler for Sink {
    type Decoder = LengthPrefixed;
    type Session = ();

    fn decoder(&self) -> LengthPrefixed {
        LengthPrefixed::new(LengthWidth::U32, BODY_BYTES_MAX)
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_frame(
        &mut self,
        _: &mut (),
        _: &mut Connection<'_>,
        _: LengthFrame<'_>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

fn serve(limits: ReactorLimits) -> (Reactor, SocketAddr) {
    let mut reactor = Reactor::with_limits(limits).unwrap();
    let sink = reactor.add(Framed::new(Sink));
    let options = ListenOptions::new()
        .limits(Limits::new().input_bytes_max(Sink.decoder().whole_bytes_max()));
    let listener = reactor.listen_with(sink, "127.0.0.1:0", &options).unwrap();
    let address = reactor.listener_address(listener).unwrap().inet().unwrap();
    (reactor, address)
}

#[test]
fn an_announced_length_takes_no_memory_before_its_bytes_come() {
    const PEERS: usize = 200;
    const EACH: usize = 5;
    let (mut reactor, address) = serve(ReactorLimits::new().connections_max(PEERS));
    let mut peers: Vec<TcpStream> =
        (0..PEERS).map(|_| TcpStream::connect(address).unwrap()).collect();
    for peer in &mut peers {
        peer.write_all(&(BODY_BYTES_MAX as u32).to_be_bytes()).unwrap();
        peer.write_all(b"x").unwrap();
    }
    let bytes = (PEERS * EACH) as u64;
    run_until(&mut reactor, "all is read", |reactor| reactor.stats().bytes_in == bytes);
    let held = reactor.stats().memory_bytes;
    assert!((PEERS * EACH..PEERS * 64).contains(&held), "{held} bytes for {PEERS} peers");
    drop(peers.pop());
    run_until(&mut reactor, "there is a place", |reactor| reactor.connections() < PEERS);
    TcpStream::connect(address).unwrap().write_all(&[0xff; 4]).unwrap();
    run_until(&mut reactor, "4 GiB are too much", |reactor| {
        reactor.stats().closes(CloseReason::BadFrame) == 1
    });
}

/// With less memory than its peers could make it use, and no allocation that may fail: what runs out of memory is
/// aborted.
#[test]
fn a_server_does_not_run_out_of_memory_by_frames_that_are_never_whole() {
    const NAME: &str = "a_server_does_not_run_out_of_memory_by_frames_that_are_never_whole";
    const MIB: usize = 1 << 20;
    const PEERS: usize = 30;
    const EACH: usize = 8 * MIB;
    if !alone(NAME) {
        return;
    }
    let limits = ReactorLimits::new().connections_max(PEERS).memory_bytes_max(32 * MIB);
    let (mut reactor, address) = serve(limits);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let kib: usize = size.trim().trim_end_matches(" kB").parse().unwrap();
    let address_space = 1024 * kib + 128 * MIB;
    let limit = Rlimit { current: Some(address_space as u64), ..getrlimit(Resource::As) };
    setrlimit(Resource::As, limit).unwrap();
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let mut peer = TcpStream::connect(address).unwrap();
        peer.set_nonblocking(true).unwrap();
        peer.write_all(&(BODY_BYTES_MAX as u32).to_be_bytes()).unwrap();
        peers.push((peer, EACH));
    }
    let piece = [0; 64 * 1024];
    run_until(&mut reactor, "all have sent, or are cut off", |_| {
        for (peer, left) in &mut peers {
            match peer.write(&piece[..piece.len().min(*left)]) {
                Ok(count) => *left -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => *left = 0,
            }
        }
        peers.iter().all(|(_, left)| *left == 0)
    });
    let stats = reactor.stats();
    assert!(stats.closes(CloseReason::MemoryLimit) > 0, "{stats:?}");
    assert!(stats.memory_bytes_peak < 64 * MIB, "{stats:?}");
}

/// A decoder that looked again at all that is there would search 8 TiB: for a minute and more with the fastest search in the
/// fastest memory. One that does not is done in a part of a second, also without the compiler's optimisation.
#[test]
fn no_scan_is_quadratic_where_a_frame_of_4_mib_comes_byte_by_byte() {
    const BYTES: usize = 4 << 20;
    const BOUND: Duration = Duration::from_secs(10);
    fn check<C: Decoder + Encoder>(mut codec: C) {
        let mut stream = Vec::new();
        codec.encode(&vec![b'x'; BYTES], &mut stream).unwrap();
        let start = processor_time();
        for end in 1..stream.len() {
            assert!(matches!(codec.decode(&stream[..end]), Ok(None)), "whole after {end} bytes");
            if end % 4096 == 0 {
                let time = processor_time() - start;
                assert!(time < BOUND, "{time:?} for {end} bytes");
            }
        }
        assert!(codec.decode(&stream).unwrap().is_some());
    }
    check(Lines::new(BYTES));
    check(Lines::new(BYTES).refuse_lone_cr());
    check(Delimited::new(b"\r\n\r\n", BYTES));
    check(LengthPrefixed::new(LengthWidth::U32, BYTES));
    check(VarintPrefixed::new(BYTES));
}

/// How long this thread has been on a processor, which others do not change.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
