//! The names that a host, a service and an interface may have.

use super::error::{Result, excerpt, fail, quoted};

/// No top-level domain is a number (RFC 3696, 2), but getaddrinfo(3) reads much as IPv4 that few would.
pub(super) fn ends_in_a_number(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    let hexadecimal = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()),
    }
}

/// RFC 1123, 2.1, and RFC 1035, 2.3.4.
pub(super) fn fault_of_host(name: &str) -> Option<String> {
    if let Some(c) = name.chars().find(|&c| !c.is_ascii_alphanumeric() && !"-_.".contains(c)) {
        return Some(if c.is_alphanumeric() {
            format!(
                "has {}, which is not ASCII: write the name as the DNS has it, xn--...",
                quoted(c)
            )
        } else {
            format!("has {}: a name has letters, digits, '-', '_' and '.'", quoted(c))
        });
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 253 {
        return Some(format!("has {} characters; a name has at most 253", name.len()));
    }
    name.split('.').find_map(|label| {
        let shown = excerpt(label);
        if label.is_empty() {
            Some("has nothing before or between its dots".into())
        } else if label.len() > 63 {
            Some(format!("has {} characters between dots, and at most 63 may be", label.len()))
        } else if label.starts_with('-') || label.ends_with('-') {
            Some(format!("has the part \"{shown}\", which begins or ends with '-'"))
        } else {
            None
        }
    })
}

/// RFC 6335, 5.1, without what it says of length and of '-' side by side, and with '_': services(5) files have
/// older names.
pub(super) fn fault_of_service(name: &str) -> Option<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if let Some(c) = name.chars().find(|&c| !is_allowed(c)) {
        Some(format!("has {}", quoted(c)))
    } else if name.starts_with('-') || name.ends_with('-') {
        Some("begins or ends with '-'".into())
    } else if !name.bytes().any(|b| b.is_ascii_alphabetic()) {
        Some("has no letter".into())
    } else {
        None
    }
}

/// An interface: its index, or a name as netdevice(7) and the kernel have it.
pub(super) fn parse_scope(text: &str) -> Result<String> {
    const NAME_BYTES_MAX: usize = 15; // IFNAMSIZ is 16, with the NUL
    let shown = excerpt(text);
    if text.is_empty() {
        return fail("the scope after '%' is missing: [fe80::1%eth0]:PORT");
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse::<u32>() {
            Ok(0) => fail("scope 0 is no interface: they are counted from 1"),
            Ok(index) => Ok(index.to_string()),
            Err(_) => fail(format!("scope {shown} is over {}", u32::MAX)),
        };
    }
    if let Some(c) = text.chars().find(|&c| !c.is_ascii_graphic() || "/:%[".contains(c)) {
        return fail(format!(
            "the scope \"{shown}\" has {}, and is no interface's name",
            quoted(c)
        ));
    }
    if text.len() > NAME_BYTES_MAX {
        return fail(format!(
            "the scope \"{shown}\" has {} bytes; an interface's name has at most {NAME_BYTES_MAX}",
            text.len()
        ));
    }
    if text == "." || text == ".." {
        return fail(format!("the scope \"{text}\" is no interface's name"));
    }
    Ok(text.into())
}
