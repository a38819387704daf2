//! The service `opentelemetry.proto.collector.metrics.v1`: what proxies export is read and remembered. What is kept of
//! it is in `point.rs`, who may export in `admission.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_runtime::clock;
use heddle_tls::peer::PeerIdentity;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

use crate::metrics::Metrics;
use crate::push::publisher::Snapshots;
use crate::snapshot::Snapshot;
use crate::telemetry::admission::{Admission, Admitted};
use crate::telemetry::memory::Memory;
use crate::telemetry::point::{self, Refusal};
use crate::telemetry::population;
use crate::telemetry::proxy::{Origin, Workload};

/// The service.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Where it is kept.
    pub memory: Memory,
    /// What is known of pods.
    pub snapshots: Snapshots,
    /// What is counted.
    pub metrics: Metrics,
}

impl Receiver {
    /// The service, ready to be served: who may not export is turned away before anything is read.
    pub fn server(
        self,
        admission: Admission,
    ) -> InterceptedService<MetricsServiceServer<Self>, impl Interceptor + Clone> {
        let server = MetricsServiceServer::new(self).max_decoding_message_size(MESSAGE_LIMIT_BYTES);
        InterceptedService::new(server, move |request: Request<()>| {
            admission.admit(request, clock::now())
        })
    }
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let admitted = request.extensions().get::<Arc<Admitted>>().cloned();
        let admitted = admitted.ok_or_else(|| Status::internal("nobody let this in"))?;
        let snapshot = self.snapshots.borrow().clone();
        let origin = origin(&admitted.peer, snapshot.as_ref());
        let reading = point::read(request.get_ref());
        let mut refused = reading.refused;
        for refusal in self.memory.take(origin, reading.points, clock::now()) {
            *refused.entry(refusal).or_default() += 1;
        }
        self.metrics.telemetry_exports.inc();
        self.metrics.telemetry_points_refused.inc_by(refused.values().sum());
        let partial_success = partial_success(&refused);
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

/// What was not kept, and why, in a sentence; `None`: all was.
fn partial_success(refused: &BTreeMap<Refusal, u64>) -> Option<ExportMetricsPartialSuccess> {
    let count: u64 = refused.values().sum();
    if count == 0 {
        return None;
    }
    let reasons = refused.iter().map(|(refusal, count)| format!("{count} for {refusal}"));
    let reasons: Vec<String> = reasons.collect();
    Some(ExportMetricsPartialSuccess {
        rejected_data_points: i64::try_from(count).unwrap_or(i64::MAX),
        error_message: format!("the control plane does not remember: {}", reasons.join(", ")),
    })
}

/// Whose proxy it is: what it claims of itself does not count.
fn origin(peer: &PeerIdentity, snapshot: Option<&Snapshot>) -> Origin {
    let PeerIdentity { identity, pod_uid } = peer.clone();
    let pod = snapshot.and_then(|snapshot| snapshot.contents.pods.get(&pod_uid));
    match pod {
        Some(pod) => Origin {
            pod_uid,
            identity,
            workload: population::workload_of(pod),
            pod: pod.reference.name.clone(),
        },
        None => Origin {
            workload: Workload {
                kind: "Pod".to_owned(),
                namespace: identity.namespace().to_owned(),
                name: pod_uid.to_string(),
            },
            pod: pod_uid.to_string(),
            pod_uid,
            identity,
        },
    }
}

/// A proxy sends what it has in messages of half of this at most. What a message of empty points is read into is about a
/// hundred times as long as the message: one pod's, one at a time, fits beside everything else.
pub const MESSAGE_LIMIT_BYTES: usize = 1 << 20;
