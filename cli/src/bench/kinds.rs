//! Our own server on several kinds of sockets, side by side: `oneloop bench --kinds tcp,unix,udp`.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;

use anyhow::{Context, Result};
use clap::ValueEnum;
use oneloop::SocketAddress;
use oneloop::address::UnixName;

use super::contestant::Contestant;
use super::scratch::{Scratch, prefix};

/// A kind of socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// TCP, on loopback.
    Tcp,
    /// A Unix stream socket with a path.
    Unix,
    /// A Unix stream socket with an abstract name.
    Abstract,
    /// UDP, on loopback.
    Udp,
}

impl Kind {
    pub(super) fn takes_ports(self) -> bool {
        matches!(self, Kind::Tcp | Kind::Udp)
    }
}

/// Where the servers on Unix sockets listen: a name, and a directory, which is removed at the end, with all
/// that servers left in it.
pub(super) struct Names {
    directory: Scratch,
}

impl Names {
    /// # Errors
    ///
    /// The directory cannot be made, or not seen to that it goes.
    pub(super) fn new() -> Result<Names> {
        let directory = Scratch::new("")?;
        let made = DirBuilder::new().mode(0o700).create(directory.path());
        made.with_context(|| format!("cannot make {}", directory.path().display()))?;
        Ok(Names { directory })
    }

    /// # Errors
    ///
    /// See [`Contestant::own_on`]; the directory for temporary files is too long a path.
    pub(super) fn contestant(&self, kind: Kind) -> Result<Contestant> {
        let (name, address) = match kind {
            Kind::Tcp => ("tcp", "127.0.0.1:0".into()),
            Kind::Unix => {
                let name = UnixName::from_path(self.directory.path().join("s"))?;
                ("unix", SocketAddress::from(name).to_string())
            }
            Kind::Abstract => ("abstract", format!("unix:@{}", prefix())),
            Kind::Udp => ("udp", "udp://127.0.0.1:0".into()),
        };
        Ok(Contestant::own_on(&address)?.named(name, &[]))
    }
}
