//! A wheel beside a sorted map, and by itself.

use std::collections::BTreeMap;

use super::*;
use crate::random::random;

struct List(Vec<Node>);

impl Nodes for List {
    fn node(&mut self, index: u32) -> &mut Node {
        &mut self.0[index as usize]
    }
}

fn list(count: usize) -> List {
    List((0..count).map(|_| Node::new()).collect())
}

fn taken(wheel: &mut Wheel, list: &mut List, now: u64, max: usize) -> Vec<u32> {
    let mut due = Vec::new();
    wheel.take_due(list, Time::from_nanos(now), max, |_, index, _| {
        due.push(index);
        Time::NEVER
    });
    due
}

/// Random settings, cancellations and steps of time, of every magnitude, against a sorted map; every
/// other time with lists that are moved in parts.
#[test]
fn a_wheel_does_what_a_sorted_map_does() {
    for seed in 0..400 {
        let mut state = seed;
        let mut wheel = Wheel::new();
        let moves_few = seed % 2 == 1;
        if moves_few {
            wheel.moves_max = 1 + (seed / 2 % 5) as usize;
        }
        let mut list = list(64);
        let mut model = BTreeMap::new(); // (moment, order of setting) to node
        let mut place = [None; 64];
        let (mut now, mut order) = (0_u64, 0);
        for _ in 0..2_000 {
            let index = (random(&mut state) % 64) as u32;
            let magnitude = random(&mut state) % 64;
            let span = random(&mut state) >> magnitude;
            match random(&mut state) % 8 {
                0..4 => {
                    wheel.remove(&mut list, index);
                    if let Some(entry) = place[index as usize].take() {
                        model.remove(&entry);
                    }
                    let at = now.saturating_add(span).min(u64::MAX - 1);
                    wheel.insert(&mut list, index, Time::from_nanos(at));
                    model.insert((at, order), index);
                    place[index as usize] = Some((at, order));
                    order += 1;
                }
                4 => {
                    wheel.remove(&mut list, index);
                    if let Some(entry) = place[index as usize].take() {
                        model.remove(&entry);
                    }
                }
                5 => {
                    let earliest = model.keys().next().map(|(at, _)| *at);
                    let next = wheel.next().map(Time::as_nanos);
                    assert!(next <= earliest || earliest.is_none(), "seed {seed}");
                    assert_eq!(next.is_none(), earliest.is_none(), "seed {seed}");
                }
                _ => {
                    now = now.saturating_add(span >> 8).min(u64::MAX - 1);
                    let max = (random(&mut state) % 20) as usize;
                    let due: Vec<_> = model.range(..=(now, u64::MAX)).take(max).collect();
                    let due: Vec<_> = due.iter().map(|(_, index)| **index).collect();
                    let taken = taken(&mut wheel, &mut list, now, max);
                    if moves_few && taken.len() < due.len() {
                        let next = wheel.next().expect("there are more");
                        assert!(next.as_nanos() <= now, "seed {seed}: it goes on");
                        assert_eq!(taken, due[..taken.len()], "seed {seed}");
                    } else {
                        assert_eq!(taken, due, "seed {seed}");
                    }
                    for index in taken {
                        model.remove(&place[index as usize].take().unwrap());
                    }
                }
            }
        }
    }
}

#[test]
fn a_wheel_without_cancellations_tells_the_next_moment_exactly() {
    let mut wheel = Wheel::new();
    let mut list = list(3);
    for (index, at) in [1 << 40, (1 << 40) + 5, 1 << 62].into_iter().enumerate() {
        wheel.insert(&mut list, index as u32, Time::from_nanos(at));
    }
    for expected in [(0, 1 << 40), (1, (1 << 40) + 5), (2, 1 << 62)] {
        let next = wheel.next().unwrap().as_nanos();
        assert_eq!(next, expected.1);
        assert_eq!(taken(&mut wheel, &mut list, next - 1, 9), [], "nothing fires early");
        assert_eq!(taken(&mut wheel, &mut list, next, 9), [expected.0]);
    }
    assert_eq!(wheel.next(), None);
}

#[test]
fn what_is_put_in_again_comes_when_it_is_due_again() {
    let mut wheel = Wheel::new();
    let mut list = list(2);
    wheel.insert(&mut list, 0, Time::from_nanos(10));
    wheel.insert(&mut list, 1, Time::from_nanos(10));
    wheel.take_due(&mut list, Time::from_nanos(20), 9, |_, index, _| {
        if index == 0 { Time::from_nanos(21) } else { Time::from_nanos(1 << 30) }
    });
    assert_eq!(wheel.next(), Some(Time::from_nanos(21)));
    assert_eq!(taken(&mut wheel, &mut list, 21, 9), [0]);
    assert_eq!(wheel.next(), Some(Time::from_nanos(1 << 30)));
}

#[test]
fn the_last_moment_is_a_moment_and_never_is_none() {
    let mut wheel = Wheel::new();
    let mut list = list(2);
    wheel.insert(&mut list, 0, Time::from_nanos(u64::MAX - 1));
    wheel.insert(&mut list, 1, Time::NEVER);
    assert_eq!(taken(&mut wheel, &mut list, u64::MAX - 2, 9), []);
    assert_eq!(taken(&mut wheel, &mut list, u64::MAX - 1, 9), [0]);
    assert_eq!(taken(&mut wheel, &mut list, u64::MAX, 9), []);
    assert!(!list.0[1].is_linked());
}

#[test]
fn a_list_that_is_moved_in_parts_takes_in_what_is_set_meanwhile_and_lets_go_of_what_is_cancelled() {
    let mut wheel = Wheel::new();
    wheel.moves_max = 10;
    let mut list = list(103);
    let at = |nanos: u64| Time::from_nanos((1 << 40) + nanos);
    for index in 0..100 {
        wheel.insert(&mut list, index, at(5));
    }
    assert_eq!(taken(&mut wheel, &mut list, at(4).as_nanos(), 99), [], "nothing fires early");
    assert_eq!(wheel.next(), Some(at(5)), "and nothing is moved before it has to be");
    for calls in 1..=4 {
        assert_eq!(taken(&mut wheel, &mut list, at(5).as_nanos(), 99), [], "call {calls}");
    }
    wheel.insert(&mut list, 100, at(5)); // behind its equals, moved or not
    wheel.insert(&mut list, 101, at(4)); // before all of them
    wheel.insert(&mut list, 102, at(1 << 41)); // no business of this slot
    assert_eq!(wheel.next(), Some(at(4)));
    let cancelled = [0, wheel.moving.first, 60, 99]; // moved, the next one, and others
    for index in cancelled {
        wheel.remove(&mut list, index);
    }
    let mut all = Vec::new();
    let mut calls = 4;
    while wheel.next().is_some_and(|next| next <= at(5)) {
        all.extend(taken(&mut wheel, &mut list, at(5).as_nanos(), 99));
        calls += 1;
        assert!(calls < 100, "it comes to an end");
    }
    let rest = (0..=100).filter(|index| !cancelled.contains(index));
    let expected = [101].into_iter().chain(rest);
    assert_eq!(all, expected.collect::<Vec<_>>());
    assert!(calls >= 10, "ten at a time: {calls} calls");
    assert_eq!(taken(&mut wheel, &mut list, at(1 << 41).as_nanos(), 9), [102]);
}

#[test]
fn a_list_that_is_moved_in_parts_can_be_cancelled_as_a_whole() {
    let mut wheel = Wheel::new();
    wheel.moves_max = 3;
    let mut list = list(10);
    for index in 0..10 {
        wheel.insert(&mut list, index, Time::from_nanos(1 << 30));
    }
    assert_eq!(taken(&mut wheel, &mut list, 1 << 30, 9), []);
    for index in (0..10).rev() {
        wheel.remove(&mut list, index);
    }
    assert_eq!(wheel.next(), None);
    wheel.insert(&mut list, 7, Time::from_nanos((1 << 30) + 1));
    assert_eq!(taken(&mut wheel, &mut list, 1 << 31, 9), [7]);
}
