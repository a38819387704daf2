//! One connection of the load generator: opened when needed, used for one request at a time.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use heddle_runtime::tasks::Tasks;
use http::{Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::shop::VERSION_HEADER;
use crate::shop::load::plan::{HttpVersion, Plan, Target};

/// How often a request that was never written goes to a new connection.
const MAX_CONNECTIONS_PER_REQUEST: usize = 3;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Status 200, and the whole body arrived.
    Succeeded {
        /// The response header `x-shop-version`.
        version: Option<String>,
    },
    /// Anything else.
    Failed(FailureReason),
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// The target's name has no address.
    Resolve,
    /// No connection could be opened.
    Connect,
    /// The connection ended before the answer.
    Closed,
    /// It took longer than the plan allows.
    Timeout,
    /// The answer's body broke off.
    Body,
    /// The answer's end can only be guessed: neither a length nor chunks.
    BodyWithoutLength,
    /// The answer is not HTTP.
    Protocol,
    /// Another status than 200.
    Status(u16),
}

impl Outcome {
    /// Whether it counts as a success.
    pub fn is_success(&self) -> bool {
        match self {
            Self::Succeeded { .. } => true,
            Self::Failed(_) => false,
        }
    }

    /// For people.
    pub fn describe(&self) -> String {
        match self {
            Self::Succeeded { .. } => "it succeeded".to_owned(),
            Self::Failed(reason) => format!("the last attempt failed: {}", reason.label()),
        }
    }
}

impl FailureReason {
    /// The key it is counted under.
    pub fn label(self) -> String {
        match self {
            Self::Resolve => "resolve".to_owned(),
            Self::Connect => "connect".to_owned(),
            Self::Closed => "closed".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::Body => "body".to_owned(),
            Self::BodyWithoutLength => "body_without_length".to_owned(),
            Self::Protocol => "protocol".to_owned(),
            Self::Status(status) => format!("status_{status}"),
        }
    }

    fn of(error: &hyper::Error) -> Self {
        if error.is_parse() { Self::Protocol } else { Self::Closed }
    }
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// Sends requests, one at a time.
pub struct Client {
    plan: Arc<Plan>,
    tasks: Tasks,
    sender: Option<Sender>,
}

impl Client {
    /// Connects when first used.
    pub fn new(plan: Arc<Plan>, tasks: Tasks) -> Self {
        Self { plan, tasks, sender: None }
    }

    /// Sends one request and reads its whole answer.
    pub async fn exchange(&mut self) -> Outcome {
        let limit = self.plan.timeout;
        let outcome = match tokio::time::timeout(limit, self.send_and_read()).await {
            Ok(Ok(version)) => Outcome::Succeeded { version },
            Ok(Err(reason)) => Outcome::Failed(reason),
            Err(_) => Outcome::Failed(FailureReason::Timeout),
        };
        match outcome {
            Outcome::Failed(FailureReason::Status(_)) | Outcome::Succeeded { .. } => {}
            // Whatever else went wrong, this connection is in a state that nobody knows.
            Outcome::Failed(_) => self.sender = None,
        }
        outcome
    }

    async fn send_and_read(&mut self) -> Result<Option<String>, FailureReason> {
        let response = self.send().await?;
        let (head, mut body) = response.into_parts();
        let length_is_known = head.version == Version::HTTP_2
            || head.headers.contains_key(header::TRANSFER_ENCODING)
            || body.size_hint().exact().is_some();
        // Read as it comes: how large an answer is does not matter here.
        while let Some(frame) = body.frame().await {
            frame.map_err(|_| FailureReason::Body)?;
        }
        if head.status != StatusCode::OK {
            return Err(FailureReason::Status(head.status.as_u16()));
        }
        if !length_is_known {
            return Err(FailureReason::BodyWithoutLength);
        }
        let version = head.headers.get(VERSION_HEADER);
        Ok(version.map(|version| String::from_utf8_lossy(version.as_bytes()).into_owned()))
    }

    /// Sends on the open connection, or on a new one. A request of which no byte was written is not
    /// lost when its connection turns out to be closed: it goes to the next.
    async fn send(&mut self) -> Result<Response<Incoming>, FailureReason> {
        for _ in 0..MAX_CONNECTIONS_PER_REQUEST {
            let request = request(&self.plan)?;
            let mut sender = match self.sender.take() {
                Some(sender) if sender.is_open() => sender,
                Some(_) | None => connect(&self.plan, &self.tasks).await?,
            };
            match sender.send(request).await {
                Ok(response) => {
                    self.sender = Some(sender);
                    return Ok(response);
                }
                Err(error) if error.message().is_some() => {}
                Err(error) => return Err(FailureReason::of(error.error())),
            }
        }
        Err(FailureReason::Closed)
    }
}

impl Sender {
    fn is_open(&self) -> bool {
        match self {
            Self::Http1(sender) => !sender.is_closed(),
            Self::Http2(sender) => !sender.is_closed(),
        }
    }

    async fn send(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Empty<Bytes>>>> {
        match self {
            Self::Http1(sender) => {
                // The connection may still be busy with the end of the last answer. When it has
                // closed instead, sending gives the request back.
                let _ = sender.ready().await;
                sender.try_send_request(request).await
            }
            Self::Http2(sender) => {
                let _ = sender.ready().await;
                sender.try_send_request(request).await
            }
        }
    }
}

fn request(plan: &Plan) -> Result<Request<Empty<Bytes>>, FailureReason> {
    let uri = &plan.target.uri;
    let builder = match plan.http_version {
        HttpVersion::Http1 => {
            let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
            let authority = uri.authority().map_or("", http::uri::Authority::as_str);
            Request::get(path).header(header::HOST, authority)
        }
        HttpVersion::Http2 => Request::get(uri).version(Version::HTTP_2),
    };
    builder.body(Empty::new()).map_err(|_| FailureReason::Protocol)
}

async fn connect(plan: &Plan, tasks: &Tasks) -> Result<Sender, FailureReason> {
    let stream = connect_to_any_address(&plan.target).await?;
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(stream);
    // How a connection ended is told by the request that was on it.
    match plan.http_version {
        HttpVersion::Http1 => {
            let (sender, connection) =
                http1::handshake(io).await.map_err(|_| FailureReason::Connect)?;
            tasks.spawn("load.connection", async move {
                let _ = connection.await;
            });
            Ok(Sender::Http1(sender))
        }
        HttpVersion::Http2 => {
            let handshake = http2::handshake(TokioExecutor::new(), io).await;
            let (sender, connection) = handshake.map_err(|_| FailureReason::Connect)?;
            tasks.spawn("load.connection", async move {
                let _ = connection.await;
            });
            Ok(Sender::Http2(sender))
        }
    }
}

/// By the system's resolver, as any program would, so that `/etc/hosts` counts.
async fn connect_to_any_address(target: &Target) -> Result<TcpStream, FailureReason> {
    let addresses = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let mut found: Option<io::Error> = None;
    for address in addresses.map_err(|_| FailureReason::Resolve)? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => found = Some(error),
        }
    }
    Err(if found.is_some() { FailureReason::Connect } else { FailureReason::Resolve })
}
