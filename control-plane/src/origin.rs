//! What depends on where configuration comes from: the source, who attests workloads, where the authority is
//! kept, and on Kubernetes who leads and what is written back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use heddle_tls::credentials::Credentials;
use kube::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Source};
use crate::identity::attest::Attest;
use crate::identity::custodian::{Authorities, Setup};
use crate::identity::in_cluster::{Beside, InCluster};
use crate::identity::join_tokens::JoinTokens;
use crate::identity::replicas::{Population, Replicas};
use crate::identity::store::Store;
use crate::identity::store::directory::DirectoryStore;
use crate::identity::store::secret::SecretStore;
use crate::identity::token_review::TokenReviews;
use crate::leader::{Candidate, Leadership};
use crate::metrics::Metrics;
use crate::peers::others::Surroundings;
use crate::push::proxies::Proxies;
use crate::push::publisher::Snapshots;
use crate::source::Event;
use crate::source::directory::{Directory, NotWatched};
use crate::source::kubernetes::Kubernetes;
use crate::source::last_good::LastGood;
use crate::status::events as status_events;
use crate::status::writer::Writer;
use crate::tap::rights::{Reviews, Rights};

/// Where configuration comes from, ready to be read.
pub enum Origin {
    /// A directory.
    Directory {
        /// Watched already.
        source: Box<Directory>,
        /// Where the authority is kept.
        state_directory: PathBuf,
        /// Hashes of join tokens.
        join_tokens: PathBuf,
    },
    /// A cluster.
    Kubernetes(Box<Cluster>),
}

/// A cluster, and our place in it.
pub struct Cluster {
    /// The API server.
    pub client: Client,
    /// Whether this process leads.
    pub leadership: Leadership,
    candidate: Candidate,
    namespace: String,
    pod_name: String,
    /// What has to run beside the custodian of the authority, once there is one.
    beside: Option<Beside>,
}

/// Why there is nothing to read.
#[derive(Debug, thiserror::Error)]
pub enum NoOrigin {
    /// The directory.
    #[error("cannot read the configuration")]
    Directory(#[from] NotWatched),
    /// Neither a kubeconfig nor a service account tells of an API server.
    #[error("cannot find out where the Kubernetes API server is")]
    NoConfig(#[from] kube::config::InferConfigError),
    /// What they tell is no use.
    #[error("cannot make a client of the Kubernetes API server")]
    Client(#[source] Box<kube::Error>),
}

/// A task that must not end before the drain, with its name.
pub type Task = (&'static str, BoxFuture<'static, ()>);

impl Origin {
    /// Opens what the settings name. Nothing is read yet.
    pub async fn open(config: &Config) -> Result<Self, NoOrigin> {
        match &config.source {
            Source::Directory { directory, state_directory, join_tokens } => {
                let last_good = state_directory.join(LAST_GOOD_DIRECTORY);
                let last_good = LastGood::new(last_good, config.trust_domain.clone());
                let source = Box::new(Directory::watch(directory.clone(), last_good)?);
                let state_directory = state_directory.clone();
                Ok(Self::Directory { source, state_directory, join_tokens: join_tokens.clone() })
            }
            Source::Kubernetes { namespace, pod_name } => {
                let client = client().await?;
                let (candidate, leadership) =
                    Candidate::new(client.clone(), namespace, pod_name.clone());
                Ok(Self::Kubernetes(Box::new(Cluster {
                    client,
                    leadership,
                    candidate,
                    namespace: namespace.clone(),
                    pod_name: pod_name.clone(),
                    beside: None,
                })))
            }
        }
    }

    /// What the authority is kept with. A process that keeps it in a directory is alone, and leads.
    pub fn keeping(&mut self, config: &Config, population: Population) -> Setup {
        let (trust_domain, leaf_lifetime) = (config.trust_domain.clone(), config.leaf_lifetime);
        match self {
            Self::Directory { state_directory, .. } => Setup {
                store: Store::Directory(DirectoryStore::new(state_directory.clone())),
                trust_domain,
                leaf_lifetime,
                population,
                replicas: Replicas::Alone,
                leads: Arc::new(|| true),
                published: None,
            },
            Self::Kubernetes(cluster) => {
                let in_cluster = cluster.identity();
                let (setup, beside) = in_cluster.setup(trust_domain, leaf_lifetime, population);
                cluster.beside = Some(beside);
                setup
            }
        }
    }

    /// Who proves which workload asks for a certificate.
    pub fn attest(&self, snapshots: &Snapshots) -> Box<dyn Attest> {
        match self {
            Self::Directory { join_tokens, .. } => {
                Box::new(JoinTokens::new(join_tokens.clone(), snapshots.clone()))
            }
            Self::Kubernetes(cluster) => {
                Box::new(TokenReviews::new(cluster.client.clone(), snapshots.clone()))
            }
        }
    }

    /// Who may look at single requests, of those who reach the admin address.
    pub fn tap_rights(&self) -> Rights {
        match self {
            Self::Directory { .. } => Rights::Nobody,
            Self::Kubernetes(cluster) => {
                Rights::Reviewed(Arc::new(Reviews::new(cluster.client.clone())))
            }
        }
    }

    /// What is to run until the drain: the source, and what there is beside it.
    pub fn tasks(
        self,
        events: mpsc::Sender<Vec<Event>>,
        known: Known,
        drain: &CancellationToken,
    ) -> Vec<Task> {
        match self {
            Self::Directory { source, .. } => {
                vec![("source.directory", source.run(events, drain.clone()).boxed())]
            }
            Self::Kubernetes(cluster) => cluster.tasks(events, known, drain),
        }
    }
}

/// What is known in this process, and is written back to a cluster.
pub struct Known {
    /// What was decided.
    pub snapshots: Snapshots,
    /// How far proxies have come.
    pub proxies: Proxies,
    /// The control plane's own, by which its replicas know each other.
    pub credentials: Credentials,
    /// Whose trust anchors new proxies are given.
    pub authorities: Authorities,
    /// What is counted.
    pub metrics: Metrics,
}

impl Cluster {
    fn identity(&self) -> InCluster {
        let leadership = self.leadership.clone();
        InCluster {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            pod_name: self.pod_name.clone(),
            leads: Arc::new(move || leadership.is_leading()),
        }
    }

    fn tasks(
        self: Box<Self>,
        events: mpsc::Sender<Vec<Event>>,
        known: Known,
        drain: &CancellationToken,
    ) -> Vec<Task> {
        let identity = self.identity();
        let Self { client, leadership, candidate, namespace, pod_name, beside } = *self;
        let Known { snapshots, proxies, credentials, authorities, metrics } = known;
        let of_pods = snapshots.clone();
        let source = Kubernetes::new(client.clone(), metrics);
        let recorder = status_events::recorder(client.clone(), &pod_name);
        let replicas = Surroundings { namespace, pod_name, credentials };
        let writer = Writer { client, snapshots, proxies, leadership, recorder, replicas };
        let mut tasks: Vec<Task> = vec![
            ("source.kubernetes", source.run(events, drain.clone()).boxed()),
            ("leader.candidate", candidate.run(drain.clone()).boxed()),
            ("status.writer", writer.run(drain.clone()).boxed()),
        ];
        if let Some(beside) = beside {
            let (distributor, watched) = identity.distributor(authorities, of_pods, beside);
            let watch = SecretStore::watch(watched, drain.clone());
            tasks.push(("identity.secret", watch.boxed()));
            tasks.push(("identity.anchors", distributor.run(drain.clone()).boxed()));
        }
        tasks
    }
}

/// A client of the API server that the kubeconfig names, or else of the one whose pod this is.
async fn client() -> Result<Client, NoOrigin> {
    let mut config = kube::Config::infer().await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).map_err(|error| NoOrigin::Client(Box::new(error)))
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Directory { .. } => "Directory",
            Self::Kubernetes(_) => "Kubernetes",
        })
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("pod_name", &self.pod_name).finish_non_exhaustive()
    }
}

/// In the state directory: the texts of configuration to fall back on.
const LAST_GOOD_DIRECTORY: &str = "last-good";
/// An API server that is there answers sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
