//! Sockets that systemd, or whoever speaks as it does, passes on: sd_listen_fds(3). And inetd(8).

use std::env;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use listenfd::ListenFd;
use rustix::io::Errno;
use rustix::net::sockopt;

use crate::address::Address;

/// The first descriptor that is passed on.
const FIRST: u32 = 3;

/// The name of a socket that was given none.
const UNNAMED: &str = "unknown";

/// The sockets that the process was started with: listeners for [`Reactor::listen_fd`](crate::Reactor::listen_fd),
/// datagram sockets for [`Reactor::bind_fd`](crate::Reactor::bind_fd).
///
/// `fd:0` is what inetd(8) passes on: to a service that it starts once and waits for, the socket that
/// [listens](Self::is_listener), for [`listen_fd`](crate::Reactor::listen_fd); to one that it starts for every client
/// ("nowait"), the client's, for [`adopt`](crate::Reactor::adopt). There standard output and error are the same
/// socket, so that whatever is printed or logged goes to the client.
///
/// ```no_run
/// use oneloop::{Address, Inherited};
/// # use oneloop::{Connection, Error, ListenOptions, Reactor, StreamHandler};
/// # struct Echo;
/// # impl StreamHandler for Echo {
/// #     type Session = ();
/// #     fn on_open(&mut self, _: &mut Connection<'_>) {}
/// #     fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
/// #         Ok(data.len())
/// #     }
/// # }
///
/// let mut inherited = Inherited::from_env(); // before anything else
/// let mut reactor = Reactor::new()?;
/// let echo = reactor.add(Echo);
/// for socket in inherited.take(&"systemd:echo".parse::<Address>()?)? {
///     reactor.listen_fd(echo, socket, &ListenOptions::new())?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Inherited {
    sockets: ListenFd,
    /// By descriptor, from the first one.
    names: Vec<String>,
    /// Which of the standard descriptors, from 0 on, were taken.
    standard: [bool; FIRST as usize],
}

impl Inherited {
    /// What the environment says was passed on to this process (`LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`); nothing,
    /// if it says nothing or means another process.
    ///
    /// To be called first of all: the first two variables are taken out of the environment, which must not happen
    /// while other threads run, and until then nobody else knows that the descriptors have an owner. A second call
    /// finds nothing.
    pub fn from_env() -> Inherited {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let sockets = ListenFd::from_env();
        // Names may be missing, and there may be names of another process.
        let named = |name: &str| if name.is_empty() { UNNAMED.into() } else { name.to_string() };
        let names = names.split(':').map(named);
        let names = names.chain(std::iter::repeat(UNNAMED.into())).take(sockets.len()).collect();
        Inherited { sockets, names, standard: [false; FIRST as usize] }
    }

    /// The names of all that was passed on, from descriptor 3 on; without one a socket is called `unknown`. Several may
    /// have the same.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Takes the socket of `fd:3`, or all those that systemd calls as in `systemd:NAME`, at least one: a
    /// socket unit with two `ListenStream=` passes two on. They are closed on exec from now on. `fd:0` to `fd:2` are
    /// the standard descriptors, whether or not systemd has anything to do with it; these themselves stay open.
    ///
    /// # Errors
    ///
    /// `NotFound` if no such socket was passed on, or was taken before; `InvalidInput` if it is no socket of IP or
    /// Unix, or the address is none of an inherited one.
    pub fn take(&mut self, address: &Address) -> io::Result<Vec<OwnedFd>> {
        match address {
            Address::Fd(descriptor @ ..FIRST) => Ok(vec![self.take_standard(*descriptor)?]),
            Address::Fd(descriptor) => {
                let index = descriptor.checked_sub(FIRST).map(|index| index as usize);
                match index.filter(|index| *index < self.names.len()) {
                    Some(index) => Ok(vec![self.take_at(index)?]),
                    None => Err(self.not_there(&format!("descriptor {descriptor}"))),
                }
            }
            Address::Systemd(name) => {
                let is_meant = |index: &usize| self.names[*index] == name.as_str();
                let meant: Vec<usize> = (0..self.names.len()).filter(is_meant).collect();
                if meant.is_empty() {
                    return Err(self.not_there(&format!("the name \"{}\"", name.as_str())));
                }
                meant.into_iter().map(|index| self.take_at(index)).collect()
            }
            _ => {
                let message = "it is none of an inherited socket";
                Err(io::Error::new(io::ErrorKind::InvalidInput, message))
            }
        }
    }

    /// Whether it listens: otherwise it is a connection, or has no streams.
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn is_listener(socket: impl AsFd) -> io::Result<bool> {
        crate::driver::listens(socket)
    }

    fn take_standard(&mut self, descriptor: u32) -> io::Result<OwnedFd> {
        if self.standard[descriptor as usize] {
            return Err(taken_before(descriptor));
        }
        let socket = match descriptor {
            0 => io::stdin().as_fd().try_clone_to_owned(),
            1 => io::stdout().as_fd().try_clone_to_owned(),
            _ => io::stderr().as_fd().try_clone_to_owned(),
        }?;
        match sockopt::socket_type(&socket) {
            Ok(_) => {}
            Err(Errno::NOTSOCK) => {
                let message = format!("descriptor {descriptor} is no socket");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            Err(error) => return Err(error.into()),
        }
        self.standard[descriptor as usize] = true;
        Ok(socket)
    }

    /// The kind of socket is asked for by trial: only the kernel knows it.
    fn take_at(&mut self, index: usize) -> io::Result<OwnedFd> {
        let sockets = &mut self.sockets;
        let taken = if let Ok(socket) = sockets.take_tcp_listener(index) {
            socket.map(OwnedFd::from)
        } else if let Ok(socket) = sockets.take_unix_listener(index) {
            socket.map(OwnedFd::from)
        } else if let Ok(socket) = sockets.take_udp_socket(index) {
            socket.map(OwnedFd::from)
        } else if let Ok(socket) = sockets.take_unix_datagram(index) {
            socket.map(OwnedFd::from)
        } else {
            let message =
                format!("descriptor {} is no socket of IP or Unix", index + FIRST as usize);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        taken.ok_or_else(|| taken_before(FIRST + index as u32))
    }

    fn not_there(&self, what: &str) -> io::Error {
        let there = match &self.names[..] {
            [] => "nothing was (LISTEN_FDS, LISTEN_PID)".into(),
            [one] => format!("only descriptor {FIRST} was, \"{one}\""),
            names => {
                let last = FIRST as usize + names.len() - 1;
                let names = names.join("\", \"");
                format!("only descriptors {FIRST} to {last} were, \"{names}\"")
            }
        };
        let message = format!("{what} was not passed on: {there}");
        io::Error::new(io::ErrorKind::NotFound, message)
    }
}

fn taken_before(descriptor: u32) -> io::Error {
    let message = format!("descriptor {descriptor} was taken before");
    io::Error::new(io::ErrorKind::NotFound, message)
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherited").field("names", &self.names).finish_non_exhaustive()
    }
}
