//! A handler of frames has all calls that a handler of bytes has.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use oneloop::codec::{FrameError, FrameHandler, FrameMessageHandler, Framed, Lines};
use oneloop::sim::{Script, Simulation};
use oneloop::{
    CloseReason, ConnectError, Connection, Context, Deadline, Error, Key, Limits, ListenOptions,
    ListenerId, Peer, ReactorLimits, Signal, SocketAddress, TimerId, mailbox,
};

const MS: Duration = Duration::from_millis(1);
const CLIENTS: usize = 3;

/// Notes each call, with what it was told. Its clients are numbered as they come, and there is one too many.
#[derive(Default)]
struct Notes {
    seen: BTreeSet<String>,
    clients: usize,
    last: Option<Key>,
}

impl Notes {
    fn note(&mut self, call: impl Into<String>) {
        self.seen.insert(call.into());
    }
}

impl FrameHandler for Notes {
    type Decoder = Lines;
    type Session = usize;

    fn decoder(&self) -> Lines {
        Lines::new(10)
    }

    fn accept(&mut self, _: &Peer<'_>, _: &mut Context<'_>) -> bool {
        self.note("accept");
        self.clients < CLIENTS
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> usize {
        self.clients += 1;
        conn.set_timer(MS);
        let key = conn.key();
        self.last = Some(key);
        conn.poke(key);
        conn.expect_within(10 * MS);
        conn.send(b"hello").ignore();
        self.note(format!("{} on_open", self.clients));
        self.clients
    }

    fn on_frame(
        &mut self,
        client: &mut usize,
        conn: &mut Connection<'_>,
        line: &[u8],
    ) -> Result<(), Error> {
        self.note(format!("{client} on_frame {}", line.escape_ascii()));
        conn.send(&[b'x'; 2000]).ignore();
        Ok(())
    }

    fn on_bad_frame(&mut self, client: &mut usize, _: &mut Connection<'_>, error: FrameError) {
        self.note(format!("{client} on_bad_frame {error:?}"));
    }

    fn on_peer_closed(&mut self, client: &mut usize, conn: &mut Connection<'_>, rest: &[u8]) {
        self.note(format!("{client} on_peer_closed {}", rest.escape_ascii()));
        conn.close();
    }

    fn on_drained(&mut self, client: &mut usize, _: &mut Connection<'_>) {
        self.note(format!("{client} on_drained"));
    }

    fn on_timer(&mut self, client: &mut usize, _: &mut Connection<'_>, _: TimerId) {
        self.note(format!("{client} on_timer"));
    }

    fn on_deadline(
        &mut self,
        client: &mut usize,
        _: &mut Connection<'_>,
        deadline: Deadline,
    ) -> Option<Duration> {
        self.note(format!("{client} on_deadline {deadline:?}"));
        Some(Duration::from_secs(3600))
    }

    fn on_poke(&mut self, client: &mut usize, _: &mut Connection<'_>) {
        self.note(format!("{client} on_poke"));
    }

    fn on_drain(&mut self, client: &mut usize, conn: &mut Connection<'_>) {
        self.note(format!("{client} on_drain"));
        conn.abort();
    }

    fn on_close(&mut self, client: usize, _: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.note(format!("{client} on_close {reason:?}"));
    }

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.note("on_start");
        cx.set_handler_timer(MS);
    }

    fn on_handler_timer(&mut self, _: TimerId, cx: &mut Context<'_>) {
        self.note("on_handler_timer");
        let nobody: std::net::SocketAddr = ([10, 0, 0, 1], 9).into();
        cx.connect(nobody, 7);
    }

    fn on_connect_failed(&mut self, _: Key, tag: u64, error: ConnectError, cx: &mut Context<'_>) {
        self.note(format!("on_connect_failed {tag} {error:?}"));
        let any: std::net::SocketAddr = ([0, 0, 0, 0], 9).into();
        cx.listen(any, &ListenOptions::new());
    }

    fn on_listening(
        &mut self,
        _: ListenerId,
        result: io::Result<SocketAddress>,
        _: &mut Context<'_>,
    ) {
        self.note(format!("on_listening {}", result.unwrap()));
    }

    fn on_signal(&mut self, signal: Signal, _: &mut Context<'_>) {
        self.note(format!("on_signal {signal:?}"));
    }
}

impl FrameMessageHandler<u8> for Notes {
    fn on_message(&mut self, client: &mut usize, _: &mut Connection<'_>, message: u8) {
        self.note(format!("{client} on_message {message}"));
    }

    fn on_handler_message(&mut self, message: u8, _: &mut Context<'_>) {
        self.note(format!("on_handler_message {message}"));
    }

    fn on_undelivered(&mut self, _: Key, message: u8, _: &mut Context<'_>) {
        self.note(format!("on_undelivered {message}"));
    }
}

#[test]
fn a_handler_of_frames_gets_every_call() {
    let mut sim = Simulation::new(1);
    let limits = Limits::new().output_bytes_high(1000).output_bytes_low(500);
    let options = ListenOptions::new().limits(limits);
    let server = sim.serve_with(Framed::new(Notes::default()), ReactorLimits::new(), &options);
    let (sender, inbox) = mailbox(3);
    sim[server.reactor].attach(server.handler, inbox).unwrap();
    sim[server.reactor].watch_signals(&[Signal::Hangup]).unwrap();
    sim.signal(server.reactor, Signal::Hangup);
    for script in [
        Script::new().expect("hello").send("a line\n").wait(100 * MS).send("rest").shutdown(),
        Script::new().expect("hello").wait(100 * MS).send("endlessness"),
        Script::new().expect("hello").wait(Duration::from_secs(9)),
        Script::new().expect_end(),
    ] {
        sim.client(server.address, script.may_end());
        sim.run_for(MS);
    }
    sim.run_for(Duration::from_secs(1));
    let last = sim.handler(server).handler().last.unwrap();
    sender.post(1).unwrap();
    sender.post_to(last, 2).unwrap();
    sender.post_to(Key::from_bits(0), 3).unwrap();
    sim.run_for(Duration::from_secs(1));
    sim[server.reactor].drain(Duration::from_secs(1));
    sim.run_until_idle();
    let mut expected: BTreeSet<String> = [
        "accept",
        "on_start",
        "on_handler_timer",
        "on_connect_failed 7 Refused",
        "on_listening 0.0.0.0:9",
        "on_signal Hangup",
        "on_handler_message 1",
        "3 on_message 2",
        "on_undelivered 3",
        "1 on_frame a line",
        "1 on_drained",
        "1 on_peer_closed rest",
        "1 on_close PeerClosed",
        "2 on_bad_frame TooLong(10)",
        "2 on_close BadFrame",
        "3 on_drain",
        "3 on_close Aborted",
    ]
    .map(String::from)
    .into();
    for client in 1..=CLIENTS {
        for call in ["on_open", "on_poke", "on_timer", "on_deadline Expect"] {
            expected.insert(format!("{client} {call}"));
        }
    }
    assert_eq!(sim.handler(server).handler().seen, expected);
}

/// Notes the lines that it is shown, and why its connections ended.
#[derive(Default)]
struct Collects {
    keys: Vec<Key>,
    lines: Vec<Vec<u8>>,
    reasons: Vec<CloseReason>,
}

impl FrameHandler for Collects {
    type Decoder = Lines;
    type Session = ();

    fn decoder(&self) -> Lines {
        Lines::new(100)
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        self.keys.push(conn.key());
    }

    fn on_frame(&mut self, (): &mut (), _: &mut Connection<'_>, line: &[u8]) -> Result<(), Error> {
        self.lines.push(line.to_vec());
        Ok(())
    }

    fn on_close(&mut self, (): (), _: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.reasons.push(reason);
    }
}

/// The decoder has looked at it, and waits for what is behind it.
#[test]
fn the_beginning_of_a_frame_that_was_forwarded_is_none_of_the_next_one() {
    for rest in ["x\n", "x\ny\nlonger\n"] {
        let mut sim = Simulation::new(1);
        let server = sim.serve(Framed::new(Collects::default()));
        let second = Duration::from_secs(1);
        sim.client(server.address, Script::new().send("abc").wait(second).send(rest).may_end());
        sim.run_for(10 * MS);
        let other = sim.client(server.address, Script::new().expect("abc").may_end());
        sim.run_for(10 * MS);
        let keys = sim.handler(server).handler().keys.clone();
        let mut cx = sim[server.reactor].context(server.handler);
        assert!(cx.forward(keys[0], keys[1]));
        sim.run_for(10 * MS);
        sim.assert_done(other);
        assert!(sim[server.reactor].context(server.handler).end_forward(keys[0]));
        sim.run_for(2 * second);
        let collects = sim.handler(server).handler();
        let expected: Vec<&[u8]> = rest.lines().map(str::as_bytes).collect();
        assert_eq!(collects.lines, expected);
        assert_eq!(collects.reasons, []);
    }
}
