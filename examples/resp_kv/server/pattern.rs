//! Patterns of keys and channels, as glob(7): `*`, `?`, `[a-c]`, `[^a]`, `\`.

use super::reply::Failure;

/// A name of a client or a channel, or a pattern of names, if it is not too long: matching takes as many steps as the
/// product of the lengths.
///
/// # Errors
///
/// It is longer than that.
pub fn check_name(name: &[u8]) -> Result<&[u8], Failure> {
    const BYTES_MAX: usize = 256;
    if name.len() > BYTES_MAX {
        let text = format!("ERR a name or pattern has at most {BYTES_MAX} bytes");
        return Err(text.into());
    }
    Ok(name)
}

/// Whether all of `text` matches, in at most so many steps, which are taken off; `None` if they do not suffice. It takes
/// twice the product of the lengths at most, and for most patterns four for each byte of the text suffice.
pub fn matches(pattern: &[u8], text: &[u8], steps: &mut usize) -> Option<bool> {
    let (mut at, mut pos) = (0, 0);
    // Where to go on if what is tried now does not match: after the last star, with one more byte left to it.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        *steps = steps.checked_sub(1)?;
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, pos + 1));
            continue;
        }
        if at == pattern.len() && pos == text.len() {
            return Some(true);
        }
        if let (Some(byte), rest @ [_, ..]) = (text.get(pos), &pattern[at..]) {
            let (is_match, len) = match_one(rest, *byte);
            *steps = steps.checked_sub(len)?;
            if is_match {
                at += len;
                pos += 1;
                continue;
            }
        }
        match retry {
            Some((after_star, next)) if next <= text.len() => {
                (at, pos) = (after_star, next);
                retry = Some((after_star, next + 1));
            }
            _ => return Some(false),
        }
    }
}

/// Whether the first element of a pattern that has one, which is no star, matches the byte; and its length.
fn match_one(pattern: &[u8], byte: u8) -> (bool, usize) {
    match pattern {
        [b'?', ..] => (true, 1),
        [b'[', ..] => match_class(pattern, byte),
        [b'\\', escaped, ..] => (*escaped == byte, 2),
        _ => (pattern.first() == Some(&byte), 1),
    }
}

/// A class without an end goes to the end of the pattern.
fn match_class(pattern: &[u8], byte: u8) -> (bool, usize) {
    let mut at = 1;
    let is_negated = pattern.get(at) == Some(&b'^');
    at += usize::from(is_negated);
    let mut is_in = false;
    loop {
        match pattern[at..] {
            [] => break,
            [b']', ..] => {
                at += 1;
                break;
            }
            [b'\\', escaped, ..] => {
                is_in |= escaped == byte;
                at += 2;
            }
            [first, b'-', last, ..] if last != b']' => {
                is_in |= (first.min(last)..=first.max(last)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                is_in |= literal == byte;
                at += 1;
            }
        }
    }
    (is_in != is_negated, at)
}
