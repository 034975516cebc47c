//! Frames of every codec in pieces of any size, from many clients at once: each whole one is taken once and in order, no
//! connection has more of them in a turn than its budget, and how they end is told.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use oneloop::codec::{
    BadFrame, Decoder, Encoder, FrameError, FrameHandler, Framed, for_each_frame, for_each_message,
};
use oneloop::sim::{ClientId, ReactorId, Script, Simulation};
use oneloop::{
    CloseReason, Connection, Context, Error, Key, ListenOptions, ReactorLimits, StreamHandler,
    TimerId, Wait,
};

use super::frame_model::{AnyCodec, Coding};
use super::frame_plan::{Plan, Tail, answers, client, number_of};
use super::{INPUT_BYTES_MAX, Life, Lives, assert_all_closed, conclude, tight, within};

/// What a server knows of its clients, and checks.
struct Book {
    coding: Coding,
    plans: Vec<Plan>,
    frames_per_turn_max: usize,
    without_loss: bool,
    lives: Lives,
}

/// What it knows of a connection.
struct Session {
    life: Life,
    client: Option<usize>,
    taken: usize,
    /// The turn of its last frame, and how many it had in that.
    of_turn: (u64, usize),
    /// None comes before.
    next_turn: u64,
    /// A whole frame waits, which is shown by then.
    due_turn: Option<u64>,
    is_paused: bool,
    is_over: bool,
}

impl Book {
    fn open(&mut self, conn: &Connection<'_>) -> Session {
        Session {
            life: self.lives.open(conn),
            client: None,
            taken: 0,
            of_turn: (0, 0),
            next_turn: 0,
            due_turn: None,
            is_paused: false,
            is_over: false,
        }
    }

    /// The plan of this client, all frames of which were taken.
    fn done_plan(&self, session: &Session) -> &Plan {
        let plan = &self.plans[session.client.expect("its first frame was taken")];
        assert_eq!(session.taken, plan.frames.len(), "the end is told before the last frame");
        plan
    }

    fn take(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        frame: &[u8],
    ) -> Result<(), Error> {
        let turn = conn.stats().turns;
        assert_eq!(session.life.key, conn.key());
        assert!(!session.is_over, "a frame after the end");
        assert!(!session.is_paused, "a frame while it is paused");
        assert!(!conn.is_over_high(), "a frame while too much waits");
        assert!(turn >= session.next_turn, "a frame in the turn that was to be the last one's");
        if session.of_turn.0 != turn {
            session.of_turn = (turn, 0);
        }
        session.of_turn.1 += 1;
        assert!(session.of_turn.1 <= self.frames_per_turn_max, "too many frames in a turn");
        let client = *session.client.get_or_insert_with(|| number_of(frame));
        let Plan { frames, tail } = &self.plans[client];
        let expected = frames.get(session.taken).expect("no frame comes after the last one");
        assert_eq!(frame, expected, "frame {} of client {client}", session.taken);
        session.taken += 1;
        let is_last = session.taken == frames.len();
        let codec = self.coding.codec();
        if is_last && matches!(tail, Tail::Failure) {
            session.is_over = true;
            codec.encode(&self.coding.too_long(), conn)?;
            panic!("it was encoded");
        }
        for _ in 0..answers(session.taken - 1) {
            codec.encode(frame, conn)?;
        }
        if is_last && matches!(tail, Tail::Quit) {
            session.is_over = true;
            conn.close();
            return Ok(());
        }
        let random = conn.random();
        match random % 16 {
            0 => {
                session.is_paused = true;
                conn.pause();
                conn.set_timer(Duration::from_micros(random / 16 % 5000));
            }
            1 => {
                session.next_turn = turn + 1;
                conn.again();
            }
            _ => {}
        }
        Ok(())
    }

    fn bad_frame(&self, session: &mut Session, conn: &mut Connection<'_>, error: FrameError) {
        assert!(!session.is_over, "a frame after the end");
        session.is_over = true;
        match (&self.done_plan(session).tail, error) {
            (Tail::Bad((_, FrameError::Malformed(_))), FrameError::Malformed(_)) => {}
            (Tail::Bad((_, expected)), error) => assert_eq!(error, *expected),
            (tail, error) => panic!("{error}, where {tail:?} was sent"),
        }
        conn.send(b"bad").ignore();
    }

    fn resume(&self, session: &mut Session, conn: &mut Connection<'_>) {
        assert!(session.is_paused);
        session.is_paused = false;
        conn.resume();
    }

    fn end(&self, session: &mut Session, conn: &mut Connection<'_>, rest: &[u8]) {
        assert!(!session.is_over && !session.is_paused);
        session.is_over = true;
        // Where connections are reset, the end of one may come without all that was sent before.
        if self.without_loss {
            match &self.done_plan(session).tail {
                Tail::Part(part) => assert_eq!(rest, part, "what is left at the end is told"),
                tail => assert!(matches!(tail, Tail::Nothing) && rest.is_empty(), "{rest:?}"),
            }
        }
        conn.send(if rest.is_empty() { b"" } else { b"cut" }).ignore();
        conn.close();
    }

    fn close(&mut self, session: &Session, key: Key, reason: CloseReason) {
        self.lives.close(&session.life, key);
        if self.without_loss {
            let expected = match self.done_plan(session).tail {
                Tail::Nothing | Tail::Part(_) => CloseReason::PeerClosed,
                Tail::Bad(_) => CloseReason::BadFrame,
                Tail::Quit => CloseReason::Closed,
                Tail::Failure => CloseReason::HandlerError,
            };
            assert_eq!(reason, expected);
        }
    }
}

type SharedBook = Rc<RefCell<Book>>;

/// A handler of frames.
struct Frames {
    book: SharedBook,
}

impl FrameHandler for Frames {
    type Decoder = AnyCodec;
    type Session = Session;

    fn decoder(&self) -> AnyCodec {
        self.book.borrow().coding.codec()
    }

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Session {
        self.book.borrow_mut().open(conn)
    }

    fn on_frame(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        frame: [&[u8]; 2],
    ) -> Result<(), Error> {
        self.book.borrow_mut().take(session, conn, &frame.concat())
    }

    fn on_bad_frame(&mut self, session: &mut Session, conn: &mut Connection<'_>, e: FrameError) {
        self.book.borrow().bad_frame(session, conn, e);
    }

    fn on_timer(&mut self, session: &mut Session, conn: &mut Connection<'_>, _: TimerId) {
        self.book.borrow().resume(session, conn);
    }

    fn on_peer_closed(&mut self, session: &mut Session, conn: &mut Connection<'_>, rest: &[u8]) {
        self.book.borrow().end(session, conn, rest);
    }

    fn on_close(&mut self, session: Session, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.book.borrow_mut().close(&session, key, reason);
    }
}

/// A handler of bytes, which finds frames by its decoder or as messages. It sees which ones wait.
struct Bytes {
    book: SharedBook,
    finds_messages: bool,
}

impl StreamHandler for Bytes {
    type Session = (AnyCodec, Session);

    fn on_open(&mut self, conn: &mut Connection<'_>) -> (AnyCodec, Session) {
        let mut book = self.book.borrow_mut();
        (book.coding.codec(), book.open(conn))
    }

    fn on_data(
        &mut self,
        (decoder, session): &mut (AnyCodec, Session),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        let mut book = self.book.borrow_mut();
        let turn = conn.stats().turns;
        if let Some(due_turn) = session.due_turn.take() {
            assert!(turn <= due_turn, "a frame waits for longer than a turn");
        }
        let result = if self.finds_messages {
            for_each_message(conn, data, |conn, rest| {
                let found = decoder.decode(rest).map_err(BadFrame)?;
                let Some((frame, taken)) = found else { return Ok(None) };
                book.take(session, conn, &frame.concat())?;
                Ok(Some(taken))
            })
        } else {
            for_each_frame(decoder, conn, data, |conn, frame| {
                book.take(session, conn, &frame.concat())
            })
        };
        match &result {
            Ok(consumed) if !session.is_over => {
                let rest = &data[*consumed..];
                let is_whole = matches!(decoder.clone().decode(rest), Ok(Some(_)));
                if is_whole && !session.is_paused && !conn.is_over_high() {
                    let has_budget = session.of_turn != (turn, book.frames_per_turn_max);
                    let is_for_now = has_budget && session.next_turn <= turn;
                    assert!(!is_for_now, "a frame is left, and nothing keeps it");
                    session.due_turn = Some(turn + 1);
                }
            }
            Err(error) if !session.is_over => {
                let BadFrame(error) = *error.downcast_ref().expect("only its decoder fails");
                book.bad_frame(session, conn, error);
            }
            _ => {}
        }
        result
    }

    fn on_timer(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>, _: TimerId) {
        self.book.borrow().resume(&mut session.1, conn);
    }

    fn on_peer_closed(&mut self, session: &mut Self::Session, conn: &mut Connection<'_>) {
        let rest = conn.unconsumed().to_vec();
        self.book.borrow().end(&mut session.1, conn, &rest);
    }

    fn on_close(
        &mut self,
        session: Self::Session,
        key: Key,
        reason: CloseReason,
        _: &mut Context<'_>,
    ) {
        self.book.borrow_mut().close(&session.1, key, reason);
    }
}

pub(super) fn frames(sim: &mut Simulation) {
    run(sim, false);
}

pub(super) fn frames_without_loss(sim: &mut Simulation) {
    run(sim, true);
}

/// Listens for clients of one coding, and lets some come.
fn serve_some(
    sim: &mut Simulation,
    reactor: ReactorId,
    address: SocketAddr,
    without_loss: bool,
) -> (SharedBook, Vec<ClientId>) {
    let coding = Coding::any(sim);
    let (plans, scripts): (Vec<Plan>, Vec<Script>) =
        (0..within(sim, 1..15)).map(|number| client(sim, &coding, number)).unzip();
    let frames_per_turn_max = [1, 2, 3, 10, 1000][within(sim, 0..5)];
    let input_bytes_max = [coding.codec().whole_bytes_max(), INPUT_BYTES_MAX][within(sim, 0..2)];
    let limits = tight().frames_per_turn_max(frames_per_turn_max).input_bytes_max(input_bytes_max);
    let way = within(sim, 0..3);
    let book = Rc::new(RefCell::new(Book {
        coding,
        plans,
        frames_per_turn_max,
        without_loss,
        lives: Lives::default(),
    }));
    let shared = Rc::clone(&book);
    let options = ListenOptions::new().limits(limits).backlog(8);
    let listening = if way == 2 {
        let handler = sim[reactor].add(Framed::new(Frames { book: shared }));
        sim[reactor].listen_with(handler, address, &options)
    } else {
        let handler = sim[reactor].add(Bytes { book: shared, finds_messages: way == 0 });
        sim[reactor].listen_with(handler, address, &options)
    };
    listening.expect("a free port");
    let clients = scripts
        .into_iter()
        .map(|script| sim.client(address, if without_loss { script } else { script.may_end() }))
        .collect();
    (book, clients)
}

/// Servers of one to three codings, in one reactor.
fn run(sim: &mut Simulation, without_loss: bool) {
    let own = ReactorLimits::new().connections_max(64).events_per_poll_max(7);
    let reactor = sim.add_reactor(own);
    if sim.seed() % 5 == 4 {
        sim[reactor].set_wait(Wait::Spin(Duration::from_micros(15)));
    }
    let ip = sim.ip(reactor);
    let (books, clients): (Vec<SharedBook>, Vec<Vec<ClientId>>) = (0..within(sim, 1..4))
        .map(|place| serve_some(sim, reactor, (ip, 7000 + place as u16).into(), without_loss))
        .unzip();
    conclude(sim, &[reactor], &clients.concat(), without_loss);
    for book in books {
        assert_all_closed(&book.borrow().lives);
    }
}
