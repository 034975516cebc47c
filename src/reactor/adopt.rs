//! Connections of descriptors that are open already.

use std::io;
use std::rc::Rc;

use log::debug;

use crate::connector::flags_of;
use crate::core::Source;
use crate::driver::{Driver, StreamKind};
use crate::handler::StreamHandler;
use crate::key::Key;
use crate::limits::Limits;
use crate::reactor::{HandlerId, Reactor};
use crate::stream::{PIPE_IN, PIPE_OUT, SOCKET, Stream, flag::*};

impl<D: Driver> Reactor<D> {
    /// Takes in a descriptor that is open already as a connection of `handler`: a stream socket that is connected
    /// (by whoever started the process, or one of a socket pair), one end of a pipe, or a terminal that was opened for
    /// one direction, as [`stdin`](crate::stdin) and [`stdout`](crate::stdout) give it. Its
    /// [`on_open`](StreamHandler::on_open) comes in the next turn, with
    /// [`Origin::Adopted`](crate::Origin::Adopted) and `tag`; one that has ended before that is told of to nobody. It
    /// has the limits of [`set_connect_limits`](Self::set_connect_limits), and counts as a connection. The
    /// [idle time-out](Limits::idle_timeout) is among them: by default it ends a quiet one after ten minutes.
    /// Of [socket options](crate::SocketOptions) a TCP socket has those that it came with, but `TCP_NODELAY`, which is set.
    ///
    /// A pipe goes in one direction. To one that is read [`send`](crate::Connection::send) answers
    /// [`Gone`](crate::Sent::Gone), and it closes without waiting for anybody: whoever writes to it then is told so by
    /// `EPIPE`. One that is written to is never shown anything; [`shutdown_write`](crate::Connection::shutdown_write)
    /// closes it when all is written, as [`close`](crate::Connection::close) does. When its reader has gone it ends as
    /// [`Reset`](crate::CloseReason::Reset), also if nothing is to be written.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is a socket that is not connected, that listens (which is for
    /// [`listen_fd`](Reactor::listen_fd)) or has no stream, or no socket and open for both directions.
    /// `PermissionDenied` for a file that the poll does not take, a regular one or `/dev/null`. `QuotaExceeded` at the
    /// [limit](crate::ReactorLimits::connections_max) of connections.
    ///
    /// # Panics
    ///
    /// If the handler's name comes from another reactor, or from
    /// [`add_datagram_handler`](Reactor::add_datagram_handler).
    ///
    /// # Cost
    ///
    /// Five system calls. What moves through a pipe costs a call more each time: recv(2) and send(2) fail first.
    ///
    /// # Platform notes
    ///
    /// The open file is made non-blocking (open(2), `O_NONBLOCK`), for everybody who shares it. Writing to a pipe
    /// that nobody reads raises `SIGPIPE`, which Rust's `main` has ignored and a library in another program has not.
    pub fn adopt<H: StreamHandler>(
        &mut self,
        handler: HandlerId<H>,
        descriptor: D::Socket,
        tag: u64,
    ) -> io::Result<Key> {
        self.core.assert_serves(handler);
        let core = &mut self.core;
        if core.stats.connections >= core.limits.connections_max {
            let message = "the reactor is at its limit of connections";
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, message));
        }
        let driver = &self.sockets.driver;
        let kind = driver.adopt(&descriptor)?;
        let limits = Rc::clone(&core.connect_options.limits);
        let stream = Stream::adopted(kind, handler.index, tag, limits);
        let key = core.sources.insert(Source::Stream(stream));
        if let Err(error) = driver.register_stream(&descriptor, key, kind) {
            core.sources.remove(key);
            return Err(explain(error));
        }
        debug!("{key}: adopted, {kind:?}");
        self.sockets.put(key, descriptor);
        core.stats.connections += 1;
        // It opens when its handler has heard of its own start.
        core.queue(key);
        Ok(key)
    }
}

fn explain(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let message = "the poll does not take such a file, a regular one or /dev/null: \
                   oneloop::stdin and stdout have a thread for these";
    io::Error::new(error.kind(), message)
}

impl Stream {
    fn adopted(kind: StreamKind, handler: u16, tag: u64, limits: Rc<Limits>) -> Stream {
        let flags = WRITABLE | OUTBOUND | flags_of(kind);
        let mut stream = Stream::new(flags, handler, tag, limits);
        stream.address = match kind {
            StreamKind::Tcp | StreamKind::Unix => SOCKET,
            StreamKind::PipeIn => PIPE_IN,
            StreamKind::PipeOut => PIPE_OUT,
        };
        stream
    }
}
