//! Pipes and pairs of sockets of the kernel as raw sources. `sim_pipe.rs` has the simulated ones.

#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

pub type PipeSender = mio::unix::pipe::Sender;
pub type PipeReceiver = mio::unix::pipe::Receiver;

/// A pipe, of which either end can be a raw source.
pub fn pipe() -> (PipeSender, PipeReceiver) {
    mio::unix::pipe::new().unwrap()
}

/// Another descriptor of the same end.
pub fn duplicate(receiver: &PipeReceiver) -> OwnedFd {
    receiver.as_fd().try_clone_to_owned().unwrap()
}

/// One of two sockets that are connected to each other, which reads and writes.
pub struct PairSource(UnixStream);

/// Both of them.
pub fn pair() -> (PairSource, PairSource) {
    let (one, other) = UnixStream::pair().unwrap();
    for stream in [&one, &other] {
        stream.set_nonblocking(true).unwrap();
    }
    (PairSource(one), PairSource(other))
}

impl Read for PairSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for PairSource {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for PairSource {
    fn register(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(r, token, interest)
    }

    fn reregister(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(r, token, interest)
    }

    fn deregister(&mut self, r: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(r)
    }
}

/// Stays registered when it should be taken out; so it does, as long as a duplicate lives.
pub struct Careless(pub PipeReceiver);

impl Source for Careless {
    fn register(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.0.register(r, token, interest)
    }

    fn reregister(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.0.reregister(r, token, interest)
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Ok(())
    }
}

/// What the poll does not take: a regular file.
pub struct Unpollable(File);

pub fn unpollable() -> Unpollable {
    Unpollable(File::open(std::env::current_exe().unwrap()).unwrap())
}

impl Source for Unpollable {
    fn register(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(r, token, interest)
    }

    fn reregister(&mut self, r: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(r, token, interest)
    }

    fn deregister(&mut self, r: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(r)
    }
}
