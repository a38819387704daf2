//! Kubernetes quantities of CPU and memory: `100m`, `0.5`, `64Mi`, `1e3`. Reads the grammar of the API
//! server and nothing more lenient, so that what is admitted here is admitted there.

use std::fmt;

/// An amount above zero, as it was written. Two are compared by what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantity {
    text: String,
    nanos: u128,
}

impl Quantity {
    /// Reads an amount of CPU: whole thousandths of a core, as the API server wants them.
    pub fn cpu(text: &str) -> Option<Self> {
        Self::parse(text).filter(|quantity| quantity.nanos.is_multiple_of(NANOS / 1000))
    }

    /// Reads an amount of memory: whole bytes.
    pub fn memory(text: &str) -> Option<Self> {
        Self::parse(text).filter(|quantity| quantity.nanos.is_multiple_of(NANOS))
    }

    /// Whether it means at least as much as the other.
    pub fn is_at_least(&self, other: &Self) -> bool {
        self.nanos >= other.nanos
    }

    /// How many whole ones it means, of CPU: processors.
    pub fn whole(&self) -> u64 {
        u64::try_from(self.nanos / NANOS).unwrap_or(u64::MAX)
    }

    fn parse(text: &str) -> Option<Self> {
        let number_length = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) = text.split_at_checked(number_length.unwrap_or(text.len()))?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || whole.len() + fraction.len() == 0 {
            return None;
        }
        if whole.len() > DIGITS_LIMIT || fraction.len() > DIGITS_LIMIT {
            return None;
        }
        let mantissa: u128 = format!("{whole}{fraction}").parse().ok()?;
        let scale = Scale::parse(suffix)?;
        let ten_power = scale.ten_power + NANO_DIGITS - i32::try_from(fraction.len()).ok()?;
        let scaled = mantissa.checked_mul(scale.factor)?;
        let power = 10_u128.checked_pow(ten_power.unsigned_abs())?;
        let nanos = if ten_power < 0 {
            // What is finer than a billionth is a mistake, not an amount.
            scaled.is_multiple_of(power).then(|| scaled / power)?
        } else {
            scaled.checked_mul(power)?
        };
        // The API server keeps amounts in 64 bits.
        let fits = nanos > 0 && nanos / NANOS <= u128::from(i64::MAX.unsigned_abs());
        fits.then(|| Self { text: text.to_owned(), nanos })
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

struct Scale {
    factor: u128,
    ten_power: i32,
}

impl Scale {
    fn parse(suffix: &str) -> Option<Self> {
        if let Some((_, ten_power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
            return Some(Self { factor: 1, ten_power: *ten_power });
        }
        if let Some((_, shift)) = BINARY.iter().find(|(name, _)| *name == suffix) {
            return Some(Self { factor: 1 << shift, ten_power: 0 });
        }
        let exponent = suffix.strip_prefix(['e', 'E'])?;
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if digits.is_empty() || digits.len() > 2 || !digits.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        Some(Self { factor: 1, ten_power: exponent.parse().ok()? })
    }
}

const DECIMAL: [(&str, i32); 10] = [
    ("", 0),
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [(&str, u32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
/// Billionths in one.
const NANOS: u128 = 1_000_000_000;
const NANO_DIGITS: i32 = 9;
/// More than any amount needs that fits into 64 bits.
const DIGITS_LIMIT: usize = 19;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_as_the_api_server_reads_them() {
        for (text, nanos) in [
            ("1", 1_000_000_000),
            ("100m", 100_000_000),
            ("0.1", 100_000_000),
            (".5", 500_000_000),
            ("1.", 1_000_000_000),
            ("1e3", 1_000_000_000_000),
            ("1E-3", 1_000_000),
            ("9E9", 9_000_000_000_000_000_000),
            ("1k", 1_000_000_000_000),
            ("1Ki", 1_024_000_000_000),
            ("0.5Mi", 524_288_000_000_000),
            ("1n", 1),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().nanos, nanos, "case: {text}");
        }
        for text in [
            "",
            ".",
            "0",
            "0m",
            "-1",
            "+1",
            "1 Mi",
            "Mi",
            "1mi",
            "1KiB",
            "1.2.3",
            "1e",
            "1e+",
            "1e999",
            "0x10",
            "１",
            "1n1",
            "99999999999999999999",
            "1E99",
            "0.1n",
            "9999Ei",
        ] {
            assert!(Quantity::parse(text).is_none(), "case: {text}");
        }
    }

    #[test]
    fn a_core_has_a_thousand_parts_and_a_byte_has_none() {
        assert!(Quantity::cpu("1m").is_some());
        assert!(Quantity::cpu("1u").is_none());
        assert!(Quantity::memory("1").is_some());
        assert!(Quantity::memory("128m").is_none(), "megabytes are M");
    }

    #[test]
    fn amounts_are_compared_by_what_they_mean() {
        let memory = |text: &str| Quantity::memory(text).unwrap();
        assert!(memory("1Gi").is_at_least(&memory("1024Mi")));
        assert!(!memory("1G").is_at_least(&memory("1Gi")));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9.eEmkKMGTPinu+-]{0,24}") {
            let _ = Quantity::parse(&text);
        }
    }
}
