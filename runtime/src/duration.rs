//! Durations as people write them: `250ms`, `30s`, `1m30s`, `24h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A duration in a flag, a variable or an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text(pub Duration);

impl FromStr for Text {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        parse(text).map(Self)
    }
}

impl fmt::Display for Text {
    /// The shortest text that reads as the same duration, to the millisecond.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, unit_ms) in UNITS {
            let count = rest / u128::from(unit_ms);
            if count > 0 {
                write!(f, "{count}{unit}")?;
                rest -= count * u128::from(unit_ms);
            }
        }
        Ok(())
    }
}

/// Reads a sum of whole numbers with units, as the Gateway API and Go have them: h, m, s, ms.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.chars().take(SHOWN_LIMIT).collect());
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(invalid)?;
        let letters =
            after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at_checked(letters).ok_or_else(invalid)?;
        let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        total_ms = number
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(*unit_ms))
            .and_then(|part| total_ms.checked_add(part))
            .ok_or_else(invalid)?;
        rest = after;
    }
    Ok(Duration::from_millis(total_ms))
}

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration (want such as \"30s\", \"250ms\", \"1m30s\" or \"24h\")")]
pub struct InvalidDuration(String);

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// How much of a bad text an error repeats.
const SHOWN_LIMIT: usize = 40;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, expected_ms) in
            [("30s", 30_000), ("250ms", 250), ("1m30s", 90_000), ("24h", 86_400_000), ("0", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(expected_ms)), "case: {text}");
        }
        for text in ["", "5", "s", "1.5s", "-1s", "1 s", "1d", "99999999999999999999s", "1sm"] {
            assert!(parse(text).is_err(), "case: {text}");
        }
    }

    proptest! {
        #[test]
        fn a_duration_reads_as_it_was_printed(ms in 0..=u64::MAX / 2) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&Text(duration).to_string()), Ok(duration));
        }
    }
}
