//! Names of Unix sockets.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::error::{AddressError, excerpt, quoted};

/// `sun_path` has 108 bytes on Linux; one of them is the NUL behind a path, or before an abstract name (unix(7)).
const BYTES_MAX: usize = 107;

/// The name of a Unix socket: a path, or an abstract name.
///
/// Paths are compared by their components, as [`Path`] does: `/run//app.sock` is `/run/app.sock`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UnixName(Name);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Name {
    Path(PathBuf),
    Abstract(Box<[u8]>),
}

impl UnixName {
    /// A name in the file system. It need not be UTF-8.
    ///
    /// # Errors
    ///
    /// The path is empty, longer than 107 bytes, ends with `/`, or has a NUL byte. (Elsewhere than on Linux
    /// `sun_path` has 104 bytes: a longer one is an error when it is used.)
    pub fn from_path(path: impl Into<PathBuf>) -> Result<UnixName, AddressError> {
        let path = path.into();
        let bytes = path.as_os_str().as_encoded_bytes();
        let fault = if bytes.is_empty() {
            "the path is missing: unix:/run/app.sock".into()
        } else if bytes.contains(&0) {
            "the path has a NUL byte".into()
        } else if bytes.ends_with(b"/") {
            "the path ends with '/': a directory is no socket".into()
        } else if bytes.len() > BYTES_MAX {
            too_long("path", bytes)
        } else {
            return Ok(UnixName(Name::Path(path)));
        };
        Err(AddressError::new(fault))
    }

    /// A name outside of the file system, which lives as long as its socket. It may have any bytes, NUL
    /// too. Only Linux has them: elsewhere it is `Unsupported` to listen there or to connect.
    ///
    /// # Errors
    ///
    /// The name is empty, or longer than 107 bytes.
    pub fn from_abstract(name: impl Into<Vec<u8>>) -> Result<UnixName, AddressError> {
        let name = name.into();
        if name.is_empty() {
            return Err(AddressError::new("the abstract name is missing: unix:@app"));
        }
        if name.len() > BYTES_MAX {
            return Err(AddressError::new(too_long("abstract name", &name)));
        }
        Ok(UnixName(Name::Abstract(name.into())))
    }

    /// The path, unless the name is abstract.
    pub fn as_path(&self) -> Option<&Path> {
        match &self.0 {
            Name::Path(path) => Some(path),
            Name::Abstract(_) => None,
        }
    }

    /// The abstract name, without the NUL byte that the kernel has before it.
    pub fn as_abstract(&self) -> Option<&[u8]> {
        match &self.0 {
            Name::Path(_) => None,
            Name::Abstract(name) => Some(name),
        }
    }

    pub(super) fn name(&self) -> &Name {
        &self.0
    }

    /// What stands behind `unix:`.
    pub(super) fn parse(text: &str) -> Result<UnixName, AddressError> {
        if let Some(name) = text.strip_prefix('@') {
            return UnixName::from_abstract(decode("abstract name", name)?);
        }
        // unix:///run/app.sock is how a URL has it; with two slashes it would have a host.
        let path = text.strip_prefix("//").unwrap_or(text);
        if path.len() != text.len() && !path.starts_with('/') {
            let advice = format!("the path begins with two '/': unix:/{}", excerpt(path));
            return Err(AddressError::new(advice));
        }
        UnixName::from_path(os_string(decode("path", path)?)?)
    }
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> Result<OsString, AddressError> {
    Ok(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

#[cfg(windows)]
fn os_string(bytes: Vec<u8>) -> Result<OsString, AddressError> {
    let text = String::from_utf8(bytes).map_err(|_| AddressError::new("the path is no UTF-8"))?;
    Ok(text.into())
}

fn too_long(what: &str, bytes: &[u8]) -> String {
    format!("the {what} has {} bytes; a Unix socket's has at most {BYTES_MAX}", bytes.len())
}

/// The bytes of a text in which `%` and two hexadecimal digits are one.
fn decode(what: &str, text: &str) -> Result<Vec<u8>, AddressError> {
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        let mut utf8 = [0; 4];
        let utf8 = c.encode_utf8(&mut utf8).bytes();
        let escape: String = utf8.map(|byte| format!("%{byte:02x}")).collect();
        let message = if c == '\0' && what == "path" {
            "the path has a NUL byte".into()
        } else {
            format!("the {what} has the control character {}: write {escape}", quoted(c))
        };
        return Err(AddressError::new(message));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend(pieces.next().unwrap_or_default().bytes());
    for piece in pieces {
        let Some(byte) = piece.get(..2).and_then(hexadecimal) else {
            let found: String = piece.chars().take(2).collect();
            let message = format!(
                "\"%{found}\" in the {what} is no byte: after '%' come two hexadecimal digits; '%' itself is %25"
            );
            return Err(AddressError::new(message));
        };
        bytes.push(byte);
        bytes.extend(piece[2..].bytes());
    }
    Ok(bytes)
}

fn hexadecimal(digits: &str) -> Option<u8> {
    // from_str_radix takes a sign, too.
    digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
}
