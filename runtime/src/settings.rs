//! Settings that will not do, all of them at once, and how people are told which: by flag and by variable.
//! What a setting may be is each process's own affair.

use std::fmt;

/// Settings that will not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadSettings(Vec<String>);

impl BadSettings {
    /// One sentence for each.
    pub fn new(sentences: Vec<String>) -> Self {
        Self(sentences)
    }
}

impl fmt::Display for BadSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = if self.0.len() == 1 { "setting" } else { "settings" };
        write!(f, "{} bad {settings}: {}", self.0.len(), self.0.join("; "))
    }
}

/// Both names of a setting: `--listen (HEDDLE_LISTEN)`.
pub fn names(flag: &str) -> String {
    format!("--{flag} (HEDDLE_{})", flag.to_ascii_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bad_setting_is_told_by_both_of_its_names() {
        let bad = |flags: &[&str]| {
            let sentences = flags.iter().map(|flag| format!("{} is missing", names(flag)));
            BadSettings::new(sentences.collect()).to_string()
        };
        assert_eq!(bad(&["a-b"]), "1 bad setting: --a-b (HEDDLE_A_B) is missing");
        assert!(bad(&["a", "b"]).starts_with("2 bad settings: --a (HEDDLE_A) is missing; --b "));
    }
}
