//! A directory as a page.

use std::io::{self, Write};

use super::files::Names;
use super::path::encode;

/// More names are not listed.
pub(super) const NAMES_MAX: usize = 10_000;
/// A longer page ends early.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// Writes the page of the directory at `path`, with a link to each of the names in it.
///
/// # Errors
///
/// Those of `page`.
pub(super) fn write(page: &mut impl Write, path: &str, names: &Names) -> io::Result<()> {
    let title = escape(path);
    writeln!(page, "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>{title}</title>")?;
    writeln!(page, "<h1>{title}</h1>\n<ul>")?;
    let (mut bytes, mut has_more) = (0, names.has_more);
    for name in &names.names {
        // A name with a colon would be taken for a scheme and what follows it (RFC 3986, 4.2).
        let item = format!("<li><a href=\"./{}\">{}</a>", encode(name), escape(name));
        bytes += item.len();
        if bytes > PAGE_BYTES_MAX {
            has_more = true;
            break;
        }
        writeln!(page, "{item}")?;
    }
    if has_more {
        writeln!(page, "<li>and more")?;
    }
    writeln!(page, "</ul>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
