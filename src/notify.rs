//! Word to systemd: sd_notify(3), sd_watchdog_enabled(3).

use std::cell::Cell;
use std::env;
use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::rc::Rc;
use std::time::Duration;

use log::{info, warn};

use crate::connection::Connection;
use crate::connector::Backoff;
use crate::context::Context;
use crate::driver::Driver;
use crate::error::Error;
use crate::handler::StreamHandler;
use crate::reactor::Reactor;
use crate::timer::TimerId;

/// Waits before another try while systemd's queue is full, which holds a few words of all services together: the
/// first one shorter than anybody notices, the last one short beside any time that a start may take.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Tells systemd how the process is.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: UnixDatagram,
    to: SocketAddr,
    watchdog: Option<Duration>,
    /// The handler by whose timers it lives.
    handler: u16,
    /// From the beginning of a drain or a stop to the end of the stop.
    is_stopping: Cell<bool>,
}

impl Notifier {
    /// `None` if nobody wants to know.
    fn from_env(handler: u16) -> io::Result<Option<Notifier>> {
        let Some(to) = env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
        let socket = UnixDatagram::unbound()?;
        // The loop waits for nobody, not for systemd either.
        socket.set_nonblocking(true)?;
        let variable = |name| env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"))?;
        let (to, is_stopping) = (notify_socket(&to)?, Cell::new(false));
        Ok(Some(Notifier { socket, to, watchdog, handler, is_stopping }))
    }

    /// Whether it is worth another try: there was no room for it.
    fn say(&self, state: &str) -> bool {
        match self.socket.send_to_addr(state.as_bytes(), &self.to) {
            Ok(_) => false,
            Err(error) => {
                warn!("systemd is not told {state}: {error}");
                error.kind() == io::ErrorKind::WouldBlock
            }
        }
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// A path, or an abstract name behind `@`.
fn notify_socket(text: &OsStr) -> io::Result<SocketAddr> {
    match text.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(text),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => {
            Err(invalid(format!("NOTIFY_SOCKET is {text:?}: a path or an abstract name is served")))
        }
    }
}

/// After how long without a word systemd ends this process; `None` if it does not, or means another one.
fn watchdog(micros: Option<String>, pid: Option<String>) -> io::Result<Option<Duration>> {
    let Some(micros) = micros else { return Ok(None) };
    if pid.is_some_and(|pid| pid != process::id().to_string()) {
        return Ok(None);
    }
    match micros.parse() {
        Ok(micros @ 1..) => Ok(Some(Duration::from_micros(micros))),
        _ => Err(invalid(format!("WATCHDOG_USEC is {micros:?}, which is no time"))),
    }
}

impl<D: Driver> Reactor<D> {
    /// A drain or a stop begins; a stop that ends a drain says it a second time, to nobody's harm.
    pub(crate) fn notify_stopping(&self) {
        if let Some(notifier) = &self.notifier {
            notifier.is_stopping.set(true);
            // One that does not get through is missed by nobody.
            let _ = notifier.say("STOPPING=1");
        }
    }

    /// The end of a stop, which has ended all timers: should the reactor run again, it says so, and is watched.
    pub(crate) fn notify_again(&mut self) {
        let Some(notifier) = &self.notifier else { return };
        notifier.is_stopping.set(false);
        if !self.core.starting.contains(&notifier.handler) {
            self.core.starting.push_back(notifier.handler);
        }
    }
}

impl Reactor {
    /// Tells systemd how the reactor is, if the process is a service of its that wants to know
    /// (`Type=notify` in systemd.service(5)); otherwise this does nothing, and says so. It is told
    /// `READY=1` in the first turn, so listen before, and, while its queue is full, again until it gets through or the
    /// reactor stops; `STOPPING=1` when a drain or a stop begins, whether or not the process ends then; and, if the
    /// service has `WatchdogSec=`, `WATCHDOG=1` twice in that time. That is a timer of the loop: when a callback
    /// holds it up for longer, systemd ends the process. It holds for every run of the reactor; a second call
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `NOTIFY_SOCKET` or `WATCHDOG_USEC` cannot be read; those of socket(2).
    ///
    /// # Panics
    ///
    /// As [`add`](Reactor::add): this takes in a handler.
    ///
    /// # Cost
    ///
    /// A system call each time that systemd is told something. It never blocks; a word that does not get through is
    /// logged.
    pub fn notify_systemd(&mut self) -> io::Result<bool> {
        if self.notifier.is_some() {
            return Ok(true);
        }
        let handler = u16::try_from(self.handlers.len()).expect("at most 65,535 handlers");
        let Some(notifier) = Notifier::from_env(handler)? else { return Ok(false) };
        let notifier = Rc::new(notifier);
        let backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        let watchdog = Watchdog { notifier: Rc::clone(&notifier), retry: TimerId::NONE, backoff };
        let id = self.add(watchdog);
        debug_assert_eq!(id.index, handler, "handlers are numbered as they come");
        self.notifier = Some(notifier);
        Ok(true)
    }
}

/// Lives by its timers, and never has a connection.
struct Watchdog {
    notifier: Rc<Notifier>,
    /// For the next try to say that we are ready.
    retry: TimerId,
    backoff: Backoff,
}

impl Watchdog {
    /// Unless it stops already: that it is ready would be its last word.
    fn say_ready(&mut self, cx: &mut Context<'_>) {
        if !self.notifier.is_stopping.get() && self.notifier.say("READY=1") {
            let wait = self.backoff.next(cx.random());
            self.retry = cx.set_handler_timer(wait);
        }
    }
}

impl StreamHandler for Watchdog {
    type Session = ();

    fn on_start(&mut self, cx: &mut Context<'_>) {
        self.backoff.reset();
        self.say_ready(cx);
        if let Some(time) = self.notifier.watchdog {
            info!("systemd wants to hear of this process every {time:?}");
            cx.set_handler_interval(time / 2);
        }
    }

    fn on_handler_timer(&mut self, timer: TimerId, cx: &mut Context<'_>) {
        if timer == self.retry {
            return self.say_ready(cx);
        }
        // The next one comes anyhow.
        let _ = self.notifier.say("WATCHDOG=1");
    }

    fn on_open(&mut self, _: &mut Connection<'_>) {}

    fn on_data(&mut self, _: &mut (), _: &mut Connection<'_>, data: &[u8]) -> Result<usize, Error> {
        Ok(data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_of_another_process_is_none_of_ours() {
        let micros = || Some("2000000".into());
        let time = Some(Duration::from_secs(2));
        assert_eq!(watchdog(micros(), None).unwrap(), time);
        assert_eq!(watchdog(micros(), Some(process::id().to_string())).unwrap(), time);
        assert_eq!(watchdog(micros(), Some("1".into())).unwrap(), None);
        assert_eq!(watchdog(None, None).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for micros in ["", "0", "-1", "soon"] {
            let error = watchdog(Some(micros.into()), None).unwrap_err();
            assert!(error.to_string().contains(&format!("{micros:?}")), "{error}");
        }
        for text in ["", "run/notify", "vsock:2:1234"] {
            let error = notify_socket(text.as_ref()).unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_socket_is_a_path_or_an_abstract_name() {
        let path = notify_socket("/run/systemd/notify".as_ref()).unwrap();
        assert_eq!(path.as_pathname(), Some("/run/systemd/notify".as_ref()));
        #[cfg(target_os = "linux")]
        {
            let name = notify_socket("@/org/notify".as_ref()).unwrap();
            assert_eq!(name.as_abstract_name(), Some(&b"/org/notify"[..]));
        }
    }
}
