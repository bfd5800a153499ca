//! Memory sizes as Docker users write them: `512m`, `1g`. Powers of 1024, like `docker run --memory`.

/// What is accepted, in words.
pub(crate) const EXPECTED: &str = "a size like \"512m\" or \"1g\"";

/// The Engine refuses less (6 MB), with a message that does not name the setting.
const SMALLEST: u64 = 6 * 1024 * 1024;

/// Reads a size in bytes.
///
/// # Errors
///
/// When the unit is missing or unknown, or the value is out of range; the text says what would be right.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    if number.is_empty() {
        return Err(format!("{text:?} is not a size: expected {EXPECTED}"));
    }
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" => {
            return Err(format!(
                "{number:?} has no unit: write \"{number}m\" for MiB, \"{number}b\" for bytes"
            ));
        }
        "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(format!("{text:?} has an unknown unit {unit:?}: expected b, k, m or g")),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    bytes.filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(|| format!("{text:?} is too large"))
}

/// Reads a memory limit in bytes.
///
/// # Errors
///
/// As [`bytes`], and when it is less than a container can be given.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        bytes if bytes < SMALLEST => Err(format!("{text:?} is too small: Docker wants at least \"6m\"")),
        bytes => Ok(bytes),
    }
}

/// Reads a number of CPUs as thousandths of one.
///
/// # Errors
///
/// When it is not a number between 0.01 and 1024.
pub(crate) fn milli_cpus(cpus: f64) -> Result<u32, String> {
    if !(0.01..=1024.0).contains(&cpus) {
        return Err(format!("{cpus} CPUs cannot be given: expected a number from 0.01 to 1024, like 0.5"));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range was checked above"
    )]
    Ok((cpus * 1000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_forms() {
        for (text, bytes) in [("512m", 512 << 20), ("1g", 1 << 30), ("1GiB", 1 << 30), ("8388608b", 8 << 20)]
        {
            assert_eq!(parse(text).unwrap(), bytes, "{text}");
        }
        assert_eq!(milli_cpus(0.5).unwrap(), 500);
        assert_eq!(milli_cpus(2.0).unwrap(), 2000);
    }

    #[test]
    fn a_slip_is_answered_with_the_right_spelling() {
        for (text, part) in [
            ("512", "write \"512m\""),
            ("m", "is not a size"),
            ("1t", "unknown unit"),
            ("1k", "too small"),
            ("99999999999g", "too large"),
            ("", "is not a size"),
        ] {
            let problem = parse(text).unwrap_err();
            assert!(problem.contains(part), "{text:?} gave {problem}");
        }
        for cpus in [0.0, -1.0, f64::NAN, f64::INFINITY, 5000.0] {
            assert!(milli_cpus(cpus).is_err(), "{cpus}");
        }
    }
}
