//! Mail from other threads, other handlers and tests: order, ends, and what is lost to a panic.

mod support;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use oneloop::{
    CloseReason, Connection, Context, Ended, Error, HandleError, HandlerId, Key, MessageHandler,
    PostError, ReactorLimits, Sender, StreamHandler, mailbox,
};
use support::*;

/// What a [`Clerk`] was called for.
#[derive(Clone, PartialEq, Debug)]
enum Heard {
    Open(Key),
    Data(Key, Vec<u8>),
    Message(Key, u64),
    Own(u64),
    Undelivered(Key, u64),
    Close(Key, CloseReason),
}

type Act = Box<dyn FnMut(u64, &mut Connection<'_>)>;
type Own = Box<dyn FnMut(u64, &mut Context<'_>)>;

/// A handler that notes its calls and sends the messages that it gets for a connection to its peer.
struct Clerk {
    heard: Rc<RefCell<Vec<Heard>>>,
    message: Act,
    own: Own,
    undelivered: Own,
    /// How much of what it is shown it consumes.
    consumes: usize,
}

impl Clerk {
    fn new() -> Clerk {
        Clerk {
            heard: Rc::default(),
            message: Box::new(|message, conn| {
                conn.send(format!("{message}\n").as_bytes()).ignore();
            }),
            own: Box::new(|_, _| {}),
            undelivered: Box::new(|_, _| {}),
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
struct Office {
    reactor: Reactor,
    handler: HandlerId<Clerk>,
    address: std::net::SocketAddr,
    heard: Rc<RefCell<Vec<Heard>>>,
    sender: Sender<u64>,
}

impl Office {
    fn new(clerk: Clerk, capacity: usize) -> Office {
        Office::with_budget(clerk, capacity, ReactorLimits::new().messages_per_turn_max)
    }

    fn with_budget(clerk: Clerk, capacity: usize, messages_per_turn_max: usize) -> Office {
        let limits =
            ReactorLimits::new().connections_max(64).messages_per_turn_max(messages_per_turn_max);
        let mut reactor = Reactor::with_limits(limits).unwrap();
        let heard = Rc::clone(&clerk.heard);
        let handler = reactor.add(clerk);
        let listener = reactor.listen(handler, "127.0.0.1:0").unwrap();
        let address = reactor.listener_address(listener).unwrap();
        let (sender, inbox) = mailbox(capacity);
        reactor.attach(handler, inbox).unwrap();
        Office { reactor, handler, address, heard, sender }
    }

    fn until(&mut self, what: &str, is_done: impl Fn(&[Heard]) -> bool) {
        let heard = Rc::clone(&self.heard);
        run_until(&mut self.reactor, what, |_| is_done(&heard.borrow()));
    }

    fn open(&mut self) -> (TcpStream, Key) {
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

    fn turn(&mut self) {
        self.reactor.turn(Some(Duration::ZERO)).unwrap();
    }

    /// What was heard since the last time.
    fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut self.heard.borrow_mut())
    }

    fn read_line(&mut self, client: &mut TcpStream) -> String {
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

#[test]
fn a_message_reaches_its_connection_and_no_other_one() {
    let mut office = Office::new(Clerk::new(), 8);
    let (mut anna, anna_key) = office.open();
    let (mut bob, bob_key) = office.open();
    office.take();
    office.sender.post_to(bob_key, 1).unwrap();
    office.sender.post_to(anna_key, 2).unwrap();
    office.turn();
    assert_eq!(office.take(), [Heard::Message(bob_key, 1), Heard::Message(anna_key, 2)]);
    assert_eq!(
        (office.read_line(&mut anna), office.read_line(&mut bob)),
        ("2\n".into(), "1\n".into())
    );
    let stats = office.reactor.stats();
    assert_eq!((stats.messages, stats.messages_undelivered, stats.stale_events), (2, 0, 0));
}

#[test]
fn what_is_posted_before_the_mailbox_is_attached_waits() {
    let mut reactor = Reactor::new().unwrap();
    let (sender, inbox) = mailbox(4);
    for number in 0..4 {
        sender.post(number).unwrap();
    }
    assert_eq!(sender.post(4), Err(PostError::Full(4)));
    let clerk = Clerk::new();
    let heard = Rc::clone(&clerk.heard);
    let handler = reactor.add(clerk);
    reactor.attach(handler, inbox).unwrap();
    assert_eq!(reactor.next_wait(), Some(Duration::ZERO), "there is mail");
    reactor.turn(None).unwrap();
    assert_eq!(*heard.borrow(), [0, 1, 2, 3].map(Heard::Own));
}

#[test]
fn a_full_mailbox_gives_the_message_back_and_has_room_again_after_a_turn() {
    let mut office = Office::new(Clerk::new(), 2);
    office.sender.post(1).unwrap();
    office.sender.post(2).unwrap();
    let error = office.sender.post(3).unwrap_err();
    assert!(error.is_full());
    assert_eq!(error.to_string(), "the mailbox is full");
    assert_eq!(error.into_message(), 3);
    office.turn();
    office.sender.post(3).unwrap();
    office.turn();
    assert_eq!(office.take(), [1, 2, 3].map(Heard::Own));
}

#[test]
fn posts_to_a_reactor_that_has_ended_give_the_message_back() {
    let office = Office::new(Clerk::new(), 2);
    let sender = office.sender.clone();
    assert!(!sender.has_ended());
    drop(office);
    assert!(sender.has_ended());
    assert_eq!(sender.post(1), Err(PostError::Ended(1)));
    assert_eq!(sender.post_to(Key::from_bits(7), 2), Err(PostError::Ended(2)));
    assert_eq!(sender.post(1).unwrap_err().to_string(), "the reactor has ended");
    // An inbox that nobody attaches is no other case.
    let (sender, inbox) = mailbox(1);
    sender.post(1).unwrap();
    drop(inbox);
    assert_eq!(sender.post(2), Err(PostError::Ended(2)));
}

/// Counts how many of it are alive.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Counted {
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

#[test]
fn a_stop_ends_the_mailboxes_and_drops_and_counts_what_waits() {
    let mut office = Office::new(Clerk::new(), 4);
    let alive = Arc::new(AtomicUsize::new(0));
    let (sender, inbox) = mailbox(4);
    office.reactor.attach(office.handler, inbox).unwrap();
    for _ in 0..3 {
        sender.post(Counted::new(&alive)).unwrap();
    }
    office.sender.post(1).unwrap();
    office.reactor.stop();
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert_eq!(office.reactor.stats().messages_undelivered, 4);
    assert!(sender.post(Counted::new(&alive)).is_err_and(|error| !error.is_full()));
    assert_eq!(office.take(), []);
    // It can be used again, with a new mailbox.
    let (sender, inbox) = mailbox(1);
    office.reactor.attach(office.handler, inbox).unwrap();
    sender.post(5).unwrap();
    office.turn();
    assert_eq!(office.take(), [Heard::Own(5)]);
}

#[test]
fn halves_are_dropped_in_any_order() {
    for order in 0..6 {
        let alive = Arc::new(AtomicUsize::new(0));
        let mut reactor = Reactor::new().unwrap();
        let handle = reactor.handle().unwrap();
        let handler = reactor.add(Clerk::new());
        let (sender, inbox) = mailbox(4);
        let clone = sender.clone();
        sender.post(Counted::new(&alive)).unwrap();
        reactor.attach(handler, inbox).unwrap();
        clone.post(Counted::new(&alive)).unwrap();
        let (mut reactor, mut sender, mut clone) = (Some(reactor), Some(sender), Some(clone));
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        for which in orders[order] {
            match which {
                0 => reactor = None,
                1 => sender = None,
                _ => clone = None,
            }
            if reactor.is_none() {
                assert_eq!(alive.load(Ordering::SeqCst), 0, "order {order}");
                assert_eq!(handle.stop(), Err(HandleError::Ended));
            }
        }
        assert!(reactor.is_none() && sender.is_none() && clone.is_none());
    }
}

#[test]
fn a_mailbox_without_senders_is_forgotten_when_it_is_empty() {
    let mut office = Office::new(Clerk::new(), 4);
    let alive = Arc::new(AtomicUsize::new(0));
    let (sender, inbox) = mailbox(2);
    office.reactor.attach(office.handler, inbox).unwrap();
    let token = Arc::new(());
    struct Token(
        #[allow(dead_code, reason = "held")] Arc<()>,
        #[allow(dead_code, reason = "held")] Counted,
    );
    impl MessageHandler<Token> for Clerk {}
    let (tokens, token_inbox) = mailbox(1);
    office.reactor.attach(office.handler, token_inbox).unwrap();
    sender.post(Counted::new(&alive)).unwrap();
    tokens.post(Token(Arc::clone(&token), Counted::new(&alive))).unwrap();
    drop((sender, tokens));
    office.turn();
    assert_eq!((alive.load(Ordering::SeqCst), Arc::strong_count(&token)), (0, 1));
    assert_eq!(office.reactor.stats().messages, 2);
}

#[test]
fn a_message_for_a_connection_that_is_gone_comes_back() {
    let mut office = Office::new(Clerk::new(), 8);
    let (client, key) = office.open();
    drop(client);
    office.until("it closes", |heard| matches!(heard.last(), Some(Heard::Close(..))));
    let (_client, other) = office.open();
    office.take();
    office.sender.post_to(key, 1).unwrap();
    office.sender.post_to(Key::from_bits(u64::MAX), 2).unwrap();
    office.sender.post_to(other, 3).unwrap();
    office.turn();
    let nobody = Key::from_bits(u64::MAX);
    let expected =
        [Heard::Undelivered(key, 1), Heard::Undelivered(nobody, 2), Heard::Message(other, 3)];
    assert_eq!(office.take(), expected);
    let stats = office.reactor.stats();
    assert_eq!((stats.messages, stats.messages_undelivered), (1, 2));
}

/// The key of a connection that was never begun, because the reactor was stopping, is nobody's.
#[test]
fn a_message_to_the_key_of_nobody_is_not_the_handlers() {
    let mut clerk = Clerk::new();
    let nobody = Rc::new(RefCell::new(None));
    let noting = Rc::clone(&nobody);
    clerk.own = Box::new(move |_, cx| {
        cx.stop();
        *noting.borrow_mut() = Some(cx.connect("127.0.0.1:1".parse().unwrap(), 0));
    });
    let mut office = Office::new(clerk, 1);
    office.sender.post(1).unwrap();
    office.turn();
    let nobody = nobody.take().expect("it was called");
    let (sender, inbox) = mailbox(1);
    office.reactor.attach(office.handler, inbox).unwrap();
    office.take();
    sender.post_to(nobody, 2).unwrap();
    office.turn();
    assert_eq!(office.take(), [Heard::Undelivered(nobody, 2)]);
}

#[test]
fn a_message_behind_the_one_that_closes_its_connection_is_undelivered() {
    for abort in [false, true] {
        let mut clerk = Clerk::new();
        clerk.message = Box::new(move |_, conn| if abort { conn.abort() } else { conn.close() });
        let mut office = Office::new(clerk, 8);
        let (_client, key) = office.open();
        office.take();
        office.sender.post_to(key, 1).unwrap();
        office.sender.post_to(key, 2).unwrap();
        office.turn();
        let heard = office.take();
        assert_eq!(heard[..2], [Heard::Message(key, 1), Heard::Undelivered(key, 2)]);
    }
}

#[test]
fn a_message_for_a_connection_of_another_handler_is_undelivered() {
    let mut office = Office::new(Clerk::new(), 8);
    let (_client, key) = office.open();
    let other = Clerk::new();
    let heard = Rc::clone(&other.heard);
    let other = office.reactor.add(other);
    let (sender, inbox) = mailbox(1);
    office.reactor.attach(other, inbox).unwrap();
    sender.post_to(key, 1).unwrap();
    office.take();
    office.turn();
    assert_eq!(*heard.borrow(), [Heard::Undelivered(key, 1)]);
    assert_eq!(office.take(), []);
}

#[test]
fn what_is_posted_by_a_message_belongs_to_the_next_turn() {
    let mut clerk = Clerk::new();
    let (sender, inbox) = mailbox(2);
    let posting = sender.clone();
    clerk.own = Box::new(move |number, _| posting.post(number + 1).unwrap());
    let heard = Rc::clone(&clerk.heard);
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(clerk);
    reactor.attach(handler, inbox).unwrap();
    sender.post(0).unwrap();
    for turn in 0..5 {
        reactor.turn(None).unwrap();
        assert_eq!(heard.borrow().len(), turn + 1);
    }
    assert_eq!(reactor.next_wait(), Some(Duration::ZERO));
}

#[test]
fn a_turn_delivers_its_budget_of_messages_and_the_next_one_goes_on_in_order() {
    let mut office = Office::with_budget(Clerk::new(), 16, 4);
    let (_client, key) = office.open();
    office.take();
    for number in 0..10 {
        // Those for nobody count like the others.
        match number % 3 {
            0 => office.sender.post(number).unwrap(),
            1 => office.sender.post_to(key, number).unwrap(),
            _ => office.sender.post_to(Key::from_bits(u64::MAX), number).unwrap(),
        }
    }
    let mut next = 0;
    for expected in [4, 4, 2] {
        assert_eq!(office.reactor.next_wait(), Some(Duration::ZERO), "mail is left");
        office.reactor.turn(None).unwrap();
        let heard = office.take();
        assert_eq!(heard.len(), expected);
        for heard in heard {
            let (Heard::Own(number) | Heard::Message(_, number) | Heard::Undelivered(_, number)) =
                heard
            else {
                panic!("{heard:?}")
            };
            assert_eq!(number, next);
            next += 1;
        }
    }
    assert_ne!(office.reactor.next_wait(), Some(Duration::ZERO), "nothing is left");
}

#[test]
fn what_is_due_comes_between_two_budgets_of_messages() {
    let mut clerk = Clerk::new();
    clerk.own = Box::new(|_, cx| {
        cx.set_handler_timer(Duration::ZERO);
    });
    let mut office = Office::with_budget(clerk, 16, 4);
    (0..16).for_each(|number| office.sender.post(number).unwrap());
    for turn in 1..=4 {
        office.turn();
        assert_eq!(office.take().len(), 4, "turn {turn}");
        assert_eq!(office.reactor.stats().timer_lag.count(), 4 * (turn - 1), "turn {turn}");
    }
}

/// The messages of mailbox `i` are `100 * i` and so on; how many of each were heard, in their order.
fn heard_of_each(heard: &[Heard], mailboxes: usize) -> Vec<usize> {
    let mut counts = vec![0; mailboxes];
    for heard in heard {
        let Heard::Own(number) = heard else { panic!("{heard:?}") };
        let (mailbox, number) = (*number as usize / 100, *number as usize % 100);
        assert_eq!(number, counts[mailbox], "of mailbox {mailbox}");
        counts[mailbox] += 1;
    }
    counts
}

fn mailboxes_with<const N: usize>(office: &mut Office, messages: [u64; N]) -> Vec<Sender<u64>> {
    let senders = messages.iter().enumerate().map(|(mailbox_number, messages)| {
        let (sender, inbox) = mailbox(100);
        for number in 0..*messages {
            sender.post(100 * mailbox_number as u64 + number).unwrap();
        }
        office.reactor.attach(office.handler, inbox).unwrap();
        sender
    });
    senders.collect()
}

#[test]
fn mailboxes_share_the_budget_of_a_turn() {
    let mut office = Office::with_budget(Clerk::new(), 1, 20);
    let _senders = mailboxes_with(&mut office, [100, 1, 100, 0, 3]);
    office.turn();
    // Who has little gets all of it, and who has much what that leaves.
    assert_eq!(heard_of_each(&office.heard.borrow(), 5), [8, 1, 8, 0, 3]);
    office.turn();
    assert_eq!(heard_of_each(&office.heard.borrow(), 5), [18, 1, 18, 0, 3]);
    while office.reactor.next_wait() == Some(Duration::ZERO) {
        office.turn();
    }
    assert_eq!(heard_of_each(&office.heard.borrow(), 5), [100, 1, 100, 0, 3]);
}

#[test]
fn of_more_mailboxes_than_a_turns_budget_each_has_its_turn() {
    let mut office = Office::with_budget(Clerk::new(), 1, 2);
    let mut senders = mailboxes_with(&mut office, [10; 5]);
    for turn in 1..=15 {
        office.turn();
        let counts = heard_of_each(&office.heard.borrow(), 5);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert_eq!(counts.iter().sum::<usize>(), 2 * turn);
        assert!(most - least <= 1, "turn {turn}: {counts:?}");
    }
    // One that is gone takes the place of no other one with it.
    senders.remove(0);
    while office.reactor.next_wait() == Some(Duration::ZERO) {
        office.turn();
    }
    assert_eq!(heard_of_each(&office.heard.borrow(), 5), [10; 5]);
}

#[test]
fn posts_make_an_event_only_while_the_reactor_sleeps() {
    let mut clerk = Clerk::new();
    let (sender, inbox) = mailbox(8);
    let posting = sender.clone();
    clerk.own = Box::new(move |number, _| {
        if number == 1 {
            posting.post(2).unwrap();
        }
    });
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(clerk);
    reactor.attach(handler, inbox).unwrap();
    reactor.turn(None).unwrap();
    let turn = |reactor: &mut Reactor, events, messages| {
        let before = (reactor.stats().events, reactor.stats().messages);
        reactor.turn(Some(Duration::ZERO)).unwrap();
        let stats = reactor.stats();
        assert_eq!((stats.events - before.0, stats.messages - before.1), (events, messages));
    };
    // Between its turns it is awake, until it says for how long it would wait.
    sender.post(0).unwrap();
    turn(&mut reactor, 0, 1);
    assert_eq!(reactor.next_wait(), None);
    for _ in 0..3 {
        sender.post(0).unwrap();
    }
    assert_eq!(reactor.next_wait(), Some(Duration::ZERO));
    turn(&mut reactor, 1, 3);
    // So it is while it calls handlers, also in a turn that waited before.
    reactor.context(handler).set_handler_timer(Duration::from_micros(100));
    reactor.turn(None).unwrap();
    sender.post(1).unwrap();
    turn(&mut reactor, 0, 1);
    turn(&mut reactor, 0, 1);
    turn(&mut reactor, 0, 0);
}

#[test]
fn bytes_that_wait_for_a_message_are_shown_after_it() {
    let mut clerk = Clerk::new();
    clerk.consumes = 0;
    let mut office = Office::new(clerk, 1);
    let (mut client, key) = office.open();
    use std::io::Write;
    client.write_all(b"request").unwrap();
    office.until("it is shown", |heard| matches!(heard.last(), Some(Heard::Data(..))));
    office.take();
    office.sender.post_to(key, 1).unwrap();
    office.turn();
    assert_eq!(office.take(), [Heard::Message(key, 1), Heard::Data(key, b"request".to_vec())]);
}

#[test]
fn a_panic_loses_its_message_and_its_connection_only() {
    let mut clerk = Clerk::new();
    clerk.message = Box::new(|number, _| assert_ne!(number, 2, "a panic that is meant"));
    let mut office = Office::new(clerk, 8);
    let (_anna, anna) = office.open();
    let (_bob, bob) = office.open();
    office.take();
    for (key, number) in [(anna, 1), (anna, 2), (anna, 3), (bob, 4)] {
        office.sender.post_to(key, number).unwrap();
    }
    office.turn();
    let heard = office.take();
    let expected = [
        Heard::Message(anna, 1),
        Heard::Message(anna, 2),
        Heard::Undelivered(anna, 3),
        Heard::Message(bob, 4),
    ];
    assert_eq!(heard[..4], expected);
    assert_eq!(office.reactor.stats().panics, 1);
    drop(_anna);
    office.until("it closes", |heard| heard.contains(&Heard::Close(anna, CloseReason::Panicked)));
}

#[test]
fn a_panic_that_goes_through_leaves_the_other_messages_for_the_next_turn() {
    for which in 0..3 {
        let mut clerk = Clerk::new();
        let panicking = |number| assert_ne!(number, 2, "a panic that is meant");
        clerk.own = Box::new(move |number, _| panicking(number));
        clerk.undelivered = Box::new(move |number, _| panicking(number));
        clerk.message = Box::new(move |number, _| panicking(number));
        let mut office = Office::new(clerk, 8);
        let (_client, key) = office.open();
        office.reactor.let_panics_through(which == 2);
        office.take();
        for number in 1..=4 {
            match which {
                0 => office.sender.post(number),
                1 => office.sender.post_to(Key::from_bits(1), number),
                _ => office.sender.post_to(key, number),
            }
            .unwrap();
        }
        catch_unwind(AssertUnwindSafe(|| office.turn())).unwrap_err();
        assert_eq!(office.take().len(), 2);
        assert_eq!(office.reactor.next_wait(), Some(Duration::ZERO), "the rest waits");
        office.turn();
        let left: Vec<_> = office
            .take()
            .into_iter()
            .filter_map(|heard| match heard {
                Heard::Own(number) | Heard::Undelivered(_, number) => Some(number),
                _ => None,
            })
            .collect();
        assert_eq!(left, [3, 4], "case {which}");
    }
}

#[test]
fn a_handler_gets_messages_of_several_types() {
    struct Both(Vec<String>);
    impl StreamHandler for Both {
        type Session = ();
        fn on_open(&mut self, _: &mut Connection<'_>) {}
        fn on_data(
            &mut self,
            _: &mut (),
            _: &mut Connection<'_>,
            data: &[u8],
        ) -> Result<usize, Error> {
            Ok(data.len())
        }
    }
    impl MessageHandler<&'static str> for Both {
        fn on_handler_message(&mut self, message: &'static str, _: &mut Context<'_>) {
            self.0.push(message.to_owned());
        }
    }
    // Within one thread a message may be anything.
    impl MessageHandler<Rc<String>> for Both {
        fn on_handler_message(&mut self, message: Rc<String>, _: &mut Context<'_>) {
            self.0.push(message.to_string());
        }
    }
    let mut reactor = Reactor::new().unwrap();
    let both = reactor.add(Both(Vec::new()));
    let (words, inbox) = mailbox(2);
    reactor.attach(both, inbox).unwrap();
    let (shared, inbox) = mailbox(2);
    reactor.attach(both, inbox).unwrap();
    shared.post(Rc::new("shared".to_owned())).unwrap();
    words.post("word").unwrap();
    reactor.turn(None).unwrap();
    assert_eq!(reactor.handler(both).0, ["word", "shared"]);
}

#[test]
fn a_handle_stops_the_reactor_also_before_it_runs() {
    let _watchdog = Watchdog::new("run returns");
    let mut office = Office::new(Clerk::new(), 1);
    let handle = office.reactor.handle().unwrap();
    let (_client, key) = office.open();
    handle.stop().unwrap();
    handle.clone().stop().unwrap();
    office.reactor.run().unwrap();
    assert!(office.take().contains(&Heard::Close(key, CloseReason::Stopped)));
    assert!(!handle.has_ended());
    assert_ne!(office.reactor.next_wait(), Some(Duration::ZERO), "a stop is one stop");
    // Who stops it otherwise has done what was asked for.
    handle.stop().unwrap();
    office.reactor.stop();
    let mut turns_left = 3;
    let is_done = |_: &mut Reactor| {
        turns_left -= 1;
        turns_left == 0
    };
    for millis in 0..3 {
        office.reactor.context(office.handler).set_handler_timer(Duration::from_millis(millis));
    }
    office.reactor.run_until(is_done).unwrap();
    assert_eq!(turns_left, 0);
}

#[test]
fn a_handle_drains_the_reactor_within_the_shortest_time_that_was_asked_for() {
    let _watchdog = Watchdog::new("run returns");
    let mut office = Office::new(Clerk::new(), 1);
    let handle = office.reactor.handle().unwrap();
    let (client, key) = office.open();
    // The client stays, and its connection lingers until the time is up.
    handle.drain(Duration::MAX).unwrap();
    handle.drain(Duration::from_millis(20)).unwrap();
    let report = office.reactor.run().unwrap();
    assert_eq!(report.end, Ended::TimedOut);
    assert!(report.duration >= Duration::from_millis(20), "{report}");
    assert!(office.take().contains(&Heard::Close(key, CloseReason::Closed)));
    drop(client);
    assert_ne!(office.reactor.next_wait(), Some(Duration::ZERO), "a drain is one drain");
}

#[test]
fn a_handle_does_not_wait_for_ever() {
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle().unwrap();
    // Nobody turns it.
    let error = handle.stats(Duration::from_millis(1)).unwrap_err();
    assert_eq!(
        (error, error.to_string()),
        (HandleError::TimedOut, "the reactor does not answer".into())
    );
    drop(reactor);
    assert!(handle.has_ended());
    let error = handle.stats(DEADLINE).unwrap_err();
    assert_eq!((error, error.to_string()), (HandleError::Ended, "the reactor has ended".into()));
}

// From here on with threads.

fn is_send_and_sync<T: Send + Sync>() {}

#[test]
fn senders_and_handles_go_to_other_threads() {
    is_send_and_sync::<Sender<u64>>();
    is_send_and_sync::<oneloop::Handle>();
    is_send_and_sync::<oneloop::Blocking<u64>>();
    is_send_and_sync::<oneloop::Inbox<u64>>();
}

#[test]
fn a_reactor_that_sleeps_is_woken_by_a_post_and_by_a_handle() {
    if !needs_kernel("threads") {
        return;
    }
    let _watchdog = Watchdog::new("the posts have arrived");
    let mut office = Office::new(Clerk::new(), 1);
    let handle = office.reactor.handle().unwrap();
    let sender = office.sender.clone();
    let heard = Rc::clone(&office.heard);
    let barrier = Arc::new(Barrier::new(2));
    let with = Arc::clone(&barrier);
    let thread = thread::spawn(move || {
        with.wait();
        sender.post(1).unwrap();
        let turns = handle.stats(DEADLINE).unwrap().turns;
        handle.stop().unwrap();
        turns
    });
    barrier.wait();
    office.reactor.run_until(|_| heard.borrow().len() == 1).unwrap();
    office.reactor.run().unwrap();
    assert!(thread.join().unwrap() > 0);
}

#[test]
fn who_waits_for_statistics_hears_of_the_end() {
    if !needs_kernel("threads") {
        return;
    }
    let _watchdog = Watchdog::new("the thread has its answer");
    let mut reactor = Reactor::new().unwrap();
    let handle = reactor.handle().unwrap();
    let barrier = Arc::new(Barrier::new(2));
    let with = Arc::clone(&barrier);
    let thread = thread::spawn(move || {
        with.wait();
        handle.stats(Duration::MAX)
    });
    barrier.wait();
    drop(reactor);
    assert_eq!(thread.join().unwrap().unwrap_err(), HandleError::Ended);
}

/// Four threads post as fast as they can while the loop serves a client: nothing is lost, doubled or
/// out of order, whether the loop sleeps or not.
#[test]
fn four_threads_post_under_load() {
    if !needs_kernel("threads") {
        return;
    }
    const SENDERS: u64 = 4;
    const POSTS: u64 = 50_000;
    let _watchdog = Watchdog::new("all posts have arrived");
    for capacity in [1, 7, 1024] {
        let posts = if capacity == 1 { POSTS / 10 } else { POSTS };
        let mut clerk = Clerk::new();
        let counts = Rc::new(RefCell::new([0; SENDERS as usize]));
        let counting = Rc::clone(&counts);
        clerk.own = Box::new(move |message, _| {
            let (sender, number) = (message >> 32, message & 0xffff_ffff);
            let mut counts = counting.borrow_mut();
            assert_eq!(counts[sender as usize], number, "of sender {sender}");
            counts[sender as usize] += 1;
        });
        let mut office = Office::new(clerk, capacity);
        let threads: Vec<_> = (0..SENDERS)
            .map(|id| {
                let sender = office.sender.clone();
                thread::spawn(move || {
                    for number in 0..posts {
                        while let Err(error) = sender.post(id << 32 | number) {
                            assert!(error.is_full());
                            thread::yield_now();
                        }
                        if number % 1000 == 0 {
                            thread::park_timeout(Duration::from_micros(50)); // lets the loop sleep
                        }
                    }
                })
            })
            .collect();
        let done = Rc::clone(&counts);
        office.reactor.run_until(|_| done.borrow().iter().all(|count| *count == posts)).unwrap();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(office.reactor.stats().messages, SENDERS * posts);
        office.reactor.verify();
    }
}

/// Threads post until they are told of the end: what was taken is delivered or dropped, and counted.
#[test]
fn every_message_of_a_reactor_that_stops_is_accounted_for() {
    if !needs_kernel("threads") {
        return;
    }
    let _watchdog = Watchdog::new("the threads have heard of the end");
    for round in 0..50 {
        let mut office = Office::new(Clerk::new(), 64);
        let alive = Arc::new(AtomicUsize::new(0));
        let (sender, inbox) = mailbox(64);
        office.reactor.attach(office.handler, inbox).unwrap();
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (sender, alive) = (sender.clone(), Arc::clone(&alive));
                thread::spawn(move || {
                    let mut taken = 0;
                    loop {
                        match sender.post(Counted::new(&alive)) {
                            Ok(()) => taken += 1,
                            Err(PostError::Full(_)) => thread::yield_now(),
                            Err(_) => return taken,
                        }
                    }
                })
            })
            .collect();
        office.reactor.run_until(|reactor| reactor.stats().messages > 20 * round).unwrap();
        office.reactor.stop();
        let taken: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        let stats = office.reactor.stats();
        assert_eq!(stats.messages + stats.messages_undelivered, taken, "round {round}");
        assert_eq!(alive.load(Ordering::SeqCst), 0, "round {round}");
    }
}
