//! What the drivers of real sockets have in common, on Unix and on Windows: how mio is spoken to, threads, and files.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use mio::event::Source;
use mio::{Token, Waker};

use super::{Driver, Mio, RawSource, Wake, Work};
use crate::clock::Clock;
use crate::file::copy_some;
use crate::key::Key;
use crate::readiness::Interest;

pub(super) fn token(key: Key) -> Token {
    Token(key.to_bits() as usize)
}

const _: () = assert!(usize::BITS == 64, "a key has to fit into a token");

impl<S: Source + 'static> RawSource<Mio> for S {
    fn register(&mut self, driver: &mut Mio, key: Key, interest: Interest) -> io::Result<()> {
        let interest = match interest {
            Interest::Readable => mio::Interest::READABLE,
            Interest::Writable => mio::Interest::WRITABLE,
            Interest::Both => mio::Interest::READABLE | mio::Interest::WRITABLE,
        };
        driver.poll.registry().register(self, token(key), interest)
    }

    fn deregister(&mut self, driver: &mut Mio) -> io::Result<()> {
        driver.poll.registry().deregister(self)
    }
}

/// On Linux an eventfd(2): it lives as long as the last who may wake, also when the poll is gone.
impl Wake for Waker {
    fn wake(&self) {
        // A write to an eventfd fails only when its counter is full, which mio deals with.
        if let Err(error) = Waker::wake(self) {
            log::error!("the reactor is not woken: {error}");
        }
    }
}

pub(super) fn start_workers(work: &Arc<dyn Work>, threads: usize) -> io::Result<()> {
    for number in 0..threads {
        let work = Arc::clone(work);
        // Nobody joins it: a job may take as long as it likes, and the reactor's end must not.
        thread::Builder::new().name(format!("oneloop-job-{number}")).spawn(move || work.run())?;
    }
    Ok(())
}

/// The standard library seeds its hash maps from the system's generator.
pub(super) fn random_seed(clock: &Clock) -> u64 {
    RandomState::new().hash_one(clock.now().as_nanos())
}

/// See [`Driver::write_file`]. The slices go first, and alone.
pub(super) fn write_file_by_copy<D: Driver>(
    driver: &D,
    stream: &D::Socket,
    slices: &[IoSlice<'_>],
    file: &File,
    range: &Range<u64>,
) -> io::Result<usize> {
    if !slices.is_empty() {
        return driver.write_vectored(stream, slices);
    }
    let mut buffer = Vec::new();
    let count = copy_some(file, range, &mut buffer)?;
    driver.write_any(stream, &buffer[..count])
}
