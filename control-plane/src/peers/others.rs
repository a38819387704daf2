//! Asks the other replicas how far their proxies have come. Who they are is known from the endpoints of a
//! headless Service, which are watched anyway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use heddle_model::names::ServiceName;
use heddle_proto::peers as wire;
use heddle_proto::peers::peers_client::PeersClient;
use heddle_tls::credentials::Credentials;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tracing::debug;

use crate::peers::{from_wire, revisions};
use crate::push::programmed::Gathered;
use crate::snapshot::{Content, Snapshot};

/// Where the other replicas are looked for, and as whom they are asked.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Of the mesh, in which the Service is.
    pub namespace: String,
    /// Which of the pods is this one.
    pub pod_name: String,
    /// The control plane's own.
    pub credentials: Credentials,
}

impl Surroundings {
    /// Where the other replicas serve.
    pub fn addresses(&self, snapshot: &Snapshot) -> BTreeSet<SocketAddr> {
        let Self { namespace, pod_name, .. } = self;
        let service = ServiceName { namespace: namespace.clone(), name: PEERS_SERVICE.to_owned() };
        let ports = snapshot.contents.endpoints.iter();
        let own = ports.filter(|(port, _)| port.service == service);
        let endpoints = own.filter_map(|(_, resource)| match &resource.content {
            Content::Endpoints(set) => Some(&set.endpoints),
            Content::Workload(_) | Content::Destination(_) => None,
        });
        let others = endpoints.flatten().filter(|endpoint| endpoint.pod != *pod_name);
        others.map(|endpoint| endpoint.address).take(REPLICAS_LIMIT).collect()
    }
}

/// The other replicas, and what each said last.
#[derive(Debug)]
pub struct Others {
    surroundings: Surroundings,
    known: BTreeMap<SocketAddr, Other>,
}

#[derive(Debug)]
struct Other {
    client: PeersClient<Channel>,
    /// What it said last: a replica that does not answer may still serve its proxies.
    said: Option<wire::Progress>,
}

impl Others {
    /// Nobody was asked yet.
    pub fn new(surroundings: Surroundings) -> Self {
        Self { surroundings, known: BTreeMap::new() }
    }

    /// What the other replicas know, as far as they answer in time.
    ///
    /// Cancel safe: yes.
    pub async fn ask(&mut self, snapshot: &Snapshot) -> Vec<Gathered> {
        let addresses = self.surroundings.addresses(snapshot);
        self.known.retain(|address, _| addresses.contains(address));
        for address in addresses {
            let credentials = &self.surroundings.credentials;
            self.known.entry(address).or_insert_with(|| Other {
                client: PeersClient::new(channel(address, credentials.clone()))
                    .max_decoding_message_size(MESSAGE_LIMIT_BYTES),
                said: None,
            });
        }
        if self.known.is_empty() {
            return Vec::new();
        }
        join_all(self.known.iter_mut().map(|(address, other)| other.ask(*address))).await;
        let revisions = revisions(snapshot);
        let said = self.known.values().filter_map(|other| other.said.clone());
        said.map(|said| from_wire(said, &revisions)).collect()
    }
}

impl Other {
    async fn ask(&mut self, address: SocketAddr) {
        let request = wire::GetProgressRequest {};
        match timeout(ANSWER_TIMEOUT, self.client.get_progress(request)).await {
            Ok(Ok(answer)) => self.said = Some(answer.into_inner()),
            Ok(Err(status)) => {
                debug!(peer = %address, error = status.message(), "a replica does not tell its progress");
            }
            Err(_) => debug!(peer = %address, "a replica does not tell its progress in time"),
        }
    }
}

/// Connects when it is asked, and again when that was lost.
pub fn channel(address: SocketAddr, credentials: Credentials) -> Channel {
    let connector = service_fn(move |_| {
        let credentials = credentials.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = heddle_tls::control_plane::connect(stream, &credentials).await?;
            Ok::<_, BoxError>(TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://control-plane").connect_timeout(ANSWER_TIMEOUT);
    endpoint.connect_with_connector_lazy(connector)
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A headless Service whose endpoints are the replicas, in the mesh's namespace.
pub const PEERS_SERVICE: &str = "heddle-control-plane-peers";
/// More replicas than anybody has.
const REPLICAS_LIMIT: usize = 32;
/// How long one may take; what it said last counts meanwhile.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Some ten thousand objects.
const MESSAGE_LIMIT_BYTES: usize = 16 << 20;
