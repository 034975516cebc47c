//! What comes of a request, from its first byte to its answer.

use std::cell::Cell;
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use oneloop::{Connection, Limits};

use super::api::{self, Route};
use super::cache::Entry;
use super::head::has_begun;
use super::jobs::{self, Found, LookedUp, is_missing};
use super::range::Piece;
use super::request::{Method, Request};
use super::response::{Refused, Response};
use super::stream::Stream;
use super::{LookUp, Server, Session, Waiting, listing, path};

/// From this length on a file is shared with the output; to copy a shorter one costs less.
const SHARED_BYTES_MIN: usize = 16 * 1024;
/// For so long a client is silent before its connection is closed in a drain.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection that is served: what all callbacks have.
pub(super) struct Serving<'a, 'r> {
    pub(super) server: &'a mut Server,
    pub(super) session: &'a mut Session,
    pub(super) conn: &'a mut Connection<'r>,
}

impl<'r> Serving<'_, 'r> {
    /// Answers the first request of the input, or begins to. Gives its length, or that of an empty line before it; `None`
    /// if it is not whole, or the last one.
    pub(super) fn take(&mut self, input: &[u8]) -> Option<usize> {
        if let Waiting::Silence(_) = self.session.waiting {
            return Some(input.len()).filter(|len| *len > 0);
        }
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

    /// In a drain the last request is the first one of which no part of another one was read with it, or the next one
    /// after the connection was told.
    fn note_drain(&self, request: &mut Request<'_>, rest: &[u8]) {
        let is_draining = self.conn.is_draining();
        request.keeps_alive &= !(is_draining && (self.session.is_last || !has_begun(rest)));
    }

    /// From memory, or after a look at the file.
    fn answer_path(&mut self, request: &Request<'_>) {
        let path = match path::normalize(request.path) {
            Ok(path) => path,
            Err(refused) => return self.refuse(request, refused),
        };
        let (known, now) = (self.server.cache.get(&path), self.conn.now());
        if let Some(entry) = &known
            && entry.is_fresh(now)
        {
            return self.send_entry(request, entry);
        }
        let (files, path) = (Arc::clone(&self.server.files), path.into_owned());
        let stamp = known.as_ref().map(|entry| entry.meta.stamp);
        let job = move || jobs::look_up(&*files, path, stamp);
        if self.server.look_ups.run_for(self.conn.key(), job).is_err() {
            return match &known {
                Some(entry) => self.send_entry(request, entry), // which may be old: better than nothing
                None => self.refuse(request, Refused::new(503, "too busy")),
            };
        }
        if let Some(entry) = &known {
            entry.checked.set(now); // so that others do not look as well
        }
        self.wait_for(LookUp { head: request.head.into(), known, asked: now });
    }

    /// With a page of what is in a directory.
    fn list(&mut self, request: &Request<'_>, path: String) {
        let files = Arc::clone(&self.server.files);
        let names_max = if request.is_head() { 0 } else { listing::NAMES_MAX };
        let job = move || jobs::list(&*files, path, names_max);
        if self.server.listings.run_for(self.conn.key(), job).is_err() {
            return self.refuse(request, Refused::new(503, "too busy"));
        }
        let asked = self.conn.now();
        self.wait_for(LookUp { head: request.head.into(), known: None, asked });
    }

    fn wait_for(&mut self, look_up: LookUp) {
        self.session.waiting = Waiting::LookUp(Box::new(look_up));
        self.conn.pause();
    }

    /// A look-up is done.
    pub(super) fn take_found(&mut self, look_up: LookUp, LookedUp { path, found }: LookedUp) {
        let LookUp { head, known, asked } = look_up;
        let mut request = match Request::parse(&head) {
            Ok(request) => request,
            Err(refused) => return self.give_up(&head, refused),
        };
        self.note_drain(&mut request, self.conn.unconsumed());
        match (found, known) {
            (Found::Unchanged, Some(entry)) => self.send_entry(&request, &entry),
            (Found::Bytes(meta, bytes), _) => {
                let (bytes, checked) = (bytes.into(), Cell::new(asked));
                let entry = Rc::new(Entry { meta, bytes, checked });
                self.server.cache.insert(path, Rc::clone(&entry));
                self.send_entry(&request, &entry);
            }
            (Found::Directory, _) if path.ends_with('/') => {
                self.server.cache.remove(&path);
                self.list(&request, path);
            }
            (found, _) => {
                self.server.cache.remove(&path);
                self.answer_found(&request, &path, found);
            }
        }
    }

    /// With what is not kept in memory.
    fn answer_found(&mut self, request: &Request<'_>, path: &str, found: Found) {
        let mut response = self.response(request);
        match found {
            Found::File(meta, file) => {
                let pieces = meta.send_head(&mut response);
                let stream = Stream::new(file, pieces, request.keeps_alive);
                self.session.waiting = Waiting::Stream(Box::new(stream));
                return self.send_next();
            }
            Found::Page(page) => {
                response.begin(200).send_chunked("text/html; charset=utf-8", page.as_bytes());
            }
            Found::Directory => {
                let location = format!("{}/{}", path::encode(path), request.query);
                response.begin(301).field("Location", location);
                response.send_with("text/plain; charset=utf-8", b"");
            }
            Found::Failed(kind) => response.refuse(refuse_file(kind)),
            Found::Unchanged | Found::Bytes(..) => response.refuse(refuse_file(ErrorKind::Other)),
        }
        self.finish(request.keeps_alive);
    }

    /// Answers with a file that is in memory.
    fn send_entry(&mut self, request: &Request<'_>, entry: &Entry) {
        for piece in entry.meta.send_head(&mut self.response(request)) {
            match piece {
                Piece::Text(text) => self.conn.send(text.as_bytes()).ignore(),
                Piece::Span(span) => {
                    let bytes = &entry.bytes[span.start as usize..span.end as usize];
                    if bytes.len() == entry.bytes.len() && bytes.len() >= SHARED_BYTES_MIN {
                        self.conn.send_shared(Rc::clone(&entry.bytes)).ignore();
                    } else {
                        self.conn.send(bytes).ignore();
                    }
                }
            }
        }
        self.finish(request.keeps_alive);
    }

    /// Sends the next part of a large file, if that is what is waited for.
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

    /// Tells the client why, and closes: where its next request would begin, nobody knows. `head` is what there is of
    /// this one.
    pub(super) fn give_up(&mut self, head: &[u8], refused: Refused) {
        let method = if head.starts_with(b"HEAD ") { Method::Head } else { Method::Unknown };
        self.refuse(&Request { head, method, is_1_1: true, ..Request::default() }, refused);
    }

    /// An answer is sent, or cut off: what comes next.
    pub(super) fn finish(&mut self, keeps_alive: bool) {
        self.session.waiting = Waiting::Request;
        if !keeps_alive {
            self.close();
        } else if self.conn.is_paused() {
            self.conn.resume();
        }
    }

    /// Closes. In a drain that is done when the client has been silent for a while: it need not close as well.
    pub(super) fn close(&mut self) {
        if !self.conn.is_draining() {
            return self.conn.close();
        }
        self.conn.shutdown_write();
        self.conn.resume();
        self.conn.again(); // so that what is left of the input does not count as a request that comes too slowly
        self.wait_for_silence();
    }

    /// What was sent may still be in the kernel, which throws it away if anything comes in after the connection was closed.
    /// So a client that goes on asking is listened to, but not answered.
    fn wait_for_silence(&mut self) {
        self.session.waiting = Waiting::Silence(self.conn.bytes_in());
        self.conn.set_timer(SILENCE);
    }

    /// Closes if the client has said nothing since `bytes_in` were counted, and the kernel has taken what was sent.
    pub(super) fn end_silence(&mut self, bytes_in: u64) {
        if self.conn.bytes_in() != bytes_in || self.conn.output_len() > 0 {
            return self.wait_for_silence();
        }
        let limits = Limits::clone(self.conn.limits());
        self.conn.set_limits(&Rc::new(limits.linger_timeout(Duration::ZERO)));
        self.conn.close();
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
