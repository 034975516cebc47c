//! Handlers of frames, in the loop.
use oneloop::codec::{
    BadFrame, Encoder, FrameError, FrameHandler, Framed, LengthFrame, LengthPrefixed, LengthWidth,
    Lines, for_each_frame,
};
use oneloop::sim::{Harness, all_splits};
use oneloop::{CloseReason, Connection, Error, Limits, StreamHandler};

/// Answers each line, and some of them in a way of its own.
#[derive(Default)]
struct Answers {
    frames: usize,
}

impl FrameHandler for Answers {
    type Decoder = Lines;
    type Session = usize;

    fn decoder(&self) -> Lines {
        Lines::new(40)
    }

    fn on_open(&mut self, _: &mut Connection<'_>) -> usize {
        0
    }

    fn on_frame(
        &mut self,
        count: &mut usize,
        conn: &mut Connection<'_>,
        line: &[u8],
    ) -> Result<(), Error> {
        self.frames += 1;
        *count += 1;
        match line {
            b"quit" => conn.close(),
            b"pause" => conn.pause(),
            b"again" => conn.again(),
            b"answer two lines" => self.decoder().encode(b"one\ntwo", conn)?,
            b"nonsense" => return Err(BadFrame(FrameError::Malformed("nonsense")).into()),
            line => conn.send(format!("{count}:{} ", line.escape_ascii()).as_bytes()).ignore(),
        }
        Ok(())
    }

    fn on_bad_frame(&mut self, _: &mut usize, conn: &mut Connection<'_>, error: FrameError) {
        conn.send(format!("bad: {error}").as_bytes()).ignore();
    }

    fn on_poke(&mut self, _: &mut usize, conn: &mut Connection<'_>) {
        conn.resume();
    }

    fn on_peer_closed(&mut self, _: &mut usize, conn: &mut Connection<'_>, rest: &[u8]) {
        conn.send(format!("rest:{}", rest.escape_ascii()).as_bytes()).ignore();
        conn.close();
    }
}

fn harness() -> Harness<Framed<Answers>> {
    Harness::new(Framed::new(Answers::default()))
}

#[test]
fn a_handler_is_shown_each_frame_once_however_they_are_cut() {
    all_splits(
        b"one\r\ntwo things\n\nlast\n",
        || Framed::new(Answers::default()),
        |harness| {
            harness.end();
            assert_eq!(harness.output(), b"1:one 2:two things 3: 4:last rest:");
        },
    );
}

#[test]
fn what_is_not_whole_at_the_end_is_told() {
    let mut harness = harness();
    harness.feed("one\nunfini");
    harness.end();
    assert_eq!(harness.output(), b"1:one rest:unfini");
    assert_eq!(harness.closed(), Some(CloseReason::PeerClosed));
}

#[test]
fn after_a_close_no_frame_comes() {
    let mut harness = harness();
    harness.feed("one\nquit\ntwo\n");
    assert_eq!(harness.output(), b"1:one ");
    assert_eq!(harness.handler().handler().frames, 2);
}

#[test]
fn a_frame_behind_a_pause_or_a_break_waits_and_is_not_lost() {
    let mut harness = harness();
    harness.feed("again\none\n");
    assert_eq!(harness.output(), b"2:one ");
    harness.feed("pause\ntwo\n");
    assert_eq!(harness.output(), b"");
}

#[test]
fn what_is_no_frame_gets_a_last_word_and_ends_the_connection() {
    let mut harness = harness();
    harness.feed("one\n");
    harness.feed([b'x'; 42]);
    assert_eq!(harness.output(), b"1:one bad: a frame is over its limit of 40 bytes");
    harness.end();
    assert_eq!(harness.closed(), Some(CloseReason::BadFrame));
    assert_eq!(harness.stats().closes(CloseReason::BadFrame), 1);
}

#[test]
fn what_only_the_handler_knows_to_be_wrong_ends_it_alike() {
    let mut harness = harness();
    harness.feed("one\nnonsense\ntwo\n");
    assert_eq!(harness.output(), b"1:one bad: nonsense");
    harness.end();
    assert_eq!(harness.closed(), Some(CloseReason::BadFrame));
}

#[test]
fn an_answer_that_is_no_frame_is_not_the_peers_fault() {
    let mut harness = harness();
    harness.feed("answer two lines\n");
    assert_eq!(harness.output(), b"");
    harness.end();
    assert_eq!(harness.closed(), Some(CloseReason::HandlerError));
}

/// A handler of bytes that calls a decoder itself, and counts how often it is called.
struct Calls {
    calls: usize,
}

impl StreamHandler for Calls {
    type Session = LengthPrefixed;

    fn on_open(&mut self, _: &mut Connection<'_>) -> LengthPrefixed {
        LengthPrefixed::new(LengthWidth::U16, 5000)
    }

    fn on_data(
        &mut self,
        messages: &mut LengthPrefixed,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.calls += 1;
        for_each_frame(messages, conn, data, |conn, frame: LengthFrame<'_>| {
            conn.send(frame.body).ignore();
            Ok(())
        })
    }
}

#[test]
fn a_frame_whose_length_is_known_costs_no_call_before_it_is_whole() {
    let mut harness = Harness::new(Calls { calls: 0 });
    harness.feed([3000u16.to_be_bytes()[0]]);
    harness.feed([3000u16.to_be_bytes()[1]]);
    for _ in 0..3000 {
        harness.feed("x");
    }
    assert_eq!(harness.output(), [b'x'; 3000]);
    assert!(harness.handler().calls <= 3, "{} calls", harness.handler().calls);
}

/// Else what comes next would not go the short way through the loop.
#[test]
fn behind_whole_frames_no_number_of_bytes_is_waited_for() {
    let mut harness = Harness::new(Calls { calls: 0 });
    harness.feed(b"\0\x03one\0\x03two");
    assert_eq!((harness.output(), harness.handler().calls), (b"onetwo".to_vec(), 1));
    harness.feed(b"\0");
    assert_eq!(harness.handler().calls, 2, "the first byte of a header is shown");
}

/// A handler of bytes that answers each line with what its input asks for, which may be no line. It says so where it is
/// told to `call` it nonsense, and where it is told to `forgive` what is no line, answers that with one that is none either.
struct Bytes;

impl StreamHandler for Bytes {
    type Session = Lines;

    fn on_open(&mut self, _: &mut Connection<'_>) -> Lines {
        Lines::new(7)
    }

    fn on_data(
        &mut self,
        lines: &mut Lines,
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let mut forgives = false;
        let result = for_each_frame(&mut lines.clone(), conn, data, |conn, line| {
            match line {
                b"forgive" => forgives = true,
                b"call" => return Err(BadFrame::from(FrameError::Malformed("nonsense")).into()),
                b"two" => lines.encode(b"a\nb", conn)?,
                line => lines.encode(line, conn)?,
            }
            Ok(())
        });
        if result.is_err() && forgives {
            lines.encode(b"a\nb", conn)?;
        }
        result
    }
}

#[test]
fn a_bad_frame_is_told_from_a_failure_also_where_a_handler_calls_its_decoder_itself() {
    for (input, reason) in [
        ("one\nendlessly", CloseReason::BadFrame),
        ("one\ncall\ntwo\n", CloseReason::BadFrame),
        ("one\ntwo\nendlessly", CloseReason::HandlerError),
        ("forgive\nendlessly", CloseReason::HandlerError),
    ] {
        let mut harness = Harness::new(Bytes);
        harness.feed(input);
        harness.end();
        assert_eq!(harness.closed(), Some(reason), "{input}");
    }
}

/// Sends far more than it is sent.
struct Flood;

impl FrameHandler for Flood {
    type Decoder = Lines;
    type Session = ();

    fn decoder(&self) -> Lines {
        Lines::new(10)
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_frame(&mut self, _: &mut (), conn: &mut Connection<'_>, _: &[u8]) -> Result<(), Error> {
        assert!(!conn.is_over_high(), "the next frame waits");
        conn.send(&[b'x'; 30_000]).ignore();
        Ok(())
    }
}

#[test]
fn while_too_much_waits_for_the_peer_the_next_frame_does_too() {
    let limits = Limits::new().output_bytes_high(20_000).output_bytes_low(10_000);
    let mut harness = Harness::with_limits(Framed::new(Flood), limits);
    harness.feed("\n\n\n\n\n\n\n\n\n\n");
    assert_eq!(harness.output().len(), 300_000);
}
