//! How a mailbox ends, is full or forgotten, and what is lost to a panic: nothing but its own message.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::office::*;
use crate::support::*;
use oneloop::{CloseReason, Ended, HandleError, Key, MessageHandler, PostError, Sender, mailbox};

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

/// Panics when it is dropped.
struct Bad(#[allow(dead_code, reason = "held")] Counted);

impl Drop for Bad {
    fn drop(&mut self) {
        panic!("as the test wants");
    }
}

impl MessageHandler<Bad> for Clerk {}

/// Two mailboxes with four messages each that panic when they are dropped.
fn with_bad_mail(office: &mut Office) -> (Arc<AtomicUsize>, Vec<Sender<Bad>>) {
    let alive = Arc::new(AtomicUsize::new(0));
    let senders = (0..2).map(|_| {
        let (sender, inbox) = mailbox(4);
        office.reactor.attach(office.handler, inbox).unwrap();
        for _ in 0..4 {
            sender.post(Bad(Counted::new(&alive))).expect("there is room");
        }
        sender
    });
    let senders = senders.collect();
    (alive, senders)
}

#[test]
fn messages_that_panic_when_a_stop_drops_them_cost_no_other_call_or_message_nor_the_report() {
    let _watchdog = Watchdog::new("run returns");
    for drains in [false, true] {
        let mut office = Office::new(Clerk::new(), 4);
        let (_client, key) = office.open();
        office.take();
        let (alive, senders) = with_bad_mail(&mut office);
        office.sender.post(1).unwrap();
        if drains {
            office.reactor.drain(Duration::MAX);
        }
        let panic = catch_unwind(AssertUnwindSafe(|| office.reactor.stop())).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"as the test wants"));
        // It went through when all was over.
        assert_eq!(office.take(), [Heard::Close(key, CloseReason::Stopped)]);
        assert_eq!(alive.load(Ordering::SeqCst), 0);
        assert!(senders.iter().all(Sender::has_ended) && office.sender.has_ended());
        // Whoever goes on gets the whole report.
        let report = office.reactor.run().unwrap();
        assert_eq!(report.end, Ended::Stopped);
        assert_eq!((report.connections_cut, report.messages_undelivered), (1, 9));
        assert_eq!(office.reactor.stats().messages_undelivered, 9);
        assert!(!office.reactor.is_draining());
        assert_eq!(office.reactor.next_wait(), None);
    }
}

#[test]
fn messages_that_panic_when_their_reactor_or_inbox_is_dropped_are_all_dropped() {
    let mut office = Office::new(Clerk::new(), 4);
    let (alive, senders) = with_bad_mail(&mut office);
    let reactor = office.reactor;
    catch_unwind(AssertUnwindSafe(|| drop(reactor))).unwrap_err();
    assert_eq!(alive.load(Ordering::SeqCst), 0);
    assert!(senders.iter().all(Sender::has_ended));
    let (sender, inbox) = mailbox(2);
    for _ in 0..2 {
        sender.post(Bad(Counted::new(&alive))).expect("there is room");
    }
    catch_unwind(AssertUnwindSafe(|| drop(inbox))).unwrap_err();
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

#[test]
fn a_stop_that_a_panic_of_on_close_interrupts_reports_on_all_of_it() {
    let mut clerk = Clerk::new();
    let mut closes = 0;
    clerk.close = Box::new(move || {
        closes += 1;
        assert_ne!(closes, 2, "as the test wants");
    });
    let mut office = Office::new(clerk, 4);
    let _clients: Vec<_> = (0..3).map(|_| office.open()).collect();
    office.sender.post(1).unwrap();
    catch_unwind(AssertUnwindSafe(|| office.reactor.stop())).unwrap_err();
    assert!(office.reactor.report().is_none());
    office.reactor.stop();
    let report = office.reactor.report().unwrap();
    assert_eq!((report.connections_cut, report.messages_undelivered), (3, 1));
}
