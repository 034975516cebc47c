//! What every callback can reach.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use crate::address::SocketAddress;
use crate::clock::Time;
use crate::command::Host;
use crate::connector::{ConnectOptions, Destination};
use crate::core::Core;
use crate::datagram::Queued;
use crate::error::{CloseReason, Sent};
use crate::handler::StreamHandler;
use crate::key::Key;
use crate::limits::Limits;
use crate::listener::{ListenOptions, ListenerId};
use crate::reactor::HandlerId;
use crate::source::NO_HANDLER;
use crate::stats::Stats;
use crate::stream::Data;
use crate::timer::{Purpose, TimerId};
use crate::traffic::Traffic;

/// The reactor as a callback sees it: the time, other connections by key, outbound connections,
/// timers.
///
/// No call here does I/O or calls a handler: it changes buffers and flags, and the turn does the rest
/// when the callback has returned. A key that is out of date is no error; the call does nothing.
pub struct Context<'a> {
    pub(crate) core: &'a mut Core,
    pub(crate) host: &'a dyn Host,
    pub(crate) handler: u16,
}

impl Context<'_> {
    /// The moment at which this turn's wait ended; the same for every callback of the turn. Of a context
    /// [between turns](crate::Reactor::context), the moment at which it was asked for.
    pub fn now(&self) -> Time {
        self.core.now
    }

    /// The calendar's time. Reads the clock.
    pub fn wall_clock(&self) -> SystemTime {
        self.host.wall_clock()
    }

    /// A number for jitter or sampling, not for secrets.
    pub fn random(&mut self) -> u64 {
        self.core.next_random()
    }

    /// Appends a copy of `data` to the output of connection `key`. It leaves in the flush phase, of
    /// the next turn if this one's is over; to the connection whose callback runs, at the end of its
    /// run, as with [`Connection::send`](crate::Connection::send). A connection that is still being
    /// opened keeps it until then.
    pub fn send_to(&mut self, key: Key, data: &[u8]) -> Sent {
        self.core.send_general(key, Data::Bytes(data))
    }

    /// Appends `data` to the output of connection `key` without copying it, for fan-out: every
    /// connection that it waits in counts it in full. A small piece is copied after all, which takes
    /// less than keeping it would.
    pub fn send_shared_to(&mut self, key: Key, data: Rc<[u8]>) -> Sent {
        self.core.send_general(key, Data::shared(&data))
    }

    /// Appends `data` to the output of connection `key` without copying it, unless it is short: for what a
    /// [`blocking`](crate::blocking()) job has made. See [`Connection::send_owned`](crate::Connection::send_owned).
    pub fn send_owned_to(&mut self, key: Key, data: Vec<u8>) -> Sent {
        self.core.send_owned(key, data)
    }

    /// Sends a datagram with the datagram socket `key`: to `to`, or to whom it is connected. It leaves in
    /// the flush phase, of the next turn if this one's is over; see
    /// [`DatagramSocket::send_to`](crate::DatagramSocket::send_to).
    pub fn send_datagram(&mut self, key: Key, to: Option<&SocketAddress>, data: &[u8]) -> Queued {
        self.core.send_datagram(key, None, to, data)
    }

    /// The same, and has it leave from this address of the machine, for a UDP socket that is bound to all of them: for
    /// an answer that is given later, from [`Datagram::to`](crate::Datagram::to). Within the callback of the datagram
    /// [`DatagramSocket::send_to`](crate::DatagramSocket::send_to) sees to that. What goes wrong, `on_send_failed` tells:
    /// also that this machine has no such address; and elsewhere than on Linux `Unsupported`.
    pub fn send_datagram_from(
        &mut self,
        key: Key,
        from: IpAddr,
        to: &SocketAddress,
        data: &[u8],
    ) -> Queued {
        self.core.send_datagram(key, Some(from), Some(to), data)
    }

    /// Closes connection `key` as [`Connection::close`](crate::Connection::close) does, the datagram socket
    /// `key`, or deregisters the raw source `key`.
    pub fn close_key(&mut self, key: Key) {
        self.core.close(key, CloseReason::Closed);
    }

    /// Resets connection `key`: see [`Connection::abort`](crate::Connection::abort).
    pub fn abort_key(&mut self, key: Key) {
        self.core.abort(key);
    }

    /// Half-closes connection `key`: see
    /// [`Connection::shutdown_write`](crate::Connection::shutdown_write).
    pub fn shutdown_write_key(&mut self, key: Key) {
        self.core.shutdown_write(key);
    }

    /// Stops showing data to connection `key`, and reading it: see
    /// [`Connection::pause`](crate::Connection::pause).
    pub fn pause_key(&mut self, key: Key) {
        self.core.pause(key);
    }

    /// Undoes a pause, in the next turn.
    pub fn resume_key(&mut self, key: Key) {
        self.core.resume(key);
    }

    /// From now on what connection `from` receives goes to connection `to`, and its handler is not shown it.
    /// What the handler has not consumed goes first; from a callback of `from` that is what it leaves.
    ///
    /// The pressure comes back: `from` is not read from while the output of `to` is over its high watermark.
    /// The end of file goes on: when the peer of `from` sends no more, ours is sent to that of `to` behind all
    /// that was forwarded, and [`on_peer_closed`](crate::StreamHandler::on_peer_closed) is not called. When one
    /// of the two ends, the other one is closed as [`OtherSide`](CloseReason::OtherSide), after its output was
    /// written; with a reset, and as [`Reset`](CloseReason::Reset), if the first one did not end in good order. All
    /// other callbacks, limits and deadlines are as ever; pausing and resuming `from` is the reactor's business. So a peer
    /// that takes nothing for [`write_stall_timeout`](crate::Limits::write_stall_timeout) is reset, also one that only
    /// pauses a download, and two that say nothing for [`idle_timeout`](crate::Limits::idle_timeout) are closed.
    ///
    /// A pipe is done with the end of file that it passed on, and leaves the other one open: for the other direction, if
    /// that is forwarded as well, else to its handler. That is told the end of file which a pipe has taken.
    ///
    /// A drain leaves both alone, in either direction, because only their peers know when they are done: they go on
    /// until those close, or for as long as the drain may take. When their forwarding is
    /// [ended](Self::end_forward), or a pipe was all that one had to do with, they drain.
    ///
    /// For both directions call it twice. Whether it could begin: not if one of them is not open, if they are
    /// the same, if `from` forwards already or has come to its end, if something is forwarded to `to` already
    /// or it sends no more.
    ///
    /// # Cost
    ///
    /// No system call. What is received is written straight from the buffer that all reads go to, in the same
    /// phase and from the same budget; only what the kernel does not take then is copied.
    pub fn forward(&mut self, from: Key, to: Key) -> bool {
        self.core.forward(from, to)
    }

    /// Ends that: what `from` receives from now on is its handler's, and an end of file that was forwarded is told
    /// it. What was forwarded is still written. Whether it went on.
    pub fn end_forward(&mut self, from: Key) -> bool {
        self.core.end_forward(from)
    }

    /// Asks for a call of [`on_poke`](crate::StreamHandler::on_poke) for connection `key`, in this
    /// turn's mail phase, or the next one's if that has begun. Several pokes before that are one call.
    /// A connection that is not open gets none. For the connection whose callback runs, take its key
    /// first: `let key = conn.key(); conn.poke(key);`.
    pub fn poke(&mut self, key: Key) {
        self.core.poke(key);
    }

    /// How much went over connection `key` so far, also by a [forward](Self::forward) of which its handler is not told; in
    /// its [`on_close`](crate::StreamHandler::on_close), all that did. None if it is no connection, or no more.
    pub fn traffic(&self, key: Key) -> Option<Traffic> {
        self.core.traffic(key)
    }

    /// Whether connection `key` is open: `on_open` has returned, and it was not closed since.
    pub fn is_open(&self, key: Key) -> bool {
        self.core.is_open(key)
    }

    /// Begins a connection to `to`, to be served by this handler: an address, whoever has a name, or the first that
    /// answers of several addresses; see [`Destination`]. It ends in
    /// [`on_open`](crate::StreamHandler::on_open), whose connection says
    /// [`Origin::Connected`](crate::Origin::Connected) with `tag`, or in
    /// [`on_connect_failed`](crate::StreamHandler::on_connect_failed). While the reactor stops it does
    /// nothing, and the key finds nothing.
    ///
    /// ```
    /// use oneloop::{Address, Connection, Context, Error, StreamHandler};
    ///
    /// struct Client {
    ///     server: Address, // "db.example:5432".parse()?
    /// }
    ///
    /// impl StreamHandler for Client {
    ///     type Session = ();
    ///
    ///     fn on_start(&mut self, cx: &mut Context<'_>) {
    ///         cx.connect(&self.server, 0);
    ///     }
    ///
    ///     fn on_open(&mut self, conn: &mut Connection<'_>) {
    ///         conn.send(b"hello").ignore();
    ///     }
    ///
    ///     fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
    ///         Ok(data.len())
    ///     }
    /// }
    /// ```
    ///
    /// [`connect_timeout`](Limits::connect_timeout) is for all of it, with the look-up of a name. It is one
    /// connection among the reactor's all the while, also while several addresses are tried.
    ///
    /// # Cost
    ///
    /// socket, setsockopt, connect and epoll_ctl, in this turn's flush phase, or the next one's if that has
    /// begun; getsockopt, getpeername and getsockname when it opens. To a Unix socket without setsockopt and
    /// getsockname; while the backlog of its listener is full, socket and connect again after 1 ms at first
    /// and later 100 ms, until [`connect_timeout`](Limits::connect_timeout). A name with something to look up is a
    /// [`blocking`](crate::blocking()) job of the reactor's own; numbers are no job. Of several addresses each that
    /// is tried has the cost of a connect, and the one that is connected another epoll_ctl.
    ///
    /// # Panics
    ///
    /// In a callback of a raw source, or of a handler of datagrams only, which serves no connections: see
    /// [`connect_for`](Self::connect_for).
    pub fn connect(&mut self, to: impl Into<Destination>, tag: u64) -> Key {
        let options = Rc::clone(&self.core.connect_options);
        self.core.connect(self.stream_handler(), to.into(), tag, options)
    }

    /// [`connect`](Self::connect) for another handler, which will serve the connection.
    ///
    /// # Panics
    ///
    /// If the handler's name comes from another reactor, or from
    /// [`add_datagram_handler`](crate::Reactor::add_datagram_handler).
    pub fn connect_for<H: StreamHandler>(
        &mut self,
        handler: HandlerId<H>,
        to: impl Into<Destination>,
        tag: u64,
    ) -> Key {
        self.core.assert_serves(handler);
        let options = Rc::clone(&self.core.connect_options);
        self.core.connect(handler.index, to.into(), tag, options)
    }

    fn stream_handler(&self) -> u16 {
        assert_ne!(self.handler, NO_HANDLER, "this callback's handler serves no connections");
        self.handler
    }

    /// [`connect`](Self::connect) with limits of its own, or from an address of one's choice.
    ///
    /// # Cost
    ///
    /// As [`connect`](Self::connect), and that of the options. They are shared and not copied.
    ///
    /// # Panics
    ///
    /// If the limits contradict each other; and as [`connect`](Self::connect).
    pub fn connect_with(
        &mut self,
        to: impl Into<Destination>,
        tag: u64,
        options: &Rc<ConnectOptions>,
    ) -> Key {
        options.limits.assert_valid();
        self.core.connect(self.stream_handler(), to.into(), tag, Rc::clone(options))
    }

    /// Sets a timer of the handler itself, also in a callback of one of its connections: calls
    /// [`on_handler_timer`](crate::StreamHandler::on_handler_timer) once, when `after` has passed since
    /// [`now`](Self::now), never earlier. A timer set by a timer's callback fires in a later turn. While the
    /// reactor stops it does nothing, and the name finds nothing.
    ///
    /// A timer of a connection, which ends with it, is
    /// [`Connection::set_timer`](crate::Connection::set_timer), with a callback of its own.
    ///
    /// # Cost
    ///
    /// O(1), however many timers there are.
    ///
    /// # Panics
    ///
    /// In a callback of a raw source, or of a handler of datagrams only, which has no such method.
    pub fn set_handler_timer(&mut self, after: Duration) -> TimerId {
        let purpose = Purpose::Handler(self.stream_handler());
        if self.core.stopping {
            return TimerId::NONE;
        }
        self.core.timers.set(self.core.now + after, Duration::ZERO, purpose)
    }

    /// Sets an interval of the handler itself: calls
    /// [`on_handler_timer`](crate::StreamHandler::on_handler_timer) whenever another `period` has passed
    /// since [`now`](Self::now), until the timer is cancelled. The beat does not drift. Beats that were
    /// missed while the loop was busy are left out: one call comes for all of them. For one connection it is
    /// [`Connection::set_interval`](crate::Connection::set_interval).
    ///
    /// # Cost
    ///
    /// As [`set_handler_timer`](Self::set_handler_timer).
    ///
    /// # Panics
    ///
    /// If the period is zero; in a callback of a raw source, or of a handler of datagrams only, which has no such
    /// method.
    pub fn set_handler_interval(&mut self, period: Duration) -> TimerId {
        assert_ne!(period, Duration::ZERO, "an interval takes some time");
        let purpose = Purpose::Handler(self.stream_handler());
        if self.core.stopping {
            return TimerId::NONE;
        }
        self.core.timers.set(self.core.now + period, period, purpose)
    }

    /// Moves a timer of any kind (one that fires once, an interval, of a connection or a handler), to fire when `after`
    /// has passed since [`now`](Self::now); an interval keeps its period from there. Whether the timer was
    /// still to come: one that fired is not set again.
    pub fn rearm_timer(&mut self, timer: TimerId, after: Duration) -> bool {
        self.core.may_fire(timer) && self.core.timers.rearm(timer, self.core.now + after)
    }

    /// Cancels a timer of any kind; whether it was still to come.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        let was_to_come = self.core.may_fire(timer);
        self.core.timers.cancel(timer) && was_to_come
    }

    /// What the loop did so far.
    pub fn stats(&self) -> &Stats {
        &self.core.stats
    }

    /// Begins to listen on `address`, for this handler, in this turn's flush phase, or the next one's if that
    /// has begun; [`on_listening`](crate::StreamHandler::on_listening) tells what came of it. While the
    /// reactor stops it does nothing, of which nobody is told, and the name finds nothing.
    ///
    /// # Panics
    ///
    /// If the limits contradict each other; and in a callback of a raw source, or of a handler of datagrams only, which
    /// serves no connections.
    pub fn listen(
        &mut self,
        address: impl Into<SocketAddress>,
        options: &ListenOptions,
    ) -> ListenerId {
        options.limits.assert_valid();
        self.core.listen(self.stream_handler(), address.into(), options)
    }

    /// Closes a listener at the end of this turn; its connections go on. The kernel resets the
    /// connections in its backlog that were not accepted. One that has not opened yet never does, and its
    /// handler's [`on_listening`](crate::StreamHandler::on_listening) is told so.
    pub fn close_listener(&mut self, listener: ListenerId) {
        self.core.close_listener(listener);
    }

    /// Sets the limits of the connections that a listener accepts from now on: see
    /// [`Reactor::set_listener_limits`](crate::Reactor::set_listener_limits). They are shared and not
    /// copied. A listener that is out of date is no error.
    ///
    /// # Panics
    ///
    /// If the limits contradict each other.
    pub fn set_listener_limits(&mut self, listener: ListenerId, limits: &Rc<Limits>) {
        limits.assert_valid();
        self.core.set_listener_limits(listener, Rc::clone(limits));
    }

    /// Drains the reactor, beginning in this turn's flush phase, or the next one's if that has begun: see
    /// [`Reactor::drain`](crate::Reactor::drain). While the reactor stops it does nothing.
    pub fn drain(&mut self, timeout: Duration) {
        self.core.drain(timeout);
    }

    /// Whether the reactor drains: who would begin something new leaves it. From the call of
    /// [`drain`](Self::drain) to its end; also while that closes who stayed.
    pub fn is_draining(&self) -> bool {
        self.core.drain.is_some()
    }

    /// Stops the reactor: everything is closed as [`Stopped`](CloseReason::Stopped) at the end of this
    /// turn, without a flush, and then `run` returns.
    pub fn stop(&mut self) {
        self.core.stopping = true;
    }
}
