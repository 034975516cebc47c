//! What comes of a request.

use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;

use oneloop::Connection;
use oneloop::codec::Decoder;

use super::api::{self, Route};
use super::cache::Entry;
use super::files::File;
use super::head::Heads;
use super::jobs::{Done, Found, is_missing, look_up};
use super::meta::Meta;
use super::range::{Piece, Selection, content_range, multipart, select};
use super::request::{Method, Request};
use super::response::{Refused, Reply};
use super::stream::Stream;
use super::{Server, Session, Work};
use super::{conditional, listing, path};

/// From this length on a file is not copied into the output.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// Where the bytes of an answer come from.
enum Source<'a> {
    Memory(&'a Rc<[u8]>),
    File(Box<dyn File>),
}

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
        let mut reply = reply(head, request, may_keep(conn, request, rest));
        match api::route(request) {
            Ok(Route::File) => return self.answer_path(session, conn, head, request, reply),
            Ok(Route::Stats) => {
                reply.keeps_alive &= reply.is_1_1;
                api::send_stats(&mut self.head, conn, reply);
            }
            Ok(Route::Echo) => {
                api::send_echo(&mut self.head, conn, reply, request.framing, content);
            }
            Ok(Route::Allow(methods)) => {
                self.head.begin(conn, 204, reply).field("Allow", methods).send(conn);
            }
            Err(refused) => self.head.refuse(conn, reply, refused),
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
            Err(refused) => {
                self.head.refuse(conn, reply, refused);
                return self.finish(session, conn, reply.keeps_alive);
            }
        };
        let known = self.cache.get(&path);
        if let Some(entry) = &known
            && entry.is_fresh(conn.now())
        {
            let source = Source::Memory(&entry.bytes);
            return self.send_file(session, conn, request, reply, &entry.meta, source);
        }
        if let Some(entry) = &known {
            entry.note_check(conn.now());
        }
        let (files, path) = (Arc::clone(&self.files), path.into_owned());
        let stamp = known.as_ref().map(|entry| entry.meta.stamp);
        let job = move || Done::Found(look_up(&*files, &path, stamp));
        if self.jobs.run_for(conn.key(), job).is_err() {
            self.head.refuse(conn, reply, Refused::new(503, "too busy"));
            return self.finish(session, conn, reply.keeps_alive);
        }
        session.work = Work::LookUp(head.into(), known);
        conn.pause();
    }

    /// A look-up is done.
    pub(super) fn take_found(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        found: Found,
    ) {
        let Work::LookUp(head, known) = std::mem::replace(&mut session.work, Work::Request) else {
            return;
        };
        // They went well before.
        let Ok(request) = Request::parse(&head) else { return };
        let Ok(path) = path::resolve(request.path) else { return };
        let mut reply = reply(&head, &request, may_keep(conn, &request, conn.unconsumed()));
        let entry = match found {
            Found::Unchanged => known,
            Found::Bytes(meta, bytes) => {
                let entry = Rc::new(Entry::new(meta, bytes, conn.now()));
                self.cache.insert(&path, Rc::clone(&entry));
                Some(entry)
            }
            found => {
                self.cache.remove(&path);
                match found {
                    Found::File(meta, file) => {
                        let source = Source::File(file);
                        return self.send_file(session, conn, &request, reply, &meta, source);
                    }
                    Found::Names(names) => {
                        reply.keeps_alive &= reply.is_1_1;
                        self.head.begin(conn, 200, reply);
                        let mut page = self.head.send_open(conn, reply, "text/html; charset=utf-8");
                        // Into the output, which does not fail.
                        let _ = listing::write(&mut page, &path, &names);
                        page.finish();
                    }
                    Found::Directory => {
                        let location = format!("{}/{}", path::encode(&path), request.query);
                        self.head.begin(conn, 301, reply).field("Location", location);
                        self.head.send_with(conn, reply, "text/plain; charset=utf-8", b"");
                    }
                    Found::Failed(kind) => self.head.refuse(conn, reply, refuse_file(kind)),
                    Found::Unchanged | Found::Bytes(..) => {}
                }
                return self.finish(session, conn, reply.keeps_alive);
            }
        };
        if let Some(entry) = entry {
            let source = Source::Memory(&entry.bytes);
            self.send_file(session, conn, &request, reply, &entry.meta, source);
        }
    }

    /// Answers with a file, or what the request wants of it.
    fn send_file(
        &mut self,
        session: &mut Session,
        conn: &mut Connection<'_>,
        request: &Request<'_>,
        reply: Reply<'_>,
        meta: &Meta,
        source: Source<'_>,
    ) {
        let len = meta.stamp.len;
        let pieces = match select_of(request, meta) {
            Err(status @ 304) => {
                let head = self.head.begin(conn, status, reply);
                head.fields(meta.validators().as_bytes()).send(conn);
                return self.finish(session, conn, reply.keeps_alive);
            }
            Err(status) => {
                self.head.refuse(conn, reply, Refused::new(status, "the file is another one"));
                return self.finish(session, conn, reply.keeps_alive);
            }
            Ok(Selection::Whole) => {
                self.head.begin(conn, 200, reply).fields(&meta.whole).send(conn);
                if let (Source::Memory(bytes), false) = (&source, reply.is_head) {
                    send_all(conn, bytes);
                    return self.finish(session, conn, reply.keeps_alive);
                }
                vec![Piece::Span(0..len)]
            }
            Ok(Selection::Unsatisfiable) => {
                let head = self.head.begin(conn, 416, reply);
                head.field("Content-Range", format_args!("bytes */{len}"));
                head.send_with(conn, reply, "text/plain; charset=utf-8", b"");
                return self.finish(session, conn, reply.keeps_alive);
            }
            Ok(Selection::Parts(parts)) => {
                self.head.begin(conn, 206, reply).fields(meta.validators().as_bytes());
                let (content_type, pieces) = match &parts[..] {
                    [part] => {
                        self.head.field("Content-Range", content_range(part, len));
                        (meta.content_type.clone(), vec![Piece::Span(part.clone())])
                    }
                    parts => {
                        let boundary = format!("{:016x}{:016x}", conn.random(), conn.random());
                        let content_type = format!("multipart/byteranges; boundary={boundary}");
                        (content_type, multipart(parts, meta, &boundary))
                    }
                };
                let length: u64 = pieces.iter().map(Piece::len).sum();
                self.head.field("Content-Type", content_type).field("Content-Length", length);
                self.head.send(conn);
                pieces
            }
        };
        match source {
            _ if reply.is_head => self.finish(session, conn, reply.keeps_alive),
            Source::Memory(bytes) => {
                for piece in &pieces {
                    let bytes = match piece {
                        Piece::Text(text) => text.as_bytes(),
                        Piece::Span(span) => &bytes[span.start as usize..span.end as usize],
                    };
                    conn.send(bytes).ignore();
                }
                self.finish(session, conn, reply.keeps_alive);
            }
            Source::File(file) => {
                let stream = Stream::new(file, pieces, reply.keeps_alive);
                session.work = Work::Stream(Box::new(stream));
                conn.pause();
                self.go_on(session, conn);
            }
        }
    }
}

fn reply<'a>(head: &'a [u8], request: &Request<'_>, keeps_alive: bool) -> Reply<'a> {
    let is_head = request.method == Method::Head;
    Reply { request: head, is_head, is_1_1: request.is_1_1, keeps_alive }
}

/// Whether the connection may go on: in a drain, for the requests that are whole.
fn may_keep(conn: &Connection<'_>, request: &Request<'_>, rest: &[u8]) -> bool {
    let is_last = || !matches!(Heads::default().decode(rest), Ok(Some(_)));
    request.keeps_alive && !(conn.is_draining() && is_last())
}

/// # Errors
///
/// The status of the answer if it is not the file.
fn select_of(request: &Request<'_>, meta: &Meta) -> Result<Selection, u16> {
    if let Some(status) = conditional::judge(request, meta) {
        return Err(status);
    }
    match request.range {
        Some(range)
            if request.method == Method::Get && conditional::may_be_partial(request, meta) =>
        {
            Ok(select(range, meta.stamp.len))
        }
        _ => Ok(Selection::Whole),
    }
}

fn send_all(conn: &mut Connection<'_>, bytes: &Rc<[u8]>) {
    if bytes.len() < SHARED_BYTES_MIN {
        conn.send(bytes).ignore();
    } else {
        conn.send_shared(Rc::clone(bytes)).ignore();
    }
}

fn refuse_file(kind: ErrorKind) -> Refused {
    match kind {
        kind if is_missing(kind) => Refused::new(404, "no such file"),
        ErrorKind::PermissionDenied => Refused::new(403, "not for you"),
        _ => Refused::new(500, "the file cannot be read"),
    }
}
