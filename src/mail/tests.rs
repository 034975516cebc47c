//! The queue and the bell by one thread; by several: `tests/model`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bell::Bell;
use super::postbox::Postbox;
use super::queue::Queue;
use super::{blocking, mailbox};
use crate::connection::Connection;
use crate::driver::Wake;
use crate::error::Error;
use crate::handler::{MessageHandler, StreamHandler};
use crate::reactor::Reactor;

#[test]
fn values_come_out_in_order_round_after_round() {
    for capacity in 1..4 {
        let queue = Queue::new(capacity);
        let mut head = 0;
        for round in 0..5_u64 {
            for number in 0..capacity as u64 {
                assert_eq!(queue.pop(head), None);
                queue.push((round, number)).unwrap();
                assert_eq!(queue.end(), head + 1);
                assert_eq!(queue.pop(head), Some((round, number)));
                head += 1;
            }
        }
    }
}

#[test]
fn a_full_queue_gives_the_value_back() {
    let queue = Queue::new(2);
    assert_eq!(queue.push('a'), Ok(0));
    assert_eq!(queue.push('b'), Ok(1));
    assert_eq!(queue.push('c'), Err('c'));
    assert_eq!(queue.pop(0), Some('a'));
    assert_eq!(queue.push('c'), Ok(2));
    assert_eq!(queue.push('d'), Err('d'));
    assert_eq!((queue.pop(1), queue.pop(2), queue.pop(3)), (Some('b'), Some('c'), None));
}

#[test]
fn only_what_is_still_there_is_taken_back() {
    let queue = Queue::new(1);
    queue.push('a').unwrap();
    assert_eq!(queue.pop(0), Some('a'));
    queue.push('b').unwrap();
    assert_eq!(queue.take_back(0), None, "it is another one's by now");
    assert_eq!(queue.take_back(1), Some('b'));
    assert_eq!(queue.take_back(1), None);
}

#[derive(Default)]
struct Writes(AtomicUsize);

impl Wake for Writes {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn posts_to_a_loop_that_sleeps_are_one_write_and_to_one_that_is_awake_none() {
    let writes = Arc::new(Writes::default());
    let waker: Arc<dyn Wake> = Arc::<Writes>::clone(&writes);
    let bell = Arc::new(Bell::new(waker));
    let (postbox, mut reader) = Postbox::new(100);
    reader.attach(Arc::clone(&bell));
    let mut expected = 0;
    for _ in 0..3 {
        let post_some = || (0..10).for_each(|number| postbox.post(number).unwrap());
        let mut read_all = || {
            assert!(bell.answer() && !bell.answer());
            reader.begin();
            std::iter::from_fn(|| reader.next()).count()
        };
        // Before it has looked at its mail, and so will not sleep.
        post_some();
        assert!(!bell.fall_asleep());
        bell.wake_up();
        post_some();
        assert_eq!(read_all(), 20);
        // While callbacks run.
        post_some();
        assert_eq!(read_all(), 10);
        assert_eq!(writes.0.load(Ordering::SeqCst), expected);
        // While it sleeps, and before it has got up.
        assert!(bell.fall_asleep() && bell.fall_asleep());
        post_some();
        post_some();
        expected += 1;
        assert_eq!(writes.0.load(Ordering::SeqCst), expected);
        bell.wake_up();
        post_some();
        assert_eq!(read_all(), 30);
        // After it has got up for another reason.
        assert!(bell.fall_asleep());
        bell.wake_up();
        post_some();
        assert_eq!(read_all(), 10);
        assert_eq!(writes.0.load(Ordering::SeqCst), expected);
    }
}

struct Nobody;

impl StreamHandler for Nobody {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, _: &[u8]) -> Result<usize, Error> {
        Ok(0)
    }
}

impl MessageHandler<u32> for Nobody {}

#[test]
fn inboxes_that_nobody_can_post_to_are_forgotten() {
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Nobody);
    let ((sender, inbox), (blocking, results)) = (mailbox(1), blocking(1, 1));
    reactor.attach(handler, inbox).unwrap();
    reactor.attach(handler, results).unwrap();
    sender.post(1).unwrap();
    reactor.turn(None).unwrap();
    assert_eq!(reactor.mailroom.inboxes(), 2);
    sender.post(1).unwrap();
    drop(sender);
    reactor.turn(None).unwrap();
    assert_eq!(reactor.mailroom.inboxes(), 1);
    assert_eq!(reactor.next_wait(), None);
    blocking.run(|| 1).unwrap();
    drop(blocking);
    while reactor.mailroom.inboxes() > 0 {
        reactor.turn(None).unwrap();
    }
    assert_eq!(reactor.stats().messages, 3);
}

#[test]
fn the_last_who_could_post_has_the_inbox_forgotten_without_other_mail() {
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Nobody);
    let ((sender, inbox), (blocking, results)) = (mailbox::<u32>(1), blocking::<u32>(1, 1));
    reactor.attach(handler, inbox).unwrap();
    reactor.attach(handler, results).unwrap();
    let (other_sender, other_blocking) = (sender.clone(), blocking.clone());
    reactor.turn(None).unwrap();
    drop((sender, blocking));
    assert_eq!(reactor.next_wait(), None, "there are others");
    drop(other_sender);
    reactor.turn(None).unwrap();
    assert_eq!(reactor.mailroom.inboxes(), 1);
    assert_eq!(reactor.next_wait(), None);
    drop(other_blocking);
    reactor.turn(None).unwrap();
    assert_eq!(reactor.mailroom.inboxes(), 0);
}
