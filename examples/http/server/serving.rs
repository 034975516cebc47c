//! What comes of a request, from its first byte to its answer.

use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;

use oneloop::{Connection, Time};

use super::api::{self, Route};
use super::cache::Entry;
use super::head::has_begun;
use super::jobs::{self, Found, LookedUp, is_missing};
use super::range::Piece;
use super::request::{Method, Request};
use super::response::{Refused, Response};
use super::stream::Stream;
use super::{Server, Session, Waiting, listing, path};

/// A request whose file is looked up.
pub(super) struct Asked {
    head: Box<[u8]>,
    /// The version of the file that is in memory.
    known: Option<Rc<Entry>>,
    at: Time,
}

/// A connection that is served, and the server: what all callbacks have.
pub(super) struct Serving<'a, 'r> {
    pub(super) server: &'a mut Server,
    pub(super) session: &'a mut Session,
    pub(super) conn: &'a mut Connection<'r>,
}

impl<'r> Serving<'_, 'r> {
    /// Answers the first request of the input, or begins to. Gives its length, or that of an empty line before it; `None`
    /// if it is not whole, or was refused for good.
    pub(super) fn take(&mut self, input: &[u8]) -> Option<usize> {
        self.try_take(input).unwrap_or_else(|refused| {
            self.give_up(input, refused);
            None
        })
    }

    fn try_take(&mut self, input: &[u8]) -> Result<Option<usize>, Refused> {
        let (head_len, mut body) = match self.session.body.take() {
            Some(waiting) => waiting,
            None => {
                let Some(len) = self.session.head_end.find(input)? else { return Ok(None) };
                let (head, rest) = input.split_at(len);
                if head == b"\r\n" {
                    return Ok(Some(len));
                }
                let mut request = Request::parse(head)?;
                let Some(body) = request.body.take() else {
                    self.answer(request, &[], rest);
                    return Ok(Some(len));
                };
                api::route(&request)?;
                if request.expects_continue && rest.is_empty() {
                    self.conn.send(b"HTTP/1.1 100 Continue\r\n\r\n").ignore();
                }
                (len, body)
            }
        };
        let (head, rest) = input.split_at(head_len);
        let Some(body_len) = body.find_end(rest)? else {
            self.conn.need(head_len + body.need());
            self.session.body = Some((head_len, body));
            return Ok(None);
        };
        let (sent, rest) = rest.split_at(body_len);
        self.answer(Request::parse(head)?, sent, rest);
        Ok(Some(head_len + body_len))
    }

    /// Answers a request, or begins to: `sent` is its body as it came, `rest` what follows it in the input.
    fn answer(&mut self, mut request: Request<'_>, sent: &[u8], rest: &[u8]) {
        self.note_drain(&mut request, rest);
        let mut response = self.response(&request);
        match api::route(&request) {
            Ok(Route::File) => return self.answer_path(&request),
            Ok(Route::Stats) => api::send_stats(&mut response),
            Ok(Route::Echo) => api::send_echo(&mut response, sent),
            Ok(Route::Allow(methods)) => response.begin(204).field("Allow", methods).send(),
            Err(refused) => response.refuse(refused),
        }
        self.finish(request.keeps_alive);
    }

    fn response<'a>(&'a mut self, request: &'a Request<'a>) -> Response<'a, 'r> {
        Response { heads: &mut self.server.heads, conn: self.conn, request }
    }

    /// In a drain the answer is the last one if no part of another request has been read, or if the connection was told.
    /// What has come, but was not read while a file was looked up, has no answer.
    fn note_drain(&self, request: &mut Request<'_>, rest: &[u8]) {
        let is_draining = self.conn.is_draining();
        request.keeps_alive &= !(is_draining && (self.session.is_told || !has_begun(rest)));
    }

    /// Answers with the file at the request's path, from memory or after a look at it.
    fn answer_path(&mut self, request: &Request<'_>) {
        let (known, now) = (self.server.cache.get(&request.path), self.conn.now());
        if let Some(entry) = &known
            && entry.is_fresh(now)
        {
            return self.send_entry(request, entry);
        }
        let (files, path) = (Arc::clone(&self.server.files), request.path.to_string());
        let memory = Arc::clone(&self.server.memory_files);
        let stamp = known.as_ref().map(|entry| entry.meta.stamp);
        let job = move || jobs::look_up(&*files, &memory, path, stamp);
        let is_given = self.server.look_ups.run_for(self.conn.key(), job).is_ok();
        match &known {
            Some(entry) if is_given => entry.checked.set(now), // so that others do not look as well
            Some(entry) => return self.send_entry(request, entry), // an old file is better than none
            None if is_given => {}
            None => return self.refuse(request, Refused::new(503, "too busy")),
        }
        self.wait_for_look(request, known);
    }

    /// Answers with a page of what is in a directory.
    fn list(&mut self, request: &Request<'_>, path: String) {
        let files = Arc::clone(&self.server.files);
        let job = move || jobs::list(&*files, path);
        match self.server.listings.run_for(self.conn.key(), job) {
            Ok(()) => self.wait_for_look(request, None),
            Err(_) => self.refuse(request, Refused::new(503, "too busy")),
        }
    }

    fn wait_for_look(&mut self, request: &Request<'_>, known: Option<Rc<Entry>>) {
        let asked = Asked { head: request.head.into(), known, at: self.conn.now() };
        self.session.waiting = Waiting::LookUp(Box::new(asked));
        self.conn.pause();
    }

    /// Answers a request whose file was looked up, or begins to.
    pub(super) fn take_found(&mut self, asked: Asked, LookedUp { path, found }: LookedUp) {
        let Asked { head, known, at } = asked;
        let mut request = match Request::parse(&head) {
            Ok(request) => request,
            Err(refused) => return self.give_up(&head, refused),
        };
        self.note_drain(&mut request, self.conn.unconsumed());
        if !matches!(found, Found::Unchanged | Found::Content(..)) {
            self.server.cache.remove(&path);
        }
        let mut response = self.response(&request);
        match found {
            Found::Unchanged => {
                let entry = known.expect("only a version that is known is unchanged");
                return self.send_entry(&request, &entry);
            }
            Found::Content(meta, content) => {
                let entry = Rc::new(Entry::new(meta, content, at));
                self.server.cache.insert(path, Rc::clone(&entry));
                return self.send_entry(&request, &entry);
            }
            Found::File(meta, file) => {
                let pieces = meta.send_head(&mut response);
                let stream = Stream::new(file, pieces, request.keeps_alive);
                self.session.waiting = Waiting::Stream(Box::new(stream));
                return self.send_next();
            }
            // The length is not known, and need not be.
            Found::Directory if path.ends_with('/') && request.is_head() => {
                response.begin(200).field("Content-Type", listing::TYPE).send();
            }
            Found::Directory if path.ends_with('/') => return self.list(&request, path),
            Found::Directory => {
                let location = format!("{}/{}", path::encode(&path), request.query);
                response.begin(301).field("Location", location);
                response.send_with("text/plain; charset=utf-8", b"");
            }
            Found::Page(page) => response.begin(200).send_chunked(listing::TYPE, page.as_bytes()),
            Found::Failed(kind) => response.refuse(refuse_file(kind)),
        }
        self.finish(request.keeps_alive);
    }

    /// Answers with a file that is in memory.
    fn send_entry(&mut self, request: &Request<'_>, entry: &Entry) {
        for piece in entry.meta.send_head(&mut self.response(request)) {
            match piece {
                Piece::Text(text) => self.conn.send(text.as_bytes()).ignore(),
                Piece::Span(span) => entry.content.send(span, self.conn),
            }
        }
        self.finish(request.keeps_alive);
    }

    /// Sends the next part of a large file, if one is on its way.
    pub(super) fn send_next(&mut self) {
        if let Waiting::Stream(stream) = &mut self.session.waiting
            && stream.send_next(self.conn, &self.server.reads)
        {
            let keeps_alive = stream.keeps_alive;
            self.finish(keeps_alive);
        }
    }

    /// Tells the client why its request is not answered; the next one may be.
    fn refuse(&mut self, request: &Request<'_>, refused: Refused) {
        self.response(request).refuse(refused);
        self.finish(request.keeps_alive);
    }

    /// Tells the client why its request is not answered, and closes, as the next one may begin anywhere. `head` is what has
    /// come of this one.
    pub(super) fn give_up(&mut self, head: &[u8], refused: Refused) {
        let method = if head.starts_with(b"HEAD ") { Method::Head } else { Method::Unknown };
        self.refuse(&Request { head, method, is_1_1: true, ..Request::default() }, refused);
    }

    /// Goes on to the next request when an answer was sent or cut off, or closes.
    pub(super) fn finish(&mut self, keeps_alive: bool) {
        self.session.waiting = Waiting::Request;
        if !keeps_alive {
            self.conn.close();
        } else if self.conn.is_paused() {
            self.conn.resume();
        }
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
