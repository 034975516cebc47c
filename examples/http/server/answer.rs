//! What comes of a request.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;

use oneloop::Connection;

use super::api::{self, Route};
use super::cache::Entry;
use super::file_head::{self, Content};
use super::jobs::{Done, Found, Wanted, is_missing};
use super::range::Piece;
use super::request::{Method, Request};
use super::response::{Refused, Reply};
use super::stream::Stream;
use super::{LookUp, Server, Session, Work};
use super::{listing, path};

/// From this length on a file is shared with the output, and not copied into it, which costs more than it saves for
/// less.
const SHARED_BYTES_MIN: usize = 16 * 1024;

impl Server {
    /// Answers a request, or begins to: `content` as it was sent, `rest` what follows it in the input.
    pub(super) fn answer(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        head: &[u8],
        request: &Request<'_>,
        content: &[u8],
        rest: &[u8],
    ) {
        let reply = reply(conn, head, request, rest);
        match api::route(request) {
            Ok(Route::File) => return self.answer_path(session, conn, head, request, reply),
            Ok(Route::Stats) => api::send_stats(&mut self.response, conn, reply),
            Ok(Route::Echo) => {
                api::send_echo(&mut self.response, conn, reply, request.framing, content);
            }
            Ok(Route::Allow(methods)) => {
                self.response.begin(conn, 204, reply).field("Allow", methods).send(conn);
            }
            Err(refused) => self.response.refuse(conn, reply, refused),
        }
        self.finish(session, conn, reply.keeps_alive);
    }

    /// From memory, or after a look at the file.
    fn answer_path(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        head: &[u8],
        request: &Request<'_>,
        reply: Reply<'_>,
    ) {
        let path = match path::resolve(request.path) {
            Ok(path) => path,
            Err(refused) => return self.refuse(session, conn, reply, refused),
        };
        let known = self.cache.get(&path);
        if let Some(entry) = &known
            && entry.is_fresh(conn.now())
        {
            return self.send_entry(session, conn, request, reply, entry);
        }
        if let Some(entry) = &known {
            entry.checked.set(conn.now()); // as far as the others are concerned, who need not wait for it
        }
        let wanted = Wanted {
            files: Arc::clone(&self.files),
            path: path.to_string(),
            known: known.as_ref().map(|entry| entry.meta.stamp),
            names_max: if reply.is_head { 0 } else { listing::NAMES_MAX },
        };
        if self.jobs.run_for(conn.key(), move || Done::Found(wanted.look_up())).is_err() {
            return self.refuse(session, conn, reply, Refused::new(503, "too busy"));
        }
        let look_up =
            LookUp { head: head.into(), path: path.into_owned(), known, asked: conn.now() };
        session.work = Work::LookUp(Box::new(look_up));
        conn.pause();
    }

    /// A look-up is done.
    pub(super) fn take_found(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        look_up: LookUp,
        found: Found,
    ) {
        let LookUp { head, path, known, asked } = look_up;
        let request = match Request::parse(&head) {
            Ok(request) => request,
            Err(refused) => return self.give_up(session, conn, &head, refused),
        };
        let reply = reply(conn, &head, &request, conn.unconsumed());
        let other = match (found, known) {
            (Found::Unchanged, Some(entry)) => {
                return self.send_entry(session, conn, &request, reply, &entry);
            }
            (Found::Bytes(meta, bytes), _) => {
                let (bytes, checked) = (bytes.into(), Cell::new(asked));
                let entry = Rc::new(Entry { meta, bytes, checked });
                self.cache.insert(path, Rc::clone(&entry));
                return self.send_entry(session, conn, &request, reply, &entry);
            }
            (found, _) => {
                self.cache.remove(&path);
                found
            }
        };
        match other {
            Found::File(meta, file) => {
                let content = file_head::send(&mut self.response, conn, &request, reply, &meta);
                let pieces = match content {
                    Content::Nothing => Vec::new(),
                    Content::Whole => vec![Piece::Span(0..meta.stamp.len)],
                    Content::Pieces(pieces) => pieces,
                };
                let stream = Stream::new(file, pieces, reply.keeps_alive);
                session.work = Work::Stream(Box::new(stream));
                return self.go_on(session, conn);
            }
            Found::Page(page) => {
                let response = self.response.begin(conn, 200, reply);
                response.send_chunked(conn, reply, "text/html; charset=utf-8", page.as_bytes());
            }
            Found::Directory => {
                let location = format!("{}/{}", path::encode(&path), request.query);
                self.response.begin(conn, 301, reply).field("Location", location);
                self.response.send_with(conn, reply, "text/plain; charset=utf-8", b"");
            }
            Found::Failed(kind) => self.response.refuse(conn, reply, refuse_file(kind)),
            Found::Unchanged | Found::Bytes(..) => {
                self.response.refuse(conn, reply, refuse_file(ErrorKind::Other));
            }
        }
        self.finish(session, conn, reply.keeps_alive);
    }

    /// Answers with a file that is in memory.
    fn send_entry(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        request: &Request<'_>,
        reply: Reply<'_>,
        entry: &Entry,
    ) {
        match file_head::send(&mut self.response, conn, request, reply, &entry.meta) {
            Content::Nothing => {}
            Content::Whole if entry.bytes.len() < SHARED_BYTES_MIN => {
                conn.send(&entry.bytes).ignore();
            }
            Content::Whole => conn.send_shared(Rc::clone(&entry.bytes)).ignore(),
            Content::Pieces(pieces) => {
                for piece in &pieces {
                    let bytes = match piece {
                        Piece::Text(text) => text.as_bytes(),
                        Piece::Span(span) => &entry.bytes[span.start as usize..span.end as usize],
                    };
                    conn.send(bytes).ignore();
                }
            }
        }
        self.finish(session, conn, reply.keeps_alive);
    }

    /// Tells the client why its request is not answered; the next one may be.
    fn refuse(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        reply: Reply<'_>,
        refused: Refused,
    ) {
        self.response.refuse(conn, reply, refused);
        self.finish(session, conn, reply.keeps_alive);
    }

    /// Tells the client why, and closes: where its next request would begin, nobody knows. `head` is what there is of
    /// this one.
    pub(super) fn give_up(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        head: &[u8],
        refused: Refused,
    ) {
        let is_head = head.starts_with(b"HEAD ");
        let reply = Reply { request: head, is_head, is_1_1: true, keeps_alive: false };
        self.refuse(session, conn, reply, refused);
    }

    /// An answer is sent: what comes next.
    pub(super) fn finish(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        keeps_alive: bool,
    ) {
        session.work = Work::Request;
        if !keeps_alive {
            conn.close();
        } else if conn.is_paused() {
            conn.resume();
        }
    }
}

/// What the answer has to know; `rest` is the input behind the request. In a drain the connection goes on for what has
/// come already.
fn reply<'a>(
    conn: &Connection<'_>,
    head: &'a [u8],
    request: &Request<'_>,
    rest: &[u8],
) -> Reply<'a> {
    let is_over = rest.trim_ascii_start().is_empty();
    Reply {
        request: head,
        is_head: request.method == Method::Head,
        is_1_1: request.is_1_1,
        keeps_alive: request.keeps_alive && !(conn.is_draining() && is_over),
    }
}

fn refuse_file(kind: ErrorKind) -> Refused {
    match kind {
        kind if is_missing(kind) => Refused::new(404, "no such file"),
        ErrorKind::PermissionDenied => Refused::new(403, "not for you"),
        ErrorKind::ResourceBusy => Refused::new(503, "too busy"),
        _ => Refused::new(500, "the file cannot be read"),
    }
}
