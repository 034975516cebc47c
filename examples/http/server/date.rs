//! Dates as HTTP writes them (RFC 9110, 5.6.7).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;
use oneloop::{Context, Time};

/// The date of an answer, made once a second.
#[derive(Debug, Default)]
pub(super) struct Date {
    text: String,
    /// When it ceases to be true; `None` before it was asked for.
    until: Option<Time>,
}

impl Date {
    pub(super) fn text(&mut self, cx: &Context<'_>) -> &str {
        if self.until.is_none_or(|until| cx.now() >= until) {
            let wall = cx.wall_clock();
            let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
            let left = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
            self.until = Some(cx.now() + left);
            self.text = http_date(wall).to_string();
        }
        &self.text
    }
}

/// The moment, or the nearest that can be written, of one before 1970 or after 9999.
pub(super) fn http_date(moment: SystemTime) -> HttpDate {
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    moment.clamp(UNIX_EPOCH, last).into()
}
