//! The date of an answer.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oneloop::{Context, Time};

/// The date as HTTP writes it (RFC 9110, 5.6.7), made once a second.
#[derive(Debug)]
pub(super) struct Date {
    text: String,
    /// Until then it is true; `None` before it was asked for.
    until: Option<Time>,
}

impl Date {
    pub(super) fn new() -> Date {
        Date { text: String::new(), until: None }
    }

    pub(super) fn text(&mut self, cx: &Context<'_>) -> &str {
        if self.until.is_none_or(|until| cx.now() >= until) {
            let wall = cx.wall_clock();
            let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
            let left = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
            self.until = Some(cx.now() + left);
            self.text = format(wall);
        }
        &self.text
    }
}

/// A moment as HTTP writes it; the nearest that can be written, of one before 1970 or after 9999.
pub(super) fn format(moment: SystemTime) -> String {
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    httpdate::fmt_http_date(moment.clamp(UNIX_EPOCH, last))
}

/// What [`format`] wrote.
pub(super) fn parse(text: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(str::from_utf8(text).ok()?).ok()
}
