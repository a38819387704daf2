//! The services of `heddle.tap.v1`: for people, for the other replicas, and for proxies.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use heddle_model::identity::TrustDomain;
use heddle_model::tap::{Follow, TapRequest};
use heddle_proto::tap as wire;
use heddle_proto::tap::tap_proxy_server::TapProxy;
use heddle_proto::tap::tap_server::Tap;
use heddle_proto::tap::tap_share_server::TapShare;
use heddle_runtime::clock;
use heddle_runtime::tasks::Tasks;
use heddle_tls::peer::PeerIdentity;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::info;

use crate::push::publisher::Snapshots;
use crate::server::Caller;
use crate::tap::registry::Taps;
use crate::tap::replicas::Replicas;
use crate::tap::rights::{Allowed, Rights};
use crate::tap::session::Session;
use crate::tap::subject;
use crate::tap::watch::Watch;

type Events = Pin<Box<dyn Stream<Item = Result<wire::Event, Status>> + Send>>;

/// What all three have.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// What runs.
    pub taps: Taps,
    /// Whose pods there are.
    pub snapshots: Snapshots,
    /// Runs what lasts.
    pub tasks: Tasks,
}

impl Surroundings {
    /// Begins, after it was decided that it may.
    fn watch(
        &self,
        request: TapRequest,
        namespaces: Option<Vec<String>>,
        replicas: Option<Arc<Replicas>>,
    ) -> Result<Response<Events>, Status> {
        let mut share = wire::WatchRequest::from(&request);
        share.namespaces = namespaces.clone().unwrap_or_default();
        let namespaces = namespaces.map(|all| all.into_iter().collect::<BTreeSet<_>>());
        let watched = self.taps.begin(request, namespaces);
        let watched = watched.map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let (reader, events) = mpsc::channel(EVENTS_QUEUED);
        let watch = Watch {
            watched,
            reader,
            snapshots: self.snapshots.clone(),
            replicas: replicas.map(|replicas| (replicas, share)),
        };
        self.tasks.spawn("tap.watch", watch.run(self.tasks.drain().clone()));
        Ok(Response::new(ReceiverStream::new(events).boxed()))
    }
}

fn read(request: wire::WatchRequest) -> Result<TapRequest, Status> {
    TapRequest::try_from(request).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// For people.
#[derive(Clone, Debug)]
pub struct TapService {
    /// What runs.
    pub surroundings: Surroundings,
    /// Who may.
    pub rights: Rights,
    /// The others; `None`: this one is alone.
    pub replicas: Option<Arc<Replicas>>,
}

#[tonic::async_trait]
impl Tap for TapService {
    type WatchStream = Events;

    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Events>, Status> {
        let (metadata, _, message) = request.into_parts();
        let request = read(message)?;
        let Allowed { who, namespaces } = self.rights.check(&metadata, &request).await?;
        let snapshot = self.surroundings.snapshots.borrow().clone();
        let snapshot = snapshot.ok_or_else(|| {
            Status::unavailable("the control plane has not read the configuration yet")
        })?;
        let name = subject::name(&request.subject);
        // A trace that is named goes wherever it goes.
        let is_named = matches!(request.tap.follow, Some(Follow::Trace(_)));
        if !is_named && !subject::exists(&request.subject, &snapshot.contents) {
            return Err(Status::not_found(format!("there is no {name}, or no pod of it runs")));
        }
        let tap = format!("{:?}", request.tap.filter);
        let response = self.surroundings.watch(request, namespaces, self.replicas.clone())?;
        info!(account = %who, workload = %name, filter = %tap, "a tap begins");
        Ok(response)
    }
}

/// For the other replicas.
#[derive(Clone, Debug)]
pub struct ShareService {
    /// What runs.
    pub surroundings: Surroundings,
    /// In which the control plane has its name.
    pub trust_domain: TrustDomain,
}

#[tonic::async_trait]
impl TapShare for ShareService {
    type WatchShareStream = Events;

    async fn watch_share(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Events>, Status> {
        let caller = request.extensions().get::<Caller>();
        let peer = caller.and_then(|caller| caller.peer.as_ref());
        let own = PeerIdentity::control_plane(&self.trust_domain).ok();
        if peer.is_none() || peer != own.as_ref() {
            return Err(Status::permission_denied("this is for the control plane alone"));
        }
        let mut message = request.into_inner();
        let namespaces = std::mem::take(&mut message.namespaces);
        let namespaces = Some(namespaces).filter(|namespaces| !namespaces.is_empty());
        self.surroundings.watch(read(message)?, namespaces, None)
    }
}

/// For proxies.
#[derive(Clone, Debug)]
pub struct ProxyService {
    /// What runs.
    pub surroundings: Surroundings,
    /// In which the control plane has its name.
    pub trust_domain: TrustDomain,
    /// For each proxy that is attached.
    pub slots: Arc<Semaphore>,
}

impl ProxyService {
    /// Nobody is attached.
    pub fn new(surroundings: Surroundings, trust_domain: TrustDomain) -> Self {
        Self { surroundings, trust_domain, slots: Arc::new(Semaphore::new(SESSIONS_LIMIT)) }
    }
}

#[tonic::async_trait]
impl TapProxy for ProxyService {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<wire::Order, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::Told>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let Some(Caller { peer: Some(peer), not_after, .. }) = caller else {
            return Err(Status::unauthenticated("a certificate of the mesh is needed"));
        };
        // A connection may outlive the certificate that it was made with.
        if not_after.is_none_or(|not_after| not_after <= clock::now()) {
            return Err(Status::unauthenticated("the certificate has expired"));
        }
        if PeerIdentity::control_plane(&self.trust_domain).ok().as_ref() == Some(&peer) {
            return Err(Status::permission_denied("this is for workloads alone"));
        }
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many proxies are attached"))?;
        let Surroundings { taps, snapshots, tasks } = self.surroundings.clone();
        let (orders, told) = mpsc::channel(ORDERS_QUEUED);
        let session =
            Session { peer, inbound: Box::new(request.into_inner()), orders, taps, snapshots };
        let drain = tasks.drain().clone();
        tasks.spawn("tap.session", async move {
            session.run(drain).await;
            drop(slot);
        });
        Ok(Response::new(ReceiverStream::new(told).map(|order| *order).boxed()))
    }
}

/// Between what is heard and the connection of who asked.
const EVENTS_QUEUED: usize = 16;
/// A proxy takes them at once.
const ORDERS_QUEUED: usize = 8;
/// As many proxies as one control plane serves (discovery.rs).
const SESSIONS_LIMIT: usize = 10_000;
