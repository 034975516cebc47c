//! The book of all that is posted: in which order it has to come, when, and how much there may be.

use std::collections::VecDeque;
use std::time::Duration;

use oneloop::sim::Network;
use oneloop::{Blocking, Key, PostError, Sender, Time};

/// A letter is not longer on its way, whoever stands still meanwhile: whom it is for is woken.
const WAY_MAX: Duration = Duration::from_secs(20);

/// A message, which says all that has to be true of it.
#[derive(Debug)]
pub(super) struct Letter {
    outlet: usize,
    /// The so-many-th of its outlet.
    number: u64,
    pub(super) to: Option<Key>,
    /// What is to be sent to the connection.
    pub(super) bytes: Vec<u8>,
}

/// What became of a post.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Taken,
    /// There was no room.
    Full,
    /// The outlet was given up, or the reactor has ended.
    Gone,
}

enum Way {
    Mailbox(Sender<Letter>),
    Jobs(Blocking<Letter>),
    GivenUp,
}

/// A mailbox or blocking work, and what is on its way in it.
pub(super) struct Outlet {
    way: Way,
    /// Its letters come in their order.
    is_ordered: bool,
    capacity: usize,
    posted: u64,
    waiting: VecDeque<Posted>,
}

struct Posted {
    number: u64,
    at: Time,
    /// It has to come before the reactor has had mail in so many turns.
    due: u64,
    /// It was posted by the mail of this turn, and so belongs to a later one.
    made_in: Option<u64>,
}

impl Outlet {
    fn new(way: Way, is_ordered: bool, capacity: usize) -> Outlet {
        Outlet { way, is_ordered, capacity, posted: 0, waiting: VecDeque::new() }
    }

    pub(super) fn mailbox(sender: Sender<Letter>, capacity: usize) -> Outlet {
        Outlet::new(Way::Mailbox(sender), true, capacity)
    }

    pub(super) fn jobs(jobs: Blocking<Letter>, threads: usize, jobs_max: usize) -> Outlet {
        Outlet::new(Way::Jobs(jobs), threads == 1, jobs_max)
    }
}

#[derive(Default)]
pub(super) struct Book {
    outlets: Vec<Outlet>,
    network: Option<Network>,
    messages_per_turn_max: u64,
    /// Connections that there are or were, of any handler of the reactor.
    pub(super) known: Vec<Key>,
    /// When somebody has asked for a drain first, and when the one has to be over that ends first.
    drains: Option<(Time, Time)>,
    is_stopped: bool,
    /// The last turn with mail, and how many there were.
    mail_turn: u64,
    mail_turns: u64,
}

impl Book {
    pub(super) fn open(
        &mut self,
        outlets: Vec<Outlet>,
        messages_per_turn_max: usize,
        of: &Network,
    ) {
        self.outlets = outlets;
        self.network = Some(of.clone());
        self.messages_per_turn_max = messages_per_turn_max as u64;
    }

    fn now(&self) -> Time {
        self.network.as_ref().expect("it is open").now()
    }

    /// A connection that there is, was, or never was; or the handler itself.
    pub(super) fn someone(&self, random: u64) -> Option<Key> {
        match random % 8 {
            0 | 1 => None,
            2 => Some(Key::from_bits(random)),
            _ => {
                let place = (random / 8) as usize % self.known.len().max(1);
                self.known.get(place).copied()
            }
        }
    }

    pub(super) fn post_any(&mut self, random: u64, to: Option<Key>, made_in: Option<u64>) {
        let outlet = random as usize % self.outlets.len();
        self.post(outlet, to, &[], made_in);
    }

    /// By the outlet of this connection, which keeps the order.
    pub(super) fn post_in_order(&mut self, key: Key, bytes: &[u8]) -> Target {
        let ordered: Vec<usize> =
            (0..self.outlets.len()).filter(|index| self.outlets[*index].is_ordered).collect();
        self.post(ordered[key.to_bits() as usize % ordered.len()], Some(key), bytes, None)
    }

    fn post(
        &mut self,
        index: usize,
        to: Option<Key>,
        bytes: &[u8],
        made_in: Option<u64>,
    ) -> Target {
        let turns = (self.outlets.len() as u64).div_ceil(self.messages_per_turn_max) + 1;
        let at = self.now();
        let outlet = &mut self.outlets[index];
        let letter = Letter { outlet: index, number: outlet.posted, to, bytes: bytes.to_vec() };
        let result = match (&outlet.way, to) {
            (Way::Mailbox(sender), Some(key)) => sender.post_to(key, letter).map_err(without),
            (Way::Mailbox(sender), None) => sender.post(letter).map_err(without),
            (Way::Jobs(jobs), Some(key)) => jobs.run_for(key, move || letter).map_err(without),
            (Way::Jobs(jobs), None) => jobs.run(move || letter).map_err(without),
            (Way::GivenUp, _) => return Target::Gone,
        };
        let before = outlet.waiting.len();
        match result {
            Ok(()) => {
                assert!(before < outlet.capacity, "outlet {index} takes more than it has room for");
                // A job's result has the turns that it takes to do the job besides.
                let due = match outlet.way {
                    Way::Jobs(_) => u64::MAX,
                    _ => self.mail_turns + (before as u64 + 1) * turns + 2,
                };
                outlet.waiting.push_back(Posted { number: outlet.posted, at, due, made_in });
                outlet.posted += 1;
                Target::Taken
            }
            Err(PostError::Full(())) => {
                assert_eq!(before, outlet.capacity, "outlet {index} has room and takes nothing");
                Target::Full
            }
            Err(_) => {
                assert!(self.may_end(), "outlet {index} has ended, and nobody has asked for it");
                Target::Gone
            }
        }
    }

    /// It came, in this turn of the reactor.
    pub(super) fn take(&mut self, letter: Letter, turn: u64) {
        if self.mail_turn != turn {
            self.mail_turn = turn;
            self.mail_turns += 1;
        }
        let now = self.now();
        let outlet = &mut self.outlets[letter.outlet];
        let place = match outlet.is_ordered {
            true => 0,
            false => {
                let is_it = |posted: &Posted| posted.number == letter.number;
                outlet.waiting.iter().position(is_it).expect("a letter that came already")
            }
        };
        let posted = outlet.waiting.remove(place).expect("a letter that came already");
        assert_eq!(
            posted.number, letter.number,
            "letters of outlet {} out of order",
            letter.outlet
        );
        let (due, turns) = (posted.due, self.mail_turns);
        assert!(
            turns <= due,
            "a letter of outlet {} is late: {turns} turns, not {due}",
            letter.outlet
        );
        let way = now - posted.at;
        assert!(way <= WAY_MAX, "a letter of outlet {} was {way:?} on its way", letter.outlet);
        assert_ne!(posted.made_in, Some(turn), "mail made by mail belongs to the next turn");
    }

    /// One outlet is used no more. What is in it still comes.
    pub(super) fn give_up(&mut self, random: u64) {
        let outlet = random as usize % self.outlets.len();
        self.outlets[outlet].way = Way::GivenUp;
    }

    pub(super) fn give_up_all(&mut self) {
        self.outlets.iter_mut().for_each(|outlet| outlet.way = Way::GivenUp);
    }

    pub(super) fn note_drain(&mut self, timeout: Duration) {
        let (now, end) = (self.now(), self.now() + timeout);
        let (first, earliest) = self.drains.unwrap_or((now, end));
        self.drains = Some((first, earliest.min(end)));
    }

    pub(super) fn note_stop(&mut self) {
        self.is_stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Somebody has asked for the end of the reactor.
    pub(super) fn may_end(&self) -> bool {
        self.is_stopped || self.drains.is_some()
    }

    /// How long a drain may take, if there is one.
    pub(super) fn drain_time(&self) -> Option<Duration> {
        self.drains.map(|(first, end)| end - first)
    }

    pub(super) fn posted(&self) -> u64 {
        self.outlets.iter().map(|outlet| outlet.posted).sum()
    }

    /// How many are on their way.
    pub(super) fn left(&self) -> usize {
        self.outlets.iter().map(|outlet| outlet.waiting.len()).sum()
    }
}

/// Jobs and letters are not taken alike.
fn without<T>(error: PostError<T>) -> PostError<()> {
    if error.is_full() { PostError::Full(()) } else { PostError::Ended(()) }
}
