//! One collector and the way to it: OTLP/gRPC or OTLP/HTTP, over one connection that is opened anew when it is lost.

mod codec;
mod dial;
mod post;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use prost::Message;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::collector::codec::Encoded;
use crate::collector::dial::{DialError, Dialer};
use crate::collector::post::Poster;
use crate::settings::{CollectorSettings, Protocol, Signal};

/// A collector. Clones share the connection, if there is one.
#[derive(Clone, Debug)]
pub struct Collector {
    settings: Arc<CollectorSettings>,
    way: Way,
}

#[derive(Clone, Debug)]
enum Way {
    Grpc(Channel),
    Http(Arc<Poster>),
}

/// Why there can be no way to a collector.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// A file cannot be read, or what is in it cannot be used; or nobody is trusted.
    #[error("the way to the collector {endpoint} cannot be made")]
    Dial {
        /// As set.
        endpoint: String,
        /// Why.
        #[source]
        source: DialError,
    },
    /// The address makes no endpoint of gRPC.
    #[error("{endpoint} is no address for gRPC")]
    Endpoint {
        /// As set.
        endpoint: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Why something was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no connection now.
    #[error("there is no connection")]
    NotConnected,
    /// There is no answer within the limit.
    #[error("there was no answer in time")]
    Timeout,
    /// No connection can be made.
    #[error("cannot connect")]
    Connect {
        /// Why.
        #[source]
        source: DialError,
    },
    /// By gRPC. Not a source: a status prints its own.
    #[error("it was refused: {:?}: {}", .0.code(), .0.message())]
    Refused(Box<tonic::Status>),
    /// By HTTP.
    #[error("it was answered with {status}")]
    Status {
        /// That of the answer.
        status: StatusCode,
        /// How long it is to be left in peace, if it says so in seconds.
        retry_after: Option<Duration>,
    },
    /// The connection broke, or what came over it is no HTTP.
    #[error("the exchange failed")]
    Http(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An answer that says nothing.
    #[error("the answer cannot be read")]
    Unreadable(#[source] prost::DecodeError),
}

impl Collector {
    /// Reads the files that the settings name; does not connect yet. Sockets get the mark, if there is
    /// one, so that the mesh's own redirect lets them pass.
    pub fn new(settings: CollectorSettings, mark: Option<u32>) -> Result<Self, CollectorError> {
        let endpoint = settings.endpoint.clone();
        let shown = settings.shown_endpoint();
        let failed = |source| CollectorError::Dial { endpoint: shown.clone(), source };
        let dialer = Dialer::new(&settings, mark).map_err(failed)?;
        let way = match settings.protocol {
            Protocol::HttpProtobuf => Way::Http(Arc::new(Poster::new(dialer))),
            Protocol::Grpc => {
                let connector = service_fn(move |_| {
                    let dialer = dialer.clone();
                    async move { dialer.connect().await.map(TokioIo::new) }
                });
                let failed = |source| CollectorError::Endpoint { endpoint: shown.clone(), source };
                // The connector encrypts: tonic is not to.
                let authority = endpoint.authority().map_or("", http::uri::Authority::as_str);
                let grpc = Endpoint::from_shared(format!("http://{authority}")).map_err(failed)?;
                let grpc =
                    grpc.http2_keep_alive_interval(PING_INTERVAL).keep_alive_timeout(PING_TIMEOUT);
                Way::Grpc(grpc.connect_with_connector_lazy(connector))
            }
        };
        Ok(Self { settings: Arc::new(settings), way })
    }

    /// Sends one encoded message and reads the answer, within the settings' limit on time.
    pub async fn send<R>(&self, signal: Signal, message: Bytes) -> Result<R, SendError>
    where
        R: Message + Default + 'static,
    {
        let sending = async {
            match &self.way {
                Way::Grpc(channel) => {
                    grpc(channel.clone(), signal, message, &self.settings.headers).await
                }
                Way::Http(poster) => poster.post(|| self.request(message.clone())).await,
            }
        };
        tokio::time::timeout(self.settings.timeout, sending)
            .await
            .map_err(|_elapsed| SendError::Timeout)?
    }

    fn request(&self, message: Bytes) -> Result<Request<Full<Bytes>>, SendError> {
        let endpoint = &self.settings.endpoint;
        let host = endpoint.authority().map_or("", http::uri::Authority::as_str);
        let path = endpoint.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, host)
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(Full::new(message))
            .map_err(|error| SendError::Http(Box::new(error)))?;
        request.headers_mut().extend(self.settings.headers.iter().cloned());
        Ok(request)
    }
}

/// One call over a channel, with an encoded message.
pub(crate) async fn grpc<R>(
    channel: Channel,
    signal: Signal,
    message: Bytes,
    headers: &[(HeaderName, HeaderValue)],
) -> Result<R, SendError>
where
    R: Message + Default + 'static,
{
    let refused = |status: tonic::Status| SendError::Refused(Box::new(status));
    let mut client = Grpc::new(channel).max_decoding_message_size(ANSWER_LIMIT_BYTES);
    let mut request = tonic::Request::new(message);
    let metadata = std::mem::take(request.metadata_mut()).into_headers();
    let mut metadata = metadata;
    metadata.extend(headers.iter().cloned());
    *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(metadata);
    client.ready().await.map_err(|error| SendError::Http(Box::new(error)))?;
    let path = PathAndQuery::from_static(signal.grpc_path());
    let answered = client.unary(request, path, Encoded::<R>::default()).await;
    answered.map(tonic::Response::into_inner).map_err(refused)
}

/// Of an answer: a sentence, and a number.
const ANSWER_LIMIT_BYTES: usize = 64 * 1024;
/// How long a connection may be silent before it is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long the answer may take.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
const AGENT: &str = concat!("heddle-telemetry/", env!("CARGO_PKG_VERSION"));
