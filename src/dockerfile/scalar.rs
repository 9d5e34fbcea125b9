//! Booleans, sizes and durations as flags and mounts write them.

/// A boolean as Go reads one: `1`, `t`, `T`, `true`, `True`, `TRUE` and their opposites.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// A size in bytes, with a unit of 1024s (`64m`, `1.5 GiB`) or none.
pub fn size(text: &str) -> Option<i64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, unit) = text.split_at_checked(last + 1)?;
    let number = number.strip_suffix(' ').unwrap_or(number);
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-' | 'e' | 'E');
    if !number.chars().all(is_number) {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    if !number.is_finite() || number < 0.0 {
        return None;
    }
    let unit = unit.to_ascii_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let known = match unit.strip_prefix(['k', 'm', 'g', 't', 'p']) {
        Some(rest) => matches!(rest, "" | "b" | "ib"),
        None => matches!(unit.as_str(), "" | "b"),
    };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "fractions of a byte are dropped, and what is too large becomes the largest size"
    )]
    known.then_some((number * 1024_f64.powi(power)) as i64)
}

/// Why a duration cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// It is not a sequence of numbers with units.
    #[error("invalid duration {}", super::quote(.0))]
    Invalid(String),
    /// A number has no unit.
    #[error("missing unit in duration {}", super::quote(.0))]
    MissingUnit(String),
    /// A unit that there is not.
    #[error("unknown unit {} in duration {}", super::quote(.unit), super::quote(.text))]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole duration.
        text: String,
    },
}

/// A duration as Go writes it (`1h30m`, `1.5s`, `-2us`), in nanoseconds.
///
/// # Errors
/// Where a number or a unit cannot be read, or it is longer than 64 bits can say.
pub fn duration(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.to_owned());
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end).unwrap_or((after, ""));
        let scale: i128 = match unit {
            "" => return Err(DurationError::MissingUnit(text.to_owned())),
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                return Err(DurationError::UnknownUnit {
                    unit: unit.to_owned(),
                    text: text.to_owned(),
                });
            }
        };
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            i128::from(whole.parse::<i64>().map_err(|_| invalid())?)
        };
        total += whole * scale + fraction_of(fraction, scale);
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return Err(invalid());
        }
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| invalid())
}

/// What the digits after a point are of a unit. In floating point, as Go does it, so that odd
/// fractions round alike; digits beyond 64 bits are left out.
fn fraction_of(digits: &str, unit: i128) -> i128 {
    let (mut value, mut scale) = (0_u64, 1_f64);
    for digit in digits.bytes() {
        let next = value
            .checked_mul(10)
            .and_then(|next| next.checked_add(u64::from(digit.saturating_sub(b'0'))))
            .filter(|&next| next <= 1 << 63);
        let Some(next) = next else { break };
        value = next;
        scale *= 10.0;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "less than a unit, and fractions of a nanosecond are dropped"
    )]
    let part = (value as f64 * (unit as f64 / scale)) as i128;
    part
}

fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::{DurationError, duration, size};

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("64m", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1.5k", 1536),
            ("7b", 7),
            ("2gb", 2 << 30),
            ("1e3", 1000),
            ("1p", 1 << 50),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1kk", "1bb", "1ib", "1mbb", "one", "inf 5", "1 2"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("30s", 30_000_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            ("-1.5ms", -1_500_000),
            ("+.5us", 500),
            ("1µs", 1_000),
            ("9223372036854775807ns", i64::MAX),
            ("0.3333333333333333333h", 1_200_000_000_000),
        ] {
            assert_eq!(duration(text), Ok(nanoseconds), "{text}");
        }
        assert_eq!(duration("5"), Err(DurationError::MissingUnit("5".into())));
        assert!(matches!(duration("5d"), Err(DurationError::UnknownUnit { .. })));
        for text in ["", "-", ".", "s", "9223372036854775808ns", "3000000h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
