//! What is told of a connection that carried bytes or was refused: one line, at its end. Requests of HTTP
//! have lines of their own, and connections that carried them have none.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heddle_model::identity::SpiffeId;
use heddle_runtime::clock;
use heddle_runtime::logging::Chain;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::access_log::AccessLog;
use crate::access_log::record::{Event, Label, Record};
use crate::metrics::{Direction, Protection};
use crate::tcp::ByteCounters;

/// A connection on its way through the proxy.
#[derive(Debug)]
pub struct Passage {
    /// Seen from the workload.
    pub direction: Direction,
    /// Who opened it, if that is known.
    pub client: Option<SocketAddr>,
    /// Where it was going, if that is known.
    pub original: Option<SocketAddr>,
    /// Who called, by its certificate; inbound, once that is known.
    pub caller: Option<SpiffeId>,
    since: Instant,
    /// There is one line for a connection.
    is_told: AtomicBool,
}

impl Passage {
    /// It was accepted, and goes to `original`.
    pub fn begin(direction: Direction, client: &TcpStream, original: Option<SocketAddr>) -> Self {
        // Asked now: one that was reset does not say it any more.
        Self::begun(direction, client.peer_addr().ok(), original)
    }

    pub(super) fn begun(
        direction: Direction,
        client: Option<SocketAddr>,
        original: Option<SocketAddr>,
    ) -> Self {
        let (since, is_told) = (Instant::now(), AtomicBool::new(false));
        Self { direction, client, original, caller: None, since, is_told }
    }

    pub(super) fn is_first_told(&self) -> bool {
        !self.is_told.swap(true, Ordering::Relaxed)
    }

    fn record(&self, outcome: Outcome) -> Record<'_> {
        let has_failed = outcome != Outcome::Completed;
        let mut record = Record::new(Event::Connection, clock::now(), has_failed);
        record.text("heddle.direction", Label::Place, self.direction.as_str());
        record.text("network.transport", Label::Place, "tcp");
        record.address(["client.address", "client.port"], Label::Place, self.client);
        record.address(["server.address", "server.port"], Label::Place, self.original);
        record.text("heddle.outcome", Label::Place, outcome.as_str());
        record.seconds("heddle.duration", Label::Place, self.since.elapsed());
        record
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Both sides have said all that they had to say.
    Completed,
    /// It was carried, and cut off.
    Failed,
    /// It was not carried.
    Refused,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// A connection that was not carried.
pub(super) struct Refused<'a> {
    pub(super) passage: &'a Passage,
    /// As in `heddle_connections_refused_total`.
    pub(super) reason: &'static str,
    pub(super) error: Option<&'a dyn Error>,
}

impl<'a> Refused<'a> {
    pub(super) fn record(&self) -> Record<'a> {
        let mut record = self.passage.record(Outcome::Refused);
        record.text("error.type", Label::Named("error"), self.reason);
        if let Some(caller) = &self.passage.caller {
            record.owned("heddle.peer.identity", Label::Named("peer"), caller.to_string());
        }
        let message = self.error.map(|error| Chain(error).to_string()).unwrap_or_default();
        record.owned("error.message", Label::Named("message"), message);
        record
    }
}

/// Where a connection is carried to.
#[derive(Clone, Debug)]
pub struct Target {
    /// What was called; empty inbound, and for what the mesh does not know.
    pub service: Arc<str>,
    /// What it was routed to, as in metrics.
    pub backend: Arc<str>,
    /// The pod's name, outbound; empty if there is none.
    pub pod: String,
    /// Where that is; `None`: where the connection was going.
    pub address: Option<SocketAddr>,
    /// Who has to answer there; `None`: anybody, or inbound.
    pub identity: Option<SpiffeId>,
    /// On the hop between proxies.
    pub tls: Protection,
    /// What its bytes were found to be.
    pub protocol: &'static str,
}

/// A connection that is carried as bytes. Dropped without an end: it was cut off by the end of the process.
#[derive(Debug)]
pub struct Transfer<'a> {
    log: &'a AccessLog,
    passage: &'a Passage,
    target: Target,
    bytes: ByteCounters,
    cut_off: Option<(&'static str, String)>,
    has_ended: bool,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        log: &'a AccessLog,
        passage: &'a Passage,
        target: Target,
        bytes: ByteCounters,
    ) -> Self {
        Self { log, passage, target, bytes, cut_off: None, has_ended: false }
    }

    /// Both sides have ended.
    pub fn complete(mut self) {
        self.has_ended = true;
    }

    /// It was cut off.
    pub fn fail(mut self, reason: &'static str, error: &dyn Error) {
        let is_told = self.log.is_on();
        let message = if is_told { Chain(error).to_string() } else { String::new() };
        self.cut_off = Some((reason, message));
        self.has_ended = true;
    }

    pub(super) fn record(&self) -> Record<'_> {
        let cut_off = match (&self.cut_off, self.has_ended) {
            (Some((reason, message)), _) => Some((*reason, message.as_str())),
            (None, false) => Some((ABORTED, "")),
            (None, true) => None,
        };
        let outcome = if cut_off.is_some() { Outcome::Failed } else { Outcome::Completed };
        let Target { service, backend, pod, address, identity, tls, protocol } = &self.target;
        let mut record = self.passage.record(outcome);
        let (reason, message) = cut_off.unwrap_or_default();
        record.text("error.type", Label::Named("error"), reason);
        let [to_server, to_client] = [&self.bytes.to_server, &self.bytes.to_client];
        record.number("heddle.bytes.to_server", Label::Named("to_server"), to_server.own());
        record.number("heddle.bytes.to_client", Label::Named("to_client"), to_client.own());
        record.text("network.protocol.name", Label::Named("protocol"), protocol);
        record.text("heddle.service", Label::Named("service"), service);
        record.text("heddle.backend", Label::Named("backend"), backend);
        record.text("heddle.endpoint.pod", Label::Named("pod"), pod);
        let names = ["network.peer.address", "network.peer.port"];
        record.address(names, Label::Named("endpoint"), *address);
        let peer = self.passage.caller.as_ref().or(identity.as_ref());
        let peer = peer.map(ToString::to_string).unwrap_or_default();
        record.owned("heddle.peer.identity", Label::Named("peer"), peer);
        record.text("heddle.tls", Label::Named("tls"), tls.as_str());
        record.text("error.message", Label::Named("message"), message);
        record
    }
}

impl Drop for Transfer<'_> {
    fn drop(&mut self) {
        if self.log.is_on() && self.passage.is_first_told() {
            self.log.write(&self.record());
        }
    }
}

/// Of a connection that was open when the grace period of the process was over.
const ABORTED: &str = "aborted";
