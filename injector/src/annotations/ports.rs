//! Ports and ranges of them, as `heddle-proxy redirect` takes them.

use std::fmt;

use heddle_model::names::Port;

/// Ports from `first` to `last`, both included; `first` is not above `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: Port,
    last: Port,
}

impl PortRange {
    /// Reads `80` or `9000-9010`.
    pub fn parse(text: &str) -> Option<Self> {
        let port = |text: &str| {
            // `parse` takes a sign, which nobody writes who means a port.
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| digits).and_then(Port::new)
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        (first <= last).then_some(Self { first, last })
    }

    /// Whether it is a single port.
    pub fn is_one(&self) -> bool {
        self.first == self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one() { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_a_beginning_that_is_not_above_its_end() {
        for (text, expected) in [("80", "80"), ("80-80", "80"), ("1-65535", "1-65535")] {
            assert_eq!(PortRange::parse(text).unwrap().to_string(), expected, "case: {text}");
        }
        for text in ["", "-", "1-", "-1", "2-1", "1-2-3", "0-1", "+80", " 80"] {
            assert!(PortRange::parse(text).is_none(), "case: {text}");
        }
    }
}
