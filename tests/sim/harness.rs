//! A handler by hand, and inputs in all ways to cut them.

use std::cell::RefCell;
use std::collections::HashSet;
use std::time::Duration;

use oneloop::sim::{Harness, all_splits};
use oneloop::{CloseReason, Limits};

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
    harness.feed("nobody is there");
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

#[test]
fn a_short_input_is_split_in_all_ways_and_a_long_one_in_up_to_three_parts() {
    for (length, ways) in [(0, 1), (1, 1), (2, 2), (5, 16), (12, 2048), (13, 1 + 12 + 66)] {
        let input: Vec<u8> = (0..length).collect();
        let seen = RefCell::new(HashSet::new());
        all_splits(&input, Echo::default, |harness| {
            assert_eq!(harness.output(), input);
            assert!(seen.borrow_mut().insert(harness.handler().pieces.clone()), "twice the same");
        });
        assert_eq!(seen.into_inner().len(), ways, "{length} bytes");
    }
}
