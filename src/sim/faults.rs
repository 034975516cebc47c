//! What may go wrong in a simulation, and how often.

use std::fmt;
use std::time::Duration;

/// Which fake kernel a simulation has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// Does what Linux does: level-triggered listeners, events that carry all that is true when they
    /// are taken, a short read that means drained, a short write that means full.
    Linux,
    /// Grants only what mio promises: an event comes only after a call said `WouldBlock`, listeners
    /// are edges too, a short read or write means nothing, hints about the peer's end may be missing, events
    /// may be spurious and come in any order.
    Contract,
}

/// What a fault can be set to.
trait Setting {
    fn makes_sense(&self) -> bool;
}

impl Setting for f64 {
    fn makes_sense(&self) -> bool {
        (0.0..=1.0).contains(self)
    }
}

impl Setting for u64 {
    fn makes_sense(&self) -> bool {
        *self > 0
    }
}

impl Setting for usize {
    fn makes_sense(&self) -> bool {
        *self > 0
    }
}

impl Setting for Duration {
    fn makes_sense(&self) -> bool {
        true
    }
}

/// Writes the struct of faults as a table: one row a fault, with its documentation and the value that
/// means "never"; each gets a setter for building.
macro_rules! faults {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $none:expr,)*) => {
        /// What may go wrong, and how often. Probabilities are from 0 (never) to 1 (always), for each
        /// occasion that is named.
        ///
        /// Faults are a host's. Where two hosts have faults of their own for each other
        /// ([`Simulation::set_link_faults`](super::Simulation::set_link_faults)), those hold for their
        /// connections in place of the hosts': for what a host sends on them, how it reads from them, and
        /// the connects. Events, accepts, registrations, stalls and clocks are always the host's.
        ///
        /// # Panics
        ///
        /// A method panics if it is given a probability that is not from 0 to 1, or a size of 0 bytes.
        ///
        /// ```
        /// use oneloop::sim::Faults;
        ///
        /// let faults = Faults::none().short_reads(0.5).resets(0.01);
        /// ```
        #[derive(Clone, PartialEq)]
        pub struct Faults {
            $(pub(crate) $field: $type,)*
        }

        impl Faults {
            /// A network without latency and without faults.
            pub fn none() -> Faults {
                Faults { $($field: $none,)* }
            }

            /// Each of these faults, or its absence, as `toss` says.
            pub(crate) fn select(&self, toss: &mut impl FnMut() -> bool) -> Faults {
                Faults { $($field: if toss() { self.$field } else { $none },)* }
            }

            /// Those that `acted` names, and those that act without being chosen.
            pub(crate) fn only(&self, acted: impl Fn(&str) -> bool) -> Faults {
                let mut faults = Faults::none();
                $(
                    let name = match stringify!($field) {
                        "stall_max" => "stalls",
                        "slow_job_max" => "slow_jobs",
                        "clock_jump_max" => "clock_jumps",
                        name => name,
                    };
                    let is_always = ["latency_min", "bandwidth", "send_buffer_bytes",
                        "receive_buffer_bytes"].contains(&name);
                    if is_always || acted(name) {
                        faults.$field = self.$field;
                    }
                )*
                faults
            }

            /// The names of those that there are.
            pub(crate) fn names(&self) -> Vec<&'static str> {
                let none = Faults::none();
                let mut names = Vec::new();
                $(
                    if self.$field != none.$field {
                        names.push(stringify!($field));
                    }
                )*
                names
            }

            $(
                $(#[$doc])*
                #[must_use]
                #[track_caller]
                pub fn $field(mut self, value: $type) -> Faults {
                    let name = stringify!($field);
                    assert!(value.makes_sense(), "Faults::{name} cannot be {value:?}");
                    self.$field = value;
                    self
                }
            )*
        }

        /// Those that there are.
        impl fmt::Debug for Faults {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let none = Faults::none();
                let mut fields = f.debug_struct("Faults");
                $(
                    if self.$field != none.$field {
                        fields.field(stringify!($field), &self.$field);
                    }
                )*
                fields.finish()
            }
        }
    };
}

faults! {
    /// The kernel, for each read: it gives a part of what is there, down to one byte. (On
    /// [`Kernel::Linux`] a short read means drained, so there it delays the rest's arrival instead,
    /// which looks the same to a handler.)
    short_reads: f64 = 0.0,
    /// The kernel, for each write: it takes a part, down to one byte.
    short_writes: f64 = 0.0,
    /// The kernel, for each poll: an event comes for a source for which nothing has changed.
    spurious_events: f64 = 0.0,
    /// The kernel, for each poll: the events come in another order.
    reordered_events: f64 = 0.0,
    /// The kernel, for each poll: only some of the events come, the others with a later poll.
    truncated_events: f64 = 0.0,
    /// The kernel, for each poll: a signal interrupts it, and it reports nothing (`EINTR`).
    interrupted_polls: f64 = 0.0,
    /// The kernel, for each accept: the connection was aborted meanwhile (`ECONNABORTED`).
    aborted_accepts: f64 = 0.0,
    /// The kernel, for each accept: descriptors have run out (`EMFILE`).
    descriptors_out: f64 = 0.0,
    /// The kernel, for each accept: memory has run out (`ENOBUFS`).
    memory_out: f64 = 0.0,
    /// The kernel, for each connection and each datagram socket that is to be watched: that fails (`ENOSPC`).
    failed_registrations: f64 = 0.0,
    /// A host, for each of its turns: it stands still for up to [`stall_max`](Faults::stall_max).
    stalls: f64 = 0.0,
    /// How long a stall lasts at most.
    stall_max: Duration = Duration::from_millis(100),
    /// A host, for each of its turns: its clock jumps ahead by up to [`clock_jump_max`](Faults::clock_jump_max).
    clock_jumps: f64 = 0.0,
    /// How far a clock jumps at most.
    clock_jump_max: Duration = Duration::from_secs(10),
    /// The network: how long a byte is under way at least.
    latency_min: Duration = Duration::ZERO,
    /// The network: how long a byte is under way at most, if that is more than
    /// [`latency_min`](Faults::latency_min).
    latency_max: Duration = Duration::ZERO,
    /// The network: bytes a second of one direction of a connection.
    bandwidth: u64 = u64::MAX,
    /// The network, for each write: what was written arrives in two parts, the later one late.
    split_deliveries: f64 = 0.0,
    /// The network, for each end of file: it comes up to a second after the last byte.
    late_ends: f64 = 0.0,
    /// The network, for each write: somewhere in these bytes the connection is reset, for both sides.
    resets: f64 = 0.0,
    /// The network, for each reset that a side sends: it destroys what that side sent before, and is
    /// still on its way.
    destructive_resets: f64 = 0.0,
    /// The network, for each connect: it is refused.
    refused_connects: f64 = 0.0,
    /// The network, for each connect: it is not answered.
    unanswered_connects: f64 = 0.0,
    /// The network, for each write: the peer vanishes without a word; `ETIMEDOUT` comes at the end of
    /// the retransmissions.
    vanishing_peers: f64 = 0.0,
    /// Bytes that a socket takes before it says `WouldBlock`.
    send_buffer_bytes: usize = 256 * 1024,
    /// Bytes that a socket receives before its window closes. A UDP socket has twice as many, as with `SO_RCVBUF`
    /// (socket(7)), for what comes and the kernel's bookkeeping, which for a small datagram is 832 bytes; it drops what
    /// finds no room.
    receive_buffer_bytes: usize = 128 * 1024,
    /// The kernel, for each connect of a reactor: it cannot begin now, and no event will tell when it can
    /// (`EAGAIN`), as with a Unix listener whose backlog is full.
    busy_connects: f64 = 0.0,
    /// The network, for each datagram: it is lost.
    lost_datagrams: f64 = 0.0,
    /// The network, for each datagram: it arrives twice.
    duplicated_datagrams: f64 = 0.0,
    /// The network, for each datagram: it comes up to a tenth of a second later than it would, after others
    /// that were sent later.
    late_datagrams: f64 = 0.0,
    /// The kernel, for each datagram that is sent: its queue is full (`EAGAIN`), and has room again a little
    /// later.
    full_sends: f64 = 0.0,
    /// A host, for each look-up of a name: nobody can say.
    failed_lookups: f64 = 0.0,
    /// A host, for each [blocking job](crate::blocking()) and each look-up of a name: it takes up to
    /// [`slow_job_max`](Faults::slow_job_max), and not some milliseconds.
    slow_jobs: f64 = 0.0,
    /// How long a slow job takes at most.
    slow_job_max: Duration = Duration::from_secs(3),
}

impl Faults {
    /// Every kernel and network may be like this on a bad day: some of everything.
    pub fn some() -> Faults {
        Faults::none()
            .short_reads(0.2)
            .short_writes(0.2)
            .spurious_events(0.05)
            .reordered_events(0.3)
            .truncated_events(0.2)
            .interrupted_polls(0.02)
            .aborted_accepts(0.02)
            .descriptors_out(0.02)
            .memory_out(0.01)
            .failed_registrations(0.01)
            .stalls(0.01)
            .clock_jumps(0.001)
            .latency_max(Duration::from_millis(20))
            .split_deliveries(0.2)
            .late_ends(0.2)
            .resets(0.005)
            .destructive_resets(0.5)
            .refused_connects(0.02)
            .unanswered_connects(0.02)
            .vanishing_peers(0.001)
            .send_buffer_bytes(8 * 1024)
            .receive_buffer_bytes(4 * 1024)
            .busy_connects(0.1)
            .lost_datagrams(0.05)
            .duplicated_datagrams(0.05)
            .late_datagrams(0.1)
            .full_sends(0.05)
            .failed_lookups(0.05)
            .slow_jobs(0.05)
    }

    /// How many latencies there are to choose from, each a nanosecond more than the one before.
    pub(crate) fn latencies(&self) -> u64 {
        let spread = self.latency_max.saturating_sub(self.latency_min);
        u64::try_from(spread.as_nanos()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Only what delays and cuts: every byte of a connection arrives in the end, and every datagram that finds
    /// room, once.
    pub fn lossless() -> Faults {
        Faults::some()
            .clock_jumps(0.0)
            .aborted_accepts(0.0)
            .descriptors_out(0.0)
            .memory_out(0.0)
            .failed_registrations(0.0)
            .resets(0.0)
            .destructive_resets(0.0)
            .refused_connects(0.0)
            .unanswered_connects(0.0)
            .vanishing_peers(0.0)
            .lost_datagrams(0.0)
            .duplicated_datagrams(0.0)
            .failed_lookups(0.0)
    }
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::none()
    }
}
