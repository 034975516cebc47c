//! The promises that are made to a handler.

mod support;

use support::*;

#[test]
fn on_open_is_first_and_on_close_is_last_and_each_comes_once() {
    let mut server = Server::new(Recorder::echo());
    let (mut client, _) = server.open();
    server.assert_echoes(&mut client);
    drop(client);
    server.until_closed(1);
    server.assert_idle();
}
