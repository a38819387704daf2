//! Weights as TrafficSplits write them → shares. v1alpha1 has quantities (`500m`, `"1"`, `1k`), later
//! versions whole numbers; both are read in every version, since tools write either.

use crate::source::traffic_split::Weight;

/// In thousandths, so that `500m` is exact.
pub fn in_thousandths(weight: &Weight) -> Result<u64, String> {
    let thousandths = match weight {
        Weight::Number(number) if *number < 0 => {
            return Err(format!("{number} is negative (want a whole number of 0 or more)"));
        }
        Weight::Number(number) => u64::try_from(*number).ok().and_then(|n| n.checked_mul(1000)),
        Weight::Text(text) => Some(quantity(text)?),
    };
    thousandths
        .filter(|thousandths| *thousandths <= WEIGHT_LIMIT * 1000)
        .ok_or_else(|| format!("is too large (want at most {WEIGHT_LIMIT})"))
}

/// The smallest whole numbers with the same proportions; `None` if one does not fit.
pub fn reduced(thousandths: &[u64]) -> Option<Vec<u32>> {
    let divisor = thousandths.iter().copied().fold(0, greatest_common_divisor).max(1);
    thousandths.iter().map(|value| u32::try_from(value / divisor).ok()).collect()
}

/// Kubernetes' quantities, as far as a share can be one.
fn quantity(text: &str) -> Result<u64, String> {
    let bad = || {
        format!(
            "{text:?} is not a weight (want a whole number such as 10, or a quantity such as 500m)"
        )
    };
    if text.starts_with('-') {
        return Err(format!("{text} is negative (want 0 or more)"));
    }
    let end = text.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
    let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
    let factor: u64 = match suffix {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        _ => return Err(bad()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.len() > 3 || (whole.is_empty() && fraction.is_empty()) {
        return Err(bad());
    }
    let digits: u64 = format!("{whole}{fraction:0<3}").parse().map_err(|_| bad())?;
    Ok(digits.checked_mul(factor).ok_or_else(bad)? / 1000)
}

fn greatest_common_divisor(left: u64, right: u64) -> u64 {
    if right == 0 { left } else { greatest_common_divisor(right, left % right) }
}

/// As the Gateway API has it for its weights.
pub const WEIGHT_LIMIT: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_quantities_are_read() {
        let text = |text: &str| Weight::Text(text.to_owned());
        for (case, weight, expected) in [
            ("a number", Weight::Number(90), Some(90_000)),
            ("zero", Weight::Number(0), Some(0)),
            ("negative", Weight::Number(-1), None),
            ("too large", Weight::Number(2_000_000), None),
            ("huge", Weight::Number(i64::MAX), None),
            ("thousandths", text("500m"), Some(500)),
            ("a text", text("1"), Some(1_000)),
            ("thousands", text("1k"), Some(1_000_000)),
            ("a fraction", text("0.5"), Some(500)),
            ("a fraction of thousandths", text("0.5m"), Some(0)),
            ("a negative text", text("-500m"), None),
            ("a word", text("ten"), None),
            ("nothing", text(""), None),
            ("a dot", text("."), None),
            ("a unit of memory", text("1Gi"), None),
            ("many digits", text("99999999999999999999"), None),
        ] {
            assert_eq!(in_thousandths(&weight).ok(), expected, "case: {case}");
        }
    }

    #[test]
    fn shares_are_reduced_and_keep_their_proportions() {
        assert_eq!(reduced(&[900, 100]), Some(vec![9, 1]));
        assert_eq!(reduced(&[0, 1_000_000]), Some(vec![0, 1]));
        assert_eq!(reduced(&[0, 0]), Some(vec![0, 0]));
        assert_eq!(reduced(&[]), Some(vec![]));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_the_reader(text in "[0-9mkM.\\-a-z]{0,24}") {
            let _ = in_thousandths(&Weight::Text(text));
        }
    }
}
