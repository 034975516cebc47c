//! Frames of random bytes, cut at random. The cases are the same in every run; `PROPTEST_CASES=1000000` tries more.

#[path = "properties/codec.rs"]
mod properties;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// For the settings of a codec; what is left over are cuts, and input.
const SETTINGS: usize = 6;

/// Bytes that mean something are worth more than others.
fn byte(special: &'static [u8]) -> impl Strategy<Value = u8> {
    prop_oneof![2 => prop::sample::select(special), 1 => any::<u8>()]
}

fn check(special: &'static [u8], holds: fn(&[u8])) {
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let case = (vec(byte(special), SETTINGS), vec(0u8..20, 1..8), vec(byte(special), 0..200));
    let result = runner.run(&case, |(settings, cuts, input)| {
        holds(&[settings, cuts, input].concat());
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn random_lines_keep_what_all_frames_promise() {
    check(b"ab\r\n", properties::lines);
}

#[test]
fn random_delimited_frames_keep_what_all_frames_promise() {
    check(b"-a", properties::delimited);
}

#[test]
fn random_frames_of_one_size_keep_what_all_frames_promise() {
    check(b"ab", properties::fixed);
}

#[test]
fn random_frames_with_their_length_keep_what_all_frames_promise() {
    check(&[0, 1, 2, 5, 0x80, 0xff], properties::length_prefixed);
}

#[test]
fn random_frames_with_a_varint_keep_what_all_frames_promise() {
    check(&[0, 1, 5, 0x7f, 0x80, 0xff], properties::varint_prefixed);
}
