//! The service `heddle.discovery.v1`: lets proxies in by their certificates. What they are told is in
//! `push/`, where it is encoded, too: what is generated would encode it for each proxy anew.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use futures_util::{Stream, StreamExt};
use heddle_proto::codec::SmallBuffers;
use heddle_proto::discovery as wire;
use heddle_proto::discovery::discovery_server::SERVICE_NAME;
use heddle_runtime::tasks::Tasks;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic::codegen::{Body as HttpBody, BoxFuture, Context, Poll, Service, StdError};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use crate::push::session::{OUTBOUND_QUEUED, Session, Surroundings};
use crate::server::Caller;

/// The service. Clones share it.
#[derive(Clone, Debug)]
pub struct DiscoveryService(Arc<Parts>);

struct Parts {
    surroundings: Arc<Surroundings>,
    tasks: Tasks,
    slots: Arc<Semaphore>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").field("surroundings", &self.surroundings).finish_non_exhaustive()
    }
}

impl DiscoveryService {
    /// The service, ready to be served.
    pub fn server(surroundings: Surroundings, tasks: Tasks) -> Self {
        let (surroundings, slots) = (Arc::new(surroundings), Semaphore::new(SESSIONS_LIMIT));
        Self(Arc::new(Parts { surroundings, tasks, slots: Arc::new(slots) }))
    }

    fn open(
        &self,
        request: Request<Streaming<wire::ProxyMessage>>,
    ) -> Result<Response<Messages>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let Some(Caller { peer: Some(peer), not_after, .. }) = caller else {
            return Err(Status::unauthenticated("a certificate of the mesh is needed"));
        };
        let Parts { surroundings, tasks, slots } = &*self.0;
        let slot = Arc::clone(slots)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many proxies are connected"))?;
        let (outbound, messages) = mpsc::channel(OUTBOUND_QUEUED);
        let session = Session {
            own: peer.pod_uid,
            not_after,
            inbound: Box::new(request.into_inner()),
            outbound,
            surroundings: Arc::clone(surroundings),
        };
        tasks.spawn("push.session", async move {
            session.run().await;
            drop(slot);
        });
        Ok(Response::new(ReceiverStream::new(messages).map(|message| *message).boxed()))
    }
}

/// What one proxy is told.
type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl NamedService for DiscoveryService {
    const NAME: &'static str = SERVICE_NAME;
}

impl<B> Service<http::Request<B>> for DiscoveryService
where
    B: HttpBody + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let opening = Opening(self.clone());
        Box::pin(async move {
            if request.uri().path() != PATH {
                return Ok(Status::unimplemented("streams are opened here").into_http());
            }
            let mut grpc = Grpc::new(EncodedCodec).max_decoding_message_size(MESSAGE_LIMIT_BYTES);
            Ok(grpc.streaming(opening, request).await)
        })
    }
}

struct Opening(DiscoveryService);

impl StreamingService<wire::ProxyMessage> for Opening {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = BoxFuture<Response<Messages>, Status>;

    fn call(&mut self, request: Request<Streaming<wire::ProxyMessage>>) -> Self::Future {
        let opened = self.0.open(request);
        Box::pin(std::future::ready(opened))
    }
}

/// Reads what proxies say, and puts what is encoded already on streams.
struct EncodedCodec;

type Reading = SmallBuffers<wire::ControlMessage, wire::ProxyMessage>;

impl Codec for EncodedCodec {
    type Encode = Bytes;
    type Decode = wire::ProxyMessage;
    type Encoder = EncodedEncoder;
    type Decoder = <Reading as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        EncodedEncoder(Reading::default().encoder().buffer_settings())
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reading::default().decoder()
    }
}

struct EncodedEncoder(BufferSettings);

impl Encoder for EncodedEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0
    }
}

const PATH: &str = "/heddle.discovery.v1.Discovery/Stream";
/// How many proxies one control plane serves.
const SESSIONS_LIMIT: usize = 10_000;
/// Proxies send keys, versions and reasons.
const MESSAGE_LIMIT_BYTES: usize = 64 << 10;
