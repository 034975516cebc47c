//! Handlers of raw sources that note what they are called for.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;

use oneloop::{CloseReason, Context, Drained, HandlerId, Interest, Key, SourceHandler};

use super::*;

/// What a source handler was told, and what became of its source.
#[derive(Default)]
pub struct Log {
    pub read: Vec<u8>,
    pub readable: u32,
    pub writable: u32,
    pub errors: Vec<ErrorKind>,
    pub closed: Vec<(Key, CloseReason)>,
}

pub type Shared = Rc<RefCell<Log>>;

/// Where a source that came back is put.
pub type Back = Rc<RefCell<Option<PairSource>>>;

pub fn reactor() -> (Reactor, HandlerId<Recorder>) {
    let mut reactor = Reactor::new().unwrap();
    let handler = reactor.add(Recorder::new());
    (reactor, handler)
}

/// Reads pieces of `piece` bytes, at most `per_call` of them in one call; closes at the end of file.
pub struct Reader {
    pub log: Shared,
    pub piece: usize,
    pub per_call: usize,
}

impl Reader {
    pub fn new(log: &Shared) -> Reader {
        Reader { log: Rc::clone(log), piece: 1024, per_call: usize::MAX }
    }
}

impl SourceHandler for Reader {
    type Source = PipeReceiver;

    fn on_readable(
        &mut self,
        key: Key,
        source: &mut PipeReceiver,
        cx: &mut Context<'_>,
    ) -> Drained {
        let mut log = self.log.borrow_mut();
        log.readable += 1;
        let mut buffer = vec![0; self.piece];
        for _ in 0..self.per_call {
            match source.read(&mut buffer) {
                Ok(0) => {
                    cx.close_key(key);
                    return Drained::Yes;
                }
                Ok(count) => log.read.extend_from_slice(&buffer[..count]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Drained::Yes,
                Err(e) => panic!("{e}"),
            }
        }
        Drained::No
    }

    fn on_writable(&mut self, _: Key, _: &mut PipeReceiver, _: &mut Context<'_>) -> Drained {
        panic!("nobody asked");
    }

    fn on_close(
        &mut self,
        source: PipeReceiver,
        key: Key,
        reason: CloseReason,
        _: &mut Context<'_>,
    ) {
        drop(source);
        self.log.borrow_mut().closed.push((key, reason));
    }
}

/// Writes pieces until `left` is nothing; an error closes it.
pub struct Writer {
    pub log: Shared,
    pub left: usize,
}

impl SourceHandler for Writer {
    type Source = PipeSender;

    fn on_readable(&mut self, _: Key, _: &mut PipeSender, _: &mut Context<'_>) -> Drained {
        // An error is told to both sides; a pipe's write end has no other reason.
        Drained::Yes
    }

    fn on_writable(&mut self, key: Key, source: &mut PipeSender, cx: &mut Context<'_>) -> Drained {
        let mut log = self.log.borrow_mut();
        log.writable += 1;
        while self.left > 0 {
            match source.write(&vec![7; self.left.min(1000)]) {
                Ok(count) => self.left -= count,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Drained::Yes,
                Err(e) => {
                    log.errors.push(e.kind());
                    cx.close_key(key);
                    return Drained::Yes;
                }
            }
        }
        cx.close_key(key);
        Drained::Yes
    }

    fn on_close(&mut self, _: PipeSender, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        self.log.borrow_mut().closed.push((key, reason));
    }
}

/// Both directions of one descriptor; gives it back when it is closed.
pub struct Both {
    pub log: Shared,
    pub fill: bool,
    pub back: Back,
}

impl SourceHandler for Both {
    type Source = PairSource;

    fn on_readable(&mut self, _: Key, source: &mut PairSource, _: &mut Context<'_>) -> Drained {
        let mut log = self.log.borrow_mut();
        log.readable += 1;
        let mut buffer = [0; 100];
        match source.read(&mut buffer) {
            Ok(count) if count > 0 => {
                log.read.extend_from_slice(&buffer[..count]);
                Drained::No
            }
            _ => Drained::Yes,
        }
    }

    fn on_writable(&mut self, _: Key, source: &mut PairSource, _: &mut Context<'_>) -> Drained {
        let mut log = self.log.borrow_mut();
        log.writable += 1;
        if self.fill {
            let error = loop {
                if let Err(error) = source.write(&[0; 4096]) {
                    break error;
                }
            };
            log.errors.push(error.kind());
        }
        Drained::Yes
    }

    fn on_close(&mut self, source: PairSource, key: Key, reason: CloseReason, _: &mut Context<'_>) {
        *self.back.borrow_mut() = Some(source);
        self.log.borrow_mut().closed.push((key, reason));
    }
}

pub fn both(
    reactor: &mut Reactor,
    interest: Interest,
    fill: bool,
) -> (PairSource, Key, Shared, Back) {
    let (ours, theirs) = pair();
    let (log, back) = (Shared::default(), Rc::default());
    let handler = Both { log: Rc::clone(&log), fill, back: Rc::clone(&back) };
    let key = reactor.add_source(handler, ours, interest).unwrap();
    (theirs, key, log, back)
}
