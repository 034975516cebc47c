//! A directory as a page.

use std::fmt::Write;

use super::files::Names;
use super::path::encode;

/// The media type of a page.
pub(super) const TYPE: &str = "text/html; charset=utf-8";
/// More names are not listed.
pub(super) const NAMES_MAX: usize = 10_000;
/// A longer page ends early.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// The page of the directory at `path`, with a link to each of the names in it.
pub(super) fn page(path: &str, names: &Names) -> String {
    let title = escape(path);
    let mut page = format!(
        "<!DOCTYPE html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
    );
    let mut has_more = names.has_more;
    for name in &names.names {
        if page.len() > PAGE_BYTES_MAX {
            has_more = true;
            break;
        }
        // A name with a colon would be taken for a scheme and what follows it (RFC 3986, 4.2).
        let (link, name) = (encode(name), escape(name));
        let _ = writeln!(page, "<li><a href=\"./{link}\">{name}</a>"); // into memory, which does not fail
    }
    page + if has_more { "<li>and more\n</ul>\n" } else { "</ul>\n" }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
