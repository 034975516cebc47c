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
use std::io;
use std::mem;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::ValueEnum;
use oneloop::{Blocking, Context, Inbox, Key, TimerId, blocking};

use super::journal::Journal;

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

/// A file that grows. In tests it is none. It does not panic: nobody would hear of that.
pub trait RecordFile: Send + 'static {
    /// Writes all bytes at its end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was written will outlive a crash of the machine.
    fn sync(&mut self) -> io::Result<()>;
}

/// What became of a batch.
pub type Written = io::Result<()>;

/// What the helper thread and the loop share.
struct Shared {
    /// Records that nobody has begun to write.
    waiting: Mutex<Vec<u8>>,
    /// After an error it is that error: half a record may stand at the end, and nothing behind that could be read.
    file: Mutex<io::Result<Box<dyn RecordFile>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Writes what waits. The file is locked first, so that batches are written in their order.
    fn write(&self, sync: bool) -> Written {
        let mut open = lock(&self.file);
        let records = mem::take(&mut *lock(&self.waiting));
        let same = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
        let result = match &mut *open {
            Ok(file) => {
                file.append(&records).and_then(|()| if sync { file.sync() } else { Ok(()) })
            }
            Err(error) => Err(same(error)),
        };
        if let Err(error) = &result {
            *open = Err(same(error));
        }
        result
    }
}

/// The loop's side of the file.
pub struct AppendOnly {
    pub policy: Policy,
    shared: Arc<Shared>,
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

impl AppendOnly {
    pub fn new(
        file: impl RecordFile,
        policy: Policy,
        waiting_bytes_max: usize,
    ) -> (AppendOnly, Inbox<Written>) {
        let (helper, inbox) = blocking(1, 1);
        let shared = Shared { waiting: Mutex::default(), file: Mutex::new(Ok(Box::new(file))) };
        let append_only = AppendOnly {
            policy,
            shared: Arc::new(shared),
            helper,
            begun: 0,
            done: 0,
            is_unsynced: false,
            is_sync_due: false,
            held: VecDeque::new(),
            next_release: None,
            held_bytes: 0,
            waiting_bytes_max,
        };
        (append_only, inbox)
    }

    pub fn start(&mut self, cx: &mut Context) {
        if self.policy == Policy::EverySecond {
            cx.set_handler_interval(Duration::from_secs(1));
        }
    }

    /// Whether replies have to wait: for the disk, or for replies that wait already.
    pub fn is_behind(&self, journal: &Journal) -> bool {
        let is_behind = match self.policy {
            Policy::Always => self.begun > self.done || journal.len() > 0,
            Policy::EverySecond => journal.len() > BACKLOG_BYTES_MAX,
        };
        is_behind || !self.held.is_empty()
    }

    /// Whether so many records wait for those that are being written that there have to be no more.
    pub fn is_full(&self, journal: &Journal) -> bool {
        journal.len() > self.waiting_bytes_max
    }

    /// Keeps a message for a connection until all records up to now are on the disk. The same message for many takes its
    /// memory once. False if there is no room: then the connection cannot go on. A part of it is for small replies,
    /// however large those were that others have asked for.
    #[must_use]
    pub fn hold(&mut self, journal: &Journal, key: Key, bytes: &Rc<[u8]>, next: Next) -> bool {
        let is_first = Rc::strong_count(bytes) == 1; // only the caller has it, no other entry
        let cost = size_of::<Held>() + if is_first { bytes.len() } else { 0 };
        let is_small = cost <= SMALL_BYTES && !matches!(next, Next::Nothing);
        let reserved = if is_small { 0 } else { self.waiting_bytes_max / 4 };
        if self.held_bytes + cost + reserved > self.waiting_bytes_max {
            return false;
        }
        self.held_bytes += cost;
        let batch = if journal.len() == 0 { self.begun } else { self.begun + 1 };
        self.held.push_back(Held { batch, key, bytes: Rc::clone(bytes), next, cost });
        true
    }

    /// Has the journal's records written, if nothing is being written.
    pub fn write(&mut self, journal: &mut Journal) {
        let must_sync = self.is_sync_due && self.is_unsynced;
        if self.begun > self.done || (journal.len() == 0 && !must_sync) {
            return;
        }
        *lock(&self.shared.waiting) = journal.take();
        let sync = mem::take(&mut self.is_sync_due) || self.policy == Policy::Always;
        self.is_unsynced = !sync;
        let shared = Arc::clone(&self.shared);
        self.begun += 1;
        // When the reactor has ended nobody takes the job; `finish` does it then.
        let _ = self.helper.run(move || shared.write(sync));
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

    /// Writes and syncs the rest, on this thread; waits for the helper, if it is at work.
    pub fn finish(&mut self, journal: &mut Journal) -> io::Result<()> {
        self.shared.write(false)?; // what nobody has begun to write
        *lock(&self.shared.waiting) = journal.take();
        self.shared.write(true)
    }
}
