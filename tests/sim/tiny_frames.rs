//! Many tiny frames: a peer that sends as many frames as fit into its bytes holds nobody up.

use std::collections::BTreeMap;

use oneloop::codec::{Decoder, FrameError, FrameHandler, Framed, Lines, for_each_message};
use oneloop::sim::{Harness, Script, Simulation};
use oneloop::{
    CloseReason, Connection, Error, Key, Limits, ListenOptions, MessageHandler, ReactorLimits,
    Sender, StreamHandler, mailbox,
};

/// Counts the frames of each connection in each turn. Answers those that are not empty.
#[derive(Default)]
struct Counter {
    frames: usize,
    of_a_turn: BTreeMap<(u64, Key), usize>,
    rest: Vec<u8>,
}

impl Counter {
    fn most_in_a_turn(&self) -> usize {
        self.of_a_turn.values().copied().max().unwrap_or(0)
    }
}

impl FrameHandler for Counter {
    type Decoder = Lines;
    type Session = ();

    fn decoder(&self) -> Lines {
        Lines::new(100)
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_frame(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        line: &[u8],
    ) -> Result<(), Error> {
        self.frames += 1;
        *self.of_a_turn.entry((conn.stats().turns, conn.key())).or_default() += 1;
        if !line.is_empty() {
            conn.send(line).ignore();
        }
        Ok(())
    }

    fn on_peer_closed(&mut self, _: &mut (), conn: &mut Connection<'_>, rest: &[u8]) {
        self.rest = rest.to_vec();
        conn.close();
    }
}

#[test]
fn of_a_million_empty_frames_no_more_than_frames_per_turn_max_are_shown_in_a_turn() {
    const FRAMES: usize = 1_000_000;
    for max in [Limits::new().frames_per_turn_max, 100_000] {
        let mut sim = Simulation::new(1);
        let limits = Limits::new().frames_per_turn_max(max);
        let options = ListenOptions::new().limits(limits);
        let server =
            sim.serve_with(Framed::new(Counter::default()), ReactorLimits::new(), &options);
        let flood = Script::new().send(vec![b'\n'; FRAMES]).shutdown().expect_end();
        let flood = sim.client(server.address, flood);
        let ping = sim.client(server.address, Script::new().send("ping\n").expect("ping").close());
        sim.run_until(|sim| sim.is_done(ping));
        assert!(sim.handler(server).handler().frames < FRAMES, "while the others come");
        sim.run_until_idle();
        sim.assert_done(flood);
        let counter = sim.handler(server).handler();
        assert_eq!(counter.frames, FRAMES + 1, "and every one once");
        let most = counter.most_in_a_turn();
        assert!(most <= max, "{most} in a turn");
        assert!(most == max || max > 65_536, "{most} in a turn: a turn's bytes are the bound");
    }
}

#[test]
fn frames_of_several_reads_count_together() {
    let limits = Limits::new().frames_per_turn_max(5).input_bytes_max(3).reads_per_turn_max(100);
    let mut harness = Harness::with_limits(Framed::new(Counter::default()), limits);
    harness.feed([b'\n'; 40]);
    let counter = harness.handler().handler();
    assert_eq!((counter.frames, counter.most_in_a_turn()), (40, 5));
}

#[test]
fn frames_that_wait_for_the_next_turn_are_shown_before_the_end_is_told() {
    let limits = Limits::new().frames_per_turn_max(1);
    let mut harness = Harness::with_limits(Framed::new(Counter::default()), limits);
    harness.feed("a\nb\nc\nrest");
    harness.end();
    assert_eq!(harness.output(), b"abc");
    assert_eq!(harness.handler().handler().rest, b"rest");
    assert_eq!(harness.closed(), Some(CloseReason::PeerClosed));
}

/// Else whoever has just as many frames as its budget would cost a turn that does nothing.
#[test]
fn a_budget_that_is_just_enough_asks_for_no_other_turn() {
    let limits = Limits::new().frames_per_turn_max(3);
    let mut harness = Harness::with_limits(Framed::new(Counter::default()), limits);
    harness.feed("a\nb\nc\n");
    assert_eq!((harness.output(), harness.stats().budgets_exhausted), (b"abc".to_vec(), 0));
    harness.feed("a\nb\nc\nd\n");
    assert_eq!((harness.output(), harness.stats().budgets_exhausted), (b"abcd".to_vec(), 1));
}

/// Takes messages of three bytes by itself, and says in which turn each came. A `!` takes more than there is, a `?` more than
/// can be counted, and a `0` nothing; `p` and `a` want the rest later.
#[derive(Default)]
struct Threes {
    turns: Vec<u64>,
}

impl StreamHandler for Threes {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        for_each_message(conn, data, |conn, rest| {
            match rest {
                [b'!', ..] => return Ok(Some(rest.len() + 1)),
                [b'?', ..] => return Ok(Some(usize::MAX)),
                [b'0', ..] => return Ok(Some(0)),
                [b'p', _, _, ..] => conn.pause(),
                [b'a', _, _, ..] => conn.again(),
                [_, _, _, ..] => {}
                _ => return Ok(None),
            }
            self.turns.push(conn.stats().turns);
            conn.send(&rest[..3]).ignore();
            Ok(Some(3))
        })
    }
}

#[test]
fn messages_that_a_handler_takes_by_itself_have_the_same_bound() {
    let limits = Limits::new().frames_per_turn_max(2);
    let mut harness = Harness::with_limits(Threes::default(), limits);
    harness.feed("123456789123456789123");
    assert_eq!(harness.output(), b"123456789123456789123");
    let turns = &harness.handler().turns;
    assert_eq!(turns.len(), 7);
    assert!(turns.windows(3).all(|turns| turns[0] < turns[2]), "{turns:?}");
}

/// Takes messages of three bytes, and forgives itself one that begins with `!`, with all that is behind it.
#[derive(Default)]
struct Shown {
    pieces: Vec<String>,
    of_a_turn: BTreeMap<u64, usize>,
}

impl StreamHandler for Shown {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let result = for_each_message(conn, data, |conn, rest| {
            self.pieces.push(rest.escape_ascii().to_string());
            *self.of_a_turn.entry(conn.stats().turns).or_default() += 1;
            if rest.starts_with(b"!") {
                Err("asked to fail".into())
            } else {
                Ok(rest.get(2).and(Some(3)))
            }
        });
        Ok(result.unwrap_or(data.len()))
    }
}

#[test]
fn nobody_is_shown_a_message_of_no_bytes() {
    let mut harness = Harness::new(Shown::default());
    harness.feed("123456");
    harness.feed("7");
    harness.feed("89");
    assert_eq!(harness.handler().pieces, ["123456", "456", "7", "789"]);
}

#[test]
fn messages_that_fail_and_are_forgiven_count_with_the_others_of_the_turn() {
    let limits = Limits::new().frames_per_turn_max(5).input_bytes_max(3).reads_per_turn_max(100);
    let mut harness = Harness::with_limits(Shown::default(), limits);
    harness.feed([b'!'; 60]);
    let shown = harness.handler();
    assert_eq!((shown.pieces.len(), shown.of_a_turn.values().max()), (20, Some(&5)));
}

#[test]
fn a_message_of_which_more_has_to_come_is_shown_again() {
    let mut harness = Harness::new(Threes::default());
    harness.feed("1");
    harness.feed("2");
    assert_eq!(harness.output(), b"");
    harness.feed("34");
    assert_eq!(harness.output(), b"123");
    harness.feed("56");
    assert_eq!(harness.output(), b"456");
}

#[test]
fn a_message_may_be_the_last_one_of_its_turn_or_of_all() {
    let mut harness = Harness::new(Threes::default());
    harness.feed("a__123p__456");
    assert_eq!(harness.output(), b"a__123p__", "and 456 when the pause is over");
    let turns = &harness.handler().turns;
    assert!(turns[0] < turns[1] && turns[1] == turns[2], "{turns:?}");
}

#[test]
fn a_message_that_takes_more_than_there_is_or_nothing_ends_the_connection() {
    for input in ["123!", "123?", "1230", "1230456"] {
        let mut harness = Harness::new(Threes::default());
        harness.feed(input);
        assert_eq!(harness.output(), b"123", "{input}");
        assert_eq!(harness.closed(), Some(CloseReason::Misuse), "{input}");
    }
}

/// Finds frames of no bytes everywhere.
struct Nothing;

impl Decoder for Nothing {
    type Frame<'a> = ();

    fn decode(&mut self, _: &[u8]) -> Result<Option<((), usize)>, FrameError> {
        Ok(Some(((), 0)))
    }

    fn whole_bytes_max(&self) -> usize {
        0
    }
}

impl FrameHandler for Nothing {
    type Decoder = Nothing;
    type Session = ();

    fn decoder(&self) -> Nothing {
        Nothing
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_frame(&mut self, _: &mut (), conn: &mut Connection<'_>, (): ()) -> Result<(), Error> {
        conn.send(b"one frame ").ignore();
        Ok(())
    }
}

/// Else it would be shown its frames for ever.
#[test]
fn a_decoder_that_takes_nothing_ends_the_connection() {
    let mut harness = Harness::new(Framed::new(Nothing));
    harness.feed("x");
    assert_eq!(harness.output(), b"one frame ");
    assert_eq!(harness.closed(), Some(CloseReason::Misuse));
}

/// Takes each byte as a message, and whenever it is shown some has its connections poked, and sent letters.
struct Nudged {
    post: Sender<()>,
    members: Vec<Key>,
    of_a_turn: BTreeMap<(u64, Key), usize>,
}

impl StreamHandler for Nudged {
    type Session = ();

    fn on_open(&mut self, conn: &mut Connection<'_>) {
        self.members.push(conn.key());
    }

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        for key in &self.members {
            conn.poke(*key);
            let _ = self.post.post_to(*key, ()); // or there are enough
        }
        let count = self.of_a_turn.entry((conn.stats().turns, conn.key())).or_default();
        for_each_message(conn, data, |_, _| {
            *count += 1;
            Ok(Some(1))
        })
    }
}

impl MessageHandler<()> for Nudged {}

/// A poke and a letter show what is left, of one connection after the other, as often as they come.
#[test]
fn frames_that_are_shown_after_pokes_and_letters_count_with_the_others_of_the_turn() {
    const FRAMES: usize = 100_000;
    let mut sim = Simulation::new(1);
    let (post, inbox) = mailbox(16);
    let nudged = Nudged { post, members: Vec::new(), of_a_turn: BTreeMap::new() };
    let server = sim.serve(nudged);
    sim[server.reactor].attach(server.handler, inbox).unwrap();
    for _ in 0..2 {
        sim.client(server.address, Script::new().send(vec![b'.'; FRAMES]).shutdown().expect_end());
    }
    sim.run_until_idle();
    sim.assert_all_done();
    let of_a_turn = &sim.handler(server).of_a_turn;
    assert_eq!(of_a_turn.values().sum::<usize>(), 2 * FRAMES, "every one once");
    assert_eq!(of_a_turn.values().max(), Some(&Limits::new().frames_per_turn_max));
}
