//! The same scripts, with a client on a Unix socket.

use crate::{Script, compare, of_clients, of_handlers, of_much, random_script};

fn over_unix(script: Script) -> Script {
    Script { name: format!("over Unix: {}", script.name), is_unix: true, ..script }
}

#[test]
fn data_and_ends_of_a_client_on_a_unix_socket_are_the_same() {
    of_clients().into_iter().map(over_unix).for_each(|script| compare(&script));
}

#[test]
fn what_handlers_do_to_a_client_on_a_unix_socket_is_the_same() {
    // Without a reset nothing tells of the client's end before it is read.
    let ends = |script: &Script| script.name != "reset of a paused one";
    of_handlers().into_iter().filter(ends).map(over_unix).for_each(|script| compare(&script));
}

#[test]
fn what_fills_buffers_of_unix_sockets_is_the_same() {
    of_much().into_iter().map(over_unix).for_each(|script| compare(&script));
}

#[test]
fn random_scripts_over_unix_sockets_are_the_same() {
    (0..300).map(random_script).map(over_unix).for_each(|script| compare(&script));
}
