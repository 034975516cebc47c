//! What is done off the loop, because it may block: looking files up, and reading them.

use std::io::{self, ErrorKind};

use super::cache::FILE_BYTES_MAX;
use super::files::{File, Files, Names, Opened, Stamp};
use super::meta::Meta;

/// What comes back from a helper thread.
pub(crate) enum Done {
    Found(Found),
    /// A file that was read from, and what came of it.
    Read(Box<dyn File>, io::Result<Vec<u8>>),
}

/// What is at a path.
pub(crate) enum Found {
    /// The version that is known.
    Unchanged,
    /// A small file.
    Bytes(Meta, Vec<u8>),
    /// A large one.
    File(Meta, Box<dyn File>),
    /// A directory without an index, and the names in it.
    Names(Names),
    /// A directory whose path did not end as one does.
    Directory,
    Failed(ErrorKind),
}

/// Looks up what there is to answer with for a path; of a directory, so many names.
pub(super) fn look_up(
    files: &dyn Files,
    path: &str,
    known: Option<Stamp>,
    names_max: usize,
) -> Found {
    try_look_up(files, path, known, names_max).unwrap_or_else(|error| {
        log::debug!("{}: {error}", path.escape_debug());
        Found::Failed(error.kind())
    })
}

fn try_look_up(
    files: &dyn Files,
    path: &str,
    known: Option<Stamp>,
    names_max: usize,
) -> io::Result<Found> {
    let is_directory = path.ends_with('/');
    if is_directory {
        let index = format!("{path}index.html");
        match files.open(&index) {
            Ok(Opened::File(file, stamp)) => return found(&index, file, stamp, known),
            Ok(Opened::Directory) => {}
            Err(error) if is_missing(error.kind()) => {}
            Err(error) => return Err(error),
        }
    }
    match files.open(path)? {
        Opened::File(..) if is_directory => Err(ErrorKind::NotFound.into()),
        Opened::File(file, stamp) => found(path, file, stamp, known),
        Opened::Directory if is_directory => files.names(path, names_max).map(Found::Names),
        Opened::Directory => Ok(Found::Directory),
    }
}

fn found(
    path: &str,
    mut file: Box<dyn File>,
    stamp: Stamp,
    known: Option<Stamp>,
) -> io::Result<Found> {
    if known == Some(stamp) {
        return Ok(Found::Unchanged);
    }
    let meta = Meta::new(path, stamp);
    if stamp.len > FILE_BYTES_MAX {
        return Ok(Found::File(meta, file));
    }
    let bytes = read(&mut *file, 0, stamp.len as usize, Vec::new())?;
    Ok(Found::Bytes(meta, bytes))
}

/// Whether an error says that there is nothing by that name.
pub(super) fn is_missing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename)
}

/// Reads `len` bytes from `offset`, into `bytes`, whose room is used again.
///
/// # Errors
///
/// What went wrong; `UnexpectedEof` if the file has become shorter.
pub(super) fn read(
    file: &mut dyn File,
    offset: u64,
    len: usize,
    mut bytes: Vec<u8>,
) -> io::Result<Vec<u8>> {
    bytes.clear();
    file.read_at(offset, len, &mut bytes)?;
    if bytes.len() < len {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}
