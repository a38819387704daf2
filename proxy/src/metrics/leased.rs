//! A family of metrics whose series last as long as somebody holds them, so that what is gone from
//! the mesh is gone from `/metrics`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::metrics::family::Family;

/// Hands out series, and counts who holds each.
pub struct LeasedFamily<Labels, Metric> {
    family: Family<Labels, Metric, fn() -> Metric>,
    holders: Arc<Mutex<HashMap<Labels, Held<Metric>>>>,
}

/// A series that is held.
struct Held<Metric> {
    holders: usize,
    metric: Metric,
}

impl<Labels, Metric> LeasedFamily<Labels, Metric>
where
    Labels: Clone + Hash + Eq,
    Metric: Clone,
{
    /// `make` makes the metric of a new series.
    pub fn new(make: fn() -> Metric) -> Self {
        Self { family: Family::new_with_constructor(make), holders: Arc::default() }
    }

    /// What to register.
    pub fn family(&self) -> Family<Labels, Metric, fn() -> Metric> {
        self.family.clone()
    }

    /// Holds a series. Two holders of the same labels share it.
    pub fn lease(&self, labels: &Labels) -> Series<Labels, Metric> {
        let mut holders = self.holders.lock();
        // Under the lock: the last holder, in another thread, could remove it in between.
        let make = || Held { holders: 0, metric: self.family.get_or_create_owned(labels) };
        let held = holders.entry(labels.clone()).or_insert_with(make);
        held.holders += 1;
        let metric = held.metric.clone();
        Series {
            labels: labels.clone(),
            metric,
            origin: Self { family: self.family.clone(), holders: Arc::clone(&self.holders) },
        }
    }

    /// All series that are held.
    pub fn all(&self) -> Vec<(Labels, Metric)> {
        let holders = self.holders.lock();
        holders.iter().map(|(labels, held)| (labels.clone(), held.metric.clone())).collect()
    }

    fn release(&self, labels: &Labels) {
        let mut holders = self.holders.lock();
        if let Entry::Occupied(mut entry) = holders.entry(labels.clone()) {
            entry.get_mut().holders -= 1;
            if entry.get().holders == 0 {
                entry.remove();
                self.family.remove(labels);
            }
        }
    }
}

impl<Labels, Metric> fmt::Debug for LeasedFamily<Labels, Metric> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeasedFamily").finish_non_exhaustive()
    }
}

/// One series, shown for as long as this or another holder of its labels is not dropped.
#[derive(Debug)]
pub struct Series<Labels, Metric>
where
    Labels: Clone + Hash + Eq,
    Metric: Clone,
{
    labels: Labels,
    metric: Metric,
    origin: LeasedFamily<Labels, Metric>,
}

impl<Labels, Metric> Series<Labels, Metric>
where
    Labels: Clone + Hash + Eq,
    Metric: Clone,
{
    /// What to count with.
    pub fn metric(&self) -> &Metric {
        &self.metric
    }

    /// What it is shown under.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }
}

impl<Labels, Metric> Drop for Series<Labels, Metric>
where
    Labels: Clone + Hash + Eq,
    Metric: Clone,
{
    fn drop(&mut self) {
        self.origin.release(&self.labels);
    }
}

/// The series that one holder counts with: found by their labels without hashing or making any, and
/// released together when the holder is dropped.
#[derive(Debug)]
pub struct HeldSeries<Labels, Metric>(Mutex<Vec<Series<Labels, Metric>>>)
where
    Labels: Clone + Hash + Eq,
    Metric: Clone;

impl<Labels, Metric> HeldSeries<Labels, Metric>
where
    Labels: Clone + Hash + Eq,
    Metric: Clone,
{
    /// The metric of the labels that `matches` accepts; those of `make`, if none are held yet.
    pub fn metric(
        &self,
        family: &LeasedFamily<Labels, Metric>,
        matches: impl Fn(&Labels) -> bool,
        make: impl FnOnce() -> Labels,
    ) -> Metric {
        let mut held = self.0.lock();
        if let Some(series) = held.iter().find(|series| matches(series.labels())) {
            return series.metric().clone();
        }
        let series = family.lease(&make());
        let metric = series.metric().clone();
        held.push(series);
        metric
    }
}

impl<Labels, Metric> Default for HeldSeries<Labels, Metric>
where
    Labels: Clone + Hash + Eq,
    Metric: Clone,
{
    fn default() -> Self {
        Self(Mutex::new(Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn a_series_is_shown_until_its_last_holder_is_gone() {
        let family: LeasedFamily<Vec<(String, String)>, Counter> =
            LeasedFamily::new(Counter::default);
        let labels = vec![("a".to_owned(), "b".to_owned())];
        let first = family.lease(&labels);
        let second = family.lease(&labels);
        first.metric().inc();
        second.metric().inc();
        drop(first);
        assert_eq!(family.family().get(&labels).map(|counter| counter.get()), Some(2));
        drop(second);
        assert!(family.family().get(&labels).is_none());
        assert_eq!(family.lease(&labels).metric().get(), 0);
    }
}
