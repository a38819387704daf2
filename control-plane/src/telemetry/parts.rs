//! The parts of the memory, put together for `app.rs`: the memory itself, who fills it and who asks it.

use std::sync::Arc;

use heddle_proto::telemetry::share_server::ShareServer;
use heddle_runtime::clock;
use heddle_runtime::tasks::Tasks;
use heddle_tls::credentials::Credentials;
use tonic::transport::server::Router;

use crate::config::{Config, Source};
use crate::metrics::Metrics;
use crate::peers::others::Surroundings;
use crate::push::publisher::Snapshots;
use crate::telemetry::admission::Admission;
use crate::telemetry::memory::{self, Memory};
use crate::telemetry::receive::Receiver;
use crate::telemetry::replicas::Replicas;
use crate::telemetry::service::{ShareService, TelemetryService};

/// All parts.
#[derive(Debug)]
pub struct Parts {
    /// For people.
    pub answers: TelemetryService,
    receiver: Receiver,
    admission: Admission,
    shares: ShareService,
}

impl Parts {
    /// An empty memory, which begins now.
    pub fn new(
        config: &Config,
        snapshots: &Snapshots,
        credentials: &Credentials,
        metrics: &Metrics,
    ) -> Self {
        let memory = Memory::new(clock::now(), memory::LIMIT_BYTES, metrics.clone());
        Self {
            answers: TelemetryService {
                memory: memory.clone(),
                snapshots: snapshots.clone(),
                replicas: replicas(config, credentials),
            },
            receiver: Receiver {
                memory: memory.clone(),
                snapshots: snapshots.clone(),
                metrics: metrics.clone(),
            },
            admission: Admission::new(&config.trust_domain),
            shares: ShareService { memory, trust_domain: config.trust_domain.clone() },
        }
    }

    /// Adds what is served to proxies and to other replicas, and begins to forget what is old.
    pub fn serve(self, router: Router, tasks: &Tasks) -> Router {
        let memory = self.answers.memory;
        tasks.spawn("telemetry.sweep", memory.sweep(tasks.drain().clone(), clock::now));
        router
            .add_service(self.receiver.server(self.admission))
            .add_service(ShareServer::new(self.shares))
    }
}

/// Whom to ask beside ourselves; nobody, where a control plane is alone.
fn replicas(config: &Config, credentials: &Credentials) -> Option<Arc<Replicas>> {
    match &config.source {
        Source::Directory { .. } => None,
        Source::Kubernetes { namespace, pod_name } => {
            let surroundings = Surroundings {
                namespace: namespace.clone(),
                pod_name: pod_name.clone(),
                credentials: credentials.clone(),
            };
            Some(Arc::new(Replicas::new(surroundings)))
        }
    }
}
