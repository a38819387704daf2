//! The service `heddle.discovery.v1`: lets proxies in by their certificates. What they are told is in
//! `push/`.

use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use heddle_proto::discovery as wire;
use heddle_proto::discovery::discovery_server::{Discovery, DiscoveryServer};
use heddle_runtime::tasks::Tasks;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::push::session::{OUTBOUND_QUEUED, Session, Surroundings};
use crate::server::Caller;

/// The service.
#[derive(Debug)]
pub struct DiscoveryService {
    surroundings: Arc<Surroundings>,
    tasks: Tasks,
    slots: Arc<Semaphore>,
}

impl DiscoveryService {
    /// The service, ready to be served.
    pub fn server(surroundings: Surroundings, tasks: Tasks) -> DiscoveryServer<Self> {
        let slots = Arc::new(Semaphore::new(SESSIONS_LIMIT));
        DiscoveryServer::new(Self { surroundings: Arc::new(surroundings), tasks, slots })
            .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
    }
}

#[tonic::async_trait]
impl Discovery for DiscoveryService {
    type StreamStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<wire::ControlMessage, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<wire::ProxyMessage>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let Some(Caller { peer: Some(peer), not_after, .. }) = caller else {
            return Err(Status::unauthenticated("a certificate of the mesh is needed"));
        };
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many proxies are connected"))?;
        let (outbound, messages) = mpsc::channel(OUTBOUND_QUEUED);
        let session = Session {
            own: peer.pod_uid,
            not_after,
            inbound: Box::new(request.into_inner()),
            outbound,
            surroundings: Arc::clone(&self.surroundings),
        };
        self.tasks.spawn("push.session", async move {
            session.run().await;
            drop(slot);
        });
        Ok(Response::new(ReceiverStream::new(messages).map(|message| *message).boxed()))
    }
}

/// How many proxies one control plane serves.
const SESSIONS_LIMIT: usize = 10_000;
/// Proxies send keys, versions and reasons.
const MESSAGE_LIMIT_BYTES: usize = 64 << 10;
