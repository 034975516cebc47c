//! The limits and options that the command line asks for.

use std::time::Duration;

use oneloop::{DatagramOptions, Limits, ListenOptions, ReactorLimits, SocketOptions};

use crate::args::{ConnectionArguments, ListenerArguments, ReactorArguments};

pub(super) fn reactor_limits(arguments: &ReactorArguments) -> ReactorLimits {
    let limits = ReactorLimits::new().connections_max(arguments.max_connections);
    let limits = set(limits, arguments.events_per_poll, ReactorLimits::events_per_poll_max);
    let limits = set(limits, arguments.memory_max, ReactorLimits::memory_bytes_max);
    set(limits, arguments.read_buffer, ReactorLimits::read_buffer_bytes)
}

pub(super) fn limits(listener: &ListenerArguments, connection: &ConnectionArguments) -> Limits {
    let limits = Limits::new();
    let limits = set(limits, listener.accepts_per_turn, Limits::accepts_per_turn_max);
    let limits = set(limits, listener.max_per_listener, Limits::connections_max);
    let limits = set(limits, listener.max_per_address, Limits::connections_per_address_max);
    let limits = set(limits, connection.read_bytes_per_turn, Limits::read_bytes_per_turn_max);
    let limits = set(limits, connection.reads_per_turn, Limits::reads_per_turn_max);
    let limits = set(limits, connection.write_bytes_per_turn, Limits::write_bytes_per_turn_max);
    let limits = set(limits, connection.output_low, Limits::output_bytes_low);
    let limits = set(limits, connection.output_high, Limits::output_bytes_high);
    let limits = set(limits, connection.output_max, Limits::output_bytes_max);
    let limits = set(limits, connection.linger, Limits::linger_timeout);
    let limits = set(limits, connection.drain_linger, Limits::drain_linger_timeout);
    let limits = if connection.no_deadlines { without_deadlines(limits) } else { limits };
    let limits = set(limits, connection.output_soft, Limits::output_bytes_soft);
    let limits = set(limits, connection.output_soft_time, Limits::output_soft_timeout);
    let limits = set(limits, connection.write_stall, Limits::write_stall_timeout);
    let limits = set(limits, connection.first_byte, Limits::first_byte_timeout);
    set(limits, connection.idle, Limits::idle_timeout)
}

pub(super) fn listen_options(listener: &ListenerArguments, limits: Limits) -> ListenOptions {
    let options = ListenOptions::new()
        .reuse_port(listener.reuse_port)
        .only_v6(listener.only_v6)
        .limits(limits);
    let options = set(options, listener.backlog, ListenOptions::backlog);
    if listener.no_nodelay {
        return options.socket(SocketOptions::new().nodelay(false));
    }
    options
}

/// Of the options of listeners those that mean something for a socket without connections.
pub(super) fn datagram_options(listener: &ListenerArguments) -> DatagramOptions {
    DatagramOptions::new().reuse_port(listener.reuse_port).only_v6(listener.only_v6)
}

fn without_deadlines(limits: Limits) -> Limits {
    limits
        .output_soft_timeout(Duration::MAX)
        .write_stall_timeout(Duration::MAX)
        .first_byte_timeout(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .message_timeout(Duration::MAX)
}

/// Sets a limit if it was given.
fn set<L, T>(limits: L, value: Option<T>, setter: impl FnOnce(L, T) -> L) -> L {
    match value {
        Some(value) => setter(limits, value),
        None => limits,
    }
}
