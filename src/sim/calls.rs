//! System calls by name, how each fails, and errors with the numbers that the system gives them.

use std::io::{self, ErrorKind};

use rustix::io::Errno;

/// A system call of a simulated host, to be named where it is to fail:
/// [`Simulation::fail_next`](super::Simulation::fail_next). These are the calls that are counted, too
/// ([`fail_call`](super::Simulation::fail_call), [`sweep`](super::sweep())). What a reactor does when it is made
/// (a descriptor in reserve, the end of its mailboxes, threads for jobs), and what nobody could do anything about
/// (closing, being watched no more), does not fail so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Call {
    /// Waiting for events (epoll_wait(2)); of its errors the loop survives `Interrupted` only.
    Poll,
    /// To bind and listen (bind(2), listen(2)).
    Listen,
    /// Taking a connection that waits (accept(2)).
    Accept,
    /// Beginning to connect (connect(2)); after `WouldBlock` the reactor tries again.
    Connect,
    /// How a connect ended (`SO_ERROR`).
    ConnectResult,
    /// The error of a connection that was reported to have one (`SO_ERROR`).
    TakeError,
    /// Having a connection, a listener, a datagram socket or a raw source watched (epoll_ctl(2), `EPOLL_CTL_ADD`).
    Register,
    /// Having a connection watched under another key, after it has won a race (epoll_ctl(2), `EPOLL_CTL_MOD`).
    Rename,
    /// Muting a listener, or not any more (epoll_ctl(2), `EPOLL_CTL_MOD`).
    SetListening,
    /// Asking to be told when a Unix or datagram socket is writable, or not any more (epoll_ctl(2), `EPOLL_CTL_MOD`).
    AskWritable,
    /// recv(2).
    Read,
    /// send(2), sendmsg(2).
    Write,
    /// Sending the end of file (shutdown(2)).
    Shutdown,
    /// How much there is to read (`FIONREAD`).
    Readable,
    /// Having signals caught (sigaction(2)).
    WatchSignals,
    /// To bind a datagram socket (bind(2)).
    Bind,
    /// Receiving a datagram (recvfrom(2)).
    Receive,
    /// Sending a datagram (sendto(2)).
    SendDatagram,
    /// Joining a group, or leaving it (setsockopt(2), `IP_ADD_MEMBERSHIP`, `IP_DROP_MEMBERSHIP`).
    Membership,
    /// Taking in a connection or one end of a pipe that was made elsewhere (getsockopt(2), fstat(2)).
    Adopt,
    /// To which address a socket is bound (getsockname(2)), which the reactor asks of each that listens or is for
    /// datagrams.
    LocalAddress,
    /// Who is at the other end of a connection (getpeername(2)).
    PeerAddress,
    /// Which process and user that is (`SO_PEERCRED`).
    PeerCredentials,
}

impl Call {
    /// An error that it may have, where nobody says which.
    pub(crate) fn usual_error(self) -> ErrorKind {
        match self {
            Call::Poll => ErrorKind::Interrupted,
            Call::Listen => ErrorKind::PermissionDenied,
            Call::Accept => ErrorKind::ConnectionAborted,
            Call::Connect => ErrorKind::NetworkUnreachable,
            Call::ConnectResult | Call::Read => ErrorKind::ConnectionReset,
            Call::TakeError | Call::Shutdown | Call::Readable | Call::PeerAddress => {
                ErrorKind::NotConnected
            }
            Call::Register => ErrorKind::StorageFull,
            Call::Rename
            | Call::SetListening
            | Call::AskWritable
            | Call::WatchSignals
            | Call::Membership
            | Call::LocalAddress
            | Call::PeerCredentials => ErrorKind::OutOfMemory,
            Call::Adopt => ErrorKind::InvalidInput,
            Call::Bind => ErrorKind::AddrInUse,
            Call::Receive => ErrorKind::ConnectionRefused,
            Call::SendDatagram => ErrorKind::NetworkUnreachable,
            Call::Write => ErrorKind::BrokenPipe,
        }
    }

    /// Its name in the trace.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Call::Poll => "poll",
            Call::Listen => "listen",
            Call::Accept => "accept",
            Call::Connect => "connect",
            Call::ConnectResult => "connected?",
            Call::TakeError => "error?",
            Call::Register => "register",
            Call::Rename => "rename",
            Call::SetListening => "mute",
            Call::AskWritable => "ask writable",
            Call::Read => "read",
            Call::Write => "write",
            Call::Shutdown => "shutdown",
            Call::Readable => "readable?",
            Call::WatchSignals => "signals",
            Call::Bind => "bind",
            Call::Receive => "receive",
            Call::SendDatagram => "send",
            Call::Membership => "membership",
            Call::Adopt => "adopt",
            Call::LocalAddress => "address?",
            Call::PeerAddress => "peer?",
            Call::PeerCredentials => "credentials?",
        }
    }
}

/// Winsock has no such numbers, but some that are near.
#[cfg(unix)]
pub(crate) const NODEV: Errno = Errno::NODEV;
#[cfg(unix)]
pub(crate) const PERM: Errno = Errno::PERM;
#[cfg(windows)]
pub(crate) const NODEV: Errno = Errno::ADDRNOTAVAIL;
#[cfg(windows)]
pub(crate) const PERM: Errno = Errno::ACCESS;

/// The system's number of an error, if a simulated call can have it, and the system's sockets have one for it.
fn number(kind: ErrorKind) -> Option<Errno> {
    Some(match kind {
        ErrorKind::AddrInUse => Errno::ADDRINUSE,
        ErrorKind::AddrNotAvailable => Errno::ADDRNOTAVAIL,
        #[cfg(unix)]
        ErrorKind::BrokenPipe => Errno::PIPE,
        ErrorKind::ConnectionAborted => Errno::CONNABORTED,
        ErrorKind::ConnectionRefused => Errno::CONNREFUSED,
        ErrorKind::ConnectionReset => Errno::CONNRESET,
        ErrorKind::HostUnreachable => Errno::HOSTUNREACH,
        ErrorKind::Interrupted => Errno::INTR,
        ErrorKind::InvalidInput => Errno::INVAL,
        ErrorKind::NetworkDown => Errno::NETDOWN,
        ErrorKind::NetworkUnreachable => Errno::NETUNREACH,
        ErrorKind::NotConnected => Errno::NOTCONN,
        #[cfg(unix)]
        ErrorKind::NotFound => Errno::NOENT,
        #[cfg(unix)]
        ErrorKind::OutOfMemory => Errno::NOMEM,
        ErrorKind::PermissionDenied => Errno::ACCESS,
        #[cfg(unix)]
        ErrorKind::StorageFull => Errno::NOSPC,
        ErrorKind::TimedOut => Errno::TIMEDOUT,
        ErrorKind::WouldBlock => Errno::AGAIN,
        _ => return None,
    })
}

/// An error as the system gives it, with its number.
pub(crate) fn os_error(kind: ErrorKind) -> io::Error {
    number(kind).map_or_else(|| kind.into(), io::Error::from)
}

/// The same of any error that stands for one of the system's.
pub(crate) fn errno(error: &io::Error) -> Option<Errno> {
    match error.raw_os_error() {
        Some(number) => Some(Errno::from_raw_os_error(number)),
        None => number(error.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_kind_when_it_gets_a_number() {
        let calls = [
            Call::Poll,
            Call::Listen,
            Call::Accept,
            Call::Connect,
            Call::ConnectResult,
            Call::TakeError,
            Call::Register,
            Call::SetListening,
            Call::Read,
            Call::Write,
            Call::Shutdown,
            Call::Membership,
            Call::Adopt,
            Call::LocalAddress,
            Call::PeerAddress,
            Call::PeerCredentials,
        ];
        let others = [
            ErrorKind::AddrInUse,
            ErrorKind::AddrNotAvailable,
            ErrorKind::ConnectionRefused,
            ErrorKind::HostUnreachable,
            ErrorKind::InvalidInput,
            ErrorKind::NetworkDown,
            ErrorKind::NotFound,
            ErrorKind::TimedOut,
            ErrorKind::WouldBlock,
        ];
        for kind in calls.map(Call::usual_error).into_iter().chain(others) {
            let error = os_error(kind);
            assert_eq!(error.kind(), kind);
            assert!(error.raw_os_error().is_some() || cfg!(windows), "{kind}");
        }
    }
}
