//! Numbers in strings.

use super::*;

pub fn add(keys: &mut Keys, args: Args, reply: &mut Reply, by: i64) -> Outcome {
    let number = keys.of::<Bytes>(args[1])?.map_or(Ok(0), |string| integer(string))?;
    let number = number.checked_add(by).ok_or(Failure::OVERFLOW)?;
    let mut digits = itoa::Buffer::new();
    *keys.make(args[1])? = Bytes::from_slice(digits.format(number).as_bytes());
    keys.touch(args[1]);
    Ok(reply.integer(number))
}

pub fn incrby(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    add(keys, args, reply, integer(args[2])?)
}

pub fn decrby(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let by = integer(args[2])?.checked_neg().ok_or(Failure::new("ERR decrement would overflow"))?;
    add(keys, args, reply, by)
}

pub fn incrbyfloat(keys: &mut Keys, args: Args, reply: &mut Reply) -> Outcome {
    let number = keys.of::<Bytes>(args[1])?.map_or(&b"0"[..], |string| string);
    let sum = float_sum(number, args[2])?;
    let expires = keys.expires(args[1]).unwrap_or(NEVER);
    keys.set_string(args[1], sum.as_bytes(), expires);
    Ok(reply.bulk(sum.as_bytes()))
}

/// The sum of two numbers, as text. Integers are added as integers, and lose no digit.
fn float_sum(number: &[u8], by: &[u8]) -> Result<String, Failure> {
    if let (Ok(number), Ok(by)) = (integer(number), integer(by))
        && let Some(sum) = number.checked_add(by)
    {
        return Ok(sum.to_string());
    }
    let sum = float(by)? + float(number)?;
    if !sum.is_finite() {
        return Err(Failure::new("ERR increment would produce NaN or Infinity"));
    }
    // A sum of 0.1 and 0.2 is 0.3, and no more digits: it has as many behind the point as they have.
    let places = places(number).max(places(by));
    let sum = format!("{sum:.places$}").parse().unwrap_or(sum);
    Ok((sum + 0.0).to_string()) // which makes 0 of -0
}

/// How many digits a number has behind the point, without zeros at the end; 17, if its exponent has very many digits.
fn places(number: &[u8]) -> usize {
    let mut parts = number.split(|byte| byte.eq_ignore_ascii_case(&b'e'));
    let (mantissa, exponent) = (parts.next().unwrap_or_default(), parts.next());
    let exponent: i64 = exponent.map_or(0, |text| parse(text, 20).unwrap_or(-17));
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let last = mantissa.iter().rposition(|byte| *byte != b'0').unwrap_or(0);
    let digits = last.saturating_sub(point) as i64;
    digits.saturating_sub(exponent).clamp(0, 17) as usize
}
