//! Pipes and pairs of sockets for raw sources in a simulation: pipe(7) and unix(7) as far as
//! readiness goes.

#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use oneloop::driver::RawSource;
use oneloop::sim::{SimDriver, SimSource};
use oneloop::{Interest, Key, Readiness};

/// What a pipe holds, and how much room makes it writable (pipe(7)).
const ROOM: usize = 64 * 1024;
const ROOM_LOW: usize = 4096;

/// Bytes on their way from one end to another one.
#[derive(Default)]
struct Channel {
    bytes: RefCell<VecDeque<u8>>,
    has_reader: Cell<bool>,
    has_writer: Cell<bool>,
    /// What is to hear of it.
    reader: SimSource,
    writer: SimSource,
}

/// One end of a pipe, or of a pair, which has both directions. Clones are duplicates of its
/// descriptor: the last one closes it.
#[derive(Clone)]
pub struct End(Rc<Inner>);

struct Inner {
    source: SimSource,
    from: Option<Rc<Channel>>,
    to: Option<Rc<Channel>>,
}

pub type PipeSender = End;
pub type PipeReceiver = End;
pub type PairSource = End;

pub fn pipe() -> (PipeSender, PipeReceiver) {
    let (sender, receiver) = (SimSource::new(), SimSource::new());
    let channel = Channel::between(&sender, &receiver);
    let sender = Inner { source: sender, from: None, to: Some(Rc::clone(&channel)) };
    let receiver = Inner { source: receiver, from: Some(channel), to: None };
    (End::new(sender), End::new(receiver))
}

pub fn pair() -> (PairSource, PairSource) {
    let (one, other) = (SimSource::new(), SimSource::new());
    let (there, back) = (Channel::between(&one, &other), Channel::between(&other, &one));
    let first = Inner { source: one, from: Some(Rc::clone(&back)), to: Some(Rc::clone(&there)) };
    (End::new(first), End::new(Inner { source: other, from: Some(there), to: Some(back) }))
}

impl Channel {
    fn between(writer: &SimSource, reader: &SimSource) -> Rc<Channel> {
        Rc::new(Channel {
            has_reader: Cell::new(true),
            has_writer: Cell::new(true),
            reader: reader.clone(),
            writer: writer.clone(),
            ..Channel::default()
        })
    }

    fn has_room(&self) -> bool {
        ROOM - self.bytes.borrow().len() >= ROOM_LOW
    }
}

impl Inner {
    /// What is true of this end now.
    fn readiness(&self) -> Readiness {
        let hint = |hint: Readiness, is_set: bool| if is_set { hint } else { Readiness::EMPTY };
        let mut readiness = Readiness::EMPTY;
        if let Some(from) = &self.from {
            readiness = readiness
                | hint(Readiness::READABLE, !from.bytes.borrow().is_empty())
                | hint(Readiness::READ_CLOSED, !from.has_writer.get());
        }
        if let Some(to) = &self.to {
            readiness = readiness
                | hint(Readiness::WRITABLE, to.has_room())
                | hint(Readiness::ERROR, !to.has_reader.get());
        }
        readiness
    }

    /// A call would have blocked. What is left is reported as if it were new, which a driver may do.
    fn is_less_ready(&self) {
        if self.source.readiness() != self.readiness() {
            self.source.set(self.readiness());
        }
    }
}

impl End {
    fn new(inner: Inner) -> End {
        let end = End(Rc::new(inner));
        end.0.source.set(end.0.readiness());
        end
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Only what is new is told: a source keeps what it was ready for before.
        if let Some(from) = &self.from {
            from.has_reader.set(false);
            from.writer.set(from.writer.readiness() | Readiness::ERROR);
        }
        if let Some(to) = &self.to {
            to.has_writer.set(false);
            to.reader.set(to.reader.readiness() | Readiness::READ_CLOSED);
        }
    }
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let from = self.0.from.as_ref().expect("it is an end that reads");
        let had_room = from.has_room();
        let there = from.bytes.borrow().len().min(buffer.len());
        if there == 0 {
            if !from.has_writer.get() {
                return Ok(0);
            }
            self.0.is_less_ready();
            return Err(ErrorKind::WouldBlock.into());
        }
        for (place, byte) in buffer.iter_mut().zip(from.bytes.borrow_mut().drain(..there)) {
            *place = byte;
        }
        if !had_room && from.has_room() {
            from.writer.set(from.writer.readiness() | Readiness::WRITABLE);
        }
        Ok(there)
    }
}

impl Write for End {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let to = self.0.to.as_ref().expect("it is an end that writes");
        if !to.has_reader.get() {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = data.len().min(ROOM - to.bytes.borrow().len());
        if count == 0 {
            self.0.is_less_ready();
            return Err(ErrorKind::WouldBlock.into());
        }
        to.bytes.borrow_mut().extend(&data[..count]);
        to.reader.set(to.reader.readiness() | Readiness::READABLE);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl RawSource<SimDriver> for End {
    fn register(&mut self, driver: &mut SimDriver, key: Key, interest: Interest) -> io::Result<()> {
        self.0.source.clone().register(driver, key, interest)
    }

    fn deregister(&mut self, driver: &mut SimDriver) -> io::Result<()> {
        self.0.source.clone().deregister(driver)
    }
}

/// Stays registered when it should be taken out.
pub struct Careless(pub PipeReceiver);

impl RawSource<SimDriver> for Careless {
    fn register(&mut self, driver: &mut SimDriver, key: Key, interest: Interest) -> io::Result<()> {
        self.0.register(driver, key, interest)
    }

    fn deregister(&mut self, _: &mut SimDriver) -> io::Result<()> {
        Ok(())
    }
}

pub fn duplicate(receiver: &PipeReceiver) -> PipeReceiver {
    receiver.clone()
}

/// What the poll does not take.
pub struct Unpollable;

pub fn unpollable() -> Unpollable {
    Unpollable
}

impl RawSource<SimDriver> for Unpollable {
    fn register(&mut self, _: &mut SimDriver, _: Key, _: Interest) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn deregister(&mut self, _: &mut SimDriver) -> io::Result<()> {
        Ok(())
    }
}
