//! What holds for every text as an address, and for every address as a text. `tests/address_random.rs` tries it with
//! random ones, `fuzz/` with those that a fuzzer makes.

#![allow(dead_code, reason = "every user of it uses a part")]
#![allow(missing_docs, unreachable_pub, reason = "nobody outside of the tests sees it")]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use oneloop::Address;
use oneloop::address::UnixName;

/// Paths compare by components, which would not notice all differences.
pub fn path(address: &Address) -> Option<&OsStr> {
    match address {
        Address::Unix(name) | Address::UnixDatagram(name) => name.as_path().map(AsRef::as_ref),
        _ => None,
    }
}

/// With one slash for those at the beginning, which are one.
fn trimmed(path: &OsStr) -> Vec<u8> {
    let bytes = path.as_bytes();
    let slashes = bytes.iter().take_while(|&&b| b == b'/').count();
    bytes[slashes.saturating_sub(1)..].to_vec()
}

pub fn assert_round_trip(address: &Address, from: &str) {
    let text = address.to_string();
    let again: Address = text
        .parse()
        .unwrap_or_else(|error| panic!("{from}: {address:?} is written {text:?}: {error}"));
    assert_eq!(&again, address, "{from}, {text:?}");
    assert_eq!(path(&again).map(trimmed), path(address).map(trimmed), "{from}, {text:?}");
    assert_eq!(again.to_string(), text, "{from}");
}

/// Reads it, whatever it is; what was read is written in such a way that it can be read again, and an error is
/// one short line.
pub fn read(text: &str) {
    match text.parse::<Address>() {
        Ok(address) => assert_round_trip(&address, &format!("{text:?}")),
        Err(error) => {
            let message = error.to_string();
            assert!(!message.is_empty() && message.chars().count() < 250, "{text:?}: {message}");
            assert!(!message.chars().any(char::is_control), "{text:?}: {message:?}");
        }
    }
}

/// The same of any bytes: as a text, if they are one, and as the name of a Unix socket, where that may be.
pub fn address(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        read(text);
    }
    let path = UnixName::from_path(OsString::from_vec(bytes.to_vec()));
    for name in [path, UnixName::from_abstract(bytes)].into_iter().flatten() {
        let text = Address::Unix(name.clone()).to_string();
        let is_plain = |c: char| !c.is_control() && !c.is_whitespace();
        assert!(text.chars().all(is_plain), "{text:?} would be more than a word of a log line");
        assert_round_trip(&Address::Unix(name), &format!("{bytes:?}"));
    }
}
