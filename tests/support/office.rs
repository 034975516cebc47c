//! A handler that gets mail, and a reactor with it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oneloop::{
    CloseReason, Connection, Context, Error, HandlerId, Key, MessageHandler, ReactorLimits, Sender,
    StreamHandler, mailbox,
};

use super::*;

/// What a [`Clerk`] was called for.
#[derive(Clone, PartialEq, Debug)]
pub enum Heard {
    Open(Key),
    Data(Key, Vec<u8>),
    Message(Key, u64),
    Own(u64),
    Undelivered(Key, u64),
    Close(Key, CloseReason),
}

pub type Act = Box<dyn FnMut(u64, &mut Connection<'_>)>;

pub type Own = Box<dyn FnMut(u64, &mut Context<'_>)>;

/// A handler that notes its calls and sends the messages that it gets for a connection to its peer.
pub struct Clerk {
    pub heard: Rc<RefCell<Vec<Heard>>>,
    pub message: Act,
    pub own: Own,
    pub undelivered: Own,
    pub close: Box<dyn FnMut()>,
    /// How much of what it is shown it consumes.
    pub consumes: usize,
}

impl Clerk {
    pub fn new() -> Clerk {
        Clerk {
            heard: Rc::default(),
            message: Box::new(|message, conn| {
                conn.send(format!("{message}\n").as_bytes()).ignore();
            }),
            own: Box::new(|_, _| {}),
            undelivered: Box::new(|_, _| {}),
            close: Box::new(|| {}),
            consumes: usize::MAX,
        }
    }
}

impl StreamHandler for Clerk {
    type Session = Key;

    fn on_open(&mut self, conn: &mut Connection<'_>) -> Key {
        self.heard.borrow_mut().push(Heard::Open(conn.key()));
        conn.key()
    }

    fn on_data(
        &mut self,
        session: &mut Key,
        _: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.heard.borrow_mut().push(Heard::Data(*session, data.to_vec()));
        Ok(data.len().min(self.consumes))
    }

    fn on_close(&mut self, session: Key, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        assert_eq!(session, key);
        self.heard.borrow_mut().push(Heard::Close(key, reason));
        (self.close)();
    }
}

impl MessageHandler<u64> for Clerk {
    fn on_message(&mut self, session: &mut Key, conn: &mut Connection<'_>, message: u64) {
        assert_eq!(*session, conn.key());
        self.heard.borrow_mut().push(Heard::Message(*session, message));
        (self.message)(message, conn);
    }

    fn on_handler_message(&mut self, message: u64, cx: &mut Context<'_>) {
        self.heard.borrow_mut().push(Heard::Own(message));
        (self.own)(message, cx);
    }

    fn on_undelivered(&mut self, key: Key, message: u64, cx: &mut Context<'_>) {
        self.heard.borrow_mut().push(Heard::Undelivered(key, message));
        (self.undelivered)(message, cx);
    }
}

/// A reactor with a clerk that listens and has a mailbox.
pub struct Office {
    pub reactor: Reactor,
    pub handler: HandlerId<Clerk>,
    pub address: SocketAddr,
    pub heard: Rc<RefCell<Vec<Heard>>>,
    pub sender: Sender<u64>,
}

impl Office {
    pub fn new(clerk: Clerk, capacity: usize) -> Office {
        Office::with_budget(clerk, capacity, ReactorLimits::new().messages_per_turn_max)
    }

    pub fn with_budget(clerk: Clerk, capacity: usize, messages_per_turn_max: usize) -> Office {
        let limits =
            ReactorLimits::new().connections_max(64).messages_per_turn_max(messages_per_turn_max);
        let mut reactor = Reactor::with_limits(limits).unwrap();
        let heard = Rc::clone(&clerk.heard);
        let handler = reactor.add(clerk);
        let listener = reactor.listen(handler, "127.0.0.1:0").unwrap();
        let address = reactor.listener_address(listener).unwrap().inet().unwrap();
        let (sender, inbox) = mailbox(capacity);
        reactor.attach(handler, inbox).unwrap();
        Office { reactor, handler, address, heard, sender }
    }

    pub fn until(&mut self, what: &str, is_done: impl Fn(&[Heard]) -> bool) {
        let heard = Rc::clone(&self.heard);
        run_until(&mut self.reactor, what, |_| is_done(&heard.borrow()));
    }

    pub fn open(&mut self) -> (TcpStream, Key) {
        let opened = |heard: &[Heard]| {
            let keys = heard.iter().filter_map(|heard| match heard {
                Heard::Open(key) => Some(*key),
                _ => None,
            });
            keys.collect::<Vec<_>>()
        };
        let before = opened(&self.heard.borrow()).len();
        let client = connect(self.address);
        self.until("the connection opens", |heard| opened(heard).len() > before);
        let key = opened(&self.heard.borrow())[before];
        (client, key)
    }

    pub fn turn(&mut self) {
        self.reactor.turn(Some(Duration::ZERO)).unwrap();
    }

    /// What was heard since the last time.
    pub fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut self.heard.borrow_mut())
    }

    pub fn read_line(&mut self, client: &mut TcpStream) -> String {
        use std::io::Read;
        client.set_nonblocking(true).unwrap();
        let mut line = Vec::new();
        run_until(&mut self.reactor, "the client has read a line", |_| {
            let mut byte = [0];
            while !line.ends_with(b"\n") && matches!(client.read(&mut byte), Ok(1)) {
                line.push(byte[0]);
            }
            line.ends_with(b"\n")
        });
        client.set_nonblocking(false).unwrap();
        String::from_utf8(line).unwrap()
    }
}

/// Counts how many of it are alive.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub fn new(alive: &Arc<AtomicUsize>) -> Counted {
        alive.fetch_add(1, Ordering::SeqCst);
        Counted(Arc::clone(alive))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl MessageHandler<Counted> for Clerk {}
