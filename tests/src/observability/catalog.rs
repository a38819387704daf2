//! Which metrics there are, and with which labels: as a document says, or as a scrape shows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};

/// Names of labels.
pub type Labels = BTreeSet<String>;

/// Metrics, as they can be asked for, with the labels that their series may have.
#[derive(Clone, Debug, Default)]
pub struct Catalog(BTreeMap<String, Labels>);

impl Catalog {
    /// What `docs/metrics.md` says. A row is: names, type, labels where its table has such a column, meaning.
    pub fn of_document(text: &str) -> Result<Self> {
        let mut catalog = Self::default();
        let mut has_labels = false;
        for line in text.lines().filter(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            if cells.first() == Some(&"metric") {
                has_labels = cells.get(2) == Some(&"labels");
                continue;
            }
            let (Some(names), Some(kind)) = (cells.first(), cells.get(1)) else { continue };
            let labels = if has_labels { cells.get(2).copied().unwrap_or_default() } else { "" };
            let labels: Labels =
                labels.trim_matches('`').split_whitespace().map(ToOwned::to_owned).collect();
            for name in names.split('`').filter(|name| name.starts_with("heddle_")) {
                catalog.add_kind(name, kind, &labels);
            }
        }
        ensure!(catalog.0.len() > 20, "only {} metrics in the document", catalog.0.len());
        Ok(catalog)
    }

    /// What the series of a scrape are.
    pub fn of_series<'a>(
        series: impl IntoIterator<Item = (&'a str, &'a BTreeMap<String, String>)>,
    ) -> Self {
        let mut catalog = Self::default();
        for (name, labels) in series {
            catalog.0.entry(name.to_owned()).or_default().extend(labels.keys().cloned());
        }
        catalog
    }

    /// Adds the labels that a scrape gives to every series, and the series that it makes itself.
    #[must_use]
    pub fn scraped(mut self) -> Self {
        self.0.insert("up".to_owned(), Labels::new());
        for labels in self.0.values_mut() {
            labels.extend(TARGET_LABELS.map(ToOwned::to_owned));
        }
        self
    }

    /// Adds a metric.
    pub fn add(&mut self, name: &str, labels: Labels) {
        self.0.entry(name.to_owned()).or_default().extend(labels);
    }

    /// The labels of a metric; an error where there is no such metric.
    pub fn labels(&self, name: &str) -> Result<&Labels> {
        self.0.get(name).with_context(|| format!("there is no metric {name}"))
    }

    /// Adds all of another one.
    pub fn extend(&mut self, other: Self) {
        for (name, labels) in other.0 {
            self.add(&name, labels);
        }
    }

    fn add_kind(&mut self, name: &str, kind: &str, labels: &Labels) {
        if kind != "histogram" {
            self.add(name, labels.clone());
            return;
        }
        for suffix in ["_sum", "_count", "_bucket"] {
            let mut labels = labels.clone();
            if suffix == "_bucket" {
                labels.insert("le".to_owned());
            }
            self.add(&format!("{name}{suffix}"), labels);
        }
    }
}

/// What `prometheus.yaml` and the PodMonitors give to every series; a test compares them.
pub const TARGET_LABELS: [&str; 6] = ["instance", "job", "namespace", "node", "pod", "workload"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_asked_for_by_its_parts() {
        let mut catalog = Catalog::default();
        catalog.add_kind("a_seconds", "histogram", &Labels::from(["x".to_owned()]));
        assert!(catalog.labels("a_seconds").is_err());
        assert!(catalog.labels("a_seconds_bucket").unwrap().contains("le"));
        assert!(!catalog.labels("a_seconds_count").unwrap().contains("le"));
    }
}
