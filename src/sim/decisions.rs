//! All chance of a simulation comes from here: decisions, each known by what it is about.

use std::collections::BTreeSet;

use crate::random::random;

/// Writes the matters as a table: the name that is printed, and of what each is decided.
macro_rules! matters {
    ($($(#[$doc:meta])* $matter:ident = $name:literal,)*) => {
        /// What is decided. Most are named as the fault that they are about.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(crate) enum Matter {
            $($(#[$doc])* $matter,)*
        }

        impl Matter {
            const ALL: &[Matter] = &[$(Matter::$matter,)*];

            fn name(self) -> &'static str {
                match self {
                    $(Matter::$matter => $name,)*
                }
            }
        }
    };
}

matters! {
    /// Who goes on instead of this reactor.
    Turn = "turn",

    // Of a host:
    Stall = "stalls",
    ClockJump = "clock_jumps",
    InterruptedPoll = "interrupted_polls",
    TruncatedEvents = "truncated_events",
    ReorderedEvents = "reordered_events",
    SpuriousEvent = "spurious_events",

    // Of a socket:
    SplitEvent = "split_events",
    MissingHint = "missing_hints",
    ShortRead = "short_reads",
    ShortWrite = "short_writes",
    AbortedAccept = "aborted_accepts",
    DescriptorsOut = "descriptors_out",
    MemoryOut = "memory_out",
    FailedRegistration = "failed_registrations",
    SplitDelivery = "split_deliveries",
    LateEnd = "late_ends",
    Reset = "resets",
    DestructiveReset = "destructive_resets",
    RefusedConnect = "refused_connects",
    UnansweredConnect = "unanswered_connects",
    VanishingPeer = "vanishing_peers",

    // How long what a socket sends is under way:
    ConnectLatency = "connect_latency",
    AnswerLatency = "answer_latency",
    Latency = "latency",
    WindowLatency = "window_latency",
    EndLatency = "end_latency",
    ResetLatency = "reset_latency",

    /// How long a blocking job of a host takes.
    JobTime = "job_time",

    /// Of a host.
    BusyConnect = "busy_connects",
    // Of a datagram socket:
    LostDatagram = "lost_datagrams",
    DuplicatedDatagram = "duplicated_datagrams",
    LateDatagram = "late_datagrams",
    FullSend = "full_sends",
    /// Of a host, for each of its jobs that are look-ups.
    FailedLookup = "failed_lookups",
    /// Of a host, for each of its jobs.
    SlowJob = "slow_jobs",
}

/// Names one decision: the so-many-th about this matter, of this socket, host or reactor.
///
/// So whether one thing happens changes the names of nothing but what comes later in the same matter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Decision {
    matter: Matter,
    of: u32,
    number: u32,
}

impl Decision {
    /// The name of the fault that it is about; who goes first, and what a kernel may do at any time, is
    /// none.
    pub(crate) fn fault(self) -> Option<&'static str> {
        match self.matter {
            Matter::Turn | Matter::SplitEvent | Matter::MissingHint => None,
            Matter::ConnectLatency
            | Matter::AnswerLatency
            | Matter::Latency
            | Matter::WindowLatency
            | Matter::EndLatency
            | Matter::ResetLatency => Some("latency_max"),
            matter => Some(matter.name()),
        }
    }

    fn bits(self) -> u64 {
        u64::from(self.number) << 32 ^ u64::from(self.of) << 8 ^ self.matter as u64
    }
}

/// Writes decisions as [`parsed`] reads them: `latency.2.0-7,turn.0.3`, or `none`.
pub(crate) fn listed(decisions: &BTreeSet<Decision>) -> String {
    let mut ranges: Vec<(Decision, u32)> = Vec::new();
    for decision in decisions {
        match ranges.last_mut() {
            Some((first, last)) if Decision { number: *last + 1, ..*first } == *decision => {
                *last += 1;
            }
            _ => ranges.push((*decision, decision.number)),
        }
    }
    if ranges.is_empty() {
        return "none".to_string();
    }
    let texts = ranges.into_iter().map(|(Decision { matter, of, number }, last)| {
        let end = if last > number { format!("-{last}") } else { String::new() };
        format!("{}.{of}.{number}{end}", matter.name())
    });
    texts.collect::<Vec<_>>().join(",")
}

/// A range that is longer was not written by [`listed`]: no run has as many.
const RANGE_MAX: u32 = 10_000_000;

/// What [`listed`] wrote.
pub(crate) fn parsed(text: &str) -> Option<BTreeSet<Decision>> {
    let mut decisions = BTreeSet::new();
    for range in text.split(',').filter(|_| text != "none") {
        let mut words = range.split('.');
        let name = words.next()?;
        let matter = *Matter::ALL.iter().find(|matter| matter.name() == name)?;
        let (of, numbers) = (words.next()?.parse().ok()?, words.next()?);
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last - first > RANGE_MAX {
            return None;
        }
        for number in first..=last {
            decisions.insert(Decision { matter, of, number });
        }
        if words.next().is_some() {
            return None;
        }
    }
    Some(decisions)
}

/// Numbers that follow from a first one.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Numbers {
        Numbers(seed)
    }

    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        random(&mut self.0)
    }

    /// One of `0..count`; 0 where there is no choice.
    pub(crate) fn below(&mut self, count: u64) -> u64 {
        if count > 1 { self.next() % count } else { 0 }
    }

    /// A part of `count`, at least 1. Bugs sit at the edges: in a third of the cases it is a few, in a
    /// third all but a few.
    pub(crate) fn part(&mut self, count: u64) -> u64 {
        match self.below(3) {
            0 => 1 + self.below(count.min(4)),
            1 => count - (1 + self.below(4)).min(count.saturating_sub(1)),
            _ => 1 + self.below(count),
        }
    }
}

/// The decisions of a run. Each depends on the seed and on its own name only, and 0 is always the
/// harmless answer: so one is taken out of a run without another value for any that is left.
#[derive(Debug)]
pub(crate) struct Decisions {
    seed: u64,
    taken: u64,
    /// How many were taken of each object, about each matter.
    counts: Vec<[u32; Matter::ALL.len()]>,
    /// All others are harmless.
    only: Option<BTreeSet<Decision>>,
    /// Those that were not harmless, if somebody wants to know.
    felt: Option<BTreeSet<Decision>>,
}

impl Decisions {
    pub(crate) fn new(seed: u64) -> Decisions {
        // Neighbouring seeds have nothing in common.
        let seed = Numbers(seed).next();
        Decisions { seed, taken: 0, counts: Vec::new(), only: None, felt: None }
    }

    /// The same, in which all others than these are harmless.
    pub(crate) fn only(mut self, decisions: Option<BTreeSet<Decision>>) -> Decisions {
        self.only = decisions;
        self
    }

    /// Notes from now on which decisions are not harmless.
    pub(crate) fn note(&mut self) {
        self.felt = Some(BTreeSet::new());
    }

    /// Those that were not harmless: the same run needs no others.
    pub(crate) fn felt(&mut self) -> BTreeSet<Decision> {
        self.felt.take().unwrap_or_default()
    }

    /// A number that is no decision, because no answer is more harmless than another.
    pub(crate) fn number(&self, salt: u64) -> u64 {
        Numbers(!self.seed ^ salt).next()
    }

    /// How many were taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    #[inline]
    fn next(&mut self, matter: Matter, of: usize) -> (Decision, u64) {
        if of >= self.counts.len() {
            self.counts.resize(of + 1, [0; Matter::ALL.len()]);
        }
        let count = &mut self.counts[of][matter as usize];
        let decision = Decision { matter, of: of as u32, number: *count };
        *count += 1;
        self.taken += 1;
        (decision, self.value(decision))
    }

    #[inline]
    fn value(&self, decision: Decision) -> u64 {
        Numbers(self.seed ^ decision.bits()).next()
    }

    fn is_left_in(&self, decision: Decision) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&decision))
    }

    /// Whether a decision that is not harmless holds.
    fn holds(&mut self, decision: Decision) -> bool {
        let holds = self.is_left_in(decision);
        if holds && let Some(felt) = &mut self.felt {
            felt.insert(decision);
        }
        holds
    }

    /// Whether something of this probability happens, and if so, the numbers that say how. What cannot
    /// happen takes no decision.
    #[inline(always)]
    pub(crate) fn chance(
        &mut self,
        matter: Matter,
        of: usize,
        probability: f64,
    ) -> Option<Numbers> {
        // Most faults are not there: that is no call.
        if probability > 0.0 { self.happens(matter, of, probability) } else { None }
    }

    fn happens(&mut self, matter: Matter, of: usize, probability: f64) -> Option<Numbers> {
        // Certain things are decided too, so that they can be taken out.
        let (decision, value) = self.next(matter, of);
        (is_hit(value, probability) && self.holds(decision)).then_some(Numbers(value))
    }

    /// Whether the next [`chance`](Self::chance) of this kind will come, for who does not know yet whether it is one: this
    /// takes no decision.
    pub(crate) fn would_happen(&self, matter: Matter, of: usize, probability: f64) -> bool {
        let number = self.counts.get(of).map_or(0, |counts| counts[matter as usize]);
        let decision = Decision { matter, of: of as u32, number };
        probability > 0.0 && is_hit(self.value(decision), probability) && self.is_left_in(decision)
    }

    /// One of `0..count`. Where there is no choice, no decision is taken.
    #[inline]
    pub(crate) fn below(&mut self, matter: Matter, of: usize, count: u64) -> u64 {
        if count <= 1 {
            return 0;
        }
        let (decision, value) = self.next(matter, of);
        let answer = value % count;
        if answer != 0 && self.holds(decision) { answer } else { 0 }
    }
}

fn is_hit(value: u64, probability: f64) -> bool {
    value as f64 >= (1.0 - probability) * u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that the authors' own program prints for the seed 1234567.
    #[test]
    fn numbers_are_those_of_splitmix64() {
        let mut numbers = Numbers::new(1_234_567);
        let first = [6457827717110365317, 3203168211198807973, 9817491932198370423];
        assert_eq!(first, [(); 3].map(|()| numbers.next()));
    }

    #[test]
    fn what_is_taken_out_changes_nothing_else() {
        let latencies = |only| {
            let mut decisions = Decisions::new(7).only(only);
            let mut answers = Vec::new();
            for of in [3, 4, 3, 3, 4] {
                answers.push(decisions.below(Matter::Latency, of, 1000));
                if decisions.chance(Matter::ShortRead, of, 0.5).is_some() {
                    decisions.below(Matter::WindowLatency, of, 1000);
                }
            }
            (answers, decisions.taken())
        };
        let of = |of| (0..3).map(move |number| Decision { matter: Matter::Latency, of, number });
        let (all, only) = (latencies(None), latencies(Some(of(3).chain(of(4)).collect())));
        assert_eq!(only.0, all.0);
        assert!(only.1 < all.1, "a window follows from a short read");
    }

    #[test]
    fn a_run_needs_only_the_decisions_that_were_felt() {
        let run = |only| {
            let mut decisions = Decisions::new(7).only(only);
            decisions.note();
            let answers: Vec<bool> =
                (0..100).map(|_| decisions.chance(Matter::Stall, 0, 0.25).is_some()).collect();
            (answers, decisions.felt())
        };
        let (answers, felt) = run(None);
        assert_eq!(felt.len(), answers.iter().filter(|answer| **answer).count());
        assert_eq!(run(Some(felt.clone())), (answers, felt));
    }

    #[test]
    fn chances_come_as_often_as_they_should() {
        let mut decisions = Decisions::new(1);
        let mut hits = |of, probability| {
            (0..100_000)
                .filter(|_| decisions.chance(Matter::Stall, of, probability).is_some())
                .count()
        };
        assert!((24_000..26_000).contains(&hits(0, 0.25)));
        assert_eq!((hits(1, 1.0), hits(2, 0.0)), (100_000, 0));
        assert_eq!((decisions.below(Matter::Stall, 2, 1), decisions.taken()), (0, 200_000));
    }

    #[test]
    fn what_would_happen_does() {
        let mut decisions = Decisions::new(7);
        for _ in 0..100 {
            let taken = decisions.taken();
            let foreseen = decisions.would_happen(Matter::Stall, 3, 0.5);
            assert_eq!(decisions.taken(), taken);
            assert_eq!(decisions.chance(Matter::Stall, 3, 0.5).is_some(), foreseen);
        }
    }

    #[test]
    fn a_part_is_something_and_no_more_than_all() {
        let mut numbers = Numbers::new(1);
        for count in [1, 2, 3, 4, 5, 1000, u64::MAX] {
            let parts: Vec<u64> = (0..1000).map(|_| numbers.part(count)).collect();
            assert!(parts.iter().all(|part| (1..=count).contains(part)), "of {count}");
            let few = parts.iter().filter(|part| **part <= 4).count();
            assert!(few > 250, "{few} few of {count}");
        }
    }

    #[test]
    fn what_is_listed_can_be_read() {
        let all = Matter::ALL.iter().enumerate().flat_map(|(of, matter)| {
            [7, 8, 9, 11].map(|number| Decision { matter: *matter, of: of as u32, number })
        });
        let all: BTreeSet<Decision> = all.collect();
        assert!(listed(&all).starts_with("turn.0.7-9,turn.0.11,stalls.1.7-9,"));
        assert_eq!(parsed(&listed(&all)), Some(all));
        assert_eq!(parsed("none"), Some(BTreeSet::new()));
        for text in [
            "",
            "turn",
            "turn.1",
            "turn.1.x",
            "turn.1.2.3",
            "nothing.1.2",
            "turn.1.2-",
            "turn.1.5-3",
            "turn.1.0-4294967295",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
