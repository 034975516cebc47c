//! Every limit of the reactor: its unit, its default, and why.
//!
//! There are three groups: [`Limits`] hold for the connections of one listener or one outbound connect,
//! [`DatagramLimits`] for one datagram socket, [`ReactorLimits`] for all of a reactor.

use std::io;
use std::time::Duration;

/// Writes a struct of limits as a table: one row a limit, with its documentation and default; each
/// gets a setter for building.
macro_rules! limits {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $(
                #[doc = concat!("Set by [`", stringify!($field), "`](Self::", stringify!($field), "()).")]
                pub $field: $type,
            )*
        }

        impl $name {
            /// The defaults.
            pub fn new() -> Self {
                $name { $($field: $default,)* }
            }

            $(
                $(#[$doc])*
                #[must_use]
                pub fn $field(mut self, value: $type) -> Self {
                    self.$field = value;
                    self
                }
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                $name::new()
            }
        }
    };
}

limits! {
    /// Limits of the connections that come from one listener, or of one outbound connection.
    ///
    /// ```
    /// use oneloop::Limits;
    ///
    /// let limits = Limits::new().input_bytes_max(1 << 20).connections_max(500);
    /// ```
    Limits {
        /// Connections accepted in one turn; the rest wait for the next one. Default 64: enough to
        /// empty a backlog of thousands in a few milliseconds, few enough that established
        /// connections do not notice.
        accepts_per_turn_max: usize = 64,
        /// Connections open at once through this listener; at the limit accepting pauses, and the
        /// kernel's backlog holds the rest. Default: no limit but the reactor's own.
        connections_max: usize = usize::MAX,
        /// Connections open at once from one client address (an IPv4 address, the /64 of an IPv6 address, or
        /// the user of a client on a Unix socket, which costs a system call an accept) through this listener;
        /// one more is closed at once. Default: no limit, because
        /// behind a proxy or an address translator all clients have one address.
        connections_per_address_max: usize = usize::MAX,
        /// Bytes read from one connection in one turn. Default 64 KiB: a budget of some ten
        /// microseconds, which is what others wait for.
        read_bytes_per_turn_max: usize = 64 * 1024,
        /// Reads from one connection in one turn. Default 8: small reads are dear, and a peer that
        /// sends byte by byte must not be worth more turns than the others.
        reads_per_turn_max: usize = 8,
        /// Frames of one connection that a [`Framed`](crate::codec::Framed) handler is shown in one turn, or messages in
        /// [`for_each_message`](crate::codec::for_each_message); the rest waits for the next one. Default 1024: a peer can
        /// put as many frames into its bytes as these are, and each of them is a call. It is some hundred microseconds,
        /// which is what others wait for.
        frames_per_turn_max: usize = 1024,
        /// Bytes written to one connection in one run of its callbacks, or in one flush; the rest follows in later
        /// turns. In the usual case what a run has sent itself is written at once, up to `output_bytes_high` if that is
        /// more. Default 256 KiB: a large answer leaves in a few turns, between which the others are served.
        write_bytes_per_turn_max: usize = 256 * 1024,
        /// Bytes received and not yet consumed by the handler; a connection whose handler consumes
        /// nothing of that many is closed as
        /// [`InputTooLong`](crate::CloseReason::InputTooLong). It is also the most that `on_data` is
        /// shown at once. Default 64 KiB: a large message of a usual protocol.
        input_bytes_max: usize = 64 * 1024,
        /// Output bytes at which a connection that was over its high watermark is reading and
        /// producing again. Default 16 KiB: something is left to send while the producer wakes up.
        output_bytes_low: usize = 16 * 1024,
        /// Output bytes over which a connection is not read from and a producer is asked to stop.
        /// Default 64 KiB: one read's worth of answers.
        output_bytes_high: usize = 64 * 1024,
        /// Parts of [files](crate::Connection::send_file) that may wait; with more of them the output is over its high
        /// watermark, however short they are, and has drained when there are no more, nor more bytes than
        /// `output_bytes_low`. Each keeps its file open. Default 1: one is sent while the next one is got.
        output_files_high: usize = 1,
        /// Output bytes that the kernel refused over which the connection is closed as
        /// [`SlowReader`](crate::CloseReason::SlowReader). What waits in
        /// [files](crate::Connection::send_file) is not counted. Default 1 MiB: the kernel itself holds some
        /// megabytes before that.
        output_bytes_max: usize = 1024 * 1024,
        /// Parts of files that the kernel has not taken, over which the connection is closed as
        /// [`SlowReader`](crate::CloseReason::SlowReader). Default 64: for a producer that does not wait for its peer, and
        /// would use up the descriptors of all.
        output_files_max: usize = 64,
        /// Output bytes over which a connection may not stay for all of
        /// [`output_soft_timeout`](Limits::output_soft_timeout). If `output_bytes_high` is more, that
        /// counts. What waits in files is not counted.
        /// Default 256 KiB: more than a producer that stops at the high watermark ever has waiting.
        output_bytes_soft: usize = 256 * 1024,
        /// How long more than [`output_bytes_soft`](Limits::output_bytes_soft) may wait, before the
        /// connection is closed as [`OutputSoftTimeout`](crate::CloseReason::OutputSoftTimeout). Default 60 s.
        output_soft_timeout: Duration = Duration::from_secs(60),
        /// How long the peer may take none of the output that waits, or less of it than
        /// [`output_rate_min`](Limits::output_rate_min) asks for, before the connection is closed as
        /// [`WriteStallTimeout`](crate::CloseReason::WriteStallTimeout). Default 60 s: the kernel has sent it
        /// again many times by then.
        write_stall_timeout: Duration = Duration::from_secs(60),
        /// Bytes a second that the peer must take of the output that waits, on average over each
        /// [`write_stall_timeout`](Limits::write_stall_timeout) that some waits all the time, also while the connection
        /// closes. 0 asks for none. Default 64, against clients that take a byte now and then to hold their place: an
        /// honest one on a bad link takes more.
        output_rate_min: usize = 64,
        /// How long the peer may send nothing after the connection opened, before it is closed as
        /// [`FirstByteTimeout`](crate::CloseReason::FirstByteTimeout). A pause of the connection gives it
        /// the whole time anew. Default: for ever, because in some
        /// protocols clients only listen; `idle_timeout` bounds it.
        first_byte_timeout: Duration = Duration::MAX,
        /// How long nothing may be received and nothing sent, before the connection is closed as
        /// [`IdleTimeout`](crate::CloseReason::IdleTimeout). What the server sends counts, too: whoever sends a heartbeat
        /// and wants an answer to it [expects](crate::Connection::expect_within) one. It rests while the
        /// handler pauses the connection, whose end is the handler's to see to then. Default ten minutes:
        /// a peer that vanished without a word holds its place no longer than that.
        idle_timeout: Duration = Duration::from_secs(600),
        /// How long the handler may leave input unconsumed, before the connection is closed as
        /// [`MessageTimeout`](crate::CloseReason::MessageTimeout): what it waits for is the rest of a
        /// message, and consuming a part of the input begins a new one. It rests while the connection is
        /// paused or over its high watermark. Default 60 s, against clients that send a byte now and
        /// then to hold their place.
        message_timeout: Duration = Duration::from_secs(60),
        /// Bytes a second that a message must come at, on average since
        /// [`input_rate_grace`](Limits::input_rate_grace) after its first byte, before the connection
        /// is closed as [`InputTooSlow`](crate::CloseReason::InputTooSlow). Default 0, which asks for none.
        input_rate_min: usize = 0,
        /// How long a message may come at any rate. Default 5 s.
        input_rate_grace: Duration = Duration::from_secs(5),
        /// How long a closing connection may go on without progress: without the peer taking
        /// output, and, after our end of file, without the peer's. Default 5 s: a few
        /// retransmissions. How slowly it may take the output all in all says
        /// [`output_rate_min`](Limits::output_rate_min).
        linger_timeout: Duration = Duration::from_secs(5),
        /// How long a closing connection may go on after our end of file while the reactor drains and the peer sends
        /// nothing, if that is shorter than [`linger_timeout`](Limits::linger_timeout): who has been sent everything, and
        /// does not close, holds up the end of the reactor no longer. It has been sent what the kernel took: if it has not
        /// received all of that, it still does unless it sends something after the end, which the kernel answers with a
        /// reset. Default 1 s: some round trips.
        drain_linger_timeout: Duration = Duration::from_secs(1),
        /// How long an outbound connection may take to open. Default 10 s: three retransmissions of
        /// the SYN (tcp(7), `tcp_syn_retries`: the kernel itself gives up after two minutes). To a Unix socket
        /// it is how long its backlog may stay full. Of a name it is for the look-up as well.
        connect_timeout: Duration = Duration::from_secs(10),
    }
}

limits! {
    /// Limits of a whole reactor.
    ReactorLimits {
        /// Events taken from the kernel by one poll. Default 1024: an event costs some hundred
        /// nanoseconds to take, and what does not fit is reported by the next poll.
        events_per_poll_max: usize = 1024,
        /// Connections open at once, accepted and outbound together. The table is reserved for that
        /// many when the reactor is made, at about 100 bytes each. Default 10,240, below which the
        /// descriptors usually end first.
        connections_max: usize = 10_240,
        /// Bytes held in the buffers of all connections, and of all datagrams that wait to be sent; over it who holds
        /// the most is relieved of it, until an eighth is free: a connection is closed as
        /// [`MemoryLimit`](crate::CloseReason::MemoryLimit), a datagram socket loses all that waits, of which
        /// [`on_send_failed`](crate::DatagramHandler::on_send_failed) tells (`OutOfMemory`). It is judged after every run of
        /// a connection's callbacks (a run that only sends to others is judged with the next one), so it is exceeded by
        /// what two runs send and no more. A reference-counted piece counts for every connection that it waits in.
        /// Default 256 MiB.
        memory_bytes_max: usize = 256 * 1024 * 1024,
        /// Timers fired in one turn, and connections' deadlines looked at; what else is due comes in the
        /// next one, after the connections that are ready by then. Default 1024.
        timers_per_turn_max: usize = 1024,
        /// Messages delivered in one turn, of all mailboxes together; the rest waits for the next one, in
        /// its order. Mailboxes that have more than fits share what there is: each that has something
        /// gets an equal part first. Default 1024, as for timers: a burst of some hundred microseconds,
        /// which is what others wait for.
        messages_per_turn_max: usize = 1024,
        /// The size of the buffer that all connections are read into. Default 64 KiB: a larger read
        /// is not faster, and it has to stay in the cache.
        read_buffer_bytes: usize = 64 * 1024,
    }
}

limits! {
    /// Limits of one datagram socket.
    DatagramLimits {
        /// Datagrams received in one turn, and as many sent, tried on receivers without room, or put behind others that
        /// wait for such a receiver; the rest waits for the next turn. Default 64: some hundred microseconds, which is what
        /// others wait for.
        datagrams_per_turn_max: usize = 64,
        /// Bytes received in one turn, and as many sent; the last datagram may go over it. So may those that were
        /// [gathered](crate::DatagramOptions::gather) with the last one, and over the number, too. Default 256 KiB.
        bytes_per_turn_max: usize = 256 * 1024,
        /// Datagrams that wait to be sent; one more is dropped, and its sender told so
        /// ([`Queued::Full`](crate::Queued::Full)). Default 1024: the kernel's own queue holds some hundred.
        queue_len_max: usize = 1024,
        /// Bytes of datagrams that wait to be sent; one that goes over it is dropped, unless it would be
        /// alone. All queues count for [`memory_bytes_max`](ReactorLimits::memory_bytes_max), too. Default 1 MiB.
        queue_bytes_max: usize = 1024 * 1024,
        /// How long a datagram of a Unix socket that names a receiver without room, or finds the socket's own
        /// [buffer](crate::DatagramOptions::send_buffer_bytes) full, stands aside for others to pass before it is dropped, of
        /// which [`on_send_failed`](crate::DatagramHandler::on_send_failed) tells (`WouldBlock`). It is tried again and again
        /// meanwhile, after one to ten milliseconds, and when the buffer has room. Sooner it is dropped for want of room in the
        /// queue: the one that has stood aside for the longest then makes room for one to somebody else. Default 1 s: a
        /// receiver that was only late has read by then.
        send_timeout: Duration = Duration::from_secs(1),
    }
}

impl DatagramLimits {
    /// Whether the limits make sense.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, with the name of the limit and what it must be.
    pub fn check(&self) -> io::Result<()> {
        check_counts(&[
            (self.datagrams_per_turn_max, "datagrams_per_turn_max"),
            (self.bytes_per_turn_max, "bytes_per_turn_max"),
            (self.queue_len_max, "queue_len_max"),
            (self.queue_bytes_max, "queue_bytes_max"),
        ])?;
        check_times(&[(self.send_timeout, "send_timeout")])
    }
}

fn check_counts(counts: &[(usize, &str)]) -> io::Result<()> {
    match counts.iter().find(|(value, _)| *value == 0) {
        Some((_, name)) => Err(invalid(format!("the limit {name} is 0; it must be at least 1"))),
        None => Ok(()),
    }
}

fn check_times(times: &[(Duration, &str)]) -> io::Result<()> {
    match times.iter().find(|(value, _)| *value == Duration::ZERO) {
        Some((_, name)) => {
            Err(invalid(format!("the limit {name} is 0; for no limit it is Duration::MAX")))
        }
        None => Ok(()),
    }
}

impl Limits {
    /// The most that one read may bring: no more than the handler can be shown, nor than a turn's
    /// budget.
    pub(crate) fn read_max(&self) -> usize {
        self.input_bytes_max.min(self.read_bytes_per_turn_max)
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

impl Limits {
    /// # Panics
    ///
    /// If the limits make no sense, with what is wrong.
    pub(crate) fn assert_valid(&self) {
        if let Err(error) = self.check() {
            panic!("{error}");
        }
    }

    /// Whether the limits make sense. Whatever takes limits asks for itself; this is for those that come
    /// from a file, say, before a callback [sets](crate::Connection::set_limits) them.
    ///
    /// # Errors
    ///
    /// `InvalidInput`, with the name of the limit and what it must be.
    pub fn check(&self) -> io::Result<()> {
        let counts = [
            (self.accepts_per_turn_max, "accepts_per_turn_max"),
            (self.connections_max, "connections_max"),
            (self.connections_per_address_max, "connections_per_address_max"),
            (self.read_bytes_per_turn_max, "read_bytes_per_turn_max"),
            (self.reads_per_turn_max, "reads_per_turn_max"),
            (self.frames_per_turn_max, "frames_per_turn_max"),
            (self.write_bytes_per_turn_max, "write_bytes_per_turn_max"),
            (self.input_bytes_max, "input_bytes_max"),
            (self.output_bytes_high, "output_bytes_high"),
        ];
        check_counts(&counts)?;
        // Zero stands for "off" elsewhere; here it would end every connection at once.
        let times = [
            (self.connect_timeout, "connect_timeout"),
            (self.first_byte_timeout, "first_byte_timeout"),
            (self.idle_timeout, "idle_timeout"),
            (self.message_timeout, "message_timeout"),
            (self.write_stall_timeout, "write_stall_timeout"),
            (self.output_soft_timeout, "output_soft_timeout"),
        ];
        check_times(&times)?;
        if self.output_bytes_low >= self.output_bytes_high {
            return Err(invalid(format!(
                "the limit output_bytes_low ({}) must be under output_bytes_high ({})",
                self.output_bytes_low, self.output_bytes_high
            )));
        }
        if self.output_bytes_high > self.output_bytes_max {
            return Err(invalid(format!(
                "the limit output_bytes_high ({}) must not be over output_bytes_max ({})",
                self.output_bytes_high, self.output_bytes_max
            )));
        }
        if self.output_files_high > self.output_files_max {
            return Err(invalid(format!(
                "the limit output_files_high ({}) must not be over output_files_max ({})",
                self.output_files_high, self.output_files_max
            )));
        }
        Ok(())
    }
}

impl ReactorLimits {
    /// # Errors
    ///
    /// `InvalidInput`, with the name of the limit and what it must be.
    pub(crate) fn check(&self) -> io::Result<()> {
        let counts = [
            (self.events_per_poll_max, "events_per_poll_max"),
            (self.connections_max, "connections_max"),
            (self.memory_bytes_max, "memory_bytes_max"),
            (self.timers_per_turn_max, "timers_per_turn_max"),
            (self.messages_per_turn_max, "messages_per_turn_max"),
            (self.read_buffer_bytes, "read_buffer_bytes"),
        ];
        check_counts(&counts)?;
        // What is reserved when the reactor is made has to be there.
        let reserved = [
            (self.events_per_poll_max, 1 << 20, "events_per_poll_max"),
            (self.connections_max, 1 << 26, "connections_max"),
            (self.read_buffer_bytes, 1 << 30, "read_buffer_bytes"),
        ];
        for (value, max, name) in reserved {
            if value > max {
                return Err(invalid(format!(
                    "the limit {name} is {value}; it must be at most {max}"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        Limits::new().check().unwrap();
        ReactorLimits::new().check().unwrap();
    }

    #[test]
    fn a_bad_limit_is_named() {
        let error = Limits::new().output_bytes_low(65536).check().unwrap_err();
        assert!(error.to_string().contains("output_bytes_low (65536)"), "{error}");
        let error = Limits::new().reads_per_turn_max(0).check().unwrap_err();
        assert!(error.to_string().contains("reads_per_turn_max"), "{error}");
        let error = Limits::new().idle_timeout(Duration::ZERO).check().unwrap_err();
        assert!(error.to_string().contains("idle_timeout is 0"), "{error}");
        let error = DatagramLimits::new().send_timeout(Duration::ZERO).check().unwrap_err();
        assert!(error.to_string().contains("send_timeout is 0"), "{error}");
        let error = ReactorLimits::new().connections_max(usize::MAX).check().unwrap_err();
        assert!(error.to_string().contains("connections_max"), "{error}");
    }
}
