//! The floor: an echo server by hand on raw epoll, as a good C programmer would write it for this one
//! protocol on this one kernel. Nothing can be much cheaper with one recv and one send a message, so
//! `oneloop bench --against floor=...` tells how far a general reactor is from what is possible.
//!
//! What it does:
//!
//! - Connections are registered once, edge-triggered, for input only. (Level-triggered would do without
//!   the flags about the peer's end, but the kernel then polls every connection once more after it was
//!   served: 2 % of a message.) Output readiness is asked for only while there is output that the kernel
//!   did not take.
//! - All connections are read into one buffer of 64 KiB. One recv: when it brought less than there was
//!   room for, the socket is empty, and no second recv is spent on hearing so. Only when the kernel said
//!   that the peer is at its end, or after a time without reading, is the socket read to the end.
//! - It writes first. What the kernel does not take is kept, and until it is gone that connection is not
//!   read: so no connection ever holds more than one buffer, and an idle one holds 8 bytes.
//! - The listener is level-triggered, with one accept4 for a wake-up, as in epoll(7): a client that comes
//!   alone costs no accept that answers EAGAIN. A listener that is ready wake-up after wake-up has a
//!   burst waiting; it is then asked twice as often each time.
//! - A peer's end of file is answered with a close once everything is sent back; an error is answered
//!   with a close at once.
//!
//! What it leaves out, each of which a server in the world needs: limits and deadlines of any kind,
//! fairness (a peer that keeps its socket full is read for as long as it does), lingering, a connection
//! that speaks first, more than one protocol or listener, logging, counters, other systems than Linux.
//! When the descriptors run out it ends.
//!
//! ```text
//! floor [ADDR] [--until-stdin-closes]       ADDR is 127.0.0.1:0 if not given
//! ```

use std::ffi::{c_int, c_void};
use std::io::{Error, ErrorKind, Result, Write};
use std::net::TcpListener;
use std::os::fd::AsRawFd;

const BUFFER_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 1024;
const BACKLOG: c_int = 4096;
const ACCEPTS_MAX: u32 = 64;

const EDGE: u32 = libc::EPOLLET as u32;
const INPUT: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32 | EDGE;
const OUTPUT: u32 = libc::EPOLLOUT as u32;
/// After these there is something to read that a short recv does not tell: the end, or an error.
const ENDED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// What the kernel did not take.
struct Rest {
    bytes: Vec<u8>,
    sent: usize,
}

struct Floor {
    epoll: c_int,
    listener: c_int,
    buffer: Vec<u8>,
    /// By descriptor. An event names its source by descriptor too, which is safe here: a wait reports
    /// a source once, and a source is closed only in the course of its own event.
    rests: Vec<Option<Box<Rest>>>,
    /// The wake-ups one after the other that found the listener ready.
    bursts: u32,
}

fn main() {
    if let Err(error) = run() {
        eprintln!("floor: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<()> {
    let mut address = "127.0.0.1:0".to_owned();
    let mut until_stdin_closes = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--until-stdin-closes" => until_stdin_closes = true,
            _ => address = argument,
        }
    }
    let listener = listen(&address)?;
    // SAFETY: no pointers.
    let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    let mut floor = Floor {
        epoll,
        listener: listener.as_raw_fd(),
        buffer: vec![0; BUFFER_BYTES],
        rests: Vec::new(),
        bursts: 0,
    };
    floor.control(libc::EPOLL_CTL_ADD, floor.listener, libc::EPOLLIN as u32)?;
    if until_stdin_closes {
        floor.control(libc::EPOLL_CTL_ADD, libc::STDIN_FILENO, libc::EPOLLIN as u32)?;
    }
    println!("listening on {}", listener.local_addr()?);
    std::io::stdout().flush()?;
    floor.serve_until_stdin_closes()
}

fn listen(address: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let yes: c_int = 1;
    // SAFETY: the option is an int, its pointer and its size are those of `yes`. It is set on the
    // listener because Linux hands it down to what is accepted.
    check(unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const yes).cast::<c_void>(),
            size_of::<c_int>() as libc::socklen_t,
        )
    })?;
    // SAFETY: no pointers. std listens with a shorter queue; listening again only changes its length.
    check(unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) })?;
    Ok(listener)
}

impl Floor {
    fn serve_until_stdin_closes(&mut self) -> Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        loop {
            // SAFETY: the kernel writes at most EVENTS_MAX events to the array of that many.
            let count = unsafe {
                libc::epoll_wait(self.epoll, events.as_mut_ptr(), EVENTS_MAX as c_int, -1)
            };
            if count < 0 && Error::last_os_error().kind() != ErrorKind::Interrupted {
                return Err(Error::last_os_error());
            }
            let mut accepts = 0;
            for event in events.iter().take(count.max(0) as usize) {
                let descriptor = event.u64 as c_int;
                if descriptor == self.listener {
                    accepts = 1 << self.bursts.min(ACCEPTS_MAX.ilog2());
                } else if descriptor != libc::STDIN_FILENO {
                    self.serve(descriptor, event.events);
                } else if self.stdin_closed() {
                    return Ok(());
                }
            }
            self.bursts = if accepts > 0 { self.bursts + 1 } else { 0 };
            self.accept(accepts)?;
        }
    }

    /// One recv, one send, and whatever else an event may mean.
    fn serve(&mut self, descriptor: c_int, events: u32) {
        let mut to_the_end = events & ENDED != 0;
        if self.rests[descriptor as usize].is_some() {
            if !self.send_rest(descriptor) {
                return;
            }
            to_the_end = true; // it was not read meanwhile, and that edge is gone
        }
        loop {
            let buffer = self.buffer.as_mut_ptr().cast::<c_void>();
            // SAFETY: the kernel writes at most BUFFER_BYTES to the buffer of that many.
            let received = unsafe { libc::recv(descriptor, buffer, BUFFER_BYTES, 0) };
            if received <= 0 {
                return self.end_of_input(descriptor, received);
            }
            // SAFETY: the kernel reads what it has just written.
            let sent =
                unsafe { libc::send(descriptor, buffer, received as usize, libc::MSG_NOSIGNAL) };
            if sent != received && !self.keep_rest(descriptor, sent, received as usize) {
                return;
            }
            if (received as usize) < BUFFER_BYTES && !to_the_end {
                return;
            }
        }
    }

    #[cold]
    fn end_of_input(&mut self, descriptor: c_int, received: isize) {
        if received == 0 || !would_block() {
            self.close(descriptor);
        }
    }

    /// Keeps what a send left; whether everything is gone all the same.
    #[cold]
    fn keep_rest(&mut self, descriptor: c_int, sent: isize, received: usize) -> bool {
        if sent < 0 && !would_block() {
            self.close(descriptor);
            return false;
        }
        let bytes = self.buffer[sent.max(0) as usize..received].to_vec();
        self.rests[descriptor as usize] = Some(Box::new(Rest { bytes, sent: 0 }));
        // The kernel looks at the readiness anew here, so output room of this moment is not missed.
        if self.control(libc::EPOLL_CTL_MOD, descriptor, INPUT | OUTPUT).is_err() {
            self.close(descriptor);
        }
        false
    }

    /// Whether the rest is gone, and the connection is to be read again.
    #[cold]
    fn send_rest(&mut self, descriptor: c_int) -> bool {
        let Some(rest) = &mut self.rests[descriptor as usize] else { return true };
        let bytes = &rest.bytes[rest.sent..];
        // SAFETY: pointer and length are those of the slice.
        let sent = unsafe {
            libc::send(descriptor, bytes.as_ptr().cast::<c_void>(), bytes.len(), libc::MSG_NOSIGNAL)
        };
        if sent < 0 {
            if !would_block() {
                self.close(descriptor);
            }
            return false;
        }
        rest.sent += sent as usize;
        if rest.sent < rest.bytes.len() {
            return false; // the kernel took less than it was given: an edge follows
        }
        self.rests[descriptor as usize] = None;
        if self.control(libc::EPOLL_CTL_MOD, descriptor, INPUT).is_err() {
            self.close(descriptor);
            return false;
        }
        true
    }

    /// After the events, so that what they close is free for the next.
    fn accept(&mut self, accepts: u32) -> Result<()> {
        for _ in 0..accepts {
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let (no_address, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
            // SAFETY: the peer's address is not asked for, which null pointers say.
            let descriptor = unsafe { libc::accept4(self.listener, no_address, no_length, flags) };
            if descriptor < 0 {
                let error = Error::last_os_error();
                match error.kind() {
                    ErrorKind::WouldBlock => break,
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => continue,
                    _ => return Err(error),
                }
            }
            let length = descriptor as usize + 1;
            if self.rests.len() < length {
                self.rests.resize_with(length, || None);
            }
            self.control(libc::EPOLL_CTL_ADD, descriptor, INPUT)?;
        }
        Ok(())
    }

    /// The kernel takes a closed descriptor out of the epoll by itself.
    fn close(&mut self, descriptor: c_int) {
        self.rests[descriptor as usize] = None;
        // SAFETY: the descriptor came from accept4, is closed only here, and is not used afterwards.
        unsafe { libc::close(descriptor) };
    }

    fn control(&self, operation: c_int, descriptor: c_int, events: u32) -> Result<()> {
        let mut event = libc::epoll_event { events, u64: descriptor as u64 };
        // SAFETY: the kernel copies the event.
        check(unsafe { libc::epoll_ctl(self.epoll, operation, descriptor, &mut event) })?;
        Ok(())
    }

    #[cold]
    fn stdin_closed(&mut self) -> bool {
        let buffer = self.buffer.as_mut_ptr().cast::<c_void>();
        // SAFETY: the kernel writes at most BUFFER_BYTES to the buffer of that many.
        unsafe { libc::read(libc::STDIN_FILENO, buffer, BUFFER_BYTES) <= 0 }
    }
}

fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// On sockets that do not block, Linux interrupts neither recv nor send.
fn would_block() -> bool {
    Error::last_os_error().kind() == ErrorKind::WouldBlock
}
