//! A connection to the workload, phase by phase: which port it was going to, whether a proxy of the
//! mesh is at the other end, whether it may come in, and on to the application.

mod admission;
mod applications;
mod channels;
mod gateway;
mod https;
mod mesh;
mod node;
pub mod probes;
mod protocol;
mod refusal;
mod transfer;
mod warm;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use heddle_model::names::Protocol;
use heddle_model::workload::Workload;
use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use heddle_tls::application::ProbeAcceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::access_log::connection::Passage;
use crate::balance::balancer::Balancer;
use crate::balance::callers::Callers;
use crate::balance::rate_limit::RateLimits;
use crate::connect::{Dialer, reset_on_close};
use crate::discovery::store::Store;
use crate::http::HttpVersion;
use crate::http::breaker::Reset;
use crate::http::frames::Budgets;
use crate::http::headers::Caller;
use crate::http::server::{Serving, serve};
use crate::http::stack::{self, InboundCall};
use crate::inbound::admission::{ClientHello, Door, Entrance, NotAdmitted, Silent};
use crate::inbound::applications::Applications;
use crate::inbound::probes::{First, Node, NodeEntrance, ProbeRequests};
use crate::inbound::protocol::{Server, Spoken, was_first};
use crate::inbound::refusal::Refusal;
use crate::listen::{HTTP2_CONNECTION_WINDOW_BYTES, HTTP2_PLAINTEXT_CONNECTION_WINDOW_BYTES};
use crate::metrics::Direction;
use crate::opening::{self, Opening, Patience};
use crate::original_dst::{OriginalDestinationError, original_destination};
use crate::rewind::Rewind;

/// Takes connections to the workload.
#[derive(Debug)]
pub struct Inbound {
    dialer: Arc<Dialer>,
    store: Store,
    applications: Applications,
    limits: Arc<RateLimits>,
    callers: Callers,
    /// Where the workload's node may call from, beside what the control plane says.
    gateways: Vec<IpAddr>,
    /// Takes the TLS of the node's probes; made when the first one comes.
    probe_tls: OnceCell<ProbeAcceptor>,
}

/// An admitted connection's way to the application.
struct Admitted {
    passage: Passage,
    original: SocketAddr,
    application: Arc<Balancer>,
    caller: Caller,
    /// When the certificate ends that authenticates the caller. Connections that are carried as
    /// bytes outlive it, since they have no point at which they could end unharmed: who the caller
    /// is was checked at their beginning.
    until: Option<Instant>,
    /// It is the workload's node, which may ask nothing but this.
    probes: Option<ProbeRequests>,
}

/// How a connection came in, and what was opened to find out.
enum Entered<'a> {
    Mesh {
        workload: &'a Workload,
        declared: Protocol,
    },
    /// The client, whose turn it was, has said nothing.
    Silent,
    Plain {
        workload: &'a Workload,
        declared: Protocol,
        server: Option<Server>,
    },
    /// The workload's node, which may probe where all else is refused.
    Node {
        workload: &'a Workload,
        entrance: NodeEntrance,
    },
}

impl Inbound {
    /// Opens connections by `dialer`; asks `store` what is known of the workload.
    pub fn new(dialer: Arc<Dialer>, store: Store) -> Arc<Self> {
        let limits = store.rate_limits();
        let (applications, callers) = (Applications::default(), Callers::default());
        let (gateways, probe_tls) = (gateway::gateways(), OnceCell::new());
        Arc::new(Self { dialer, store, applications, limits, callers, gateways, probe_tls })
    }

    /// Serves one connection to its end, by what is known of the workload at its beginning; nothing:
    /// it is refused.
    pub async fn serve(self: Arc<Self>, client: TcpStream) {
        let workload = self.store.workload();
        match original_destination(&client) {
            Ok(original) => self.carry(client, original, workload).await,
            Err(OriginalDestinationError::Probe) => {}
            Err(error) => {
                let passage = Passage::begin(Direction::Inbound, &client, None);
                self.refuse(&client, &passage, &Refusal::NotRedirected(error));
            }
        }
    }

    /// Serves a connection that was going to `original`.
    pub(crate) async fn carry(
        &self,
        mut client: TcpStream,
        original: SocketAddr,
        workload: Option<Arc<Workload>>,
    ) {
        let passage = Passage::begin(Direction::Inbound, &client, Some(original));
        let mut first_bytes = BytesMut::new();
        // Boxed, here and below: a connection has room for the phase that it is in, and most are in their
        // last one for nearly all of their time.
        let workload = workload.as_deref();
        let entering = Box::pin(self.enter(&mut client, &mut first_bytes, original, workload));
        match entering.await {
            Err(refusal) => self.refuse(&client, &passage, &refusal),
            Ok(Entered::Silent) => {
                self.dialer.metrics.count_detection("silent");
                self.tell(&passage, &Refusal::Silent);
            }
            Ok(Entered::Mesh { workload, declared }) => {
                let client = Rewind::new(first_bytes.freeze(), client);
                Box::pin(self.mesh(client, (passage, original), workload, declared)).await;
            }
            Ok(Entered::Plain { workload, declared, server }) => {
                let application = self.applications.of(original, workload);
                let caller = Caller::Plaintext;
                let (until, probes) = (None, None);
                let admitted = Admitted { passage, original, application, caller, until, probes };
                let client = (client, first_bytes);
                Box::pin(self.plain(client, server, declared, admitted)).await;
            }
            Ok(Entered::Node { workload, entrance }) => {
                let client = (client, first_bytes);
                Box::pin(self.node(client, (passage, original), workload, entrance)).await;
            }
        }
    }

    /// Reads as much as it takes to tell a proxy of the mesh from anybody else, and decides.
    async fn enter<'a>(
        &self,
        client: &mut TcpStream,
        first_bytes: &mut BytesMut,
        original: SocketAddr,
        workload: Option<&'a Workload>,
    ) -> Result<Entered<'a>, Refusal> {
        self.check_ours(original)?;
        let workload = workload.ok_or(NotAdmitted::NoWorkload)?;
        let door = Door {
            port: original.port(),
            own: &self.dialer.own,
            trust_domain: self.dialer.credentials.trust_domain(),
            workload,
        };
        let deadline = self.dialer.settings.detection_timeout;
        let (silence, silent) = door.silence(&self.dialer.settings);
        let mut patience = Patience { silence: Some(silence), deadline };
        let mut opening = self.read_hello(client, first_bytes, patience).await?;
        let mut server = None;
        if opening == Opening::Silent {
            match silent {
                Silent::Refused => {}
                Silent::Closed => return Ok(Entered::Silent),
                Silent::ServerAsked => {
                    let asked = (original, door.declared());
                    server = self.ask_server(client, first_bytes, asked).await?;
                    // A client that speaks first may still be a proxy, and slow.
                    if !was_first(server.as_ref()) {
                        patience.silence = None;
                        opening = self.read_hello(client, first_bytes, patience).await?;
                    }
                }
            }
        }
        let hello = match &opening {
            Opening::Decided(hello) => hello.as_ref(),
            Opening::Silent | Opening::Undecided | Opening::Ended => None,
        };
        match (admission::admit(hello, &door), &opening) {
            (Ok(Entrance::Mesh(declared)), _) => Ok(Entered::Mesh { workload, declared }),
            (Ok(Entrance::Plain(declared)), _) => Ok(Entered::Plain { workload, declared, server }),
            // Nobody knows what it would have become.
            (Err(_), Opening::Silent | Opening::Undecided) => Err(Refusal::Late),
            (Err(refused), Opening::Decided(_) | Opening::Ended) => {
                let first = match (hello, first_bytes.is_empty()) {
                    (Some(_), _) => First::Hello,
                    (None, true) => First::None,
                    (None, false) => First::Other,
                };
                let source = client.peer_addr().map_err(Refusal::Opening)?.ip();
                let node = Node { workload, gateways: &self.gateways };
                admission::admit_node(refused, node, (source, original.port()), first)
                    .map(|entrance| Entered::Node { workload, entrance })
                    .map_err(Refusal::from)
            }
        }
    }

    /// The redirect takes whatever passes by; only what is meant for us is carried on, or this would
    /// be an open relay.
    fn check_ours(&self, original: SocketAddr) -> Result<(), Refusal> {
        match self.applications.is_local(original.ip()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::NotOurs(original)),
            Err(error) => {
                if self.dialer.local_warnings.is_due() {
                    warn!(%error, dst = %original, "cannot tell whether an address is our own");
                }
                Err(Refusal::Local(original, error))
            }
        }
    }

    async fn read_hello(
        &self,
        client: &mut TcpStream,
        first_bytes: &mut BytesMut,
        patience: Patience,
    ) -> Result<Opening<Option<ClientHello>>, Refusal> {
        opening::read(client, first_bytes, patience, admission::hello)
            .await
            .map_err(Refusal::Opening)
    }

    /// What another proxy brings as bytes. Where nothing is declared they are looked at, too: what
    /// is HTTP is served as that, since it is the caller's side that says it is not, and what the
    /// application believes of its callers is written here. Gives the connection back if both sides
    /// have ended what they had to say.
    async fn brought<I>(&self, mut client: I, declared: Protocol, admitted: Admitted) -> Option<I>
    where
        I: AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
    {
        let original = admitted.original;
        let mut first_bytes = BytesMut::new();
        let found = async {
            if declared != Protocol::Detect {
                return Ok((Spoken::Opaque, None));
            }
            let asked = (original, declared);
            let server = self.ask_server(&mut client, &mut first_bytes, asked).await?;
            if was_first(server.as_ref()) {
                return Ok((Spoken::Opaque, server));
            }
            let spoken = self.find_protocol(&mut client, &mut first_bytes, declared).await?;
            Ok((spoken, server))
        };
        let (spoken, server) = match Box::pin(found).await {
            Ok(found) => found,
            Err(refusal) => {
                // A client that is reset, and gets no close_notify, sees an error.
                client.reset();
                self.tell(&admitted.passage, &refusal);
                return None;
            }
        };
        let mut client = Rewind::new(first_bytes.freeze(), client);
        match spoken {
            Spoken::Nothing => None,
            Spoken::Http(version) => {
                drop(server);
                self.http(client, version, admitted).await;
                None
            }
            Spoken::Opaque => match Box::pin(self.opaque(&mut client, server, &admitted)).await {
                Ok(()) => client.into_stream(),
                Err(refusal) => {
                    client.reset();
                    self.tell(&admitted.passage, &refusal);
                    None
                }
            },
        }
    }

    async fn plain(
        &self,
        (mut client, mut first_bytes): (TcpStream, BytesMut),
        server: Option<Server>,
        declared: Protocol,
        admitted: Admitted,
    ) {
        let spoken = if was_first(server.as_ref()) {
            Ok(Spoken::Opaque)
        } else {
            Box::pin(self.find_protocol(&mut client, &mut first_bytes, declared)).await
        };
        match spoken {
            Err(refusal) => self.refuse(&client, &admitted.passage, &refusal),
            Ok(Spoken::Nothing) => {}
            Ok(Spoken::Http(version)) => {
                // If one was opened: requests have their own connections.
                drop(server);
                self.http(Rewind::new(first_bytes.freeze(), client), version, admitted).await;
            }
            Ok(Spoken::Opaque) => {
                let mut client = Rewind::new(first_bytes.freeze(), client);
                let carried = Box::pin(self.opaque(&mut client, server, &admitted));
                if let Err(refusal) = carried.await {
                    self.refuse(client.stream(), &admitted.passage, &refusal);
                }
            }
        }
    }

    fn http<I>(
        &self,
        client: I,
        version: HttpVersion,
        admitted: Admitted,
    ) -> impl Future<Output = ()> + Send
    where
        I: AsyncRead + AsyncWrite + Reset + Unpin + Send + 'static,
    {
        let Admitted { original, application, caller, until, probes, .. } = admitted;
        let (call, serving) = self.call(version, (original, application), (caller, until, probes));
        let served = Box::pin(serve(client, stack::inbound(call), serving, &self.dialer));
        async move {
            if let Err(error) = served.await {
                debug!(error = %Chain(&*error), dst = %original, "connection to the workload ended");
            }
        }
    }

    /// How a connection of HTTP is served.
    fn call(
        &self,
        version: HttpVersion,
        (original, application): (SocketAddr, Arc<Balancer>),
        (caller, until, probes): (Caller, Option<Instant>, Option<ProbeRequests>),
    ) -> (InboundCall, Serving) {
        let (window_bytes, budgets) = match caller {
            Caller::Mutual { .. } => (HTTP2_CONNECTION_WINDOW_BYTES, Budgets::TRUSTED),
            Caller::Plaintext => (HTTP2_PLAINTEXT_CONNECTION_WINDOW_BYTES, Budgets::PLAINTEXT),
        };
        let serving = Serving {
            direction: Direction::Inbound,
            version,
            idle: self.dialer.settings.inbound_idle,
            window_bytes,
            budgets,
            drain: Some(self.dialer.tasks.drain().clone()),
            until,
        };
        let dialer = Arc::clone(&self.dialer);
        let limits = Arc::clone(&self.limits);
        let places = dialer.settings.requests_per_endpoint;
        let places = self.callers.places_of(original, caller.identity(), places);
        let call =
            InboundCall { dialer, application, original, version, caller, limits, places, probes };
        (call, serving)
    }

    fn refuse(&self, client: &TcpStream, passage: &Passage, refusal: &Refusal) {
        self.tell(passage, refusal);
        reset_on_close(client);
    }

    fn tell(&self, passage: &Passage, refusal: &Refusal) {
        let dst = passage.original.map(tracing::field::display);
        let metrics = &self.dialer.metrics;
        if refusal.is_limit() {
            metrics.count_limit(Direction::Inbound, refusal.reason());
        } else {
            metrics.count_refused(Direction::Inbound, refusal.reason());
        }
        debug!(dst, error = %Chain(refusal), "connection to the workload reset");
        self.dialer.access_log.refused(passage, refusal.reason(), refusal);
    }
}

/// The same moment on the clock that connections go by.
fn moment(time: SystemTime) -> Instant {
    Instant::now() + time.duration_since(clock::now()).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;
