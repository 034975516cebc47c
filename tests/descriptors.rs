//! Descriptors of the process: the reactor's own, and those of others that it must not harm.

mod support;

use std::time::Duration;

use support::*;

#[test]
fn the_epoll_descriptor_and_next_wait_embed_a_reactor_in_another_loop() {
    use std::os::fd::AsRawFd;
    let mut reactor = Reactor::new().unwrap();
    assert_eq!(reactor.next_wait(), None, "nothing to wait for");
    assert!(reactor.as_raw_fd() > 2);
    let handler = reactor.add(Recorder::new());
    assert_eq!(reactor.next_wait(), Some(Duration::ZERO), "on_start is due");
    let _watchdog = Watchdog::new("on_start has come");
    reactor.turn(None).unwrap();
    reactor.context(handler).set_handler_timer(Duration::from_secs(3600));
    let wait = reactor.next_wait().unwrap();
    assert!(wait > Duration::from_secs(3590) && wait <= Duration::from_secs(3600), "{wait:?}");
}
