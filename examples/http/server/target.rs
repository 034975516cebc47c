//! What a request is about: its target (RFC 9112, 3.2), and the host.

use std::net::Ipv6Addr;

use super::request::Method;
use super::response::Refused;

/// Path and query of a target.
pub(super) fn split(target: &str, method: Method) -> Result<(&str, &str), Refused> {
    let is_path = target.starts_with('/');
    if target == "*" && method == Method::Options
        || target != "*" && method == Method::Known && !is_path
    {
        return Ok((target, "")); // of a CONNECT, say, which is refused anyhow
    }
    let path = if is_path { target } else { strip_host(target)? };
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    if path.contains('#') || query.contains('#') {
        return Err(Refused::new(400, "the request target has a fragment"));
    }
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// What follows scheme and host, which are not ours to judge, but must be some.
fn strip_host(target: &str) -> Result<&str, Refused> {
    let is_scheme = |scheme: &str| ["http", "https"].iter().any(|s| scheme.eq_ignore_ascii_case(s));
    match target.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
        Some((_, rest)) => {
            let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            if is_host(host) { Ok(path) } else { Err(Refused::new(400, "that is no host")) }
        }
        None => Err(Refused::new(400, "the request target is no path")),
    }
}

/// Whether it is a host as RFC 3986, 3.2.2 has it, and a port perhaps.
pub(super) fn is_host(text: &str) -> bool {
    let (is_host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let may_be = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&b);
            (!name.is_empty() && name.bytes().all(may_be), port)
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}
