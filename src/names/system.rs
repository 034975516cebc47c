//! The system's resolver.

use std::net::{IpAddr, SocketAddr};

use super::{NameError, Resolver};
use crate::address::{Address, Endpoint};

/// Asks the system: files, the DNS, and what else nsswitch.conf(5) says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemResolver;

impl Resolver for SystemResolver {
    fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, NameError> {
        Ok(Address::Tcp(endpoint.clone()).look_up()?)
    }

    #[cfg(feature = "names")]
    fn host_name(&self, ip: IpAddr) -> Result<String, NameError> {
        use std::io;

        use dns_lookup::{LookupErrorKind, lookup_addr};

        lookup_addr(&ip).map_err(|error| match error.kind() {
            LookupErrorKind::NoName | LookupErrorKind::NoData => NameError::NotFound,
            _ => NameError::Failed(io::Error::from(error).into()),
        })
    }

    /// The standard library has no such look-up.
    #[cfg(not(feature = "names"))]
    fn host_name(&self, _: IpAddr) -> Result<String, NameError> {
        Err(NameError::Failed("the names of addresses need oneloop's feature \"names\"".into()))
    }
}
