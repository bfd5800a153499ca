//! Durations as people write them: `500ms`, `30s`, `10m`, `1h30m`.
//!
//! A number without a unit is refused, not guessed: `30` is half a minute to one reader and 30 ms to another.

use std::time::Duration;

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Why a text is no duration, with what would have been one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}{}", instead.iter().map(|instead| format!(": {instead}")).collect::<String>())]
pub(crate) struct DurationError {
    pub(crate) problem: String,
    /// What to write, where that can be said.
    pub(crate) instead: Option<String>,
}

/// What is accepted, in words.
pub(crate) const EXPECTED: &str = "a duration like \"500ms\", \"30s\", \"10m\" or \"1h30m\"";

/// Reads a duration. `0s` is a duration of nothing, which is not the same as no setting.
///
/// # Errors
///
/// When a unit is missing or unknown, or the value does not fit into 64 bits of milliseconds.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = |problem: String, instead: String| Err(DurationError { problem, instead: Some(instead) });
    let expected = || format!("expected {EXPECTED}");
    let mut rest = text.trim();
    if rest.is_empty() {
        return error("empty".to_owned(), expected());
    }
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return error(
            format!("{rest:?} has no unit"),
            format!("write \"{rest}s\" for seconds, \"{rest}ms\" for milliseconds"),
        );
    }
    let mut total: u64 = 0;
    let mut largest = UNITS.len();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let Some(index) = UNITS.iter().position(|(name, _)| *name == unit) else {
            return match suggestion(unit).filter(|_| !number.is_empty()) {
                Some(right) => error(
                    format!("{text:?} has an unknown unit {unit:?}"),
                    format!("write \"{number}{right}\""),
                ),
                None => error(format!("{text:?} is not a duration"), expected()),
            };
        };
        // Each unit once and in falling order: `5s1m` is more likely a slip than a wish.
        if largest != UNITS.len() && index <= largest {
            return error(format!("{text:?} has its units out of order"), expected());
        }
        largest = index;
        let value = number.parse::<u64>().ok().and_then(|value| value.checked_mul(UNITS[index].1));
        match value.and_then(|value| total.checked_add(value)) {
            Some(sum) => total = sum,
            None if number.is_empty() => {
                return error(format!("{text:?} is not a duration"), expected());
            }
            None => return Err(DurationError { problem: format!("{text:?} is too long"), instead: None }),
        }
        rest = tail;
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration so that [`parse`] reads it back; below a millisecond it is rounded down.
pub(crate) fn format(duration: Duration) -> String {
    let mut left = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, size) in UNITS {
        let (count, remainder) = (left / size, left % size);
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
        }
        left = remainder;
    }
    text
}

/// The same for a person in a progress line: at most two units, one decimal for seconds.
pub(crate) fn short(duration: Duration) -> String {
    match duration.as_millis() {
        millis @ 0..1_000 => format!("{millis}ms"),
        1_000..60_000 => format!("{:.1}s", duration.as_secs_f64()),
        _ => format(Duration::from_secs(duration.as_secs())),
    }
}

/// The same where fractions of a millisecond count.
pub(crate) fn precise(duration: Duration) -> String {
    match duration.as_micros() {
        micros @ 0..10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        micros @ 10_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

fn suggestion(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "s" | "sec" | "secs" | "second" | "seconds" => Some("s"),
        "m" | "min" | "mins" | "minute" | "minutes" => Some("m"),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some("h"),
        "d" | "day" | "days" => Some("d"),
        "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => Some("ms"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_forms() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("0s", 0),
            ("1h30m", 5_400_000),
            ("1s500ms", 1_500),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn a_slip_is_answered_with_the_right_spelling() {
        for (text, part) in [
            ("30", "write \"30s\" for seconds"),
            ("0", "write \"0s\""),
            ("", "empty"),
            ("30 s", "is not a duration"),
            ("30sec", "write \"30s\""),
            ("5Min", "write \"5m\""),
            ("1.5s", "is not a duration"),
            ("-1s", "is not a duration"),
            ("s", "is not a duration"),
            ("5s1m", "out of order"),
            ("5s5s", "out of order"),
            ("99999999999999999999s", "too long"),
            ("300000000000d", "too long"),
        ] {
            let problem = parse(text).unwrap_err().to_string();
            assert!(problem.contains(part), "{text:?} gave {problem}");
        }
    }

    #[test]
    fn short_is_short() {
        for (millis, shown) in [(7, "7ms"), (1_234, "1.2s"), (59_999, "60.0s"), (90_500, "1m30s")] {
            assert_eq!(short(Duration::from_millis(millis)), shown);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in any::<u64>()) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)).unwrap(), duration);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,20}") {
            drop(parse(&text));
        }
    }
}
