//! Annotations that refuse a pod, in words for whoever wrote them.

use std::collections::BTreeMap;
use std::fmt;

use crate::annotations::{KNOWN, OF_ROUTES, PREFIX};

/// An annotation, or label, that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {fault}")]
pub struct InvalidAnnotation {
    /// Its key, at most 128 characters of it.
    pub name: String,
    /// What is wrong, and what would do.
    pub fault: Fault,
}

/// What is wrong with an annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its value cannot be read, or contradicts another one.
    Value {
        /// As it was written, at most 128 characters of it.
        value: String,
        /// What would do.
        want: String,
    },
    /// It means something on other objects only.
    Elsewhere {
        /// As it was written, at most 128 characters of it.
        value: String,
    },
    /// It means nothing: nearly always a slip of the pen.
    Unknown {
        /// The one that was probably meant.
        nearest: Option<&'static str>,
    },
}

impl InvalidAnnotation {
    /// One whose value will not do.
    pub fn value(name: &str, value: &str, want: impl Into<String>) -> Self {
        Self { name: short(name), fault: Fault::Value { value: short(value), want: want.into() } }
    }

    /// The same, which is not the pod's own.
    #[must_use]
    pub(super) fn of_namespace(self) -> Self {
        Self { name: format!("{} of the namespace", self.name), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { value, want } => write!(f, "{value:?} will not do (want {want})"),
            Self::Elsewhere { value } => write!(
                f,
                "{value:?} does nothing on a pod (want it on a Service, an HTTPRoute or a GRPCRoute)"
            ),
            Self::Unknown { nearest: Some(nearest) } => {
                write!(f, "there is no such annotation (did you mean {nearest}?)")
            }
            Self::Unknown { nearest: None } => {
                let names = KNOWN.map(|name| name.strip_prefix(PREFIX).unwrap_or(name));
                write!(f, "there is no such annotation (there are {})", names.join(", "))
            }
        }
    }
}

/// Annotations of ours that mean nothing on a pod.
pub(super) fn misplaced(annotations: &BTreeMap<String, String>) -> Vec<InvalidAnnotation> {
    let ours = annotations.iter().filter(|(name, _)| name.starts_with(PREFIX));
    ours.filter(|(name, _)| !KNOWN.contains(&name.as_str()))
        .map(|(name, value)| {
            let fault = if OF_ROUTES.contains(&name.as_str()) {
                Fault::Elsewhere { value: short(value) }
            } else {
                Fault::Unknown { nearest: nearest(name) }
            };
            InvalidAnnotation { name: short(name), fault }
        })
        .take(REPORTED_LIMIT)
        .collect()
}

fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > SHOWN_LIMIT {
        return None;
    }
    let near = KNOWN.into_iter().map(|known| (distance(name, known), known));
    // Of a short name three letters leave nothing.
    let half = name.trim_start_matches(PREFIX).chars().count() / 2;
    near.filter(|(distance, _)| *distance <= SLIP_LIMIT.min(half)).min().map(|(_, known)| known)
}

/// How many letters have to be put in, taken out or changed to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (index, letter) in one.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(index + 1);
        let pairs = row.iter().zip(row.iter().skip(1)).zip(other.chars());
        for ((diagonal, above), second) in pairs {
            let left = next.last().copied().unwrap_or_default();
            let changed = diagonal + usize::from(letter != second);
            next.push(changed.min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn short(text: &str) -> String {
    text.chars().take(SHOWN_LIMIT).collect()
}

/// How much of a name or value an error repeats.
const SHOWN_LIMIT: usize = 128;
/// How many unknown annotations an error tells of.
const REPORTED_LIMIT: usize = 16;
/// What a slip of the pen changes at most.
const SLIP_LIMIT: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognized() {
        for (written, meant) in [
            ("heddle.dev/injct", Some("heddle.dev/inject")),
            ("heddle.dev/Inbound-Mode", Some("heddle.dev/inbound-mode")),
            ("heddle.dev/opaqueports", Some("heddle.dev/opaque-ports")),
            ("heddle.dev/", None),
            ("heddle.dev/configuration", None),
        ] {
            assert_eq!(nearest(written), meant, "case: {written}");
        }
        assert_eq!(nearest(&format!("heddle.dev/{}", "a".repeat(100_000))), None);
    }

    #[test]
    fn distances_are_counted_in_letters() {
        for (one, other, expected) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("ä", "a", 1)]
        {
            assert_eq!(distance(one, other), expected, "case: {one} {other}");
        }
    }
}
