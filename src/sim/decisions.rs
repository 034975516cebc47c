//! All chance of a simulation comes from here: one stream of decisions, each known by its number.

use std::ops::Range;

/// The value of decision number `index` under `seed`: SplitMix64, entered at any place.
fn value(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A stream of decisions. Each depends on the seed and on its own number only, and 0 is always the
/// harmless answer: so a decision can be taken out of a run, by zeroing it, without another value for
/// any that comes after it.
#[derive(Debug)]
pub(crate) struct Decisions {
    seed: u64,
    taken: u64,
    zeroed: Vec<Range<u64>>,
}

impl Decisions {
    pub(crate) fn new(seed: u64, zeroed: Vec<Range<u64>>) -> Decisions {
        Decisions { seed, taken: 0, zeroed }
    }

    /// How many were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    fn next(&mut self) -> u64 {
        let index = self.taken;
        self.taken += 1;
        let is_zeroed = self.zeroed.iter().any(|range| range.contains(&index));
        if is_zeroed { 0 } else { value(self.seed, index) }
    }

    /// Whether something of this probability happens. What cannot happen takes no decision.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        // Certain things are decided too, so that they can be zeroed.
        probability > 0.0 && self.next() as f64 >= (1.0 - probability) * u64::MAX as f64
    }

    /// One of `0..count`. Where there is no choice, no decision is taken.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        if count > 1 { self.next() % count } else { 0 }
    }

    /// A number that does not count as a decision, because no answer is more harmless than another.
    pub(crate) fn number(&self, salt: u64) -> u64 {
        value(!self.seed, salt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zeroed_decision_changes_no_other() {
        let mut all = Decisions::new(7, Vec::new());
        let mut some = Decisions::new(7, vec![3..5, 9..10]);
        for index in 0..20 {
            let (one, other) = (all.next(), some.next());
            let is_zeroed = matches!(index, 3 | 4 | 9);
            assert_eq!(other, if is_zeroed { 0 } else { one });
        }
    }

    #[test]
    fn chances_come_as_often_as_they_should() {
        let mut decisions = Decisions::new(1, Vec::new());
        let hits = (0..100_000).filter(|_| decisions.chance(0.25)).count();
        assert!((24_000..26_000).contains(&hits), "{hits}");
        assert_eq!((0..1000).filter(|_| decisions.chance(1.0)).count(), 1000);
        let taken = decisions.taken();
        assert!(!decisions.chance(0.0));
        assert_eq!((decisions.below(1), decisions.taken()), (0, taken));
    }
}
