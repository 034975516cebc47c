//! Quantities on the command line: `200ms`, `64K`; and in print.

use std::time::Duration;

/// Reads a duration: a number with `us`, `ms`, `s` or `m`, seconds without a unit.
///
/// # Errors
///
/// What it should look like.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let explain = || format!("\"{text}\" is no duration; write 500us, 200ms, 4s or 1m");
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        _ => return Err(explain()),
    };
    let number: f64 = number.parse().map_err(|_| explain())?;
    let duration = Duration::try_from_secs_f64(number * factor).map_err(|_| explain())?;
    if duration.is_zero() || duration > Duration::from_secs(365 * 24 * 3600) {
        return Err(format!(
            "\"{text}\" is too short or too long; write a time of more than 0 s, up to a year"
        ));
    }
    Ok(duration)
}

/// Reads a number of bytes: a number, or one with `K`, `M` or `G` (powers of 1024).
///
/// # Errors
///
/// What it should look like.
pub(crate) fn parse_bytes(text: &str) -> Result<usize, String> {
    let explain = || format!("\"{text}\" is no number of bytes; write 64, 16K, 1M or 1G");
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return Err(explain()),
    };
    let number: usize = number.parse().map_err(|_| explain())?;
    let bytes = number.checked_mul(factor).ok_or_else(explain)?;
    if bytes == 0 { Err("it must be at least one byte".into()) } else { Ok(bytes) }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    text.split_at(end)
}

/// A number with commas between the thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("1m"), Ok(Duration::from_secs(60)));
        for bad in ["", "ms", "1h", "-1s", "0s", "NaN", "1e300s", "99999999999s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("64"), Ok(64));
        assert_eq!(parse_bytes("16K"), Ok(16384));
        assert_eq!(parse_bytes("1MiB"), Ok(1 << 20));
        for bad in ["", "K", "0", "1.5K", "-1", "1T", "99999999999999999999", "17179869184G"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn thousands_are_separated() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
