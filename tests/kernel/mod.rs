//! What the kernel itself says of sockets and processes, from /proc.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::DEADLINE;

/// Waits until the kernel says so.
pub fn until(what: &str, mut is_done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_done() {
        assert!(start.elapsed() < DEADLINE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// One line of /proc/net/tcp.
struct Line {
    received: usize,
    inode: u64,
}

/// The socket between two ports, seen from the first one.
fn socket_between(port: u16, peer: u16) -> Option<Line> {
    let port_of = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|file| {
        let table = std::fs::read_to_string(file).ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if port_of(fields[1]) != Some(port) || port_of(fields[2]) != Some(peer) {
                return None;
            }
            let (_, received) = fields[4].split_once(':')?;
            Some(Line {
                received: usize::from_str_radix(received, 16).ok()?,
                inode: fields[9].parse().ok()?,
            })
        })
    })
}

/// What every socket of a port has received and its process has not read, by the peer's port.
pub fn received_of(port: u16) -> BTreeMap<u16, usize> {
    let port_of = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let sockets = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, received) = fields[4].split_once(':')?;
        let is_its = port_of(fields[1]) == Some(port);
        is_its.then_some((port_of(fields[2])?, usize::from_str_radix(received, 16).ok()?))
    });
    sockets.collect()
}

/// Waits until the server's socket holds at least so many bytes that its process has not read, so
/// that a poll will report them; an end of file counts as one.
pub fn until_received(server: SocketAddr, client: &TcpStream, count: usize) {
    let client = client.local_addr().unwrap().port();
    until(&format!("{count} bytes have arrived"), || {
        socket_between(server.port(), client).is_some_and(|line| line.received >= count)
    });
}

/// A duplicate of this process's own descriptor of the socket that `client` is connected to.
pub fn server_side_of(client: &TcpStream) -> OwnedFd {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let (ours, theirs) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    let inode = socket_between(theirs.port(), ours.port()).expect("it is connected").inode;
    let name = format!("socket:[{inode}]");
    let number = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(Result::ok)
        .find(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == &name[..]))
        .expect("the socket is this process's own")
        .file_name();
    let number = number.to_str().unwrap().parse().unwrap();
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    pidfd_getfd(this, number, PidfdGetfdFlags::empty()).unwrap()
}

/// How long a process has been on a processor.
pub fn cpu_time(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos = tasks.map(|task| {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat"));
        text.ok().and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0_u64)
    });
    Duration::from_nanos(nanos.sum())
}

/// The most bytes that a process has had in memory at any time (proc_pid_status(5), `VmHWM`).
pub fn resident_peak_of(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
}

/// Descriptors that a process has open.
pub fn descriptors_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Lets this process open as many descriptors as it may, and says whether these are enough.
pub fn may_open(descriptors: u64) -> bool {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= descriptors) {
        return true;
    }
    let wanted = limit.maximum.unwrap_or(descriptors);
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }).unwrap();
    wanted >= descriptors
}
