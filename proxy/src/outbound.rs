//! A connection from the workload, phase by phase: where it was going, what that means, what it
//! speaks, and on to HTTP or to a copy of bytes.

mod choice;
mod refusal;
mod transfer;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use heddle_model::names::Protocol;
use heddle_runtime::logging::Chain;
use heddle_tls::hello::{Hello, peek};
use http::HeaderMap;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::debug;

use crate::access_log::connection::Passage;
use crate::balance::balancer::{Balancer, NotAdmitted};
use crate::balance::ejection::Sign;
use crate::balance::endpoint::InFlight;
use crate::balance::set::{PickContext, Purpose};
use crate::connect::{Dialer, Transport, reset_on_close};
use crate::detect::{Verdict, detect, overdue};
use crate::discovery::resolved::Resolved;
use crate::discovery::store::Store;
use crate::http::HttpVersion;
use crate::http::frames::Budgets;
use crate::http::mirror::MirrorPlaces;
use crate::http::server::{Serving, serve};
use crate::http::stack::{self, OutboundCall, service_label};
use crate::listen::HTTP2_CONNECTION_WINDOW_BYTES;
use crate::metrics::timing::Timed;
use crate::metrics::{ConnectionLabels, Direction};
use crate::opening::{self, First, Opening, Patience};
use crate::original_dst::{OriginalDestinationError, original_destination};
use crate::outbound::choice::{has_tls_rules, pick_balancer, pick_by_name};
use crate::outbound::refusal::Refusal;
use crate::rewind::Rewind;

/// Takes connections of the workload.
#[derive(Clone)]
pub struct Outbound {
    dialer: Arc<Dialer>,
    store: Store,
    /// Holds the series of what the mesh does not know.
    unknown: Arc<Balancer>,
    mirrors: MirrorPlaces,
}

/// What the protocol of a connection turned out to be, and what was read and opened to find out.
enum Spoken {
    Http(HttpVersion),
    Opaque(Option<Backend>),
    /// Encrypted by the application.
    Tls(Option<Backend>),
    /// The client left without a word.
    Nothing,
}

/// An endpoint's connection, carried as bytes.
struct Backend {
    transport: Transport,
    /// What it said before it was known that it speaks first.
    first_bytes: BytesMut,
    /// Who that is.
    label: Arc<str>,
    held: (InFlight, Timed),
}

impl Outbound {
    /// Opens connections by `dialer`; asks `store` what addresses mean.
    pub fn new(dialer: Arc<Dialer>, store: Store) -> Arc<Self> {
        let unknown = Balancer::labelled("passthrough".into());
        Arc::new(Self { dialer, store, unknown, mirrors: MirrorPlaces::default() })
    }

    #[cfg(test)]
    pub(crate) fn metrics(&self) -> &crate::metrics::Metrics {
        &self.dialer.metrics
    }

    #[cfg(test)]
    pub(crate) fn warm_connections(&self) -> usize {
        self.dialer.warm.len()
    }

    #[cfg(test)]
    pub(crate) async fn carry_to(
        &self,
        client: TcpStream,
        original: SocketAddr,
        destination: watch::Receiver<Resolved>,
    ) {
        let passage = Passage::begin(Direction::Outbound, &client, Some(original));
        self.carry(client, (passage, original), destination).await;
    }

    /// Serves one connection to its end.
    pub async fn serve(self: Arc<Self>, client: TcpStream) {
        let original = match original_destination(&client) {
            Ok(original) => original,
            Err(OriginalDestinationError::Probe) => return,
            Err(error) => {
                let passage = Passage::begin(Direction::Outbound, &client, None);
                return self.refuse(&client, &passage, &Refusal::NotRedirected(error));
            }
        };
        let passage = Passage::begin(Direction::Outbound, &client, Some(original));
        match self.store.destination(original).await {
            Ok(destination) => self.carry(client, (passage, original), destination).await,
            Err(error) => self.refuse(&client, &passage, &Refusal::NotDiscovered(error)),
        }
    }

    /// Serves a connection that was going to `original`.
    pub(crate) async fn carry(
        &self,
        client: TcpStream,
        (passage, original): (Passage, SocketAddr),
        destination: watch::Receiver<Resolved>,
    ) {
        let known = match &*destination.borrow() {
            Resolved::PassThrough => Ok(None),
            Resolved::Refused { reason } => Err(Refusal::Refused(reason.clone())),
            Resolved::Service(service) => {
                Ok(Some((service.protocol, service_label(Some(&service.service)))))
            }
            Resolved::Endpoint(endpoint) => {
                Ok(Some((endpoint.protocol, service_label(endpoint.service.as_ref()))))
            }
        };
        // Boxed, here and below: a connection has room for the phase that it is in, and most are in their
        // last one for nearly all of their time.
        let (protocol, service) = match known {
            Ok(Some(known)) => known,
            Ok(None) => return Box::pin(self.pass_through(client, &passage, original)).await,
            Err(refusal) => return self.refuse(&client, &passage, &refusal),
        };
        let call = OutboundCall {
            dialer: Arc::clone(&self.dialer),
            destination,
            original,
            version: HttpVersion::Http1,
            service,
            mirrors: self.mirrors.clone(),
        };
        let mut client = client;
        let mut first_bytes = BytesMut::new();
        let finding = Box::pin(self.find_protocol(&mut client, &mut first_bytes, protocol, &call));
        match finding.await {
            Err(refusal) => self.refuse(&client, &passage, &refusal),
            Ok(Spoken::Nothing) => {}
            Ok(Spoken::Http(version)) => {
                let client = Rewind::new(first_bytes.freeze(), client);
                self.http(client, OutboundCall { version, ..call }).await;
            }
            Ok(Spoken::Tls(_)) if has_tls_rules(&call.destination.borrow()) => {
                let opening = Box::pin(self.open_by_name(&mut client, &mut first_bytes, &call));
                let opened = opening.await;
                let client = Rewind::new(first_bytes.freeze(), client);
                Box::pin(self.opaque(client, opened, (&call, "tls"), &passage)).await;
            }
            Ok(spoken @ (Spoken::Opaque(_) | Spoken::Tls(_))) => {
                let protocol = if matches!(spoken, Spoken::Tls(_)) { "tls" } else { "opaque" };
                let (Spoken::Opaque(backend) | Spoken::Tls(backend)) = spoken else { return };
                let opened = match backend {
                    Some(backend) => Ok(backend),
                    None => Box::pin(self.open_backend(&call)).await,
                };
                let client = Rewind::new(first_bytes.freeze(), client);
                Box::pin(self.opaque(client, opened, (&call, protocol), &passage)).await;
            }
        }
    }

    /// What is declared, or else what the first bytes say. After some silence the backend is opened
    /// as well, and whoever speaks first decides: a server that does is opaque, unless it says what
    /// servers of HTTP/2 say first.
    async fn find_protocol(
        &self,
        client: &mut TcpStream,
        first_bytes: &mut BytesMut,
        declared: Protocol,
        call: &OutboundCall,
    ) -> Result<Spoken, Refusal> {
        match declared {
            Protocol::Http1 => self.find_version(client, first_bytes, HttpVersion::Http1).await,
            Protocol::Http2 => self.find_version(client, first_bytes, HttpVersion::Http2).await,
            Protocol::Tls => Ok(Spoken::Tls(None)),
            Protocol::Opaque if !has_tls_rules(&call.destination.borrow()) => {
                Ok(Spoken::Opaque(None))
            }
            // No more is read than what routes by server name need.
            Protocol::Opaque => match self.detect(client, first_bytes, call).await? {
                Spoken::Http(_) => Ok(Spoken::Opaque(None)),
                spoken @ (Spoken::Opaque(_) | Spoken::Tls(_) | Spoken::Nothing) => Ok(spoken),
            },
            Protocol::Detect => self.detect(client, first_bytes, call).await,
        }
    }

    /// By the first bytes, or by who sends them.
    async fn detect(
        &self,
        client: &mut TcpStream,
        first_bytes: &mut BytesMut,
        call: &OutboundCall,
    ) -> Result<Spoken, Refusal> {
        match self.read_opening(client, first_bytes, true).await? {
            Opening::Silent => match self.open_backend(call).await {
                Ok(backend) => self.first_to_speak(client, first_bytes, backend).await,
                // Only what is encrypted has a way to go, and there the client speaks first.
                Err(Refusal::NoBackend) if has_tls_rules(&call.destination.borrow()) => {
                    let opening = self.read_opening(client, first_bytes, false).await?;
                    Ok(self.judge(opening, first_bytes, None))
                }
                Err(refusal) => Err(refusal),
            },
            opening @ (Opening::Decided(_) | Opening::Undecided | Opening::Ended) => {
                Ok(self.judge(opening, first_bytes, None))
            }
        }
    }

    /// Of a port that is declared to be HTTP: clients may speak either version to it. The server
    /// does not speak first, so that silence means nothing.
    async fn find_version(
        &self,
        client: &mut TcpStream,
        first_bytes: &mut BytesMut,
        declared: HttpVersion,
    ) -> Result<Spoken, Refusal> {
        let opening = self.read_opening(client, first_bytes, false).await?;
        Ok(match self.judge(opening, first_bytes, None) {
            Spoken::Opaque(_) if first_bytes.is_empty() => Spoken::Nothing,
            Spoken::Opaque(_) | Spoken::Tls(_) => Spoken::Http(declared),
            Spoken::Http(_) if opening == Opening::Undecided => Spoken::Http(declared),
            spoken @ (Spoken::Http(_) | Spoken::Nothing) => spoken,
        })
    }

    async fn read_opening(
        &self,
        client: &mut TcpStream,
        first_bytes: &mut BytesMut,
        may_be_silent: bool,
    ) -> Result<Opening<Verdict>, Refusal> {
        let settings = &self.dialer.settings;
        let patience = Patience {
            silence: may_be_silent.then_some(settings.silence),
            deadline: settings.detection_timeout,
        };
        opening::read(client, first_bytes, patience, decided).await.map_err(Refusal::Opening)
    }

    fn judge(
        &self,
        opening: Opening<Verdict>,
        first_bytes: &[u8],
        backend: Option<Backend>,
    ) -> Spoken {
        let (label, verdict) = match opening {
            Opening::Decided(verdict) => (verdict.as_str(), verdict),
            Opening::Silent => ("silent", Verdict::Opaque),
            Opening::Undecided => ("undecided", overdue(first_bytes)),
            Opening::Ended => ("ended", Verdict::Opaque),
        };
        self.dialer.metrics.count_detection(label);
        match verdict {
            Verdict::Http1 => Spoken::Http(HttpVersion::Http1),
            Verdict::Http2 => Spoken::Http(HttpVersion::Http2),
            Verdict::Tls => Spoken::Tls(backend),
            Verdict::Opaque | Verdict::NeedMore => Spoken::Opaque(backend),
        }
    }

    /// Both ends are open and neither has spoken.
    async fn first_to_speak(
        &self,
        client: &mut TcpStream,
        first_bytes: &mut BytesMut,
        mut backend: Backend,
    ) -> Result<Spoken, Refusal> {
        let settings = &self.dialer.settings;
        let (idle, deadline) = (settings.opaque_idle, settings.detection_timeout);
        let server = (&mut backend.transport, &mut backend.first_bytes);
        match opening::first_to_speak((client, first_bytes), server, idle, deadline).await? {
            First::Client if first_bytes.is_empty() => {
                Ok(self.judge(Opening::Ended, first_bytes, Some(backend)))
            }
            First::Client => {
                // If it is HTTP after all, each request goes to the backend that its route picks;
                // the connection opened for nothing is closed.
                let opening = self.read_opening(client, first_bytes, false).await?;
                Ok(self.judge(opening, first_bytes, Some(backend)))
            }
            First::Server => Ok(self.judge(Opening::Silent, first_bytes, Some(backend))),
            First::ServerOfHttp2 => {
                // Nothing of that was passed on: whoever waits has not made requests into bytes.
                drop(backend);
                opening::first_bytes(client, first_bytes, idle).await?;
                if first_bytes.is_empty() {
                    return Ok(Spoken::Nothing);
                }
                let opening = self.read_opening(client, first_bytes, false).await?;
                Ok(self.judge(opening, first_bytes, None))
            }
        }
    }

    fn http(
        &self,
        client: Rewind<TcpStream>,
        call: OutboundCall,
    ) -> impl Future<Output = ()> + Send {
        let serving = Serving {
            direction: Direction::Outbound,
            version: call.version,
            idle: self.dialer.settings.outbound_idle,
            window_bytes: HTTP2_CONNECTION_WINDOW_BYTES,
            budgets: Budgets::TRUSTED,
            // The application may still be running; see listen.rs.
            drain: None,
            until: None,
        };
        let original = call.original;
        let served = Box::pin(serve(client, stack::outbound(call), serving, &self.dialer));
        async move {
            if let Err(error) = served.await {
                debug!(error = %Chain(&*error), dst = %original, "connection from the workload ended");
            }
        }
    }

    async fn open_backend(&self, call: &OutboundCall) -> Result<Backend, Refusal> {
        let balancer = pick_balancer(&call.destination.borrow())?;
        self.open(call, balancer).await
    }

    /// Of a service with routes for that: by the server name of the ClientHello.
    async fn open_by_name(
        &self,
        client: &mut TcpStream,
        first_bytes: &mut BytesMut,
        call: &OutboundCall,
    ) -> Result<Backend, Refusal> {
        let patience = Patience { silence: None, deadline: self.dialer.settings.detection_timeout };
        let told = |bytes: &[u8]| match peek(bytes) {
            Hello::NeedMore => None,
            hello @ (Hello::NotTls | Hello::Client { .. }) => Some(hello),
        };
        let opening = opening::read(client, first_bytes, patience, told).await;
        let balancer = match opening.map_err(Refusal::Opening)? {
            Opening::Decided(Hello::Client { server_name, .. }) => {
                pick_by_name(&call.destination.borrow(), server_name)?
            }
            // Begins as TLS, and stops before it says whom it is for.
            Opening::Silent | Opening::Undecided | Opening::Ended
                if detect(first_bytes) == Verdict::Tls =>
            {
                pick_by_name(&call.destination.borrow(), None)?
            }
            // Declared to be TLS, and none.
            Opening::Decided(Hello::NotTls | Hello::NeedMore)
            | Opening::Silent
            | Opening::Undecided
            | Opening::Ended => pick_balancer(&call.destination.borrow())?,
        };
        self.open(call, balancer).await
    }

    /// Picks one of a backend's endpoints, and another if it cannot be connected to.
    async fn open(&self, call: &OutboundCall, balancer: Arc<Balancer>) -> Result<Backend, Refusal> {
        let key = balancer.key(&HeaderMap::new(), &self.dialer.own);
        let mut tried = Vec::new();
        let mut last = None;
        for _attempt in 0..ATTEMPT_LIMIT {
            let label = || Arc::clone(balancer.label());
            let context = PickContext { key, ..PickContext::first(Purpose::Connection) };
            let context = PickContext { tried: &tried, ..context.measured(&self.dialer.metrics) };
            let admitted = balancer.admit(&context, self.dialer.settings.requests_per_endpoint);
            let in_flight = match admitted.await {
                Ok(in_flight) => in_flight,
                Err(NotAdmitted::NoOther) => break,
                Err(refused) => return Err(Refusal::not_admitted(refused, label())),
            };
            let endpoint = Arc::clone(in_flight.endpoint());
            let keep_alive = endpoint.backend().policy().keep_alive;
            match self.dialer.carrying(&endpoint.endpoint, &keep_alive).await {
                Ok(transport) => {
                    endpoint.observe(Sign::GoodConnection, &self.dialer.metrics);
                    let labels = ConnectionLabels {
                        direction: Direction::Outbound,
                        service: Arc::clone(&call.service),
                        backend: label(),
                        tls: self.dialer.protection(&endpoint.endpoint),
                        peer_identity: "".into(),
                    };
                    let carried = balancer.begin_connection(&self.dialer.metrics, &labels);
                    let first_bytes = BytesMut::new();
                    let held = (in_flight, carried);
                    return Ok(Backend { transport, first_bytes, label: label(), held });
                }
                Err(error) => {
                    debug!(error = %Chain(&error), backend = %balancer.label(), "cannot connect");
                    if !error.is_local() {
                        endpoint.connection_failed(&self.dialer.metrics);
                    }
                    tried.push(endpoint.endpoint.address);
                    last = Some(error);
                }
            }
        }
        Err(last
            .map_or_else(|| Refusal::NoEndpoint(Arc::clone(balancer.label())), Refusal::Connect))
    }

    /// Resets: to the application it looks as a server would that cannot be reached, and bytes cut
    /// short do not look like an end.
    fn refuse(&self, client: &TcpStream, passage: &Passage, refusal: &Refusal) {
        let dst = passage.original.map(tracing::field::display);
        let metrics = &self.dialer.metrics;
        if refusal.is_limit() {
            metrics.count_limit(Direction::Outbound, refusal.reason());
        } else {
            metrics.count_refused(Direction::Outbound, refusal.reason());
        }
        debug!(dst, error = %Chain(refusal), "connection from the workload reset");
        self.dialer.access_log.refused(passage, refusal.reason(), refusal);
        reset_on_close(client);
    }
}

/// The verdict, once there is one.
pub(crate) fn decided(bytes: &[u8]) -> Option<Verdict> {
    match detect(bytes) {
        Verdict::NeedMore => None,
        verdict @ (Verdict::Http1 | Verdict::Http2 | Verdict::Tls | Verdict::Opaque) => {
            Some(verdict)
        }
    }
}

/// Different endpoints that one connection may be tried on.
const ATTEMPT_LIMIT: usize = 3;

#[cfg(test)]
mod tests;
