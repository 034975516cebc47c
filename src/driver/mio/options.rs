//! Socket options, set: tcp(7), ip(7), ipv6(7), socket(7).

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use log::Level;
use rustix::net::sockopt;

use crate::address::SocketAddress;
use crate::socket_options::SocketOptions;

/// Sets what was asked for on a socket of that address, before it is bound or connected: the buffers decide
/// on the window's scale, and a device and a free bind on what may be bound. `told` is how loudly the log says
/// that the system gave less than was asked for.
pub(super) fn set(
    socket: &OwnedFd,
    address: &SocketAddress,
    options: &SocketOptions,
    told: Level,
) -> io::Result<()> {
    match address {
        SocketAddress::Inet(address) => {
            sockopt::set_tcp_nodelay(socket, options.nodelay.unwrap_or(true))?;
            set_asked(socket, address, options, told)
        }
        // The kernel makes an accepted Unix socket anew: nothing is handed down to it. That a connected one has
        // buffers is not worth a difference.
        SocketAddress::Unix(_) | SocketAddress::Unnamed => options.only(&[], "on a Unix socket"),
    }
}

#[cfg(not(target_os = "linux"))]
fn set_asked(_: &OwnedFd, _: &SocketAddr, options: &SocketOptions, _: Level) -> io::Result<()> {
    options.only(&["nodelay"], "on this platform")
}

#[cfg(target_os = "linux")]
fn set_asked(
    socket: &OwnedFd,
    address: &SocketAddr,
    options: &SocketOptions,
    told: Level,
) -> io::Result<()> {
    let raw = socket2::SockRef::from(socket);
    if let Some(keepalive) = options.keepalive {
        let set = || {
            sockopt::set_tcp_keepidle(socket, keepalive.idle)?;
            sockopt::set_tcp_keepintvl(socket, keepalive.interval)?;
            sockopt::set_tcp_keepcnt(socket, keepalive.count)?;
            sockopt::set_socket_keepalive(socket, true)
        };
        named("keepalive", set())?;
    }
    set_buffers(socket, options.receive_buffer_bytes, options.send_buffer_bytes, told)?;
    if let Some(timeout) = options.user_timeout {
        let millis = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        named("user_timeout", sockopt::set_tcp_user_timeout(socket, millis))?;
    }
    if let Some(class) = options.traffic_class {
        if address.is_ipv6() {
            named("traffic_class", sockopt::set_ipv6_tclass(socket, class.into()))?;
        }
        // Also on an IPv6 socket, for its IPv4 clients.
        named("traffic_class", sockopt::set_ip_tos(socket, class))?;
    }
    if let Some(bytes) = options.unsent_low_bytes {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        named("unsent_low_bytes", raw.set_tcp_notsent_lowat(bytes))?;
    }
    if let Some(device) = &options.device {
        named("device", raw.bind_device(Some(device.as_bytes())))?;
    }
    if let Some(time) = options.defer_accept {
        use nix::sys::socket::setsockopt;
        let seconds = i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
        named("defer_accept", setsockopt(socket, listening::DeferAccept, &seconds))?;
    }
    if let Some(queue) = options.fast_open {
        use nix::sys::socket::setsockopt;
        named("fast_open", check_fast_open())?;
        let queue = i32::try_from(queue).unwrap_or(i32::MAX);
        named("fast_open", setsockopt(socket, listening::FastOpen, &queue))?;
    }
    if options.freebind {
        let set = match address {
            SocketAddr::V4(_) => sockopt::set_ip_freebind(socket, true),
            SocketAddr::V6(_) => sockopt::set_ipv6_freebind(socket, true),
        };
        named("freebind", set)?;
    }
    Ok(())
}

/// Sets the sizes of the kernel's buffers that were asked for; `told` is as above.
pub(super) fn set_buffers(
    socket: &OwnedFd,
    receive: Option<usize>,
    send: Option<usize>,
    told: Level,
) -> io::Result<()> {
    if let Some(bytes) = receive {
        const NAME: &str = "receive_buffer_bytes";
        named(NAME, sockopt::set_socket_recv_buffer_size(socket, bytes))?;
        tell_if_less(told, NAME, bytes, named(NAME, sockopt::socket_recv_buffer_size(socket))?);
    }
    if let Some(bytes) = send {
        const NAME: &str = "send_buffer_bytes";
        named(NAME, sockopt::set_socket_send_buffer_size(socket, bytes))?;
        tell_if_less(told, NAME, bytes, named(NAME, sockopt::socket_send_buffer_size(socket))?);
    }
    Ok(())
}

/// No crate has them ready; this one has a way to say it without `unsafe` here.
#[cfg(target_os = "linux")]
mod listening {
    use nix::{libc, setsockopt_impl, sockopt_impl};

    sockopt_impl!(
        /// `TCP_DEFER_ACCEPT`.
        DeferAccept,
        SetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
        i32
    );

    sockopt_impl!(
        /// `TCP_FASTOPEN`.
        FastOpen,
        SetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_FASTOPEN,
        i32
    );
}

/// The kernel takes the option whether or not it serves such clients (its `ip-sysctl` document).
#[cfg(target_os = "linux")]
fn check_fast_open() -> io::Result<()> {
    const SERVERS: u32 = 2;
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_fastopen")?;
    if text.trim().parse::<u32>().is_ok_and(|bits| bits & SERVERS != 0) {
        return Ok(());
    }
    let message = format!(
        "the system does not serve it: net.ipv4.tcp_fastopen is {}, and has to have the bit {SERVERS} (sysctl)",
        text.trim()
    );
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}

fn named<T, E: Into<io::Error> + Display>(name: &str, result: Result<T, E>) -> io::Result<T> {
    result.map_err(|error| {
        let message = format!("the socket option {name}: {error}");
        io::Error::new(error.into().kind(), message)
    })
}

/// Linux doubles what it is told, for its own bookkeeping (socket(7)).
fn tell_if_less(level: Level, name: &str, asked: usize, got: usize) {
    let got = if cfg!(target_os = "linux") { got / 2 } else { got };
    if got < asked {
        log::log!(
            level,
            "the socket option {name} is {got} instead of {asked}: the system allows no more"
        );
    }
}
