//! What `/metrics` shows of the series of requests: the mesh's own histogram, and beside it the families
//! that Flagger and Argo Rollouts ask for as they are, under the names and labels of Linkerd. All are
//! drawn when they are asked for.

use std::collections::BTreeMap;
use std::fmt;

use heddle_model::workload::Workload;
use heddle_telemetry::recorder::Recorder;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::metrics::calls::{CallLabels, CallSeries, CallTable};
use crate::metrics::timing::Classic;
use crate::metrics::{Direction, Protection};
use crate::telemetry::resource::OwnWorkload;

/// Draws the families of requests.
#[derive(Debug)]
pub struct DrawnCalls {
    table: CallTable,
    own: OwnWorkload,
}

/// In the order in which they are shown.
type Labels = Vec<(&'static str, String)>;

impl DrawnCalls {
    /// Of these series; `own` is told of, once it is known.
    pub fn new(table: CallTable, own: OwnWorkload) -> Self {
        Self { table, own }
    }
}

impl Collector for DrawnCalls {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut all = self.table.all();
        all.sort_by(|a, b| by_name(&a.labels).cmp(&by_name(&b.labels)));
        let own = own_labels(self.own.workload().as_deref(), self.own.deployment());

        let family = ("heddle_http_request_duration_seconds", DURATIONS);
        histograms(&mut encoder, family, &all, |labels| Some(mesh_labels(labels)))?;
        let with_own = |labels: Labels| own.workload.iter().cloned().chain(labels).collect();
        let name = "response_latency_ms";
        let family =
            (name, "As Linkerd has it: from the head of the request to that of the response");
        histograms(&mut encoder, family, &all, |labels| Some(with_own(hop_labels(labels))))?;
        let family =
            ("http_request_duration_seconds", "Inbound requests, as Flagger asks for them");
        histograms(&mut encoder, family, &all, |labels| {
            let is_inbound = labels.group.direction == Direction::Inbound;
            let status = ("status", labels.status.to_string());
            let method = ("method", labels.method.as_str().to_owned());
            is_inbound.then(|| own.pod.iter().cloned().chain([method, status]).collect())
        })?;
        let mut responses: BTreeMap<Labels, u64> = BTreeMap::new();
        for series in &all {
            let labels = with_own(response_labels(&series.labels));
            *responses.entry(labels).or_default() += series.durations.count();
        }
        let help = "As Linkerd has it: responses, and whether they tell of a failure of the server";
        let mut family = encoder.encode_descriptor("response", help, None, MetricType::Counter)?;
        for (labels, count) in responses {
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// What is said of the workload itself, in the words of who asks.
struct OwnLabels {
    workload: Labels,
    pod: Labels,
}

fn own_labels(workload: Option<&Workload>, deployment: Option<&str>) -> OwnLabels {
    let Some(Workload { namespace, name, .. }) = workload else {
        return OwnLabels { workload: Vec::new(), pod: Vec::new() };
    };
    let deployment = deployment.map(|deployment| ("deployment", deployment.to_owned()));
    let of_workload = [("namespace", namespace.clone()), ("pod", name.clone())];
    OwnLabels {
        workload: of_workload.into_iter().chain(deployment).collect(),
        pod: vec![
            ("kubernetes_namespace", namespace.clone()),
            ("kubernetes_pod_name", name.clone()),
        ],
    }
}

/// One histogram for all series that have the same of these labels.
fn histograms(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    all: &[std::sync::Arc<CallSeries>],
    labels: impl Fn(&CallLabels) -> Option<Labels>,
) -> fmt::Result {
    let is_in_ms = name.ends_with("_ms");
    let mut drawn: BTreeMap<Labels, Classic> = BTreeMap::new();
    for series in all {
        let Some(labels) = labels(&series.labels) else { continue };
        let classic = match is_in_ms {
            true => in_milliseconds(&series.durations),
            false => Classic::of(&series.durations, &DURATION_BUCKETS_SECONDS),
        };
        match drawn.get_mut(&labels) {
            Some(sum) => sum.add(&classic),
            None => drop(drawn.insert(labels, classic)),
        }
    }
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, Classic { sum, count, buckets }) in drawn {
        let mut metric = family.encode_family(&labels)?;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}

fn in_milliseconds(recorder: &Recorder) -> Classic {
    let mut classic = Classic::of(recorder, &LATENCY_BUCKETS_MS.map(|bound| bound / 1000.0));
    classic.sum *= 1000.0;
    for ((shown, _), bound) in classic.buckets.iter_mut().zip(LATENCY_BUCKETS_MS) {
        *shown = bound;
    }
    classic
}

fn by_name(labels: &CallLabels) -> (&str, &str, &str) {
    let group = &labels.group;
    (group.direction.as_str(), &group.service, &group.backend)
}

fn mesh_labels(labels: &CallLabels) -> Labels {
    let (direction, service, backend) = by_name(labels);
    let all = [("direction", direction), ("service", service), ("backend", backend)];
    all.map(|(name, value)| (name, value.to_owned())).to_vec()
}

/// In Linkerd's words. Which deployment a backend's pod is of is not known to its callers, so that there
/// is no `dst_deployment`.
fn hop_labels(labels: &CallLabels) -> Labels {
    let tls = match labels.tls {
        Protection::Mutual => "true",
        Protection::Plaintext => "disabled",
    };
    let mut hop =
        vec![("direction", labels.group.direction.as_str().to_owned()), ("tls", tls.to_owned())];
    if labels.group.direction == Direction::Outbound
        && let Some((namespace, rest)) = labels.group.backend.split_once('/')
        && let Some((name, port)) = rest.rsplit_once(':')
    {
        hop.push(("dst_namespace", namespace.to_owned()));
        hop.push(("dst_service", name.to_owned()));
        hop.push(("dst_port", port.to_owned()));
    }
    hop
}

fn response_labels(labels: &CallLabels) -> Labels {
    let classification = if labels.is_failure() { "failure" } else { "success" };
    let mut response = hop_labels(labels);
    response.push(("status_code", labels.status.to_string()));
    response.push(("classification", classification.to_owned()));
    if !labels.grpc_status.as_str().is_empty() {
        response.push(("grpc_status", labels.grpc_status.as_str().to_owned()));
    }
    response
}

const DURATIONS: &str = "From the head of the request to that of the response";

/// From half a millisecond, which a hop on one machine takes, to what people give up after.
const DURATION_BUCKETS_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0];

/// Those of Linkerd's proxy, so that what was learnt of its quantiles holds.
const LATENCY_BUCKETS_MS: [f64; 26] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0,
    1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0,
    60_000.0,
];

#[cfg(test)]
mod tests;
