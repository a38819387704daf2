//! What one proxy told: what each of its points counted last, and the series that they add to. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use heddle_model::identity::{PodUid, SpiffeId};

use crate::telemetry::cumulative::{self, Counts, Heard, Times};
use crate::telemetry::labels::{Labels, Texts};
use crate::telemetry::latency::Latency;
use crate::telemetry::outcome::Outcome;
use crate::telemetry::point::{Fingerprint, Point, Refusal, Value};
use crate::telemetry::sample::Sample;
use crate::telemetry::series::{Series, Step};

/// Whose proxy it is: by its certificate, and by what the control plane read of its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The pod.
    pub pod_uid: PodUid,
    /// Who it is.
    pub identity: SpiffeId,
    /// What it is a pod of.
    pub workload: Workload,
    /// The pod's name; its UID, while it is not known.
    pub pod: String,
}

/// What owns a pod: `Deployment`, `shop`, `api`; or the pod itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// Such as `Deployment`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What one proxy told.
#[derive(Debug)]
pub struct ProxyMemory {
    /// As of the last export.
    pub origin: Origin,
    heard: Option<Heard>,
    sources: HashMap<Fingerprint, Source>,
    series: HashMap<Arc<Labels>, Series>,
}

/// One point, as it was told last.
#[derive(Debug)]
struct Source {
    times: Times,
    heard: Heard,
    value: Value,
    labels: Arc<Labels>,
}

/// What an export is taken with.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Since 1970, by our clock.
    pub now: Duration,
    /// The step that it is in.
    pub step: Step,
    /// There is memory left for new series.
    pub has_room: bool,
    /// Those of all labels.
    pub texts: &'a Texts,
}

impl ProxyMemory {
    /// Nothing was told yet.
    pub fn new(origin: Origin) -> Self {
        Self { origin, heard: None, sources: HashMap::new(), series: HashMap::new() }
    }

    /// Takes an export's points. Those that are refused are told, each with its reason; the others count.
    pub fn take(&mut self, points: Vec<Point>, moment: Moment<'_>) -> Vec<Refusal> {
        let before = self.heard.replace(Heard(moment.now));
        let mut refused = Vec::new();
        let mut counted: HashMap<Arc<Labels>, Sample> = HashMap::new();
        for point in points {
            match self.take_one(point, before, moment) {
                Ok(Some((labels, sample))) => match counted.entry(labels) {
                    Entry::Occupied(mut known) => add_beside(known.get_mut(), &sample),
                    Entry::Vacant(vacant) => {
                        vacant.insert(sample);
                    }
                },
                Ok(None) => {}
                Err(refusal) => refused.push(refusal),
            }
        }
        for (labels, sample) in counted.into_iter().filter(|(_, sample)| !sample.is_empty()) {
            self.series.entry(labels).or_default().add(moment.step, &sample);
        }
        refused
    }

    fn take_one(
        &mut self,
        point: Point,
        proxy: Option<Heard>,
        moment: Moment<'_>,
    ) -> Result<Option<(Arc<Labels>, Sample)>, Refusal> {
        let Point { fingerprint, labels, start_nanos, time_nanos, value } = point;
        let (times, now) = (Times { start_nanos, time_nanos }, Heard(moment.now));
        let last = self.sources.get(&fingerprint).map(|source| (source.times, source.heard));
        if last.is_none() {
            let labels = self.place_for(labels, moment)?;
            let nothing = Source { times, heard: now, value: nothing_of(&value), labels };
            self.sources.insert(fingerprint, nothing);
        }
        let Some(source) = self.sources.get_mut(&fingerprint) else { return Ok(None) };
        let sample = match cumulative::decide(last, times, proxy, now) {
            Counts::Ignored => return Ok(None),
            Counts::FromNow => difference(&value, &value),
            Counts::Whole => difference(&value, &nothing_of(&value)),
            // Less than before, and the same start: whoever counts began anew without saying so.
            Counts::SinceLast => difference(&value, &source.value)
                .or_else(|| difference(&value, &nothing_of(&value))),
        };
        source.times = times;
        source.heard = now;
        source.value = value;
        Ok(sample.map(|sample| (Arc::clone(&source.labels), sample)))
    }

    /// The labels of a new point, as its series has them.
    fn place_for(&mut self, labels: Labels, moment: Moment<'_>) -> Result<Arc<Labels>, Refusal> {
        if self.sources.len() >= POINTS_LIMIT {
            return Err(Refusal::TooManyPoints);
        }
        if let Some((known, _)) = self.series.get_key_value(&labels) {
            return Ok(Arc::clone(known));
        }
        if !moment.has_room {
            return Err(Refusal::MemoryFull);
        }
        if self.series.len() >= SERIES_LIMIT {
            return Err(Refusal::TooManySeries);
        }
        let labels = Arc::new(moment.texts.share(labels));
        self.series.insert(Arc::clone(&labels), Series::default());
        Ok(labels)
    }

    /// Drops what is older than a step, and points that were not told of for long.
    pub fn forget_before(&mut self, step: Step, now: Duration) {
        self.sources.retain(|_, source| now.saturating_sub(source.heard.0) <= SOURCE_IDLE_LIMIT);
        for series in self.series.values_mut() {
            series.forget_before(step);
        }
        self.series.retain(|_, series| !series.is_empty());
        self.sources.shrink_to_fit();
        self.series.shrink_to_fit();
    }

    /// Nothing is known of it any more.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.series.is_empty()
    }

    /// When it was heard last.
    pub fn heard(&self) -> Option<Duration> {
        self.heard.map(|heard| heard.0)
    }

    /// All of its series.
    pub fn series(&self) -> impl Iterator<Item = (&Labels, &Series)> {
        self.series.iter().map(|(labels, series)| (labels.as_ref(), series))
    }

    /// How many series it has.
    pub fn series_count(&self) -> usize {
        self.series.len()
    }

    /// What all of it takes, about.
    pub fn bytes(&self) -> usize {
        let sources: usize = self.sources.values().map(Source::bytes).sum();
        let series: usize = self.series.values().map(Series::bytes).sum();
        let tables = self.sources.capacity() * (size_of::<Fingerprint>() + size_of::<Source>())
            + self.series.capacity() * size_of::<(Arc<Labels>, Series)>();
        size_of::<Self>() + tables + sources + series + self.series.len() * LABELS_BYTES
    }
}

impl Source {
    fn bytes(&self) -> usize {
        match &self.value {
            Value::Requests(_, latency) | Value::OwnTime(latency) => size_of_val(latency.buckets()),
            Value::Connections(_)
            | Value::ToServer(_)
            | Value::ToClient(_)
            | Value::OpenConnections(_) => 0,
        }
    }
}

/// Of several points of one series: what is open is open beside one another.
fn add_beside(sample: &mut Sample, other: &Sample) {
    let open = match (sample.open_connections, other.open_connections) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    };
    sample.add(other);
    sample.open_connections = open;
}

/// What `value` counted since `before`; `None`: it is less, or of another kind.
fn difference(value: &Value, before: &Value) -> Option<Sample> {
    let nothing = Sample::default();
    Some(match (value, before) {
        (Value::Requests(outcome, now), Value::Requests(_, before)) => {
            let latency = now.since(before)?;
            let requests = latency.count()?;
            let failures = match outcome {
                Outcome::Failed => requests,
                Outcome::Succeeded => 0,
            };
            Sample { requests, failures, latency, ..nothing }
        }
        (Value::OwnTime(now), Value::OwnTime(before)) => {
            Sample { own_time: now.since(before)?, ..nothing }
        }
        (Value::Connections(now), Value::Connections(before)) => {
            Sample { connections: now.checked_sub(*before)?, ..nothing }
        }
        (Value::ToServer(now), Value::ToServer(before)) => {
            Sample { to_server_bytes: now.checked_sub(*before)?, ..nothing }
        }
        (Value::ToClient(now), Value::ToClient(before)) => {
            Sample { to_client_bytes: now.checked_sub(*before)?, ..nothing }
        }
        (Value::OpenConnections(now), _) => Sample { open_connections: Some(*now), ..nothing },
        (
            Value::Requests(..)
            | Value::OwnTime(_)
            | Value::Connections(_)
            | Value::ToServer(_)
            | Value::ToClient(_),
            _,
        ) => return None,
    })
}

fn nothing_of(value: &Value) -> Value {
    match value {
        Value::Requests(outcome, _) => Value::Requests(*outcome, Latency::default()),
        Value::OwnTime(_) => Value::OwnTime(Latency::default()),
        Value::Connections(_) => Value::Connections(0),
        Value::ToServer(_) => Value::ToServer(0),
        Value::ToClient(_) => Value::ToClient(0),
        Value::OpenConnections(_) => Value::OpenConnections(0),
    }
}

/// Points of one proxy, told apart by all attributes: more than a proxy exports.
pub const POINTS_LIMIT: usize = 4000;
/// Series of one proxy, told apart by what is asked about: services, backends, routes, callers.
pub const SERIES_LIMIT: usize = 1000;
/// A point that its proxy does not tell of any more is one that it has dropped.
const SOURCE_IDLE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// Of one series, its texts apart, which are shared.
const LABELS_BYTES: usize = size_of::<Labels>() + 16;

#[cfg(test)]
mod tests;
