//! Mail from other threads, other handlers and tests: whom it reaches, in which order, and how much in a turn.

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::support::office::*;
use crate::support::*;
use oneloop::{
    Connection, Context, Error, Key, MessageHandler, PostError, Sender, StreamHandler, mailbox,
};

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
        *noting.borrow_mut() = Some(cx.connect(SocketAddr::from(([127, 0, 0, 1], 1)), 0));
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
    client.write_all(b"request").unwrap();
    office.until("it is shown", |heard| matches!(heard.last(), Some(Heard::Data(..))));
    office.take();
    office.sender.post_to(key, 1).unwrap();
    office.turn();
    assert_eq!(office.take(), [Heard::Message(key, 1), Heard::Data(key, b"request".to_vec())]);
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
