//! What is done off the loop, because it may block or take long: looking files up, reading them, and listing directories.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::cache::{Content, FILE_BYTES_MAX, MemoryFiles};
use super::files::{Files, Opened, Stamp};
use super::listing;
use super::meta::Meta;

/// What comes back from a look-up: what there is at this path.
pub(crate) struct LookedUp {
    pub(super) path: String,
    pub(super) found: Found,
}

impl LookedUp {
    fn new(path: String, found: io::Result<Found>) -> LookedUp {
        let found = found.unwrap_or_else(|error| {
            log::debug!("{}: {error}", path.escape_debug());
            Found::Failed(error.kind())
        });
        LookedUp { path, found }
    }
}

/// What comes back when a part of a large file is in the system's memory.
pub(crate) struct ReadAhead(pub(super) io::Result<()>);

/// What is at a path.
pub(crate) enum Found {
    /// The version that is known, as far as can be told.
    Unchanged,
    /// A small file.
    Content(Meta, Content),
    /// A large one.
    File(Meta, Arc<File>),
    /// A directory without an index, or a path to one without the final `/`.
    Directory,
    /// The names in a directory, as a page.
    Page(String),
    Failed(ErrorKind),
}

/// Looks up what is at `path`; `known` is the version of it that is in memory.
pub(super) fn look_up(
    files: &dyn Files,
    memory: &MemoryFiles,
    path: String,
    known: Option<Stamp>,
) -> LookedUp {
    let found =
        try_look_up(files, memory, &path, known).or_else(|error| match (error.kind(), known) {
            // Without a descriptor, say, nothing can be told, and an old file is better than none.
            (ErrorKind::ResourceBusy, Some(_)) => Ok(Found::Unchanged),
            // It has become shorter since its length was asked for, as a file does that is written anew.
            (ErrorKind::UnexpectedEof, _) => try_look_up(files, memory, &path, None),
            _ => Err(error),
        });
    LookedUp::new(path, found)
}

fn try_look_up(
    files: &dyn Files,
    memory: &MemoryFiles,
    path: &str,
    known: Option<Stamp>,
) -> io::Result<Found> {
    let is_directory = path.ends_with('/');
    let name = if is_directory { format!("{path}index.html") } else { path.to_string() };
    let (file, stamp) = match files.open(&name) {
        Ok(Opened::File(file, stamp)) => (file, stamp),
        Ok(Opened::Directory) if !is_directory => return Ok(Found::Directory),
        Err(error) if !is_directory || !is_missing(error.kind()) => return Err(error),
        _ => {
            files.names(path, 0)?; // fails if it is no directory, or may not be read
            return Ok(Found::Directory);
        }
    };
    if stamp.is_settled && known == Some(stamp) {
        return Ok(Found::Unchanged);
    }
    let meta = Meta::new(&name, stamp);
    if stamp.len > FILE_BYTES_MAX {
        return Ok(Found::File(meta, file));
    }
    let mut bytes = vec![0; stamp.len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Found::Content(meta, memory.keep(bytes)))
}

/// Makes the page of a directory.
pub(super) fn list(files: &dyn Files, path: String) -> LookedUp {
    let page = files.names(&path, listing::NAMES_MAX).map(|names| listing::page(&path, &names));
    LookedUp::new(path, page.map(Found::Page))
}

/// Whether an error says that there is nothing by that name.
pub(super) fn is_missing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename)
}
