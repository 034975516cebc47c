//! What receiving and sending datagrams in batches would save: a thread echoes small datagrams over UDP on loopback,
//! with many of them in flight, once by recvfrom(2) and sendto(2) as the reactor does it, and once by recvmmsg(2) and
//! sendmmsg(2), which take many datagrams a call; or neighbours of one length for one receiver are handed to the kernel
//! as one (GSO, udp(7)), which the reactor does with the feature `udp-batch`, and quinn-udp does together with
//! recvmmsg(2).
//!
//! The server's socket does not block; it polls when there is nothing to do, and handles at most 64 datagrams before it
//! would look at others. One thread stands for all clients: each has a window of datagrams, and sends the
//! next one when an answer has come. Printed is the processor time of the server's thread for each datagram, which
//! contains their way through loopback to the clients' sockets, and its system calls.
//!
//! Then a flow in one direction, to who only receives: sent one by one or as one (GSO), and received with recvfrom(2), or
//! gathered by the kernel with recvmsg(2) (GRO). Loopback gathers nothing that was sent one by one; what was sent as one
//! it leaves together for who asked for that. Printed is the processor time for each datagram, of the receiver's thread
//! and of both threads, because on loopback the sender does a part of the receiver's work.
//!
//! All ways take turns within one run. Compare the lines of one run: the nanoseconds are the machine's.
//!
//! ```sh
//! cargo run --release -p oneloop-datagrams [THOUSANDS [ROUNDS]]     100,000 datagrams at a time, 7 rounds
//! ```

#[cfg(target_os = "linux")]
mod batches;
#[cfg(target_os = "linux")]
mod flow;
#[cfg(target_os = "linux")]
mod measure;

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    measure::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("only Linux has these calls");
}
