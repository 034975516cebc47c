//! The head of an answer with a file, and what of the file follows it.

use oneloop::Connection;

use super::conditional;
use super::meta::Meta;
use super::range::{Piece, Selection, content_range, multipart, select};
use super::request::{Method, Request};
use super::response::{Refused, Reply, ResponseHead};

/// What follows a head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    Nothing,
    /// All of the file.
    Whole,
    Pieces(Vec<Piece>),
}

/// Sends the head that a request for this file gets.
pub(super) fn send(
    head: &mut ResponseHead,
    conn: &mut Connection<'_>,
    request: &Request<'_>,
    reply: Reply<'_>,
    meta: &Meta,
) -> Content {
    if let Some(status) = conditional::judge(request, meta) {
        if status == 304 {
            head.begin(conn, status, reply).fields(meta.validators().as_bytes()).send(conn);
        } else {
            head.refuse(conn, reply, Refused::new(status, "the file is another one"));
        }
        return Content::Nothing;
    }
    let content = match selection(request, meta) {
        Selection::Whole => {
            head.begin(conn, 200, reply).fields(&meta.whole).send(conn);
            Content::Whole
        }
        Selection::Parts(parts) => {
            let boundary = format!("{:016x}{:016x}", conn.random(), conn.random());
            head.begin(conn, 206, reply).fields(meta.validators().as_bytes());
            let pieces = if let [part] = &parts[..] {
                head.field("Content-Range", content_range(part, meta.stamp.len));
                head.field("Content-Type", &meta.content_type);
                vec![Piece::Span(part.clone())]
            } else {
                let content_type = format_args!("multipart/byteranges; boundary={boundary}");
                head.field("Content-Type", content_type);
                multipart(&parts, meta, &boundary)
            };
            let length: u64 = pieces.iter().map(Piece::len).sum();
            head.field("Content-Length", length).send(conn);
            Content::Pieces(pieces)
        }
        Selection::Unsatisfiable => {
            head.begin(conn, 416, reply);
            head.field("Content-Range", format_args!("bytes */{}", meta.stamp.len));
            head.send_with(conn, reply, "text/plain; charset=utf-8", b"");
            Content::Nothing
        }
    };
    if reply.is_head { Content::Nothing } else { content }
}

fn selection(request: &Request<'_>, meta: &Meta) -> Selection {
    match request.range {
        Some(range)
            if request.method == Method::Get && conditional::may_be_partial(request, meta) =>
        {
            select(range, meta.stamp.len)
        }
        _ => Selection::Whole,
    }
}
