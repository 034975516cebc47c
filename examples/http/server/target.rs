//! What a request is about: its target (RFC 9112, 3.2), and the host.

use std::net::Ipv6Addr;

use super::request::Method;
use super::response::Refused;

/// Path and query of a target.
pub(super) fn split(target: &str, method: Method) -> Result<(&str, &str), Refused> {
    let is_path = target.starts_with('/');
    let is_authority = method == Method::Known && !is_path && !target.contains(['/', '*']);
    if is_authority || target == "*" && method == Method::Options {
        return Ok((target, "")); // a CONNECT's is refused anyhow
    }
    let path = if is_path { target } else { strip_host(target)? };
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    if path.contains('#') || query.contains('#') {
        return Err(Refused::new(400, "the request target has a fragment"));
    }
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// What follows scheme and host. Which host that is makes no difference, but it must be one.
fn strip_host(target: &str) -> Result<&str, Refused> {
    let is_scheme = |scheme: &str| ["http", "https"].iter().any(|s| scheme.eq_ignore_ascii_case(s));
    let Some((_, rest)) = target.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
        return Err(Refused::new(400, "the request target is no path"));
    };
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if is_host(host.as_bytes()) { Ok(path) } else { Err(Refused::new(400, "that is no host")) }
}

/// Whether `text` is a host (RFC 3986, 3.2.2, but no address of a later version), with a port or
/// without.
pub(super) fn is_host(text: &[u8]) -> bool {
    let position = |wanted| text.iter().position(|byte| *byte == wanted);
    let (is_host, port) = match (text, position(b']')) {
        ([b'[', ..], Some(end)) => {
            let address = str::from_utf8(&text[1..end]);
            (address.is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()), &text[end + 1..])
        }
        _ => {
            let (name, port) = text.split_at(position(b':').unwrap_or(text.len()));
            let may_be = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(b);
            (!name.is_empty() && name.iter().all(may_be), port)
        }
    };
    is_host && matches!(port, [] | [b':', ..]) && port.iter().skip(1).all(u8::is_ascii_digit)
}
