//! Whole numbers in objects, and how large they may be.

use std::ops::RangeInclusive;

use crate::translate::Rejected;

/// A number of a narrower type; one outside of the range is refused with the field.
pub fn between<T: TryFrom<i64>>(
    number: i64,
    range: RangeInclusive<i64>,
    field: &str,
) -> Result<T, Rejected> {
    let valid = range.contains(&number).then(|| T::try_from(number).ok()).flatten();
    valid.ok_or_else(|| {
        let message = format!("{number} will not do (want {} to {})", range.start(), range.end());
        Rejected::invalid(field, message)
    })
}
