//! Patterns of keys and channels, as glob(7): `*`, `?`, `[a-c]`, `[^a]`, `\`.

/// Whether all of `text` matches. It takes no longer than the product of the lengths, whatever the pattern.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pos) = (0, 0);
    // Where to go on if what is tried now does not match: after the last star, with one more byte left to it.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if pattern.get(at) == Some(&b'*') {
            at += 1;
            retry = Some((at, pos + 1));
            continue;
        }
        if at == pattern.len() && pos == text.len() {
            return true;
        }
        if let Some(byte) = text.get(pos)
            && let Some(len) = matches_one(&pattern[at..], *byte)
        {
            at += len;
            pos += 1;
            continue;
        }
        match retry {
            Some((after_star, next)) if next <= text.len() => {
                (at, pos) = (after_star, next);
                retry = Some((after_star, next + 1));
            }
            _ => return false,
        }
    }
}

/// Whether the pattern's first element, which is no star, matches the byte: then its length.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ..] => matches_class(pattern, byte),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
    }
}

/// A class without an end goes to the end of the pattern.
fn matches_class(pattern: &[u8], byte: u8) -> Option<usize> {
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
    (is_in != is_negated).then_some(at)
}
