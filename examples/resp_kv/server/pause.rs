//! CLIENT PAUSE: a command that comes meanwhile stays in its client's input, and so do all behind it. So they have the
//! bound that all input has, and if the client leaves they are not carried out.

use std::time::Duration;

use oneloop::{Context, Time, TimerId};

use super::Server;
use super::clients::show_again;
use super::commands::{Command, Failure, integer};

/// A pause: until the timer fires, or CLIENT UNPAUSE, if that is not put off itself.
pub struct Pause {
    pub timer: TimerId,
    ends: Time,
    is_for_reads: bool,
}

impl Server {
    /// Whether CLIENT PAUSE holds for this command of the current client.
    pub fn must_postpone(&self, command: &Command) -> bool {
        self.pause.as_ref().is_some_and(|pause| pause.is_for_reads || self.writes(command))
    }

    pub fn unpause(&mut self, cx: &mut Context) {
        let Some(pause) = self.pause.take() else { return };
        cx.cancel_timer(pause.timer);
        self.store.work += self.clients.len();
        for (_, client) in self.clients.iter_mut().filter(|(_, client)| client.is_postponed) {
            client.is_postponed = false;
            show_again(cx, client.key);
        }
    }

    pub fn pause(
        &mut self,
        cx: &mut Context,
        millis: &[u8],
        mut is_for_reads: bool,
    ) -> Result<(), Failure> {
        let millis = integer(millis).ok().and_then(|millis| u64::try_from(millis).ok());
        let millis = millis.ok_or(Failure::new("ERR timeout is not an integer or out of range"))?;
        let mut ends = cx.now() + Duration::from_millis(millis);
        if let Some(old) = self.pause.take() {
            cx.cancel_timer(old.timer);
            ends = ends.max(old.ends);
            is_for_reads |= old.is_for_reads;
        }
        let timer = cx.set_handler_timer(ends - cx.now());
        self.pause = Some(Pause { timer, ends, is_for_reads });
        Ok(())
    }
}
