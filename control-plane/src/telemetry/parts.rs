//! The parts of the memory, put together for `app.rs`: the memory itself, who fills it and who asks it.

use std::sync::Arc;

use heddle_proto::telemetry::share_server::ShareServer;
use heddle_runtime::clock;
use heddle_runtime::tasks::Tasks;
use heddle_telemetry::collector::CollectorError;
use heddle_tls::credentials::Credentials;
use tonic::transport::server::Router;

use crate::config::{Config, Source};
use crate::metrics::Metrics;
use crate::peers::others::Surroundings;
use crate::push::publisher::Snapshots;
use crate::telemetry::admission::Admission;
use crate::telemetry::forward::{self, Forwarding};
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
    forwarding: Option<Forwarding>,
}

impl Parts {
    /// An empty memory, which begins now. Fails if there can be no way to the collector that is named.
    pub fn new(
        config: &Config,
        snapshots: &Snapshots,
        credentials: &Credentials,
        metrics: &Metrics,
    ) -> Result<Self, CollectorError> {
        let forward = config.forward.clone();
        let ends = forward.map(|settings| forward::channel(settings, metrics)).transpose()?;
        let (forwarder, forwarding) = ends.unzip();
        let memory = Memory::new(clock::now(), memory::LIMIT_BYTES, metrics.clone());
        Ok(Self {
            answers: TelemetryService {
                memory: memory.clone(),
                snapshots: snapshots.clone(),
                replicas: replicas(config, credentials),
            },
            receiver: Receiver {
                memory: memory.clone(),
                snapshots: snapshots.clone(),
                forwarder,
                metrics: metrics.clone(),
            },
            admission: Admission::new(&config.trust_domain),
            shares: ShareService { memory, trust_domain: config.trust_domain.clone() },
            forwarding,
        })
    }

    /// Adds what is served to proxies and to other replicas, and begins to forget what is old and to pass on what comes.
    pub fn serve(self, router: Router, tasks: &Tasks) -> Router {
        let memory = self.answers.memory;
        tasks.spawn("telemetry.sweep", memory.sweep(tasks.drain().clone(), clock::now));
        if let Some(forwarding) = self.forwarding {
            tasks.spawn("telemetry.forward", forwarding.run(tasks.drain().clone()));
        }
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
