//! What a request may cost in instructions: the last count that was accepted, with a margin. Counts of two builds of
//! one source differ by less than a hundredth, if both are without increments; what is exported while it is counted adds
//! up to a twentieth.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// Instructions of one request, by what was counted, as `http1.client`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// Notes one count.
    pub fn add(&mut self, name: String, instructions: u64) {
        self.0.insert(name, instructions);
    }

    /// Notes other counts, of which the lower ones hold.
    pub fn lower(&mut self, others: Self) {
        for (name, count) in others.0 {
            self.0.entry(name).and_modify(|known| *known = count.min(*known)).or_insert(count);
        }
    }

    /// Those that were accepted.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("no budget in {}; --record makes one", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no budget", file.display()))
    }

    /// Accepts these; what was not counted now stays as it was.
    pub fn record(&self, file: &Path) -> Result<()> {
        let mut all = if file.exists() { Self::read(file)? } else { Self::default() };
        all.0.extend(self.0.clone());
        let text = serde_json::to_string_pretty(&all)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Fails with all that is over this budget, or not in it.
    pub fn hold(&self, counted: &Self) -> Result<()> {
        let wrong: Vec<String> =
            counted.0.iter().filter_map(|(name, count)| self.verdict(name, *count)).collect();
        ensure!(wrong.is_empty(), "over the budget:\n{}", wrong.join("\n"));
        Ok(())
    }

    /// What is wrong with a count.
    fn verdict(&self, name: &str, count: u64) -> Option<String> {
        let Some(accepted) = self.0.get(name) else {
            return Some(format!("{name}: there is no budget for it; --record makes one"));
        };
        let limit = accepted.saturating_add(accepted / MARGIN_DIVISOR);
        (count > limit).then(|| {
            format!(
                "{name}: {count} instructions, where {accepted} were accepted and {limit} are allowed; mend it, or \
                 accept it with --record and say why"
            )
        })
    }
}

/// A tenth.
const MARGIN_DIVISOR: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, u64)]) -> Counts {
        Counts(all.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect())
    }

    #[test]
    fn a_count_may_be_a_tenth_over_its_budget_and_no_more() {
        let budget = counts(&[("http1.client", 1000), ("grpc.client", 2000)]);
        for (case, counted, expected) in [
            ("as it was", vec![("http1.client", 1000)], None),
            ("less", vec![("http1.client", 1), ("grpc.client", 2)], None),
            ("at the margin", vec![("http1.client", 1100)], None),
            ("above it", vec![("http1.client", 1101), ("grpc.client", 2000)], Some("1101")),
            ("unknown", vec![("tcp.client", 1)], Some("tcp.client: there is no budget")),
        ] {
            let held = budget.hold(&counts(&counted)).map_err(|error| error.to_string());
            match (held, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(part)) => assert!(error.contains(part), "case {case}: {error}"),
                (held, _) => panic!("case {case}: {held:?}"),
            }
        }
    }

    #[test]
    fn of_several_counts_the_lowest_holds() {
        let mut least = counts(&[("http1.client", 10), ("http1.server", 20)]);
        least.lower(counts(&[("http1.client", 12), ("http1.server", 18), ("grpc.client", 5)]));
        let expected = [("http1.client", 10), ("http1.server", 18), ("grpc.client", 5)];
        assert_eq!(least, counts(&expected));
    }

    #[test]
    fn what_is_recorded_is_the_budget_and_keeps_what_was_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("budget.json");
        assert!(Counts::read(&file).unwrap_err().to_string().contains("--record"));
        counts(&[("a", 1), ("b", 2)]).record(&file).unwrap();
        counts(&[("b", 3)]).record(&file).unwrap();
        assert_eq!(Counts::read(&file).unwrap(), counts(&[("a", 1), ("b", 3)]));
    }
}
