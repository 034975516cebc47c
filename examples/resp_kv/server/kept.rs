//! How much may be kept for clients: what they have queued since MULTI, and the names of what they watch, wait for and
//! have subscribed to.

use super::Server;
use super::commands::Failure;

/// The memory of what is kept for one client, which suffices for the longest string, and for all clients together. A
/// single client cannot use that up.
const KEPT_BYTES_MAX: usize = 80 << 20;
const KEPT_BYTES_TOTAL_MAX: usize = 256 << 20;

/// What a name counts as. It takes some 200 bytes, in two trees; the rest is for the time in which it is forgotten when
/// the client leaves.
pub fn name_bytes(name: &[u8]) -> usize {
    1024 + 2 * name.len()
}

impl Server {
    /// Counts what is going to be kept for the current client.
    ///
    /// # Errors
    ///
    /// It would be too much.
    pub fn keep(&mut self, bytes: usize) -> Result<(), Failure> {
        let this = &mut self.clients[self.current];
        if this.kept_bytes + bytes > KEPT_BYTES_MAX {
            return Err(Failure::new("ERR too much would be kept for this client"));
        }
        if self.kept_bytes + bytes > KEPT_BYTES_TOTAL_MAX {
            return Err(Failure::new("ERR too much would be kept for all clients together"));
        }
        this.kept_bytes += bytes;
        self.kept_bytes += bytes;
        Ok(())
    }

    /// So much of that is kept for a client no longer.
    pub fn keep_less(&mut self, slot: usize, bytes: usize) {
        self.clients[slot].kept_bytes -= bytes;
        self.kept_bytes -= bytes;
    }
}
