//! The service `opentelemetry.proto.collector.metrics.v1`: what proxies export is read, remembered and passed on. What is
//! kept of it is in `point.rs`, who may export in `admission.rs`, how it comes from the wire in `codec.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_runtime::clock;
use heddle_telemetry::exporter::EXPORTS_ITSELF;
use heddle_tls::peer::PeerIdentity;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::MetricsService;
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
use crate::telemetry::codec::MetricsServer;
use crate::telemetry::forward::Forwarder;
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
    /// Where it goes on to; `None`: nowhere.
    pub forwarder: Option<Forwarder>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Receiver {
    /// The service, ready to be served: who may not export is turned away before anything is read.
    pub fn server(
        self,
        admission: Admission,
    ) -> InterceptedService<MetricsServer, impl Interceptor + Clone> {
        InterceptedService::new(MetricsServer(self), move |request: Request<()>| {
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
        for refusal in self.memory.take(origin.clone(), reading.points, clock::now()) {
            *refused.entry(refusal).or_default() += 1;
        }
        if let Some(forwarder) = &self.forwarder
            && request.metadata().get(EXPORTS_ITSELF.as_str()).is_none()
        {
            forwarder.forward(request.into_inner(), &origin);
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
