//! Addresses to connect to, on the command line: the library's grammar, with the names in it looked up.

use std::net::SocketAddr;

use anyhow::{Result, bail};
use oneloop::Address;

/// The socket address to connect to: the first, in the order that the system gives them. Looking up blocks.
///
/// # Errors
///
/// A name that cannot be looked up, all addresses, or what is not TCP.
pub(crate) fn to_connect_to(address: &Address) -> Result<SocketAddr> {
    match address {
        Address::Tcp(_) => Ok(address.look_up()?[0]),
        _ => bail!("only TCP is measured"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_connect_to(text: &str) -> Result<SocketAddr> {
        super::to_connect_to(&text.parse().unwrap())
    }

    #[test]
    fn a_name_is_looked_up() {
        let address = to_connect_to("localhost:http").unwrap();
        assert!(address.ip().is_loopback() && address.port() == 80, "{address}");
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        for (text, part) in [
            ("*:7000", "'*' stands for all addresses"),
            ("udp://127.0.0.1:53", "only TCP is measured"),
            ("unix:/run/app.sock", "only TCP is measured"),
            ("fd:3", "only TCP is measured"),
            ("127.0.0.1:no-such", "there is no TCP service \"no-such\""),
        ] {
            let error = to_connect_to(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
