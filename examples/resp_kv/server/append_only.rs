//! The append-only file: written and synced by a helper thread.
//!
//! Records are written in batches: while one is on its way to the disk, the next one is collected. So with the
//! policy `always` one fsync(2) is for many clients. The replies to all of them wait for it, also to those that only
//! read: they may have read what is not on the disk. With `everysec` they wait only for a disk that is much too slow.
//!
//! An example, with `always`. Batch 7 is being written, and nothing was changed since. A client that reads now waits for
//! batch 7. Then one changes a key: its record will be in batch 8, and for that wait this client and all after it, also
//! those that read. When 7 is done, the first one gets its reply, and 8 begins.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use oneloop::{Blocking, Context, Inbox, Key, TimerId, blocking};

use super::Server;

/// At most so many messages that have waited for the disk are sent in a turn.
const RELEASED_PER_TURN: usize = 1000;
/// A quarter of their memory is for replies that take no more than this. A client has one of them, or a few.
const SMALL_BYTES: usize = 1024;
/// If more bytes of records than this wait for a slow disk, replies wait for it also under `everysec`.
const BACKLOG_BYTES_MAX: usize = 64 << 20;

/// When what was written is synced to the disk. What stands here is what `--help` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Policy {
    /// Before a change is acknowledged: a crash loses none that was.
    Always,
    /// Once a second: a crash of the machine loses up to two seconds of changes, one of the server, also by kill -9, the
    /// milliseconds that were not yet written, or some 128 MiB while the disk stalls.
    #[value(name = "everysec")]
    EverySecond,
}

/// A file that grows: what is written stands at its end. In tests it is none. It does not panic: nobody would hear of that.
pub trait RecordFile: Write + Send + 'static {
    /// Returns when all that was written will outlive a crash of the machine.
    fn sync(&mut self) -> io::Result<()>;
}

/// What became of a batch.
pub type Written = io::Result<()>;

/// What the helper thread and the loop share. The loop locks it between two batches, so that it never waits for the disk.
struct Writer {
    file: Box<dyn RecordFile>,
    /// Records that nobody has begun to write.
    records: Vec<u8>,
    /// The first error: half a record may stand at the end, and nothing behind that could be read.
    error: Option<(io::ErrorKind, String)>,
}

fn lock(writer: &Mutex<Writer>) -> MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Writes what nobody has begun to write; nothing more after an error.
    fn write(&mut self, sync: bool) -> Written {
        let records = mem::take(&mut self.records);
        if self.error.is_none() {
            let written = self.file.write_all(&records);
            let result = written.and_then(|()| if sync { self.file.sync() } else { Ok(()) });
            self.error = result.err().map(|error| (error.kind(), error.to_string()));
        }
        match &self.error {
            Some((kind, text)) => Err(io::Error::new(*kind, text.as_str())),
            None => Ok(()),
        }
    }
}

/// The loop's side of the file.
pub struct AppendOnly {
    pub policy: Policy,
    writer: Arc<Mutex<Writer>>,
    helper: Blocking<Written>,
    /// The number of the last batch that the helper was given, and of the last that it has written.
    begun: u64,
    done: u64,
    /// Something was written and not synced since.
    is_unsynced: bool,
    /// A second is over since the last sync.
    is_sync_due: bool,
    held: VecDeque<Held>,
    /// The timer for the next part of what can be sent, if that was too much for one turn.
    next_release: Option<TimerId>,
    /// The memory that they take.
    pub held_bytes: usize,
    /// How much they may take, and beside that the records that wait to be written.
    waiting_bytes_max: usize,
}

/// What is sent to a connection when the disk has what came before it.
struct Held {
    /// The batch that has to be written before.
    batch: u64,
    key: Key,
    bytes: Rc<[u8]>,
    next: Next,
    /// Its part of the memory.
    cost: usize,
}

/// What becomes of a connection when it has been sent what was held for it.
pub enum Next {
    /// It goes on as it does: this is a message, for which it was not paused.
    Nothing,
    /// It was paused, and is shown its next commands now.
    Resume,
    Close,
}

impl Server {
    /// Records all changes in a file from now on. The replies and messages that wait for it take `waiting_bytes_max` of
    /// memory at most, beside that of the reactor. When the records that wait behind those being written take more than
    /// that, too, changes are refused. The inbox is to be attached to this handler.
    pub fn append_to(
        &mut self,
        file: impl RecordFile,
        policy: Policy,
        waiting_bytes_max: usize,
    ) -> Inbox<Written> {
        let (helper, inbox) = blocking(1, 1);
        let writer = Writer { file: Box::new(file), records: Vec::new(), error: None };
        self.append_only = Some(AppendOnly {
            policy,
            writer: Arc::new(Mutex::new(writer)),
            helper,
            begun: 0,
            done: 0,
            is_unsynced: false,
            is_sync_due: false,
            held: VecDeque::new(),
            next_release: None,
            held_bytes: 0,
            waiting_bytes_max,
        });
        self.store.journal.is_on = true;
        inbox
    }

    /// Whether what is sent now has to wait: for the disk, or for replies that wait already.
    pub fn is_behind(&self) -> bool {
        let Some(file) = &self.append_only else { return false };
        let waiting = self.store.journal.len();
        let is_behind = match file.policy {
            Policy::Always => file.begun > file.done || waiting > 0,
            Policy::EverySecond => waiting > BACKLOG_BYTES_MAX,
        };
        is_behind || !file.held.is_empty()
    }

    /// Whether nothing is to be changed, as too many records wait for those that are being written.
    pub fn is_full(&self) -> bool {
        let waiting = self.store.journal.len();
        self.append_only.as_ref().is_some_and(|file| waiting > file.waiting_bytes_max)
    }

    /// Keeps a message for a connection until all records up to now are on the disk. The same message for many takes its
    /// memory once. If there is no room, the client is dropped. A part of the room is for small replies, however large
    /// those were that others have asked for.
    pub fn hold(&mut self, cx: &mut Context, key: Key, bytes: &Rc<[u8]>, next: Next) {
        let Some(file) = &mut self.append_only else { return };
        let is_first = Rc::strong_count(bytes) == 1; // only the caller has it, no other entry
        let cost = size_of::<Held>() + if is_first { bytes.len() } else { 0 };
        let is_small = cost <= SMALL_BYTES && !matches!(next, Next::Nothing);
        let reserved = if is_small { 0 } else { file.waiting_bytes_max / 4 };
        if file.held_bytes + cost + reserved > file.waiting_bytes_max {
            log::debug!("{key}: dropped, too much waits for the disk");
            self.dropped_total += 1;
            cx.abort_key(key);
            return;
        }
        file.held_bytes += cost;
        let batch = if self.store.journal.len() == 0 { file.begun } else { file.begun + 1 };
        file.held.push_back(Held { batch, key, bytes: Rc::clone(bytes), next, cost });
    }

    /// Has the journal's records written, if nothing is being written.
    pub fn write_records(&mut self) {
        let Some(file) = &mut self.append_only else { return };
        let must_sync = file.is_sync_due && file.is_unsynced;
        if file.begun > file.done || (self.store.journal.len() == 0 && !must_sync) {
            return;
        }
        let writer = Arc::clone(&file.writer);
        lock(&writer).records = self.store.journal.take(); // in place of none: the batch before is done
        let sync = mem::take(&mut file.is_sync_due) || file.policy == Policy::Always;
        file.is_unsynced = !sync;
        file.begun += 1;
        // When the reactor has ended nobody takes the job; `finish` does it then.
        let _ = file.helper.run(move || lock(&writer).write(sync));
    }

    /// After the reactor has stopped: writes and syncs the rest, on this thread; waits for the helper, if it is at work.
    ///
    /// # Errors
    ///
    /// Why the file could not be written, now or at the first attempt that failed.
    pub fn finish(&mut self) -> io::Result<()> {
        let Some(file) = &self.append_only else { return Ok(()) };
        let mut writer = lock(&file.writer);
        writer.write(false)?; // what nobody has begun to write
        writer.records = self.store.journal.take();
        writer.write(true)
    }
}

impl AppendOnly {
    pub fn start(&mut self, cx: &mut Context) {
        if self.policy == Policy::EverySecond {
            cx.set_handler_interval(Duration::from_secs(1));
        }
    }

    /// A batch was written.
    pub fn handle_written(&mut self, cx: &mut Context) {
        self.done += 1;
        if self.next_release.is_none() {
            self.release(cx);
        }
    }

    /// A second is over, or more of what was held can be sent.
    pub fn handle_timer(&mut self, timer: TimerId, cx: &mut Context) {
        if self.next_release == Some(timer) {
            self.next_release = None;
            self.release(cx);
        } else {
            self.is_sync_due = true;
        }
    }

    /// Sends what waits for the disk no longer. Of very much it sends a part, and the rest in the next turns.
    fn release(&mut self, cx: &mut Context) {
        let some = self.held.iter().take(RELEASED_PER_TURN);
        let ready = some.take_while(|held| held.batch <= self.done).count();
        for held in self.held.drain(..ready) {
            self.held_bytes -= held.cost;
            cx.send_shared_to(held.key, held.bytes).ignore();
            match held.next {
                Next::Nothing => {}
                Next::Resume => cx.resume_key(held.key),
                Next::Close => cx.close_key(held.key),
            }
        }
        if self.held.front().is_some_and(|held| held.batch <= self.done) {
            self.next_release = Some(cx.set_handler_timer(Duration::ZERO));
        }
    }
}
