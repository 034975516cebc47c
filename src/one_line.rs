//! Text that may come from a stranger, as one short line.

use std::fmt::{self, Write};

/// More of a message is not shown in the log.
const CHARS_MAX: usize = 500;

/// Shows something in one line: control characters and others that would not be seen are escaped, and what is too
/// long is cut. Error messages and panics may quote what a peer sent, which must not write lines of the log, or
/// commands to the terminal that shows it.
#[derive(Debug)]
pub(crate) struct OneLine<T> {
    shown: T,
    chars_max: usize,
}

impl<T: fmt::Display> OneLine<T> {
    /// For the log.
    pub(crate) fn new(shown: T) -> OneLine<T> {
        OneLine::cut(shown, CHARS_MAX)
    }

    /// At most so many characters, as they are shown, and a mark of what is left out.
    pub(crate) fn cut(shown: T, chars_max: usize) -> OneLine<T> {
        OneLine { shown, chars_max }
    }
}

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = Line { f, left: self.chars_max, is_cut: false };
        match write!(line, "{}", self.shown) {
            Err(_) if line.is_cut => f.write_str("…"),
            result => result,
        }
    }
}

struct Line<'a, 'b> {
    f: &'a mut fmt::Formatter<'b>,
    left: usize,
    is_cut: bool,
}

impl Write for Line<'_, '_> {
    /// An error once it is full, so that nobody goes on with a text without end.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let is_plain = matches!(c, '"' | '\'' | '\\');
            let width = if is_plain { 1 } else { c.escape_debug().len() };
            if width > self.left {
                self.is_cut = true;
                return Err(fmt::Error);
            }
            self.left -= width;
            match is_plain {
                true => self.f.write_char(c)?,
                false => write!(self.f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_be_seen_is_escaped_and_quotes_are_not() {
        let text = "a\r\n\u{1b}[2J\0 \"it's\" a\\b ü \u{2028}\u{202e}";
        let shown = OneLine::new(text).to_string();
        assert_eq!(shown, r#"a\r\n\u{1b}[2J\0 "it's" a\b ü \u{2028}\u{202e}"#);
    }

    #[test]
    fn what_is_too_long_is_cut_between_two_characters() {
        assert_eq!(OneLine::cut("abc", 3).to_string(), "abc");
        assert_eq!(OneLine::cut("abcd", 3).to_string(), "abc…");
        assert_eq!(OneLine::cut("a\n\n", 3).to_string(), "a\\n…");
        assert_eq!(OneLine::new("x".repeat(10_000)).to_string().chars().count(), CHARS_MAX + 1);
    }
}
