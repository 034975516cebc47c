//! What a test orders to happen at one place: calls that fail, reads and writes of so many bytes, a
//! reset behind so many. What never came to pass is reported.

use std::collections::VecDeque;
use std::io;
use std::panic::Location;

use super::calls::{Call, errno};
use super::net::Net;

/// The line of the test that ordered it.
type Place = &'static Location<'static>;

/// From the first of these hosts to the second.
type Link = (u32, u32);

/// Which calls are to take or give so many bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cut {
    Reads,
    Writes,
}

/// All that has yet to come to pass.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    calls: Vec<FailingCall>,
    cuts: Vec<Cuts>,
    resets: Vec<Reset>,
}

#[derive(Debug)]
struct FailingCall {
    host: u32,
    call: Call,
    /// The system's number of the error.
    error: i32,
    place: Place,
}

#[derive(Debug)]
struct Cuts {
    what: Cut,
    link: Link,
    /// How much the next calls give or take; never empty, and none is 0.
    sizes: VecDeque<usize>,
    place: Place,
}

#[derive(Debug)]
struct Reset {
    link: Link,
    /// So many bytes later.
    left: usize,
    place: Place,
}

impl Orders {
    pub(crate) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// The error's number, if this call is to fail.
    pub(crate) fn take_call(&mut self, host: u32, call: Call) -> Option<i32> {
        let is_it = |order: &FailingCall| order.host == host && order.call == call;
        let index = self.calls.iter().position(is_it)?;
        Some(self.calls.remove(index).error)
    }

    /// How much the next call on this link may give or take.
    #[inline]
    pub(crate) fn size(&self, what: Cut, link: Link) -> Option<usize> {
        let order = self.cuts.iter().find(|order| order.what == what && order.link == link)?;
        order.sizes.front().copied()
    }

    /// So much was given or taken: what is left of a piece is the next one.
    pub(crate) fn note(&mut self, what: Cut, link: Link, count: usize) {
        let is_it = |order: &Cuts| order.what == what && order.link == link;
        let Some(index) = self.cuts.iter().position(is_it) else { return };
        let sizes = &mut self.cuts[index].sizes;
        if let Some(size) = sizes.front_mut() {
            *size -= count;
            if *size == 0 {
                sizes.pop_front();
            }
        }
        if sizes.is_empty() {
            self.cuts.remove(index);
        }
    }

    /// So much was written on this link: how much of it still arrives, if then comes the reset.
    #[inline]
    pub(crate) fn take_reset(&mut self, link: Link, count: usize) -> Option<usize> {
        let index = self.resets.iter().position(|order| order.link == link)?;
        let left = self.resets[index].left;
        if left > count {
            self.resets[index].left -= count;
            return None;
        }
        self.resets.remove(index);
        Some(left)
    }

    pub(crate) fn clear(&mut self) {
        *self = Orders::default();
    }

    /// One that has not come to pass, and how many others.
    pub(crate) fn left(&self) -> Option<String> {
        let calls = self.calls.iter().map(|FailingCall { call, error, place, .. }| {
            let error = io::Error::from_raw_os_error(*error);
            let call = format!("Call::{call:?} was to fail ({error}) and was not made since");
            (call, *place)
        });
        let cuts = self.cuts.iter().map(|Cuts { what, sizes, place, .. }| {
            let what = if *what == Cut::Reads { "read" } else { "written" };
            (format!("{sizes:?} bytes were to be {what} piece by piece, and were not"), *place)
        });
        let resets = self.resets.iter().map(|Reset { left, place, .. }| {
            (format!("a reset was to come {left} bytes later, and did not"), *place)
        });
        let mut left = calls.chain(cuts).chain(resets);
        let (what, place) = left.next()?;
        let others = match left.count() {
            0 => String::new(),
            count => format!(" (and {count} more)"),
        };
        Some(format!("{what}: ordered at {}:{}{others}", place.file(), place.line()))
    }
}

impl Net {
    /// Makes the next call of this kind fail; one after another, if several are told to.
    pub(crate) fn fail_next(&mut self, host: u32, call: Call, error: &io::Error, place: Place) {
        let number = errno(error).map_or(0, |errno| errno.raw_os_error());
        assert!(number > 0, "no system call fails with {error:?}");
        let is_answer = match error.kind() {
            io::ErrorKind::Interrupted => call != Call::Poll,
            io::ErrorKind::WouldBlock => !matches!(call, Call::Poll | Call::Connect),
            _ => false,
        };
        assert!(!is_answer, "{error:?} is no failure of {call:?}");
        self.orders.calls.push(FailingCall { host, call, error: number, place });
    }

    pub(crate) fn cut(&mut self, what: Cut, link: Link, sizes: VecDeque<usize>, place: Place) {
        assert!(!sizes.contains(&0), "a piece has one byte at least");
        if !sizes.is_empty() {
            self.orders.cuts.push(Cuts { what, link, sizes, place });
        }
    }

    pub(crate) fn reset_after(&mut self, link: Link, bytes: usize, place: Place) {
        self.orders.resets.push(Reset { link, left: bytes, place });
    }
}
