//! Our own server on several kinds of sockets, side by side: `oneloop bench --kinds tcp,unix,udp`.

use std::fs;
use std::path::PathBuf;
use std::process;

use anyhow::Result;
use clap::ValueEnum;
use oneloop::SocketAddress;
use oneloop::address::UnixName;

use super::contestant::Contestant;

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

/// Where the servers on Unix sockets listen. The path is removed at the end, also that of a server that was
/// killed.
pub(super) struct Names {
    path: PathBuf,
    name: String,
}

impl Names {
    pub(super) fn new() -> Names {
        let name = format!("oneloop-bench-{}", process::id());
        Names { path: std::env::temp_dir().join(format!("{name}.sock")), name }
    }

    /// # Errors
    ///
    /// See [`Contestant::own_on`]; the directory for temporary files is too long a path.
    pub(super) fn contestant(&self, kind: Kind) -> Result<Contestant> {
        let (name, address) = match kind {
            Kind::Tcp => ("tcp", "127.0.0.1:0".into()),
            Kind::Unix => {
                let name = UnixName::from_path(&self.path)?;
                ("unix", SocketAddress::from(name).to_string())
            }
            Kind::Abstract => ("abstract", format!("unix:@{}", self.name)),
            Kind::Udp => ("udp", "udp://127.0.0.1:0".into()),
        };
        Ok(Contestant::own_on(&address)?.named(name, &[]))
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // Its server has done so, as a rule.
        let _ = fs::remove_file(&self.path);
    }
}
