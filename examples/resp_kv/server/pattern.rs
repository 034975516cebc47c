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
pub fn matches(mut pattern: &[u8], mut text: &[u8], steps: &mut usize) -> Option<bool> {
    // Where to go on if what is tried now does not match: behind the last star, with one more byte left to it.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        *steps = steps.checked_sub(1)?;
        match (pattern, text) {
            ([b'*', rest @ ..], _) => {
                pattern = rest;
                retry = Some((rest, text));
                continue;
            }
            ([], []) => return Some(true),
            (_, [byte, after @ ..]) => {
                let (is_match, rest) = match_one(pattern, *byte);
                *steps = steps.checked_sub(pattern.len() - rest.len())?;
                if is_match {
                    (pattern, text) = (rest, after);
                    continue;
                }
            }
            _ => {}
        }
        let Some((after_star, [_, next @ ..])) = retry else { return Some(false) };
        (pattern, text) = (after_star, next);
        retry = Some((after_star, next));
    }
}

/// Whether the first element of a pattern, which is no star, matches the byte; and what is behind it.
fn match_one(pattern: &[u8], byte: u8) -> (bool, &[u8]) {
    match pattern {
        [] => (false, pattern),
        [b'?', rest @ ..] => (true, rest),
        [b'[', b'^', class @ ..] => {
            let (is_in, rest) = match_class(class, byte);
            (!is_in, rest)
        }
        [b'[', class @ ..] => match_class(class, byte),
        [b'\\', escaped, rest @ ..] => (*escaped == byte, rest),
        [literal, rest @ ..] => (*literal == byte, rest),
    }
}

/// Whether a byte is in a class, and what is behind that. One without an end goes to the end of the pattern.
fn match_class(mut class: &[u8], byte: u8) -> (bool, &[u8]) {
    let mut is_in = false;
    loop {
        let (first, last, rest) = match class {
            [] => return (is_in, class),
            [b']', rest @ ..] => return (is_in, rest),
            [b'\\', escaped, rest @ ..] => (escaped, escaped, rest),
            [first, b'-', last, rest @ ..] if *last != b']' => (first, last, rest),
            [literal, rest @ ..] => (literal, literal, rest),
        };
        is_in |= (first.min(last)..=first.max(last)).contains(&&byte);
        class = rest;
    }
}
