//! In how many packets it leaves.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use nix::libc::{IPPROTO_TCP, TCP_INFO, getsockopt, socklen_t};

use crate::support::*;

/// How many segments with data have come (linux/tcp.h, `tcpi_data_segs_in`).
fn segments_in(client: &TcpStream) -> u32 {
    const PLACE: usize = 152;
    let mut info = [0_u8; 256];
    let mut len = info.len() as socklen_t;
    // SAFETY: the kernel writes `len` bytes at most, which `info` has.
    let result = unsafe {
        getsockopt(client.as_raw_fd(), IPPROTO_TCP, TCP_INFO, info.as_mut_ptr().cast(), &mut len)
    };
    assert!(result == 0 && len as usize >= PLACE + 4, "{result}, {len}");
    u32::from_ne_bytes(info[PLACE..PLACE + 4].try_into().unwrap())
}

#[test]
fn what_stands_before_a_file_leaves_in_one_packet_with_its_beginning() {
    let file = file_of(&pattern(1_000));
    let mut server = Server::new(Recorder::new().data(move |conn, data| {
        conn.send(b"head").ignore();
        conn.send_file(&file, 0..1_000).ignore();
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    for asked in 1..=10 {
        client.write_all(b"x").unwrap();
        assert_eq!(server.read(&mut client, 1_004)[..4], *b"head");
        assert_eq!(segments_in(&client), asked);
    }
}

#[test]
fn two_sends_of_one_callback_leave_in_one_packet() {
    let mut server = Server::new(Recorder::new().data(move |conn, data| {
        conn.send(b"one").ignore();
        conn.send(b"two").ignore();
        Ok(data.len())
    }));
    let (mut client, _) = server.open();
    client.write_all(b"x").unwrap();
    assert_eq!(server.read(&mut client, 6), b"onetwo");
    assert_eq!(segments_in(&client), 1);
}
