//! The parts of taps, put together for `app.rs`.

use std::sync::Arc;

use heddle_model::identity::TrustDomain;
use heddle_proto::tap::tap_proxy_server::TapProxyServer;
use heddle_proto::tap::tap_share_server::TapShareServer;
use heddle_runtime::tasks::Tasks;
use heddle_tls::credentials::Credentials;
use tonic::transport::server::Router;

use crate::config::{Config, Source};
use crate::metrics::Metrics;
use crate::peers::others;
use crate::push::publisher::Snapshots;
use crate::tap::registry::Taps;
use crate::tap::replicas::Replicas;
use crate::tap::rights::Rights;
use crate::tap::service::{ProxyService, ShareService, Surroundings, TapService};

/// All parts.
#[derive(Debug)]
pub struct Parts {
    surroundings: Surroundings,
    reviewed: Rights,
    replicas: Option<Arc<Replicas>>,
    trust_domain: TrustDomain,
}

impl Parts {
    /// No tap runs. `reviewed` is who may tap of those who reach the admin address.
    pub fn new(
        config: &Config,
        reviewed: Rights,
        (snapshots, credentials): (&Snapshots, &Credentials),
        (metrics, tasks): (&Metrics, &Tasks),
    ) -> Self {
        let replicas = match &config.source {
            Source::Directory { .. } => None,
            Source::Kubernetes { namespace, pod_name } => {
                let surroundings = others::Surroundings {
                    namespace: namespace.clone(),
                    pod_name: pod_name.clone(),
                    credentials: credentials.clone(),
                };
                Some(Arc::new(Replicas::new(surroundings, tasks.clone())))
            }
        };
        let surroundings = Surroundings {
            taps: Taps::new(metrics.clone()),
            snapshots: snapshots.clone(),
            tasks: tasks.clone(),
        };
        Self { surroundings, reviewed, replicas, trust_domain: config.trust_domain.clone() }
    }

    /// For people who are let in so.
    pub fn answers(&self, rights: Rights) -> TapService {
        let replicas = self.replicas.clone();
        TapService { surroundings: self.surroundings.clone(), rights, replicas }
    }

    /// Who may tap of those who reach the admin address.
    pub fn reviewed(&self) -> Rights {
        self.reviewed.clone()
    }

    /// Adds what is served to proxies and to other replicas.
    pub fn serve(self, router: Router) -> Router {
        let Self { surroundings, trust_domain, .. } = self;
        let shares =
            ShareService { surroundings: surroundings.clone(), trust_domain: trust_domain.clone() };
        let proxies = TapProxyServer::new(ProxyService::new(surroundings, trust_domain))
            .max_decoding_message_size(TOLD_LIMIT_BYTES);
        router.add_service(proxies).add_service(TapShareServer::new(shares))
    }
}

/// Of one message of a proxy: so many exchanges, each with texts that are cut.
const TOLD_LIMIT_BYTES: usize = 1 << 20;
