//! The parser: an address is a kind, then what that kind has.

use std::str::FromStr;

use super::error::{AddressError, Result, excerpt, fail, quoted};
use super::{Address, Endpoint, SocketName, UnixName};

const KINDS: [&str; 6] = ["tcp", "udp", "unix", "unixgram", "fd", "systemd"];

fn kind(text: &str) -> Option<&'static str> {
    KINDS.into_iter().find(|kind| kind.eq_ignore_ascii_case(text))
}

/// Whether a text before a colon is a kind, and no host.
pub(super) fn is_kind(text: &str) -> bool {
    kind(text).is_some()
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads an address.
    ///
    /// # Cost
    ///
    /// A few passes over the text, and allocations for names, paths and errors.
    fn from_str(text: &str) -> Result<Address> {
        if text.trim().is_empty() {
            return fail("the address is empty: write HOST:PORT, such as 127.0.0.1:7000 or *:7000");
        }
        if text.trim_start() != text {
            return fail("there is a blank before the address");
        }
        if text.trim_end() != text {
            return fail("there is a blank after the address");
        }
        if text.starts_with(['/', '@']) || text.starts_with("./") || text.starts_with("../") {
            return fail(format!(
                "\"unix:\" is missing before a Unix socket: unix:{}",
                excerpt(text)
            ));
        }
        let (before, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind(before) {
            Some("tcp") => Endpoint::parse(after_slashes("tcp", rest)?).map(Address::Tcp),
            Some("udp") => Endpoint::parse(after_slashes("udp", rest)?).map(Address::Udp),
            Some("unix") => UnixName::parse(rest).map(Address::Unix),
            Some("unixgram") => UnixName::parse(rest).map(Address::UnixDatagram),
            Some("fd") => descriptor(without_slashes("fd", rest)?).map(Address::Fd),
            Some("systemd") => socket_name(without_slashes("systemd", rest)?).map(Address::Systemd),
            _ if rest.starts_with("//") => fail(format!(
                "the kind \"{}\" is unknown: there are tcp://, udp://, unix:, unixgram:, fd: and systemd:",
                excerpt(before)
            )),
            _ => Endpoint::parse(text).map(Address::Tcp),
        }
    }
}

fn after_slashes<'a>(kind: &str, rest: &'a str) -> Result<&'a str> {
    match rest.strip_prefix("//") {
        Some(rest) => Ok(rest),
        None => {
            let advice = excerpt(if rest.is_empty() { "HOST:PORT" } else { rest });
            fail(format!("\"//\" is missing after \"{kind}:\": {kind}://{advice}"))
        }
    }
}

fn without_slashes<'a>(kind: &str, rest: &'a str) -> Result<&'a str> {
    match rest.strip_prefix("//") {
        Some(rest) => fail(format!("\"{kind}:\" has no \"//\" after it: {kind}:{}", excerpt(rest))),
        None => Ok(rest),
    }
}

fn descriptor(text: &str) -> Result<u32> {
    let shown = excerpt(text);
    if text.is_empty() {
        return fail("the descriptor is missing: fd:3");
    }
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return fail(format!("the descriptor \"{shown}\" is no number: fd:3"));
    }
    match text.parse() {
        Ok(descriptor) => Ok(descriptor),
        Err(_) => fail(format!("the descriptor {shown} is over {}", u32::MAX)),
    }
}

/// sd_listen_fds_with_names(3).
fn socket_name(text: &str) -> Result<SocketName> {
    const CHARS_MAX: usize = 255;
    let shown = excerpt(text);
    if text.is_empty() {
        return fail("the name of systemd's socket is missing: systemd:NAME");
    }
    if let Some(c) = text.chars().find(|&c| !(' '..='~').contains(&c) || c == ':') {
        return fail(format!(
            "the name \"{shown}\" of systemd's socket has {}: it is printable ASCII without ':'",
            quoted(c)
        ));
    }
    if text.len() > CHARS_MAX {
        let length = text.len();
        return fail(format!(
            "the name \"{shown}\" of systemd's socket has {length} characters, and at most {CHARS_MAX} may be"
        ));
    }
    Ok(SocketName(text.into()))
}
