//! A handler by hand, and inputs in all ways to cut them.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use oneloop::sim::{Harness, all_splits};
use oneloop::{CloseReason, Connection, Error, Limits, StreamHandler};

use super::{Echo, Flood, SECOND};

#[test]
fn each_feed_is_shown_by_itself() {
    let mut harness = Harness::new(Echo::default());
    harness.feed("hel");
    harness.feed("");
    harness.feed("lo");
    assert_eq!(harness.handler().pieces, [b"hel".to_vec(), b"lo".to_vec()]);
    assert_eq!(harness.output(), b"hello");
    assert_eq!(harness.output(), b"");
    assert!(!harness.is_over());
    assert_eq!(harness.closed(), None);
}

#[test]
fn a_handler_that_pauses_is_fed_when_it_reads_again() {
    let mut harness = Harness::new(Echo { is_paused: true, ..Echo::default() });
    harness.feed("one");
    harness.feed("two");
    assert_eq!(harness.output(), b"one");
    harness.advance(SECOND - Duration::from_millis(1));
    assert_eq!(harness.output(), b"");
    harness.advance(Duration::from_millis(2));
    assert_eq!(harness.output(), b"two");
}

#[test]
#[should_panic(expected = "the handler does not read")]
fn a_handler_that_never_reads_cannot_be_fed_for_ever() {
    let mut harness = Harness::new(Echo { is_paused: true, ..Echo::default() });
    for _ in 0..100 {
        harness.feed([0; 10_000]);
    }
}

#[test]
fn an_end_comes_after_the_bytes_before_it() {
    let mut harness = Harness::new(Echo::default());
    harness.feed("hello");
    harness.end();
    assert_eq!((harness.output(), harness.is_over()), (b"hello".to_vec(), true));
    assert_eq!(harness.closed(), Some(CloseReason::PeerClosed));
    assert!(!harness.try_feed("nobody is there"));
    harness.end();
    harness.reset();
    assert_eq!(harness.handler().closed, [CloseReason::PeerClosed]);
}

#[test]
fn a_reset_closes_at_once() {
    let mut harness = Harness::new(Echo::default());
    harness.feed("hello");
    harness.reset();
    assert_eq!(harness.closed(), Some(CloseReason::Reset));
    assert_eq!(harness.output(), b"");
    assert_eq!(harness.handler().closed, [CloseReason::Reset]);
}

#[test]
fn a_harness_takes_all_limits() {
    let limits = Limits::new().output_bytes_low(10).output_bytes_high(20).output_bytes_max(1000);
    let mut harness = Harness::with_limits(Flood(900_000), limits);
    harness.output();
    assert!(harness.is_over());
    assert_eq!(harness.closed(), Some(CloseReason::SlowReader));
}

#[test]
#[should_panic(expected = "output_bytes_low")]
fn a_harness_does_not_take_limits_that_make_no_sense() {
    Harness::with_limits(Echo::default(), Limits::new().output_bytes_low(20).output_bytes_high(10));
}

#[test]
fn an_output_larger_than_the_kernels_buffers_comes_whole() {
    let mut harness = Harness::new(Flood(900_000));
    assert_eq!(harness.output(), vec![7; 900_000]);
}

/// Says goodbye to whoever says anything.
#[derive(Default)]
struct Goodbye {
    shown: usize,
}

impl StreamHandler for Goodbye {
    type Session = ();

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(
        &mut self,
        _: &mut (),
        conn: &mut Connection<'_>,
        data: &[u8],
    ) -> Result<usize, Error> {
        self.shown += data.len();
        conn.send(b"bye").ignore();
        conn.close();
        Ok(data.len())
    }
}

#[test]
fn what_a_handler_that_has_closed_is_not_shown_is_told() {
    let mut harness = Harness::new(Goodbye::default());
    assert!(harness.try_feed("hello"));
    assert!(!harness.try_feed("you"));
    assert_eq!((harness.output(), harness.handler().shown), (b"bye".to_vec(), 5));
    assert!(!harness.try_feed("there"));
}

#[test]
#[should_panic(expected = "the handler is not shown this, it has closed")]
fn feeding_a_handler_that_has_closed_fails_the_test() {
    let mut harness = Harness::new(Goodbye::default());
    harness.feed("hello");
    harness.feed("you");
}

#[test]
#[should_panic(expected = "nothing can be fed after `end` or `reset`")]
fn feeding_after_the_end_fails_the_test() {
    let mut harness = Harness::new(Echo::default());
    harness.end();
    harness.feed("hello");
}

#[test]
fn a_harness_shows_what_happened_and_what_was_counted() {
    let mut harness = Harness::new(Echo::default());
    harness.feed("hello");
    assert_eq!(harness.stats().bytes_in, 5);
    let reads =
        harness.trace().into_iter().filter(|entry| entry.what == "read" && entry.value == 5);
    assert_eq!(reads.count(), 1);
}

#[test]
fn a_short_input_is_split_in_all_ways() {
    for (length, ways) in [(0, 1), (1, 1), (2, 2), (5, 16), (12, 2048)] {
        let input: Vec<u8> = (0..length).collect();
        let seen = RefCell::new(HashSet::new());
        all_splits(&input, Echo::default, |harness| {
            assert_eq!(harness.output(), input);
            assert!(seen.borrow_mut().insert(harness.handler().pieces.clone()), "twice the same");
        });
        assert_eq!(seen.into_inner().len(), ways, "{length} bytes");
    }
}

#[test]
fn a_long_input_is_split_at_one_and_two_places_between_all_bytes_and_in_some_other_ways() {
    for length in [13, 50] {
        let input: Vec<u8> = (0..length).collect();
        let seen = RefCell::new(HashSet::new());
        all_splits(&input, Echo::default, |harness| {
            assert!(seen.borrow_mut().insert(harness.handler().pieces.clone()), "twice the same");
        });
        let seen = seen.into_inner();
        let of = |parts: usize| seen.iter().filter(|pieces| pieces.len() == parts).count();
        let places = usize::from(length) - 1;
        assert_eq!([of(1), of(2), of(3)], [1, places, places * (places - 1) / 2]);
        assert_eq!(of(usize::from(length)), 1, "byte by byte");
        assert!(seen.len() - of(1) - of(2) - of(3) > 20, "many parts");
    }
}

#[test]
fn however_long_an_input_is_it_is_split_in_about_as_many_ways() {
    for (length, ways) in [(100, 4096), (1000, 4096), (10_000, 512)] {
        let runs = Cell::new(0);
        all_splits(&vec![7; length], Echo::default, |harness| {
            runs.set(runs.get() + 1);
            assert_eq!(harness.handler().pieces.concat().len(), length);
        });
        let of = runs.get() * 100 / ways;
        assert!((90..=101).contains(&of), "{length} bytes: {}", runs.get());
    }
}
