//! What no client should send, and in which order the rest may come: the scripts in `vtc/`, which varnishtest(1) runs.
//! vtc(7) says how to read them.

use std::path::Path;
use std::process::Stdio;

use crate::example::start_client;
use crate::site::Site;

/// Runs a script against the server of this site.
fn run(script: &str, site: &Site) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/vtc").join(script);
    let address = format!("addr={}", site.server.address);
    let program = varnishtest();
    let mut client =
        start_client(&program, &["-D", &address, script.to_str().unwrap()], Stdio::null());
    let (status, printed, _) = client.end();
    let printed = String::from_utf8_lossy(&printed);
    let last: Vec<_> = printed.lines().rev().take(40).collect();
    let last: Vec<_> = last.into_iter().rev().collect();
    assert!(status.success(), "{status}: ...\n{}", last.join("\n"));
}

/// `./test` does not install the package that it comes in, as that would start a server, but unpacks it.
fn varnishtest() -> String {
    let unpacked =
        Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools/usr/bin/varnishtest");
    if unpacked.exists() {
        unpacked.to_str().unwrap().to_string()
    } else {
        "varnishtest".to_string()
    }
}

#[test]
fn lengths_that_can_be_read_in_two_ways_are_refused() {
    run("lengths.vtc", &Site::start());
}

#[test]
fn heads_that_are_not_as_the_grammar_has_them_are_refused() {
    run("lines.vtc", &Site::start());
}

#[test]
fn chunks_are_read_as_the_grammar_has_them() {
    run("chunks.vtc", &Site::start());
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    run("pipelining.vtc", &Site::start());
}

#[test]
fn a_connection_is_kept_as_long_as_both_want() {
    run("keep_alive.vtc", &Site::start());
}

#[test]
fn what_is_too_much_has_a_status_of_its_own() {
    run("limits.vtc", &Site::start());
}

#[test]
fn a_body_is_invited_once() {
    run("continue.vtc", &Site::start());
}

#[test]
fn who_is_too_slow_with_a_request_is_told_so() {
    run("deadlines.vtc", &Site::start_with(&["--patience", "1"]));
}
