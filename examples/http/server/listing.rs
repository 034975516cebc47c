//! A directory as a page.

use std::io::{self, Write};

use super::path::encode;

/// Writes the page of the directory at `path`, with a link to each of the names in it.
///
/// # Errors
///
/// Those of `page`.
pub(super) fn write(page: &mut impl Write, path: &str, names: &[String]) -> io::Result<()> {
    let title = escape(path);
    writeln!(page, "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>{title}</title>")?;
    writeln!(page, "<h1>{title}</h1>\n<ul>")?;
    for name in names {
        // The path of a name with a colon would be taken for a scheme (RFC 3986, 4.2).
        writeln!(page, "<li><a href=\"./{}\">{}</a>", encode(name), escape(name))?;
    }
    writeln!(page, "</ul>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
